"""Answers of many rows: `{"results": [...]}`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from actors.errors import TooLarge
from actors.remembered import Remembered
from actors.settings import CELLS_PER_TURN, SLICE_BYTES, Settings
from actors.table.grid import Grid
from actors.types.type import Array
from actors.types.values import render_all
from web.answers.worker import in_worker

ROWS_PER_SLICE = 500
NUMBER_BYTES, NAME_BYTES = 12, 32
"""Of a number in an answer with its comma, and of the name of a value, about."""
ALL = slice(None)
_OPENING, _CLOSING = b'{"results":[', b"]}"
MOST_FIELDS = 2_000
_BYTES_OF_A_FIELD = 400
_KEYED = Remembered[Callable[..., Any]]()


def keyed_by(references: tuple[str, ...]) -> Callable[..., Any]:
    """Makes a struct with a field for each reference; encoding one takes a third of what a dict takes."""
    found = _KEYED.get(references)
    if found is not None:
        return found
    size = sum(map(len, references)) + _BYTES_OF_A_FIELD * len(references)
    return _KEYED.keep(references, _keyed_by(references), size)


def _keyed_by(references: tuple[str, ...]) -> Callable[..., Any]:
    if len(references) > MOST_FIELDS:  # making the struct would take longer than it saves
        return lambda *values: dict(zip(references, values, strict=True))
    fields = [f"field{position}" for position in range(len(references))]
    typed = [(field, Any) for field in fields]
    try:
        return msgspec.defstruct("Keyed", typed, rename=dict(zip(fields, references, strict=True)), gc=False)
    except ValueError:  # it takes no names that would have to be escaped
        return lambda *values: dict(zip(references, values, strict=True))


def columns(grid: Grid, hidden: NDArray[np.bool_]) -> list[list[Any]]:
    """The values of each feature as objects that encode to their JSON; None where `hidden` (bool[f, n])."""
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
    """About how many bytes a column of any type has as JSON."""
    if values.dtype == object:
        return sum(len(one) for one in values.ravel().tolist() if type(one) is str)
    return int(values.size) * NUMBER_BYTES


def check_bytes(size: int, settings: Settings) -> None:
    """Raise TooLarge for an answer of about so many bytes."""
    if size > settings.max_answer_bytes:
        words = f"the answer would have about {size} bytes, at most {settings.max_answer_bytes} are given at once"
        raise TooLarge(f"{words}: ask for fewer entities, features or windows")


async def encode_rows(cells: int, size: int, count: int, rows: Callable[[slice], Iterable[object]]) -> bytes:
    """The answer as JSON, put together in a worker thread where it has many cells or bytes.

    The interpreter lets other threads in between rows but not within one encoding, so a large answer is also made
    and encoded a slice at a time, which bounds what it takes in memory.
    """
    if cells <= CELLS_PER_TURN and size <= SLICE_BYTES:
        return _OPENING + json_rows(rows(ALL)) + _CLOSING
    step = max(1, count * SLICE_BYTES // max(size, cells * NUMBER_BYTES))

    def whole() -> bytes:
        parts = [_OPENING]
        for start in range(0, count, step):
            parts += json_rows(rows(slice(start, start + step))), b","
        parts[-1] = _CLOSING
        return b"".join(parts)  # at once: this lets others run, and each further copy would hold them up

    return await in_worker(whole)


def json_rows(rows: Iterable[object]) -> bytes:
    """Rows as JSON with commas between them, encoded a slice at a time."""
    return b",".join(msgspec.json.encode(part)[1:-1] for part in in_slices(rows))


def in_slices(rows: Iterable[object]) -> Iterator[list[object]]:
    """Rows, as many at a time as are encoded in a moment: the interpreter cannot do anything else meanwhile."""
    remaining = iter(rows)
    while part := list(islice(remaining, ROWS_PER_SLICE)):
        yield part
