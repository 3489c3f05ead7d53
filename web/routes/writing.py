"""Taking values: one, or a batch."""

from __future__ import annotations

import msgspec
from quart import Blueprint, Response, request

from actors.errors import InvalidInput, TooLarge
from actors.ingest import resolve_version
from actors.router import Router
from actors.settings import Settings
from web.bulk import UnderWay, write_lines, write_table
from web.errors import fault_answers
from web.lanes import ARROW_TYPE, NDJSON_TYPE
from web.requests import JSON_TYPE, Query, json_body, json_bytes
from web.schema import Observation, Written
from web.writing_rows import merge_faults, read_batch, refuse, to_sent

MOST_KEY_CHARACTERS = 255
_LANES = {NDJSON_TYPE: write_lines, ARROW_TYPE: write_table}


def blueprint(router: Router, settings: Settings) -> Blueprint:
    """The chapter "Writing"."""
    routes = Blueprint("writing", __name__)
    under_way = UnderWay()

    @routes.post("/features/write")
    async def write() -> Response:
        key = _idempotency_key("write")
        if key is not None and (answer := await router.repeated(key)) is not None:
            return _said(answer)
        observation = await json_body(Observation)
        resolve_version(router.registry, observation.feature_id, observation.version)
        ingested = router.ingest(to_sent([observation]))
        refuse(ingested.faults)
        return _said(await router.write(ingested, b'{"success":true}', key))

    @routes.post("/features/write-batch")
    async def write_batch() -> Response:
        key = _idempotency_key("write-batch")
        if key is not None and (said := await router.repeated(key)) is not None:
            return _said(said)
        partial = Query(("partial",)).flag("partial")
        if (lane := _LANES.get(request.mimetype)) is not None:
            async with under_way.one(key):
                if key is not None and (said := await router.repeated(key)) is not None:
                    return _said(said)
                return _said(await lane(router, partial, key))
        observations, indices, faults = read_batch(await json_bytes())
        if len(observations) + len(faults) > settings.max_batch_values:
            raise TooLarge(f"a batch takes at most {settings.max_batch_values} values")
        ingested = router.ingest(to_sent(observations))
        faults = merge_faults(faults, ingested, indices)
        if not partial:
            refuse(faults, "values")
        answer = Written(not faults, ingested.accepted, fault_answers(faults) or None)
        return _said(await router.write(ingested, msgspec.json.encode(answer), key))

    return routes


def _idempotency_key(route: str) -> str | None:
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not 0 < len(key) <= MOST_KEY_CHARACTERS:
        raise InvalidInput.at("Idempotency-Key", f"must have from 1 to {MOST_KEY_CHARACTERS} characters")
    return f"{route} {key}"


def _said(answer: bytes) -> Response:
    return Response(answer, 200, content_type=JSON_TYPE)
