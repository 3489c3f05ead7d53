"""The size of requests and of the data, and the value of every observation filled in before a run.

Values are a function of entity, feature and position in time, so that the shape determines each answer.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from actors.timestamps import SECOND, format_timestamp

ENTITY = "loadtest"
STEP_SECONDS = 60
"""Between two observations of a pair."""


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """`entities` and `features` are those of one read, `population` are the entities that exist.

    `prefix` begins the entity ids, so that runs against one service do not collide. `filled_at`: microseconds, the
    event time of the newest observation. `retention`: observations of each pair that the service keeps in memory.
    """

    prefix: str
    filled_at: int
    entities: int = 1
    features: int = 2
    population: int = 10_000
    observations: int = 1
    writes: float = 0.1
    batches: float = 0.02
    batch_values: int = 100
    retention: int = 1_000

    def entity_id(self, entity: int) -> str:
        return f"{self.prefix}{entity:06}"

    def moment(self, position: int) -> str:
        """The event time of the observations at a position, 0 being the oldest."""
        age = (self.observations - 1 - position) * STEP_SECONDS
        return format_timestamp(self.filled_at - age * SECOND)


def feature_id(feature: int) -> str:
    return f"{ENTITY}.f{feature:02}.v1"


def value(entity: int, feature: int, position: int) -> float:
    """The observed value: most have as many digits as a double can have."""
    return (entity * 7_919 + feature * 1_049 + position * 31) % 10_007 / 7


def values(entity: int, feature: int, first: int, last: int) -> NDArray[np.float64]:
    """The same for positions from first to last, both included."""
    return (entity * 7_919 + feature * 1_049 + np.arange(first, last + 1) * 31) % 10_007 / 7
