"""Entity ids: each distinct one once, and what is known of it by its place.

All tables of a batch that come out of one body have one list of ids, so that whatever is looked up by id is looked
up once a batch, and then picked by the places that the rows have.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np

from actors.settings import ROWS_PER_TURN
from actors.table.columns import Codes, Indices, picked
from actors.turns import Steps, at_once


class Ids:
    """Distinct ids. No two lists are the same key of a dict, whatever they say: what was made of one is looked up
    by the list itself."""

    __slots__ = ("texts",)

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts

    def __len__(self) -> int:
        return len(self.texts)


class Entities(Sequence[str]):
    """Whose some rows are. ids: those of all tables of a batch, whatever of it these rows are; codes: integer[n],
    the place of each row's id there.
    """

    __slots__ = ("codes", "ids")

    def __init__(self, ids: Ids, codes: Codes) -> None:
        self.ids = ids
        self.codes = codes

    def __len__(self) -> int:
        return len(self.codes)

    def __iter__(self) -> Iterator[str]:
        return map(self.ids.texts.__getitem__, self.codes.tolist())

    @overload
    def __getitem__(self, place: int) -> str: ...

    @overload
    def __getitem__(self, place: slice) -> Entities: ...

    def __getitem__(self, place: int | slice) -> str | Entities:
        if isinstance(place, slice):
            return Entities(self.ids, self.codes[place])
        return self.ids.texts[int(self.codes[place])]

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Entities | list) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def take(self, rows: Indices) -> Entities:
        """Those of some rows, in the order given."""
        return Entities(self.ids, self.codes[rows])

    def compact(self) -> Entities:
        """The same without ids that no row has."""
        used = np.zeros(len(self.ids), np.bool_)
        used[self.codes] = True
        if used.all():
            return self
        return Entities(Ids(picked(self.ids.texts, np.flatnonzero(used))), (np.cumsum(used) - 1)[self.codes])


def numbered(texts: Sequence[str]) -> Entities:
    """Ids as they come, row by row."""
    return at_once(numbering(texts))


def numbering(texts: Sequence[str]) -> Steps[Entities]:
    """The same in steps."""
    last = dict(zip(texts, range(len(texts)), strict=True))  # in order of first appearance; where each came last
    distinct = list(last)
    if len(texts) > ROWS_PER_TURN:
        yield
    if len(distinct) == len(texts):
        return Entities(Ids(distinct), np.arange(len(distinct)))
    codes = np.empty(len(texts), np.int32)
    codes[np.fromiter(last.values(), np.int64, len(last))] = np.arange(len(last))
    if len(texts) > ROWS_PER_TURN:
        yield
    return Entities(Ids(distinct), codes[np.fromiter(map(last.__getitem__, texts), np.int64, len(texts))])


class Union:
    """The ids of many lists as one that grows."""

    def __init__(self) -> None:
        self.ids = Ids([])
        self._codes: dict[str, int] = {}
        self._places: dict[Ids, Codes] = {}

    def places(self, ids: Ids) -> Codes:
        """Where each of them is in the one list: int32[n]."""
        return at_once(self.placing(ids))

    def placing(self, ids: Ids) -> Steps[Codes]:
        """The same in steps."""
        if ids not in self._places:
            places = np.empty(len(ids), np.int32)
            for start in range(0, len(ids), ROWS_PER_TURN):
                some = ids.texts[start : start + ROWS_PER_TURN]
                places[start : start + len(some)] = self._placed(some)
                if start + len(some) < len(ids):
                    yield
            self._places[ids] = places
        return self._places[ids]

    def _placed(self, texts: list[str]) -> Codes:
        known, start = self._codes, len(self._codes)
        fresh = [one for one in texts if one not in known] if known else texts
        known.update(zip(fresh, range(start, start + len(fresh)), strict=True))
        self.ids.texts.extend(fresh)
        return np.fromiter(map(known.__getitem__, texts), np.int32, len(texts))

    def entities(self, entities: Entities) -> Entities:
        """The same entities over the one list."""
        return Entities(self.ids, self.places(entities.ids)[entities.codes])
