"""The ids of composite entity types: the compact JSON array of their parts, in the order of the type's keys."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import msgspec
import numpy as np

from actors.errors import Fault, InvalidInput
from actors.ingest.entity_ids import MOST_FAULTS_NAMED, check_entity_id, check_entity_ids
from actors.table.columns import Indices, picked
from actors.table.ids import Entities, Ids
from actors.turns import Steps

IDS_PER_TURN = 1_000
"""So many are examined together in a step of some 0.3 ms, and"""
SLOW_IDS_PER_TURN = 250
"""so many one by one, if one of those is wrong."""
_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(list[str])


def composed(parts: Sequence[str]) -> str:
    """The id of an entity of a composite type.

    >>> composed(["u1", "m9"])
    '["u1","m9"]'
    """
    return _ENCODER.encode(parts).decode()


def composed_rows(columns: Sequence[Sequence[str]]) -> list[str]:
    """`composed` for many: the ids whose parts are in columns.

    >>> composed_rows([["u1", "u2"], ["m9", "m9"]])
    ['["u1","m9"]', '["u2","m9"]']
    """
    lines = _ENCODER.encode_lines(list(zip(*columns, strict=True))).decode()
    return lines.split("\n")[:-1]  # encoded, no text has a line feed within


def parts_of(entity_id: str, keys: Sequence[str]) -> list[str]:
    """The parts of an id of a composite type with these keys. Raises ValueError with the reason if it is invalid.

    >>> parts_of('["u1","m9"]', ["user", "merchant"])
    ['u1', 'm9']
    """
    try:
        parts = _DECODER.decode(entity_id)
    except (msgspec.MsgspecError, UnicodeEncodeError):
        parts = []
    if len(parts) != len(keys) or composed(parts) != entity_id:
        example = composed([f"{key} id" for key in keys])
        raise ValueError(f"must be a compact JSON array of {len(keys)} strings, such as {example}")
    for key, part in zip(keys, parts, strict=True):
        if (reason := check_entity_id(part)) is not None:
            raise ValueError(f"its {key} {reason}")
    return parts


def parts_of_all(entity_ids: Sequence[str], keys: Sequence[str]) -> Sequence[list[str]]:
    """`parts_of` for many, decoded at once: four times as fast. Raises ValueError if any of them is invalid.

    >>> parts_of_all(['["u1","m9"]', '["u2","m9"]'], ["user", "merchant"])
    [['u1', 'm9'], ['u2', 'm9']]
    """
    found = _decoded(entity_ids, len(keys))
    return [parts_of(one, keys) for one in entity_ids] if found is None else found


def wrong_parts(entity_id: str, keys: Sequence[str]) -> str | None:
    """Why an id is none of a composite entity type with these keys; None if it is, or if there is one key."""
    try:
        if len(keys) > 1:
            parts_of(entity_id, keys)
    except ValueError as error:
        return str(error)
    return None


def checking_parts(entities: Sequence[str], keys: Sequence[str], field: str) -> Steps[None]:
    """Raise InvalidInput, in steps, for ids that are not of a type with these keys. `field`: what lists them."""
    wrong = yield from misfits(entities, keys)
    if wrong:
        faults = [Fault(field, reason, index) for index, reason in wrong[:MOST_FAULTS_NAMED]]
        raise InvalidInput(f"{field}[{faults[0].index}]: {faults[0].message}", faults)


def misfits(texts: Sequence[str], keys: Sequence[str]) -> Steps[list[tuple[int, str]]]:
    """The positions of texts that are no ids of a type with these keys, ascending, with the reasons. In steps."""
    wrong = list[tuple[int, str]]()
    for start in range(0, len(texts), IDS_PER_TURN):
        if start:
            yield
        lot = texts[start : start + IDS_PER_TURN]
        if _decoded(lot, len(keys)) is not None:
            continue
        for index, text in enumerate(lot, start):
            if index % SLOW_IDS_PER_TURN == 0:
                yield
            try:
                parts_of(text, keys)
            except ValueError as error:
                wrong.append((index, str(error)))
    return wrong


def _decoded(texts: Sequence[str], keys: int) -> list[list[str]] | None:
    """The parts of each text; None unless all are ids of a type with so many keys. Much faster than one by one."""
    try:
        lines = "\n".join([*texts, ""]).encode()
        found = _DECODER.decode_lines(lines)
    except (msgspec.MsgspecError, UnicodeEncodeError):
        return None
    # Encoded, no array has a line feed within. So if the lines are the same, each is a text and an array.
    if len(found) != len(texts) or _ENCODER.encode_lines(found) != lines:
        return None
    fit = set(map(len, found)) == {keys} and not check_entity_ids(list(chain.from_iterable(found)))
    return found if fit else None


def refused_parts(entities: Entities, rows: Indices, keys: Sequence[str]) -> Steps[list[tuple[int, str]]]:
    """Those of the rows whose entity is none of a type with these keys, each with the reason. In steps."""
    codes = entities.codes[rows]
    used = np.zeros(len(entities.ids), np.bool_)
    used[codes] = True
    numbers = np.flatnonzero(used)
    wrong = yield from misfits(picked(entities.ids.texts, numbers), keys)
    if not wrong:
        return []
    reasons = {int(numbers[place]): reason for place, reason in wrong}
    used[:] = False
    used[list(reasons)] = True
    at_fault = rows[used[codes]]
    return [
        (row, reasons[code])
        for row, code in zip(at_fault.tolist(), entities.codes[at_fault].tolist(), strict=True)
    ]


def entities_of_parts(columns: Sequence[Entities]) -> Entities:
    """The entities of rows that have the parts of their ids in columns, in the order of the keys.

    With a single column these are its own. Only distinct ids become Python strings.
    """
    if len(columns) == 1:
        return columns[0]
    texts, codes = _quoted(columns[0].ids.texts), columns[0].codes
    for column in columns[1:]:
        more, count = _quoted(column.ids.texts), max(1, len(column.ids))
        pairs, codes = np.unique(codes.astype(np.int64) * count + column.codes, return_inverse=True)
        before, after = np.divmod(pairs, count)
        texts = [f"{texts[one]},{more[other]}" for one, other in zip(before.tolist(), after.tolist(), strict=True)]
    return Entities(Ids([f"[{text}]" for text in texts]), codes.astype(np.int32))


def _quoted(texts: Sequence[str]) -> list[str]:
    """Each text as JSON."""
    return _ENCODER.encode_lines(texts).decode().split("\n")[:-1]
