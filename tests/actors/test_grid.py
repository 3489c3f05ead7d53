"""Grids: rows and columns of the latest values keep their places, however they were put together."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from actors.domain import Feature, ValueSchema
from actors.table.grid import Cells, Grid, filled, join, kinds_of, placing, put_together
from actors.timestamps import NEVER
from actors.types.values import empty

KINDS = [("number", 0), ("string", 0), ("vector", 2), ("vector", 3), ("boolean", 0), ("integer", 0)]


def feature(name: str, kind: tuple[str, int]) -> Feature:
    value_type, dimension = kind
    schema = ValueSchema(dimension=dimension) if dimension else None
    return Feature(
        id=f"user.{name}.v1",
        entity="user",
        name=name,
        version=1,
        value_type=value_type,  # type: ignore[arg-type]
        created=1,
        updated=1,
        schema=schema,
    )


def cells_of(one: Feature, times: list[int], cold: list[bool] | None = None) -> Cells:
    nulls = np.array(times, np.int64) % 2 == 1
    values = empty(one, len(times))
    for position, time in enumerate(times):
        values[position] = str(time) if values.dtype == object else time
    return Cells(np.array(times, np.int64), values, nulls, None if cold is None else np.array(cold, np.bool_))


def shown(grid: Grid) -> list[list[Any]]:
    """Per feature and entity: time, null, value, cold."""
    return [
        [
            (time, null, value, bool(cells.cold is not None and cells.cold[place]))
            for place, (time, null, value) in enumerate(
                zip(cells.times.tolist(), cells.nulls.tolist(), cells.values.tolist(), strict=True)
            )
        ]
        for _, cells in sorted(grid.cells().items())
    ]


chosen_kinds = st.lists(st.sampled_from(KINDS), min_size=1, max_size=8)


@given(chosen_kinds, st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=6), st.data())
def test_parts_side_by_side_are_the_whole(
    kinds: list[tuple[str, int]], entities: list[tuple[int, bool]], data: st.DataObject
) -> None:
    features = [feature(f"f{index}", kind) for index, kind in enumerate(kinds)]
    order = data.draw(st.permutations(range(len(entities))))
    cut = data.draw(st.integers(0, len(entities)))

    def grid(places: list[int]) -> Grid:
        times, cold = [entities[place][0] for place in places], [entities[place][1] for place in places]
        return filled(kinds_of(features), [cells_of(one, times, cold if any(cold) else None) for one in features])

    back = np.argsort(np.array(order))
    joined = join([grid(order[:cut]), grid(order[cut:])], back)
    assert shown(joined) == shown(grid(list(range(len(entities)))))


@given(chosen_kinds, st.integers(1, 4), st.data())
def test_grids_of_different_features_and_entities_are_put_together_in_the_order_asked(
    kinds: list[tuple[str, int]], count: int, data: st.DataObject
) -> None:
    features = [feature(f"f{index}", kind) for index, kind in enumerate(kinds)]
    whole, parts = kinds_of(features), []
    for places in two_parts(data, len(features)):
        own = [features[place] for place in places]
        where = placing(whole, places, kinds_of(own))
        for entities in two_parts(data, count):
            cells = [cells_of(features[place], [place + entity for entity in entities]) for place in places]
            parts.append((where, np.array(entities), filled(kinds_of(own), cells)))
    found = put_together(whole, count, parts)
    cells = [cells_of(one, [place + entity for entity in range(count)]) for place, one in enumerate(features)]
    assert shown(found) == shown(filled(whole, cells))


def two_parts(data: st.DataObject, count: int) -> list[list[int]]:
    """The numbers below `count` in one or two parts."""
    first = [data.draw(st.booleans()) for _ in range(count)]
    parts = [[number for number in range(count) if first[number] is side] for side in (True, False)]
    return [part for part in parts if part]


def test_features_of_one_type_share_an_array_and_vectors_only_with_their_dimension() -> None:
    kinds = kinds_of([feature(f"f{index}", kind) for index, kind in enumerate(KINDS + KINDS)])
    assert [(kind.value_type, kind.width, kind.members) for kind in kinds] == [
        (*kind, [index, index + len(KINDS)]) for index, kind in enumerate(KINDS)
    ]


def test_values_from_before_a_feature_is_visible_are_as_if_never_written() -> None:
    features = [feature("a", ("number", 0)), feature("b", ("number", 0))]
    grid = filled(kinds_of(features), [cells_of(one, [3, 4, 5]) for one in features])
    assert grid.hidden_before([NEVER, 4]).times.tolist() == [[3, 4, 5], [NEVER, 4, 5]]
    assert grid.hidden_before([NEVER, NEVER]) is grid
