"""Taking values: one, or a batch."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from quart import Blueprint, Response, request

from actors.errors import Fault, InvalidInput, TooLarge
from actors.ingest import Ingested, Sent, resolve_version
from actors.router import Router
from actors.settings import Settings
from web.errors import fault_answers
from web.requests import JSON_TYPE, Query, decode, json_body, json_bytes
from web.schema import Observation, Observations, RawObservations, Written

MOST_KEY_CHARACTERS = 255


def blueprint(router: Router, settings: Settings) -> Blueprint:
    """The chapter "Writing"."""
    routes = Blueprint("writing", __name__)

    @routes.post("/features/write")
    async def write() -> Response:
        key = _idempotency_key("write")
        if key is not None and (answer := await router.repeated(key)) is not None:
            return _said(answer)
        observation = await json_body(Observation)
        resolve_version(router.registry, observation.feature_id, observation.version)
        ingested = router.ingest(to_sent([observation]))
        _refuse(ingested.faults, batch=False)
        return _said(await router.write(ingested, b'{"success":true}', key))

    @routes.post("/features/write-batch")
    async def write_batch() -> Response:
        key = _idempotency_key("write-batch")
        if key is not None and (said := await router.repeated(key)) is not None:
            return _said(said)
        partial = Query(("partial",)).flag("partial")
        observations, indices, faults = read_batch(await json_bytes())
        if len(observations) + len(faults) > settings.max_batch_values:
            raise TooLarge(f"a batch takes at most {settings.max_batch_values} values")
        ingested = router.ingest(to_sent(observations))
        faults = merge_faults(faults, ingested, indices)
        if not partial:
            _refuse(faults, batch=True)
        answer = Written(not faults, ingested.accepted, fault_answers(faults) or None)
        return _said(await router.write(ingested, msgspec.json.encode(answer), key))

    return routes


def to_sent(observations: Sequence[Observation]) -> Sent:
    """Rows as columns."""
    return Sent(
        [observation.feature_id for observation in observations],
        [observation.entity_id for observation in observations],
        [observation.value for observation in observations],
        [observation.timestamp for observation in observations],
        [observation.version for observation in observations],
    )


def read_batch(data: bytes) -> tuple[list[Observation], Sequence[int], list[Fault]]:
    """The items that are observations, their indices in the batch, and what is wrong with the others.

    A batch without faults is decoded in one go; only one with faults is read item by item, to name them.
    """
    try:
        observations = decode(data, Observations).values
    except InvalidInput as error:
        return _read_each(data, error)
    return observations, range(len(observations)), []


def _read_each(data: bytes, error: InvalidInput) -> tuple[list[Observation], Sequence[int], list[Fault]]:
    if not error.faults or not error.faults[0].field.startswith("values["):
        raise error
    observations, indices, faults = [], [], []
    for index, item in enumerate(decode(data, RawObservations).values):
        try:
            observations.append(decode(item, Observation))
            indices.append(index)
        except InvalidInput as fault:
            message = fault.faults[0] if fault.faults else Fault("value", fault.detail)
            faults.append(Fault(message.field, message.message, index))
    return observations, indices, faults


def merge_faults(unread: Sequence[Fault], ingested: Ingested, indices: Sequence[int]) -> list[Fault]:
    """All faults by their index in the batch as it was sent."""
    judged = [Fault(fault.field, fault.message, indices[fault.index or 0]) for fault in ingested.faults]
    return sorted([*unread, *judged], key=lambda fault: fault.index or 0)


def _refuse(faults: Sequence[Fault], batch: bool) -> None:
    """Raise InvalidInput where there are faults, saying the first in words."""
    if not faults:
        return
    first = faults[0]
    where = f"values[{first.index}].{first.field}" if batch else first.field
    more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
    named = faults if batch else [Fault(fault.field, fault.message) for fault in faults]
    raise InvalidInput(f"{where}: {first.message}{more}; nothing was written", named)


def _idempotency_key(route: str) -> str | None:
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not 0 < len(key) <= MOST_KEY_CHARACTERS:
        raise InvalidInput.at("Idempotency-Key", f"must have from 1 to {MOST_KEY_CHARACTERS} characters")
    return f"{route} {key}"


def _said(answer: bytes) -> Response:
    return Response(answer, 200, content_type=JSON_TYPE)
