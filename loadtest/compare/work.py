"""The kinds of work, the result of a round, the interface of a peer; and the list of workloads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from msgspec import Struct

Values = np.ndarray[Any, np.dtype[np.float64]]
Table = Mapping[str, Any]
Read = list[list[float | None]]
"""A row for each entity, in the order asked; None without a value."""


class View(NamedTuple):
    """Number features that are read or written together. Views of one prefix are parts of the widest."""

    name: str
    prefix: str
    width: int

    @property
    def features(self) -> list[str]:
        return [f"{self.prefix}{number:03}" for number in range(self.width)]


PAIR, TWENTY, FIFTY, WIDE = (
    View(name, "f", width) for name, width in (("pair", 2), ("twenty", 20), ("fifty", 50), ("wide", 200))
)
SINGLE = View("single", "s", 1)
BATCHED = View("batched", "b", 20)
SERVED = (PAIR, TWENTY, FIFTY, WIDE)
WRITTEN = (SINGLE, BATCHED)
SEPARATE = View("separate", "t", 20)
TOGETHER = View("together", "g", 20)
ROWS, TRAINED = View("rows", "r", 15), View("trained", "h", 21)
"""Views of rows that name several entities, a third of the features each; see `several.py`."""


class Serve(Struct, frozen=True):
    """The latest values of some entities."""

    view: View
    entities: int
    connections: int = 1


class Write(Struct, frozen=True):
    """Batches of whole rows, each acknowledged. `as_json`: by Timewell's JSON route rather than its Arrow lane."""

    view: View
    rows: int
    connections: int = 1
    as_json: bool = False


class TrainingSet(Struct, frozen=True):
    """A point-in-time join of `rows` rows, between pandas frames. `in_time`: the rows are in order of time."""

    view: View
    rows: int
    in_time: bool = False


class ServeRows(Serve, frozen=True):
    """The latest values of rows that each name a user, a merchant and the pair of both."""


class TrainRows(TrainingSet, frozen=True):
    """A point-in-time join of such rows."""


class Load(Struct, frozen=True):
    """A Parquet file of `rows` rows of two columns, into an empty store."""

    rows: int


Work = Serve | Write | TrainingSet | Load


class Batch(NamedTuple):
    """Rows of one event time in microseconds: values [entities, width of the view]."""

    entities: Sequence[str]
    moment: int
    values: Values


class Given(NamedTuple):
    """The input of a round, the same for every peer."""

    seconds: float
    """The time after which no new request begins; the first always does."""
    asked: Sequence[Sequence[str]] = ()
    """The entities of each request (Serve)."""
    batches: Sequence[Batch] = ()
    """The batches of Write; none is written twice."""
    rows: Table = {}  # noqa: RUF012 (nobody changes it)
    """The rows of a training set: columns e (entity) or those of the keys, t (int64 microseconds), and n (the
    number of the row)."""
    file: Path | None = None
    """The file of Load."""


class Timed(NamedTuple):
    """The result of a round."""

    finished: int
    """Requests answered, batches acknowledged, or values loaded."""
    seconds: float
    columns: Mapping[str, Values] | None = None
    """The columns of a training set: n, ascending, and the features. Rows may have been left out."""
    processor_seconds: float | None = None
    """Set if the driver did the work itself; otherwise the servers' time counts."""


class Unavailable(Exception):
    """A peer cannot be run on this host; the message says why."""


class Peer:
    """One that Timewell is compared with. It overrides what its kinds of work need; nothing else is called."""

    name: str
    """Its name in the tables."""
    kinds: tuple[type, ...]
    """The kinds of work that it does."""

    async def start(self) -> None:
        """Start, with the values loaded before, if any. Raises Unavailable."""

    async def stop(self) -> None:
        """Stop, also in the middle of work. Loaded values stay."""

    async def load(self, data: Any) -> None:
        """Store the values that are served."""

    async def prepare(self, work: TrainingSet | ServeRows, data: Any) -> None:
        """Store the histories of a training set, or the values of rows, unless already done."""

    async def do(self, work: Work, given: Given) -> Timed:
        """A round of Serve, Write, TrainingSet or Load. Raises RuntimeError if an answer is an error."""
        raise NotImplementedError

    async def read(self, view: View, entities: Sequence[str]) -> Read:
        """The latest values, decoded from its answers."""
        raise NotImplementedError

    def processes(self) -> list[int]:
        """The process ids of its servers; none if the driver does the work and measures its own processor time."""
        return []

    async def versions(self) -> dict[str, str]:
        return {}


# The workloads, in the order in which they are done


class Workload(NamedTuple):
    """One line of the tables for each peer. Each request answered counts for `each` units."""

    name: str
    about: str
    work: Work
    unit: str = "requests/s"
    each: int = 1

    @property
    def more_is_better(self) -> bool:
        """Whether the unit is a rate; otherwise it is a time."""
        return self.unit.endswith("/s")


def _writing(rows: int, as_json: bool = False) -> Workload:
    work = Write(BATCHED, rows, as_json=as_json)
    lane = "JSON" if as_json else "Arrow"
    about = f"write {rows:,} rows x {BATCHED.width} in one batch, acknowledged (Timewell: {lane})"
    return Workload(f"write-{rows}{'-json' * as_json}", about, work, "values/s", rows * BATCHED.width)


_ALL = (
    Workload("serve-1x2", "serve 1 entity x 2 features, 1 connection", Serve(PAIR, 1)),
    Workload("serve-1x2-32", "serve 1 entity x 2 features, 32 connections", Serve(PAIR, 1, connections=32)),
    Workload("serve-1x50", "serve 1 entity x 50 features, 1 connection", Serve(FIFTY, 1)),
    Workload("serve-100x20", "serve 100 entities x 20 features, 1 connection", Serve(TWENTY, 100)),
    Workload("serve-500x200", "serve 500 entities x 200 features, 1 connection", Serve(WIDE, 500)),
    Workload("write-1-32", "write 1 value, acknowledged, 32 connections", Write(SINGLE, 1, 32, True), "values/s"),
    *(_writing(rows) for rows in (100, 2_000, 10_000)),
    *(_writing(rows, as_json=True) for rows in (100, 2_000, 10_000)),
    Workload("training-10000", "training set, 10,000 rows x 20 together", TrainingSet(TOGETHER, 10_000), "s"),
    Workload("training-100000", "training set, 100,000 rows x 20 together", TrainingSet(TOGETHER, 100_000), "s"),
    Workload(
        "training-in-time",
        "training set, 100,000 rows x 20 together, rows in order of time",
        TrainingSet(TOGETHER, 100_000, in_time=True),
        "s",
    ),
    Workload(
        "training-separate", "training set, 100,000 rows x 20 timed apart", TrainingSet(SEPARATE, 100_000), "s"
    ),
    Workload("rows-1", "serve 1 row of 3 entity types x 5 features, 1 connection", ServeRows(ROWS, 1)),
    Workload("rows-100", "serve 100 rows of 3 entity types x 5 features, 1 connection", ServeRows(ROWS, 100)),
    Workload("rows-training", "training set, 100,000 rows of 3 types x 7", TrainRows(TRAINED, 100_000), "s"),
    Workload("load", "load a Parquet file of 1,000,000 rows x 2 into an empty store", Load(1_000_000), "values/s"),
)
WORKLOADS = {workload.name: workload for workload in _ALL}
