"""The latest values of many features for many entities, in as few arrays as their types allow.

A query for 20 features of 100 entities takes a handful of array operations this way; with an array per feature it
would take hundreds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from actors.domain import Feature
from actors.table.columns import Indices, Times
from actors.timestamps import NEVER
from actors.types.type import Array, Nulls
from actors.types.values import dtype_of, width_of

Rows = slice | NDArray[np.int64]
"""Rows of a grid: a slice, or int64[n, 1]."""


class Cells(NamedTuple):
    """One value per row of a query. `times`: NEVER where nothing was found; `cold`: where the disk must be read.

    `cold` is None if everything is in memory, which saves an array in the common case.
    """

    times: Times
    values: Array
    nulls: Nulls
    cold: Nulls | None


class Kind(NamedTuple):
    """Features of a query with the same type and dimension. `members`: their positions in the query."""

    value_type: str
    width: int
    members: Sequence[int]


def kinds_of(features: Sequence[Feature]) -> list[Kind]:
    """Group features by type and dimension, in order of first appearance."""
    members: dict[tuple[str, int], list[int]] = {}
    for position, feature in enumerate(features):
        members.setdefault((feature.value_type, width_of(feature)), []).append(position)
    return [Kind(*key, positions) for key, positions in members.items()]


class Features(Sequence[Feature]):
    """The features of a query, also by kind. Compared by identity, so that a dict can keep results by them."""

    __slots__ = ("_listed", "kinds")

    def __init__(self, listed: Sequence[Feature]) -> None:
        self._listed = listed
        self.kinds: Sequence[Kind] = kinds_of(listed)

    def __len__(self) -> int:
        return len(self._listed)

    def __iter__(self) -> Iterator[Feature]:
        return iter(self._listed)

    @overload
    def __getitem__(self, place: int) -> Feature: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Feature]: ...

    def __getitem__(self, place: int | slice) -> Feature | Sequence[Feature]:
        return self._listed[place]


class Grid(NamedTuple):
    """One value for each of f features and n entities.

    times: int64[f, n], NEVER where nothing was found; nulls: bool[f, n]; values: for each kind an array
    [members, n] or [members, n, width]; cold: bool[f, n], where the disk must be read, None for nowhere.
    """

    kinds: Sequence[Kind]
    times: NDArray[np.int64]
    nulls: NDArray[np.bool_]
    values: Sequence[Array]
    cold: NDArray[np.bool_] | None

    def part(self, entities: slice) -> Grid:
        """The grid of a slice of the entities."""
        cold = None if self.cold is None else self.cold[:, entities]
        values = [one[:, entities] for one in self.values]
        return Grid(self.kinds, self.times[:, entities], self.nulls[:, entities], values, cold)

    def cells(self) -> dict[int, Cells]:
        """The cells of each feature, by its position."""
        return {
            member: Cells(
                self.times[member], row, self.nulls[member], None if self.cold is None else self.cold[member]
            )
            for kind, values in zip(self.kinds, self.values, strict=True)
            for member, row in zip(kind.members, values, strict=True)
        }

    def cooled(self, member: int, cold: Nulls) -> Grid:
        """A grid with `cold` set for the feature `member`."""
        grid = self if self.cold is not None else self._replace(cold=np.zeros(self.nulls.shape, np.bool_))
        assert grid.cold is not None
        grid.cold[member] = cold
        return grid

    def hidden_before(self, visible_from: Sequence[int]) -> Grid:
        """A grid without values whose times are before their feature's `visible_from`."""
        if all(start == NEVER for start in visible_from):
            return self
        starts = np.array(visible_from, np.int64)[:, None]
        return self._replace(times=np.where(self.times < starts, NEVER, self.times))


def unfilled(kinds: Sequence[Kind], entities: int) -> Grid:
    """A grid of uninitialised arrays, to be filled."""
    features = sum(len(kind.members) for kind in kinds)
    times, nulls = np.empty((features, entities), np.int64), np.empty((features, entities), np.bool_)
    values = [
        np.empty(
            (len(kind.members), entities, kind.width) if kind.width else (len(kind.members), entities),
            dtype_of(kind.value_type),
        )
        for kind in kinds
    ]
    return Grid(kinds, times, nulls, values, None)


def join(grids: Sequence[Grid], back: Indices) -> Grid:
    """Concatenate grids of the same features by entity, then put the entities into the order `back`."""
    colds = None
    if any(grid.cold is not None for grid in grids):
        flags = [np.zeros_like(grid.nulls) if grid.cold is None else grid.cold for grid in grids]
        colds = np.concatenate(flags, axis=1)[:, back]
    times, nulls = (
        np.concatenate(parts, axis=1)[:, back] for parts in zip(*(grid[1:3] for grid in grids), strict=True)
    )
    values = [
        np.concatenate(parts, axis=1)[:, back] for parts in zip(*(grid.values for grid in grids), strict=True)
    ]
    return Grid(grids[0].kinds, times, nulls, values, colds)


def filled(kinds: Sequence[Kind], cells: Sequence[Cells]) -> Grid:
    """A grid made of one Cells per feature."""
    grid = unfilled(kinds, len(cells[0].times))
    for kind, values in zip(kinds, grid.values, strict=True):
        for place, member in enumerate(kind.members):
            grid.times[member], values[place], grid.nulls[member], cold = cells[member]
            if cold is not None:
                grid = grid.cooled(member, cold)
    return grid


class Placing(NamedTuple):
    """Where a grid of some features has its place in a grid of more; see `placing`.

    `rows`: of its features. `kinds`: for each of its own the number in the whole, and the rows there.
    """

    rows: Rows
    kinds: Sequence[tuple[int, Rows]]


def placing(kinds: Sequence[Kind], places: Sequence[int], own: Sequence[Kind]) -> Placing:
    """`kinds`: those of the whole. `places`: for each feature its position there; `own`: their kinds."""
    found = []
    for kind in own:
        (number, members) = next((at, one.members) for at, one in enumerate(kinds) if one[:2] == kind[:2])
        rows = {member: row for row, member in enumerate(members)}
        found.append((number, _rows([rows[places[member]] for member in kind.members])))
    return Placing(_rows(places), found)


def _rows(rows: Sequence[int]) -> Rows:
    """As a slice if they follow each other, which is faster to assign to; otherwise int64[n, 1]."""
    if list(rows) == list(range(rows[0], rows[0] + len(rows))):
        return slice(rows[0], rows[0] + len(rows))
    return np.array(rows, np.int64)[:, None]


def put_together(kinds: Sequence[Kind], entities: int, parts: Sequence[tuple[Placing, Indices, Grid]]) -> Grid:
    """One grid of grids for other features or entities, each with the ascending positions of its entities.

    They cover the whole and are complete: nothing of them is cold.
    """
    whole = unfilled(kinds, entities)
    for (rows, own), positions, grid in parts:
        all_of_them = len(positions) == entities
        at = _at(rows, positions, all_of_them)
        whole.times[at] = grid.times
        whole.nulls[at] = grid.nulls
        for (number, of_kind), values in zip(own, grid.values, strict=True):
            whole.values[number][_at(of_kind, positions, all_of_them)] = values
    return whole


def _at(rows: Rows, positions: Indices, all_of_them: bool) -> tuple[Rows, slice | Indices]:
    return rows, slice(None) if all_of_them and isinstance(rows, slice) else positions
