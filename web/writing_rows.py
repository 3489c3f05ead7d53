"""Observations as they are sent, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Sequence

from actors.errors import Fault, InvalidInput
from actors.ingest import Ingested, Sent
from web.requests import decode
from web.schema import Observation, Observations, RawObservations


def to_sent(observations: Sequence[Observation]) -> Sent:
    """Rows as columns."""
    return Sent(
        [observation.feature_id for observation in observations],
        [observation.entity_id for observation in observations],
        [observation.value for observation in observations],
        [observation.timestamp for observation in observations],
        [observation.version for observation in observations],
    )


def read_batch(data: bytes | bytearray) -> tuple[list[Observation], Sequence[int], list[Fault]]:
    """The items that are observations, their indices in the batch, and what is wrong with the others.

    A batch without faults is decoded in one go; only one with faults is read item by item, to name them.
    """
    try:
        observations = decode(data, Observations).values
    except InvalidInput as error:
        return _read_each(data, error)
    return observations, range(len(observations)), []


def _read_each(
    data: bytes | bytearray, error: InvalidInput
) -> tuple[list[Observation], Sequence[int], list[Fault]]:
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


def refuse(faults: Sequence[Fault], rows: str | None = None) -> None:
    """Raise InvalidInput where there are faults, saying the first in words. `rows`: what an index counts."""
    if not faults:
        return
    first = faults[0]
    where = first.field if rows is None else f"{rows}[{first.index}].{first.field}"
    more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
    named = faults if rows is not None else [Fault(fault.field, fault.message) for fault in faults]
    raise InvalidInput(f"{where}: {first.message}{more}; nothing was written", named)
