"""The list of workloads, in the order in which they are done."""

from __future__ import annotations

from typing import NamedTuple

from loadtest.compare.work import (
    BATCHED,
    FIFTY,
    PAIR,
    SEPARATE,
    SINGLE,
    TOGETHER,
    TWENTY,
    WIDE,
    Load,
    Memory,
    Serve,
    StartUp,
    TrainingSet,
    Work,
    Write,
)


class Workload(NamedTuple):
    """One line of the tables for each peer. A round is worth `each` units for each question answered."""

    name: str
    about: str
    work: Work
    unit: str = "requests/s"
    each: int = 1

    @property
    def more_is_better(self) -> bool:
        """Whether the unit is a rate; otherwise it is a time or a size."""
        return self.unit.endswith("/s")


def _writing(rows: int, as_json: bool = False) -> Workload:
    work = Write(BATCHED, rows, as_json=as_json)
    lane = "JSON" if as_json else "Arrow"
    about = f"write {rows:,} rows x {BATCHED.width} in one batch, acknowledged (Timewell: {lane})"
    return Workload(f"write-{rows}{'-json' * as_json}", about, work, "values/s", rows * BATCHED.width)


_ALL = (
    Workload("memory", "resident memory added by a loaded value", Memory(), "bytes"),
    Workload("start-up", "an empty server until its first answer", StartUp(), "s"),
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
    Workload("load", "load a Parquet file of 1,000,000 rows x 2 into an empty store", Load(1_000_000), "values/s"),
)
WORKLOADS = {workload.name: workload for workload in _ALL}
