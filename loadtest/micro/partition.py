"""Group `partition`: the kernels, without actors or HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from actors.table.aggregates import aggregate
from actors.table.batch import Column, Table
from actors.table.grid import Features
from actors.table.ids import numbered
from actors.table.partition import Partition
from actors.timestamps import NEVER, SECOND
from actors.types.type import no_nulls
from loadtest.machine.measure import Result, at_least, at_most, repeated, seconds
from loadtest.micro import data

BATCH = 50_000
BATCHES = 60
QUESTIONS = 50
LONG_ENTITIES = 1_000
LONG_VALUES = 1_000


def run() -> Iterator[Result]:
    """Writing batches, gathering the latest values, averaging long histories."""
    random = np.random.default_rng(1)
    partition = Partition()
    took = [_apply_one(partition, random, arrived) for arrived in range(1, BATCHES + 1)]
    yield Result("partition: apply 50,000 mixed values", "values/s", [BATCH / one for one in took], at_least(5e6))
    yield Result("partition: the same, mean with all merges", "values/s", [BATCH * len(took) / sum(took)])
    yield _gather(partition, random)
    yield from _average(random)


def _apply_one(partition: Partition, random: np.random.Generator, arrived: int) -> float:
    batch = data.random_batch(random, data.MIXED, BATCH)
    return seconds(lambda: partition.apply(arrived, batch))


def _gather(partition: Partition, random: np.random.Generator) -> Result:
    questions = [data.random_entities(random, 100) for _ in range(QUESTIONS)]
    rounds = repeated(_gatherer(partition, questions), 60)
    micros = [took / QUESTIONS * 1e6 for took in rounds]
    return Result("partition: latest of 100 entities x 20 features", "us", micros, at_most(60))


def _gatherer(partition: Partition, questions: Sequence[Sequence[str]]) -> Callable[[], None]:
    visible_from, features = (
        [NEVER] * len(data.MIXED),
        Features(data.MIXED),
    )  # resolved once, as for repeated requests

    def gather() -> None:
        for entities in questions:
            slots = partition.slots(data.ENTITY, entities)
            partition.latest(features, slots, data.STARTED, visible_from)

    return gather


def _average(random: np.random.Generator) -> Iterator[Result]:
    feature = data.MIXED[0]
    partition = Partition()
    for arrived, table in enumerate(_long_history(random), 1):
        partition.apply(arrived, [table])
    slots = partition.slots(data.ENTITY, data.entity_ids(range(LONG_ENTITIES)))

    def average() -> None:
        ranges = partition.between(feature, slots, NEVER + 1, data.STARTED, None)
        aggregate(ranges, "avg", feature.value_type)

    yield Result("partition: avg of 1,000 x 1,000, asked first", "ms", [seconds(average) * 1e3])
    took = [one * 1e3 for one in repeated(average, 30)]
    yield Result("partition: avg of 1,000 entities x 1,000 values", "ms", took, at_most(20))


def _long_history(random: np.random.Generator) -> Iterator[Table]:
    """Batches that together give every entity a value each minute, in no order of time."""
    feature = data.MIXED[0]
    rows = random.permutation(LONG_ENTITIES * LONG_VALUES)
    for part in np.split(rows, len(rows) // BATCH):
        times = data.STARTED - (part // LONG_ENTITIES) * 60 * SECOND
        entities = numbered(data.entity_ids((part % LONG_ENTITIES).tolist()))
        values = data.random_values(random, feature.value_type, len(part))
        column = Column(feature.id, feature.created, values, no_nulls(len(part)))
        yield Table(feature.entity, entities, times, [column])
