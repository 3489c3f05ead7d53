"""Entity ids: a list of distinct ids, and rows that refer to it by position (dictionary encoding).

All tables decoded from one body share one list of ids, so that anything looked up by id is looked up once per
batch, and then gathered by the codes of the rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np

from actors.settings import ROWS_PER_TURN
from actors.table.columns import Codes, Indices, picked
from actors.turns import Steps, at_once


class Ids:
    """A list of distinct ids. Compared by identity, so that a dict can keep results by list."""

    __slots__ = ("__weakref__", "texts")

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts

    def __len__(self) -> int:
        return len(self.texts)


class Entities(Sequence[str]):
    """The entities of n rows. codes: integer[n], the position of each row's id in `ids`, which may have more."""

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
        """The entities of the rows at these positions, in this order."""
        return Entities(self.ids, self.codes[rows])

    def compact(self) -> Entities:
        """The same entities, without ids that no row has."""
        used = np.zeros(len(self.ids), np.bool_)
        used[self.codes] = True
        if used.all():
            return self
        return Entities(Ids(picked(self.ids.texts, np.flatnonzero(used))), (np.cumsum(used) - 1)[self.codes])


def numbered(texts: Sequence[str]) -> Entities:
    """Encode a list of one id per row."""
    return at_once(numbering(texts))


def numbering(texts: Sequence[str]) -> Steps[Entities]:
    """Do what `numbered` does, in steps."""
    last = dict(zip(texts, range(len(texts)), strict=True))  # the last position of each, in order of appearance
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
    """Merges lists of ids into one growing list."""

    def __init__(self) -> None:
        self.ids = Ids([])
        self._codes: dict[str, int] = {}
        self._places: dict[Ids, Codes] = {}

    def places(self, ids: Ids) -> Codes:
        """The position of each id in the merged list: int32[n]. Adds missing ids."""
        return at_once(self.placing(ids))

    def placing(self, ids: Ids) -> Steps[Codes]:
        """Do what `places` does, in steps."""
        if ids not in self._places:
            places = np.empty(len(ids), np.int32)
            for start in range(0, len(ids), ROWS_PER_TURN):
                part = ids.texts[start : start + ROWS_PER_TURN]
                places[start : start + len(part)] = self._placed(part)
                if start + len(part) < len(ids):
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
        """The same entities, encoded with the merged list."""
        return Entities(self.ids, self.places(entities.ids)[entities.codes])
