"""The values, requests and batches, the same for all peers, from seeded random numbers; as Arrow tables too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from actors.timestamps import SECOND
from loadtest.compare.several import Part, asked_rows, known
from loadtest.compare.work import (
    SEPARATE,
    TOGETHER,
    WIDE,
    Batch,
    Serve,
    Table,
    TrainingSet,
    TrainRows,
    Values,
    View,
    Write,
)
from loadtest.micro import data as micro

DAY = 86_400 * SECOND
LOADED_AT = micro.STARTED - 20 * DAY
"""The event time of the loaded values."""
WRITTEN_FROM = micro.STARTED - 10 * DAY
"""The event time of the first batch. Each following one is a second later: some stores keep whole seconds only."""
QUESTIONS = 64
ROWS, HISTORY = 100_000, 200_000
"""Rows of training sets, and observations of each feature."""
_NAMES = [f"f{number:02}" for number in range(TOGETHER.width)]
FILE_ENTITIES = 100_000
FILE_BEGAN = 1_735_689_600_000_000
"""The event time of a file's first rows, 2025-01-01. Later rows of an entity follow a minute apart."""
ROWS_AT_A_TIME = 100_000


class Scale(NamedTuple):
    """How much data, and how many rounds."""

    rounds: int
    round_seconds: float
    entities: int
    batches: int
    rows: int
    """Bounds on the batches of a round: their number and their rows; at least one batch is made."""
    share: float
    """The part of the rows and histories of training sets that is used."""
    width: int = WIDE.width
    """How many features are loaded for serving."""
    rests: bool = True
    """Whether a round waits until the servers are idle."""


FULL = Scale(rounds=9, round_seconds=1.0, entities=10_000, batches=5_000, rows=40_000, share=1.0)
QUICK = Scale(rounds=2, round_seconds=0.2, entities=1_000, batches=500, rows=10_000, share=0.05, rests=False)


class History(NamedTuple):
    """Observations of features that are timed together."""

    features: list[str]
    table: Table
    """Columns e (entity), t (int64 microseconds), and one for each feature."""


class Data:
    """All data. Requests depend only on the work and the number of the round."""

    def __init__(self, scale: Scale) -> None:
        self.scale = scale
        self.entities = micro.entity_ids(range(scale.entities))
        self.loaded = WIDE._replace(width=scale.width)
        self.values: Values = np.random.default_rng(11).random((scale.entities, scale.width)) * 1_000
        self._moment = WRITTEN_FROM

    def asked(self, work: Serve, number: int) -> list[list[str]]:
        """The entities of each request of a round."""
        random = np.random.default_rng([number, work.entities, work.view.width, work.connections])
        picked = random.integers(0, len(self.entities), (QUESTIONS, work.entities))
        return [[self.entities[entity] for entity in one] for one in picked.tolist()]

    def batches(self, work: Write) -> list[Batch]:
        """The batches of a round, none of which was written before."""
        count = max(1, min(self.scale.batches, self.scale.rows // work.rows))
        return [self.batch(work) for _ in range(count)]

    def batch(self, work: Write) -> Batch:
        """A batch with a later event time than all before."""
        self._moment += SECOND
        random = np.random.default_rng(self._moment)
        first = int(random.integers(0, micro.ENTITIES - work.rows + 1))
        entities = micro.entity_ids(range(first, first + work.rows))
        return Batch(entities, self._moment, random.random((work.rows, work.view.width)) * 1_000)

    def histories(self, view: View) -> list[History]:
        """The histories that training sets of a view read: one, or one for each feature."""
        made = self._made
        if view != SEPARATE:
            named = {name: made.wide[theirs] for name, theirs in zip(view.features, _NAMES, strict=True)}
            wide = {"e": made.wide["e"], "t": made.wide["t"], **named}
            return [History(view.features, wide)]
        return [
            History([name], {"e": one["e"], "t": one["t"], name: one["v"]})
            for name, one in zip(view.features, made.separate, strict=True)
        ]

    def parts(self, view: View) -> list[Part]:
        """The observations of the entities that rows name."""
        return known(view, LOADED_AT, self.share(HISTORY))

    def rows(self, work: TrainingSet) -> Table:
        """The rows of a training set: columns e, t and n, as many as the scale allows."""
        if isinstance(work, TrainRows):
            return asked_rows(self.share(work.rows))
        rows = _head(self._made.rows, self.share(work.rows))
        if not work.in_time:
            return rows
        order = np.argsort(rows["t"], kind="stable")
        return {"e": [rows["e"][place] for place in order.tolist()], "t": rows["t"][order], "n": rows["n"]}

    @cached_property
    def _made(self) -> _Made:
        return _made(self.share(HISTORY), self.share(ROWS))

    def share(self, count: int) -> int:
        """As many of `count` rows as this scale has."""
        return max(1, round(self.scale.share * count))


def _head(table: Table, count: int) -> Table:
    return {name: column[:count] for name, column in table.items()}


class _Made(NamedTuple):
    """A history for each feature (e, t, v), a wide one (e, t, f00 ..), and the rows of training sets (e, t, n)."""

    separate: Sequence[Table]
    wide: Table
    rows: Table


def _made(observations: int, rows: int) -> _Made:
    """No two observations of an entity have the same time, so that the result of a join is unique."""
    random = np.random.default_rng(5)
    separate = [{**_keys(random, observations), "v": random.random(observations)} for _ in _NAMES]
    wide = {**_keys(random, observations), **{name: random.random(observations) for name in _NAMES}}
    entities, times = micro.random_entities(random, rows), micro.random_times(random, rows)
    return _Made(separate, wide, {"e": entities, "t": times, "n": np.arange(rows)})


def _keys(random: np.random.Generator, count: int) -> Table:
    pairs = random.choice(micro.ENTITIES * (micro.PERIOD // SECOND), count, replace=False, shuffle=True)
    times = micro.STARTED - (pairs // micro.ENTITIES) * SECOND
    return {"e": micro.entity_ids((pairs % micro.ENTITIES).tolist()), "t": times}


def write_file(path: Path, rows: int) -> None:
    """Rows in order of time: entityId, timestamp, amount, pieces."""
    random = np.random.default_rng(7)
    moment = pa.timestamp("us", "UTC")
    names = pa.array([f"user{number:06}" for number in range(FILE_ENTITIES)])
    columns = {"entityId": pa.string(), "timestamp": moment, "amount": pa.float64(), "pieces": pa.int64()}
    with pq.ParquetWriter(path, pa.schema(columns)) as writer:
        for start in range(0, rows, ROWS_AT_A_TIME):
            places = np.arange(start, min(start + ROWS_AT_A_TIME, rows))
            times = pa.array(FILE_BEGAN + places // FILE_ENTITIES * 60 * SECOND).cast(moment)
            amounts, pieces = random.integers(0, 100_000, len(places)) / 100, random.integers(1, 100, len(places))
            values = [names.take(pa.array(places % FILE_ENTITIES)), times, pa.array(amounts), pa.array(pieces)]
            writer.write_table(pa.Table.from_arrays(values, schema=writer.schema))


def read_file(path: Path | None) -> Iterator[pa.RecordBatch]:
    """Its rows in batches."""
    assert path is not None
    yield from pq.ParquetFile(path).iter_batches(ROWS_AT_A_TIME)


# The columns of requests and answers


def arrow_of(columns: Table, entity: str, moment: str) -> pa.Table:
    """Columns e and t under these names, the others under their own."""
    names = {"e": entity, "t": moment}
    found = {names.get(name, name): column for name, column in columns.items()}
    found[moment] = pa.array(found[moment], pa.timestamp("us", "UTC"))
    return pa.table(found)


def batch_table(view: View, batch: Batch, entity: str, moment: str) -> pa.Table:
    """A batch as one wide table."""
    columns = dict(zip(view.features, np.ascontiguousarray(batch.values.T), strict=True))
    moments = np.full(len(batch.entities), batch.moment)
    return arrow_of({"e": batch.entities, "t": moments, **columns}, entity, moment)


def columns_of(frame: Any, features: list[str]) -> dict[str, Values]:
    """n and the features of a pandas frame, in the order of n; NaN without a value."""
    order = np.argsort(frame["n"].to_numpy(), kind="stable")
    return {name: frame[name].to_numpy(np.float64)[order] for name in ("n", *features)}
