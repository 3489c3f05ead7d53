"""`python -m loadtest.training`: point-in-time joins beside DuckDB's and Polars' over the same data.

In process   100,000 rows x 20 features over 200,000 observations each, timed separately or written together (a
             wide group). Every engine has the history and the rows in memory beforehand, in a form of its own,
             and answers in the order of the rows: Timewell by `Router.fill` (through its actors, no HTTP) with the
             ids as Arrow, DuckDB by ASOF joins of tables (threads=1, one a feature, joined back; one for a wide
             table), Polars by `join_asof` with a frame that is sorted by time beforehand. Rows in any order it has
             to sort and to put back; rows in order of time are its kernel alone.
End to end   from a pandas frame over HTTP, as Arrow there and back, to a pandas frame; the service is a child

Medians of rounds in which each engine has its turn, after one that does not count. Ratios are those of wall clocks
within a round. Processor time is that of all threads of the engine's process, of the service's end to end. Nothing
is kept but what is printed.
"""

from __future__ import annotations

import http.client
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from statistics import median
from typing import Any, NamedTuple
from urllib.parse import urlencode

import duckdb
import msgspec
import numpy as np
import pandas as pd
import polars
import pyarrow as pa
import trio

from actors.domain import Feature, FeatureChange
from actors.ingest.sent import Ingested
from actors.opening import open_router
from actors.router import Router
from actors.settings import Settings
from actors.table.columns import Block, Keys
from actors.timestamps import SECOND
from actors.training import Filled, Moments, Wanted
from loadtest.machine.arrow import ARROW, stream
from loadtest.machine.facts import environment
from loadtest.machine.messages import Address
from loadtest.machine.processes import processor_seconds
from loadtest.machine.service import Service, temporary
from loadtest.micro import data

ROWS, FEATURES, HISTORY, ROUNDS = 100_000, 20, 200_000, 7
MANY_ROWS = 1_000_000
NAMES = [f"f{n:02}" for n in range(FEATURES)]
Table = dict[str, Any]


class Took(NamedTuple):
    """Seconds of one call by the clock on the wall, and of processors."""

    wall: float
    processor: float


class Line(NamedTuple):
    """A row of the table that is printed: what it took, and how the ratio to a target comes out."""

    name: str
    took: Sequence[Took]
    ratio: str = ""
    target: str = ""
    met: bool | None = None


class Data(NamedTuple):
    """A history for each feature (e, t, v), a wide one (e, t, f00 ..), and the rows asked about (e, t, n).

    `sorted_rows` are the same in order of time.
    """

    separate: Sequence[Table]
    wide: Table
    rows: Table
    sorted_rows: Table


def made() -> Data:
    """Seeded random numbers. No two observations of an entity have the same time, so that all joins agree."""
    random = np.random.default_rng(5)
    separate = [{**_keys(random), "v": random.random(HISTORY)} for _ in NAMES]
    wide = {**_keys(random), **{name: random.random(HISTORY) for name in NAMES}}
    rows = _asked(random, ROWS)
    in_time = np.argsort(rows["t"], kind="stable")
    ordered = {"e": [rows["e"][place] for place in in_time.tolist()], "t": rows["t"][in_time]}
    return Data(separate, wide, *({**table, "n": np.arange(ROWS)} for table in (rows, ordered)))


def _keys(random: np.random.Generator) -> Table:
    pairs = random.choice(data.ENTITIES * (data.PERIOD // SECOND), HISTORY, replace=False, shuffle=True)
    times = data.STARTED - (pairs // data.ENTITIES) * SECOND
    return {"e": data.entity_ids((pairs % data.ENTITIES).tolist()), "t": times}


def _asked(random: np.random.Generator, count: int) -> Table:
    return {"e": data.random_entities(random, count), "t": data.random_times(random, count)}


# The engines


class Engine(NamedTuple):
    """One question as an engine is asked it, and its answer's columns in the order of the rows, NaN for null."""

    ask: Callable[[], Awaitable[Any]]
    columns: Callable[[Any], Sequence[Any]]


def by_timewell(router: Router, features: Sequence[Feature], rows: Table) -> Engine:
    """The latest values of some features."""
    wanted = [Wanted(feature.name, feature) for feature in features]
    moments = Moments(pa.array(rows["e"], pa.string()), rows["t"])

    def columns(found: Sequence[Filled]) -> Sequence[Any]:
        return [np.where(column.nulls, np.nan, column.values) for column in found]

    return Engine(lambda: router.fill(moments, wanted), columns)


async def written(
    router: Router, prefix: str, histories: Sequence[Table], columns: Sequence[str]
) -> list[Feature]:
    """A feature for each history, with the values of one of its columns."""
    features, nulls = [], np.zeros(HISTORY, np.bool_)
    for name, history, column in zip(NAMES, histories, columns, strict=True):
        change = FeatureChange(entity=data.ENTITY, name=prefix + name, value_type="number")
        feature, _ = await router.register(change)
        block = Block(feature.id, feature.created, Keys(history["e"], history["t"]), history[column], nulls)
        await router.write(Ingested([block], HISTORY, []), b"")
        features.append(feature)
    return features


class DuckDB:
    """Everything in tables of its own."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, given: Data) -> None:
        self._connection = connection
        histories = {f"s{n}": one for n, one in enumerate(given.separate)}
        for name, table in {**histories, "wide": given.wide, "asked": given.rows}.items():
            connection.register("given", pd.DataFrame(table))
            connection.execute(f"create table {name} as select * from given")

    def separate(self) -> Engine:
        """A join for each feature, and one that puts their results together."""

        async def ask() -> pa.Table:
            for n in range(FEATURES):
                query = f"create or replace temp table j{n} as select asked.n, s{n}.v {_asof(f's{n}')}"
                self._connection.execute(query)
            columns = ", ".join(f"j{n}.v as {name}" for n, name in enumerate(NAMES))
            joined = " ".join(f"join j{n} on asked.n = j{n}.n" for n in range(FEATURES))
            return self._table(f"select {columns} from asked {joined}")

        return Engine(ask, _of_table)

    def wide(self) -> Engine:
        """One join."""

        async def ask() -> pa.Table:
            return self._table(f"select {', '.join(NAMES)} {_asof('wide')}")

        return Engine(ask, _of_table)

    def _table(self, query: str) -> pa.Table:
        return self._connection.sql(f"{query} order by asked.n").to_arrow_table()


def _asof(history: str) -> str:
    return f"from asked asof left join {history} on asked.e = {history}.e and asked.t >= {history}.t"


def _of_table(table: Any) -> Sequence[Any]:
    return [np.asarray(table[name].to_numpy(), float) for name in NAMES]


def by_polars(given: Data, in_time: bool) -> Engine:
    """The wide group, asked about rows in any order or in order of time."""
    wide = polars.DataFrame(given.wide).sort("t")
    rows = polars.DataFrame(given.sorted_rows if in_time else given.rows)

    async def ask() -> Any:
        if in_time:
            return rows.join_asof(wide, on="t", by="e", check_sortedness=False)
        return rows.sort("t").join_asof(wide, on="t", by="e", check_sortedness=False).sort("n")

    return Engine(ask, _of_table)


class Question(NamedTuple):
    """What is asked of Timewell and of others, by name, with how many times as long it should take them."""

    name: str
    mine: Engine
    others: dict[str, tuple[Engine, float]]


async def in_turns(question: Question) -> list[Line]:
    """What it takes each in rounds in which each has its turn. Raises AssertionError where answers differ."""
    engines = [question.mine, *(engine for engine, _ in question.others.values())]
    took: list[list[Took]] = [[] for _ in engines]
    for number in range(ROUNDS + 1):
        answers = []
        for engine, times in zip(engines, took, strict=True):
            began, used = time.perf_counter(), time.process_time()
            answers.append(await engine.ask())
            times.append(Took(time.perf_counter() - began, time.process_time() - used))
        if number == 0:
            _agree([engine.columns(answer) for engine, answer in zip(engines, answers, strict=True)])
    mine, *theirs = (times[1:] for times in took)
    asked = zip(question.others.items(), theirs, strict=True)
    others = [beside(name, mine, times, at_least) for (name, (_, at_least)), times in asked]
    return [Line(question.name, mine), *others]


def _agree(answers: Sequence[Sequence[Any]]) -> None:
    for other in answers[1:]:
        for mine, theirs in zip(answers[0], other, strict=True):
            np.testing.assert_array_equal(mine, theirs)


def beside(name: str, mine: Sequence[Took], theirs: Sequence[Took], at_least: float) -> Line:
    """Another's times, and how many times as long as Timewell's in the same round they are."""
    ratio = median(their.wall / my.wall for my, their in zip(mine, theirs, strict=True))
    return Line(f"  {name}", theirs, f"{ratio:.2f} x", f">= {at_least:g} x", ratio >= at_least)


async def in_process(given: Data) -> None:
    """Show features timed separately, then a wide group asked about rows in any order and in order of time."""
    settings = Settings(storage_type="memory", checkpoint_seconds=1e6, enable_monitoring=False)
    kernel = f"Polars, threads={polars.thread_pool_size()}"
    with duckdb.connect(config={"threads": 1}) as connection:
        tables = DuckDB(connection, given)
        async with open_router(settings) as router:
            separate = await written(router, "s", given.separate, ["v"] * FEATURES)
            wide = await written(router, "w", [given.wide] * FEATURES, NAMES)
            questions = [
                Question(
                    "100,000 x 20 separately timed",
                    by_timewell(router, separate, given.rows),
                    {"DuckDB, threads=1": (tables.separate(), 5)},
                ),
                Question(
                    "100,000 x 20 written together",
                    by_timewell(router, wide, given.rows),
                    {"DuckDB, threads=1": (tables.wide(), 2), kernel: (by_polars(given, False), 1)},
                ),
                Question(
                    "the same, rows in order of time",
                    by_timewell(router, wide, given.sorted_rows),
                    {kernel: (by_polars(given, True), 1)},
                ),
            ]
            for question in questions:
                show(await in_turns(question))


# End to end


def post(address: Address, path: str, body: bytes, content_type: str, accept: str = "application/json") -> bytes:
    """The body of the answer. Raises RuntimeError with it where the status is not 2xx."""
    connection = http.client.HTTPConnection(*address, timeout=100)
    try:
        connection.request("POST", path, body, {"Content-Type": content_type, "Accept": accept})
        answer = connection.getresponse()
        found = answer.read()
    finally:
        connection.close()
    if answer.status // 100 != 2:
        raise RuntimeError(found[:1_000].decode(errors="replace"))
    return found


def end_to_end(given: Data) -> list[Line]:
    """100,000 rows x 20 features, timed separately and written together, and a million rows x 1."""
    many = _asked(np.random.default_rng(6), MANY_ROWS)
    together = [f"w{name}" for name in NAMES]
    with temporary(MAX_BODY_BYTES=str(2**28), ENABLE_MONITORING="false", CHECKPOINT_SECONDS="1000000") as service:
        for name in (*NAMES, *together):
            body = {"name": name, "entity": data.ENTITY, "valueType": "number"}
            post(service.address, "/features/register", msgspec.json.encode(body), "application/json")
        for name, history in zip(NAMES, given.separate, strict=True):
            _write(service.address, history, {name: history["v"]})
        _write(service.address, given.wide, {f"w{name}": given.wide[name] for name in NAMES})
        joined = _asking(service, given.rows, NAMES)
        wide = _asking(service, given.rows, together)
        rate = _asking(service, many, NAMES[:1])
    return [
        _within("HTTP to pandas: 100,000 x 20", joined),
        _within("  the same, written together", wide),
        _at_rate("HTTP to pandas: 1,000,000 x 1", rate),
    ]


def _within(name: str, took: Sequence[Took]) -> Line:
    seconds = median(one.wall for one in took)
    return Line(name, took, f"{seconds:.2f} s", "<= 1 s", seconds <= 1)


def _at_rate(name: str, took: Sequence[Took]) -> Line:
    millions = MANY_ROWS / median(one.wall for one in took) / 1e6
    return Line(name, took, f"{millions:.2f} M/s", ">= 1 M/s", millions >= 1)


def _write(address: Address, keys: Table, columns: Table) -> None:
    table = {"entityId": keys["e"], "timestamp": pa.array(keys["t"], pa.timestamp("us", "UTC")), **columns}
    post(address, "/features/write-batch", stream(pa.table(table)), ARROW)


def _asking(service: Service, rows: Table, features: Sequence[str]) -> list[Took]:
    frame = pd.DataFrame({"entityId": rows["e"], "timestamp": pd.to_datetime(rows["t"], unit="us", utc=True)})
    path = "/features/training-set?" + urlencode({"features": ",".join(features)})
    took = []
    for _ in range(ROUNDS + 1):
        began, used = time.perf_counter(), processor_seconds(service.pid) or 0
        body = stream(pa.Table.from_pandas(frame, preserve_index=False))
        answer = pa.ipc.openstream(post(service.address, path, body, ARROW, ARROW)).read_pandas()
        took.append(Took(time.perf_counter() - began, (processor_seconds(service.pid) or 0) - used))
        if answer.shape != (len(frame), 2 + len(features)) or answer[features[-1]].isna().all():
            raise RuntimeError("the answer is not what was asked for")
    return took[1:]


# The table


def show(lines: Sequence[Line]) -> None:
    """Print them."""
    for line in lines:
        met = {None: "", True: "yes", False: "NO"}[line.met]
        wall, processor = (median(column) for column in zip(*line.took, strict=True))
        figures = f"{wall:10.3f}{processor:11.3f}{line.ratio:>12}{line.target:>12}"
        print(f"{line.name:34}{figures}  {met}".rstrip(), flush=True)


def main() -> int:
    """Exit code 0: all was measured and all joins agree, whatever came of it."""
    print(", ".join(f"{name} {value}" for name, value in environment().items()))
    print(f"{'':34}{'median s':>10}{'processor':>11}{'ratio':>12}{'target':>12}  met?", flush=True)
    given = made()
    trio.run(in_process, given)
    show(end_to_end(given))
    return 0


if __name__ == "__main__":
    sys.exit(main())
