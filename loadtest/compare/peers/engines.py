"""Point-in-time joins in the process of the driver, without HTTP: Timewell's own, DuckDB's and Polars'.

Each has the histories and the rows in memory beforehand, in its own form, and answers in the order of the rows.
Polars has to sort rows in any order and to put them back, but not rows in order of time.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars
import trio

from actors.domain import Feature, FeatureChange
from actors.ingest.sent import Ingested
from actors.opening import open_router
from actors.settings import Settings
from actors.table.batch import Column
from actors.table.batch import Table as Written
from actors.table.ids import numbered
from actors.training import Spine, Wanted
from loadtest.compare.data import Data, History
from loadtest.compare.serving import Place
from loadtest.compare.work import Given, Peer, ServeRows, Table, Timed, TrainingSet, Values, View, Work
from loadtest.machine.cores import placed
from loadtest.micro.data import ENTITY


class Engine(Peer):
    """A peer without a server: nothing to start, nothing to serve."""

    library: str
    kinds = (TrainingSet,)

    def __init__(self, place: Place) -> None:
        self._cores = place.cores
        self._prepared: set[View] = set()

    async def prepare(self, work: TrainingSet | ServeRows, data: Data) -> None:
        if work.view not in self._prepared:
            with placed(self._cores.all):
                await self.take(work.view, data.histories(work.view))
            self._prepared.add(work.view)

    async def do(self, work: Work, given: Given) -> Timed:
        assert isinstance(work, TrainingSet)
        asked = self.taken(given.rows)
        began, spent = time.perf_counter(), time.process_time()
        with placed(self._cores.all):
            answer = await self.join(work, asked)
        took, spent = time.perf_counter() - began, time.process_time() - spent
        columns = {"n": np.asarray(given.rows["n"], np.float64), **self.columns(work.view, answer)}
        return Timed(1, took, columns=columns, processor_seconds=spent)

    @abstractmethod
    async def take(self, view: View, histories: Sequence[History]) -> None:
        """Keep these histories in memory."""

    @abstractmethod
    def taken(self, rows: Table) -> Any:
        """The rows in the form of the engine."""

    @abstractmethod
    async def join(self, work: TrainingSet, asked: Any) -> Any:
        """The values of each row as of its time, in the order of the rows."""

    def columns(self, view: View, answer: Any) -> dict[str, Values]:
        """The features of an answer; NaN without a value."""
        return {name: np.asarray(answer[name].to_numpy(), np.float64) for name in view.features}

    async def versions(self) -> dict[str, str]:
        return {self.library: version(self.library)}


class InProcess(Engine):
    """Timewell through its actors, without HTTP and Arrow."""

    name = "Timewell, in process"
    library = "timewell"

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._ready, self._ending, self._ended = trio.Event(), trio.Event(), trio.Event()
        self._features: dict[View, list[Feature]] = {}

    async def start(self) -> None:
        self._prepared.clear()
        self._ready, self._ending, self._ended = trio.Event(), trio.Event(), trio.Event()
        trio.lowlevel.spawn_system_task(self._live)
        await self._ready.wait()

    async def _live(self) -> None:
        """A task of its own, since `start` and `stop` are called in different cancel scopes."""
        settings = Settings(storage_type="memory", checkpoint_seconds=1e6, enable_monitoring=False)
        async with open_router(settings) as self._router:
            self._ready.set()
            await self._ending.wait()
        self._ended.set()

    async def stop(self) -> None:
        if self._ready.is_set():
            self._ending.set()
            await self._ended.wait()

    async def take(self, view: View, histories: Sequence[History]) -> None:
        changes = [FeatureChange(entity=ENTITY, name=name, value_type="number") for name in view.features]
        found = {change.name: (await self._router.register(change))[0] for change in changes}
        for history in histories:
            table, count = history.table, len(history.table["t"])
            nulls = np.zeros(count, np.bool_)
            columns = [
                Column(found[name].id, found[name].created, table[name], nulls) for name in history.features
            ]
            batch = [Written(ENTITY, numbered(table["e"]), table["t"], columns)]
            await self._router.write(Ingested(batch, count, []), b"")
        self._features[view] = list(found.values())

    def taken(self, rows: Table) -> Spine:
        return Spine([numbered(rows["e"])], rows["t"])

    async def join(self, work: TrainingSet, asked: Spine) -> Any:
        return await self._router.fill(asked, [Wanted(one.name, one) for one in self._features[work.view]])

    def columns(self, view: View, answer: Any) -> dict[str, Values]:
        """Nulls come as a mask."""
        return {
            name: np.where(column.nulls, np.nan, column.values)
            for name, column in zip(view.features, answer, strict=True)
        }


class DuckDB(Engine):
    """ASOF joins of tables on one thread: one for each history, and one that puts their results together."""

    name = "DuckDB, threads=1"
    library = "duckdb"

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._connection = duckdb.connect(config={"threads": 1})
        self._histories: dict[View, list[list[str]]] = {}

    def _table(self, name: str, table: Table) -> None:
        self._connection.register("given", pd.DataFrame(dict(table)))
        self._connection.execute(f"create or replace table {name} as select * from given")

    async def take(self, view: View, histories: Sequence[History]) -> None:
        for number, history in enumerate(histories):
            self._table(f"{view.name}{number}", history.table)
        self._histories[view] = [history.features for history in histories]

    def taken(self, rows: Table) -> None:
        self._table("asked", rows)

    async def join(self, work: TrainingSet, asked: None) -> Any:
        histories, joins = self._histories[work.view], []
        for number, features in enumerate(histories):
            table = f"{work.view.name}{number}"
            on = f"asked.e = {table}.e and asked.t >= {table}.t"
            joins.append(f"select asked.n, {', '.join(features)} from asked asof left join {table} on {on}")
        if len(joins) == 1:
            return self._connection.sql(f"{joins[0]} order by asked.n").to_arrow_table()
        for number, join in enumerate(joins):
            self._connection.execute(f"create or replace temp table j{number} as {join}")
        joined = " ".join(f"join j{number} using (n)" for number in range(1, len(joins)))
        names = ", ".join(work.view.features)
        return self._connection.sql(f"select {names} from j0 {joined} order by n").to_arrow_table()


class Polars(Engine):
    """`join_asof` with each history, sorted by time beforehand, on all its threads."""

    name = "Polars"
    library = "polars"

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._histories: dict[View, list[polars.DataFrame]] = {}

    async def take(self, view: View, histories: Sequence[History]) -> None:
        self._histories[view] = [polars.DataFrame(dict(history.table)).sort("t") for history in histories]

    def taken(self, rows: Table) -> polars.DataFrame:
        return polars.DataFrame(dict(rows))

    async def join(self, work: TrainingSet, asked: polars.DataFrame) -> Any:
        found = asked if work.in_time else asked.sort("t")
        for history in self._histories[work.view]:
            found = found.join_asof(history, on="t", by="e", check_sortedness=False)
        return found if work.in_time else found.sort("n")
