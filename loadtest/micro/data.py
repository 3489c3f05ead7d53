"""Features, entities and batches: the same shape in every group, from seeded random numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from actors.domain import Feature, ValueType
from actors.table.batch import Column, Table
from actors.table.ids import numbered
from actors.timestamps import SECOND, now
from actors.types.type import Array, no_nulls

ENTITY = "user"
ENTITIES = 10_000
PERIOD = 30 * 86_400 * SECOND
"""Event times lie within this many microseconds before the start of the run."""
STARTED = now()
_TYPES: tuple[ValueType, ...] = (*("number",) * 14, *("integer",) * 4, *("boolean",) * 2)


def feature(name: str, value_type: ValueType) -> Feature:
    id_ = f"{ENTITY}.{name}.v1"
    return Feature(id=id_, entity=ENTITY, name=name, version=1, value_type=value_type, created=1, updated=1)


MIXED = tuple(feature(f"f{index:02}", value_type) for index, value_type in enumerate(_TYPES))
"""14 number, 4 integer and 2 boolean features."""
IDS = [one.id for one in MIXED]


def entity_ids(numbers: Sequence[int]) -> list[str]:
    """New strings, as a decoder makes them: their hashes are not cached yet."""
    return [f"user{number:05}" for number in numbers]


def random_entities(random: np.random.Generator, count: int) -> list[str]:
    """Some of the 10,000, repeats included."""
    return entity_ids(random.integers(0, ENTITIES, count).tolist())


def random_values(random: np.random.Generator, value_type: ValueType, count: int) -> Array:
    """Values of a numeric type or booleans, kept as the product keeps them."""
    if value_type == "boolean":
        return random.integers(0, 2, count).astype(np.bool_)
    return random.integers(0, 1_000, count) if value_type == "integer" else random.random(count) * 1_000


def random_times(random: np.random.Generator, count: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """int64[count] microseconds, whole milliseconds."""
    return STARTED - random.integers(0, PERIOD // 1_000, count) * 1_000


def random_batch(random: np.random.Generator, features: Sequence[Feature], rows: int) -> list[Table]:
    """A batch of `rows` observations, as many of each feature, each with its own entities and times."""
    each = rows // len(features)
    return [
        Table(
            one.entity,
            numbered(random_entities(random, each)),
            random_times(random, each),
            [Column(one.id, one.created, random_values(random, one.value_type, each), no_nulls(each))],
        )
        for one in features
    ]
