"""Answers of many rows: `{"results": [...]}`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from actors.amount import check_answer
from actors.remembered import Remembered
from actors.settings import CELLS_PER_TURN, SLICE_BYTES, Settings
from actors.table.grid import Grid
from actors.turns import Steps, by_turns, slices
from actors.types.type import Array
from actors.types.values import render_all
from web.answers.worker import in_worker

ROWS_PER_SLICE = 500
CELLS_AT_ONCE = 2_500
"""More are put together by turns."""
NUMBER_BYTES, NAME_BYTES = 12, 32
"""The approximate size of a number in an answer, comma included, and of the name of a value."""
ALL = slice(None)
_OPENING, _CLOSING = b'{"results":[', b"]}"
MOST_FIELDS = 2_000
_BYTES_OF_A_FIELD = 400
_KEYED = Remembered[Callable[..., Any]]()


def keyed_by(references: tuple[str, ...]) -> Callable[..., Any]:
    """The constructor of a struct with a field per reference: msgspec encodes it in a third of a dict's time."""
    found = _KEYED.get(references)
    if found is not None:
        return found
    size = sum(map(len, references)) + _BYTES_OF_A_FIELD * len(references)
    return _KEYED.keep(references, _keyed_by(references), size)


def _keyed_by(references: tuple[str, ...]) -> Callable[..., Any]:
    if len(references) > MOST_FIELDS:  # making the struct's type would take longer than it saves
        return lambda *values: dict(zip(references, values, strict=True))
    fields = [f"field{position}" for position in range(len(references))]
    typed = [(field, Any) for field in fields]
    try:
        return msgspec.defstruct("Keyed", typed, rename=dict(zip(fields, references, strict=True)), gc=False)
    except ValueError:  # msgspec takes no field name that JSON would escape
        return lambda *values: dict(zip(references, values, strict=True))


def columns(grid: Grid, hidden: NDArray[np.bool_]) -> list[list[Any]]:
    """Per feature, the values as objects that msgspec encodes; None where `hidden` (bool[features, entities])."""
    found: list[list[Any]] = [[]] * len(hidden)
    entities = hidden.shape[1]
    for kind, values in zip(grid.kinds, grid.values, strict=True):
        rendered = render_all(kind.value_type, values.reshape(-1, *values.shape[2:]))
        for place, member in enumerate(kind.members):
            found[member] = rendered[place * entities : (place + 1) * entities]
    for member, entity in zip(*(axis.tolist() for axis in hidden.nonzero()), strict=True):
        found[member][entity] = None
    return found


def text_bytes(values: Array) -> int:
    """The approximate size of a column as JSON."""
    if values.dtype == object:
        return sum(len(text) for text in values.ravel().tolist() if type(text) is str)
    return int(values.size) * NUMBER_BYTES


def counting_bytes(values: Array) -> Steps[int]:
    """The same in steps."""
    size = 0
    for cut in slices(len(values), CELLS_PER_TURN if values.dtype == object else max(1, len(values))):
        size += text_bytes(values[cut])
        yield
    return size


def check_bytes(size: int, settings: Settings) -> None:
    """Raise TooLarge if an answer of about `size` bytes is over MAX_ANSWER_BYTES."""
    check_answer(size, settings.max_answer_bytes)


async def encode_rows(cells: int, size: int, count: int, rows: Callable[[slice], Iterable[object]]) -> bytes:
    """The answer as JSON, made in a worker thread if it has many cells or bytes.

    Other threads can run between rows but not during one call of the encoder. So a large answer is made and
    encoded a slice at a time, which also bounds its memory.
    """
    if cells <= CELLS_AT_ONCE and size <= SLICE_BYTES:
        return _OPENING + json_rows(rows(ALL)) + _CLOSING
    if cells <= CELLS_PER_TURN and size <= SLICE_BYTES:
        parts = await by_turns(_encoding(count, max(1, CELLS_AT_ONCE * count // cells), rows))
        return b"".join([_OPENING, b",".join(parts), _CLOSING])
    step = max(1, count * SLICE_BYTES // max(size, cells * NUMBER_BYTES))

    def whole() -> bytes:
        parts = [_OPENING]
        for start in range(0, count, step):
            parts += json_rows(rows(slice(start, start + step))), b","
        parts[-1] = _CLOSING
        return b"".join(parts)  # once: it releases the interpreter, and another copy would hold it

    return await in_worker(whole)


def _encoding(count: int, step: int, rows: Callable[[slice], Iterable[object]]) -> Steps[list[bytes]]:
    parts = list[bytes]()
    for start in range(0, count, step):
        if start:
            yield
        parts.append(json_rows(rows(slice(start, start + step))))
    return parts


def json_rows(rows: Iterable[object]) -> bytes:
    """Rows as JSON, separated by commas, encoded a slice at a time."""
    return b",".join(msgspec.json.encode(part)[1:-1] for part in in_slices(rows))


def in_slices(rows: Iterable[object]) -> Iterator[list[object]]:
    """Rows in slices that are quick to encode: the encoder holds the interpreter for a whole slice."""
    remaining = iter(rows)
    while part := list(islice(remaining, ROWS_PER_SLICE)):
        yield part
