"""A few rows of an entity that has more than one query may read: those nearest to one end of a range."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from actors.amount import Amount
from actors.domain import Feature
from actors.errors import TooMuchAtOnce
from actors.settings import MAX_ROWS_FROM_DISK
from actors.table.partition import DiskRows
from actors.table.rows import merge
from actors.timestamps import NEVER, SECOND

_FIRST_WIDTH = 3_600 * SECOND
_WIDER = 16


class Enough(NamedTuple):
    """The rows of one entity that answer a query: `rows` of them, nearest to one end of [start, end]."""

    start: int
    end: int
    rows: int = 1
    newest_first: bool = True


def nearest(read: Callable[[int, int], DiskRows], feature: Feature, enough: Enough, most_bytes: int) -> DiskRows:
    """Read ever wider ranges of event time, beginning at one end, until there are enough rows. Blocks.

    A range that has too many rows is narrowed. Raises TooMuchAtOnce if a single moment has too many, or if the
    rows read exceed `most_bytes` or MAX_ROWS_FROM_DISK together.
    """
    low, high, width = max(enough.start, NEVER + 1), enough.end, _FIRST_WIDTH
    parts, found = list[DiskRows](), 0
    held = Amount(feature.id, MAX_ROWS_FROM_DISK, most_bytes)
    while not parts or (found < enough.rows and low <= high):
        span = (max(low, high - width), high) if enough.newest_first else (low, min(high, low + width))
        try:
            part = read(*span).merged()
        except TooMuchAtOnce:
            if width == 0:
                raise
            width //= _WIDER
            continue
        held.add_rows(part.rows)
        parts.append(part)
        found += part.rows.size
        low, high = (low, span[0] - 1) if enough.newest_first else (span[1] + 1, high)
        width = max(1, width * _WIDER)
    rows = merge([part.rows for part in parts])
    return DiskRows(min(part.position for part in parts), parts[0].entities, rows, whole=False)
