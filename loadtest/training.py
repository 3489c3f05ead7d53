"""`python -m loadtest.training`: point-in-time joins beside DuckDB's and Polars' over the same data.

In process   100,000 rows x 20 features over 200,000 observations each, timed separately or written together
             (a wide group): `Router.fill`, DuckDB's ASOF joins (threads=1, one a feature, joined back; one for a
             wide table) and Polars' `join_asof` where it is installed
End to end   from a pandas frame over HTTP, as Arrow there and back, to a pandas frame; the service is a child

Medians of five runs after one that does not count. Nothing is kept but what is printed.
"""

from __future__ import annotations

import http.client
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from statistics import median
from typing import Any, NamedTuple
from urllib.parse import urlencode

import duckdb
import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import trio

from actors.columns import Block
from actors.domain import Feature, FeatureChange
from actors.ingest import Ingested
from actors.router import Router, open_router
from actors.settings import Settings
from actors.timestamps import SECOND
from actors.training import Moments, Wanted
from loadtest.micro import data
from loadtest.micro.client import Address
from loadtest.micro.report import environment
from loadtest.micro.service import timewell

ROWS, FEATURES, HISTORY, RUNS = 100_000, 20, 200_000, 5
MANY_ROWS = 1_000_000
ARROW = "application/vnd.apache.arrow.stream"
NAMES = [f"f{n:02}" for n in range(FEATURES)]
Table = dict[str, Any]


class Line(NamedTuple):
    """A row of the table that is printed. Seconds, and how the ratio to a target comes out."""

    name: str
    seconds: float
    ratio: str = ""
    target: str = ""
    met: bool | None = None


class Data(NamedTuple):
    """A history for each feature (e, t, v), a wide one (e, t, f00 ..), and the rows asked about (e, t, n)."""

    separate: Sequence[Table]
    wide: Table
    rows: Table


def made() -> Data:
    """Seeded random numbers. No two observations of an entity have the same time, so that all joins agree."""
    random = np.random.default_rng(5)
    separate = [{**_keys(random), "v": random.random(HISTORY)} for _ in NAMES]
    wide = {**_keys(random), **{name: random.random(HISTORY) for name in NAMES}}
    return Data(separate, wide, {**_asked(random, ROWS), "n": np.arange(ROWS)})


def _keys(random: np.random.Generator) -> Table:
    pairs = random.choice(data.ENTITIES * (data.PERIOD // SECOND), HISTORY, replace=False, shuffle=True)
    times = data.STARTED - (pairs // data.ENTITIES) * SECOND
    return {"e": data.entity_ids((pairs % data.ENTITIES).tolist()), "t": times}


def _asked(random: np.random.Generator, count: int) -> Table:
    return {"e": data.random_entities(random, count), "t": data.random_times(random, count)}


# Timewell


async def _filled(router: Router, features: Sequence[Feature], rows: Table) -> tuple[list[float], list[Any]]:
    wanted = [Wanted(feature.name, feature) for feature in features]
    moments, seconds, found = Moments(rows["e"], rows["t"]), [], []
    for _ in range(RUNS + 1):
        began = time.perf_counter()
        found = await router.fill(moments, wanted)
        seconds.append(time.perf_counter() - began)
    return seconds[1:], [np.where(column.nulls, np.nan, column.values) for column in found]


async def _written(
    router: Router, prefix: str, histories: Sequence[Table], columns: Sequence[str]
) -> list[Feature]:
    features, nulls = [], np.zeros(HISTORY, np.bool_)
    for name, history, column in zip(NAMES, histories, columns, strict=True):
        change = FeatureChange(entity=data.ENTITY, name=prefix + name, value_type="number")
        feature, _ = await router.register(change)
        block = Block(feature.id, feature.created, history["e"], history["t"], history[column], nulls)
        await router.write(Ingested([block], HISTORY, []), b"")
        features.append(feature)
    return features


async def in_process(given: Data) -> tuple[list[float], list[Any], list[float], list[Any]]:
    """Seconds and columns of features timed separately, then of a wide group."""
    settings = Settings(storage_type="memory", checkpoint_seconds=1e6, enable_monitoring=False)
    async with open_router(settings) as router:
        separate = await _written(router, "s", given.separate, ["v"] * FEATURES)
        wide = await _written(router, "w", [given.wide] * FEATURES, NAMES)
        return *await _filled(router, separate, given.rows), *await _filled(router, wide, given.rows)


# The others


def by_duckdb(given: Data) -> tuple[list[float], list[Any], list[float], list[Any]]:
    """The same of DuckDB, with everything in tables of its own beforehand."""
    with duckdb.connect(config={"threads": 1}) as connection:
        tables = {
            **{f"s{n}": one for n, one in enumerate(given.separate)},
            "wide": given.wide,
            "asked": given.rows,
        }
        for name, table in tables.items():
            connection.register("given", pd.DataFrame(table))
            connection.execute(f"create table {name} as select * from given")
        asof = "from asked asof left join {0} on asked.e = {0}.e and asked.t >= {0}.t"

        def separate() -> list[Any]:
            for n in range(FEATURES):
                query = f"create or replace temp table j{n} as select asked.n, s{n}.v {asof.format(f's{n}')}"
                connection.execute(query)
            columns = ", ".join(f"j{n}.v as {name}" for n, name in enumerate(NAMES))
            joined = " ".join(f"join j{n} on asked.n = j{n}.n" for n in range(FEATURES))
            return _columns(connection.sql(f"select asked.n, {columns} from asked {joined}").to_arrow_table())

        def wide() -> list[Any]:
            query = f"select asked.n, {', '.join(NAMES)} {asof.format('wide')}"
            return _columns(connection.sql(query).to_arrow_table())

        return *_measured(separate), *_measured(wide)


def by_polars(given: Data) -> tuple[list[float], list[Any], int] | None:
    """Polars over the wide group, and its threads; None where it is not installed. Sorted by time beforehand."""
    polars: Any = None
    with suppress(ImportError):
        import polars  # type: ignore[no-redef, import-not-found, unused-ignore]
    if polars is None:
        return None
    rows, wide = (polars.DataFrame(table).sort("t") for table in (given.rows, given.wide))
    seconds, found = _measured(
        lambda: _columns(rows.join_asof(wide, on="t", by="e", check_sortedness=False).to_arrow())
    )
    return seconds, found, polars.thread_pool_size()


def _columns(table: pa.Table) -> list[Any]:
    """The columns in the order of the rows asked about, which is the one that Timewell answers in."""
    order = np.empty(ROWS, np.int64)
    order[table["n"].to_numpy()] = np.arange(ROWS)
    return [table[name].to_numpy()[order] for name in NAMES]


def _measured(call: Callable[[], Any]) -> tuple[list[float], Any]:
    seconds, found = [], None
    for _ in range(RUNS + 1):
        began = time.perf_counter()
        found = call()
        seconds.append(time.perf_counter() - began)
    return seconds[1:], found


def _agree(one: Sequence[Any], other: Sequence[Any]) -> None:
    for mine, theirs in zip(one, other, strict=True):
        np.testing.assert_array_equal(mine, np.asarray(theirs, float))


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


def _stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def end_to_end(given: Data) -> tuple[list[float], list[float]]:
    """Seconds of 100,000 rows x 20 features and of a million rows x 1."""
    many = _asked(np.random.default_rng(6), MANY_ROWS)
    with timewell(MAX_BODY_BYTES=str(2**28), ENABLE_MONITORING="false", CHECKPOINT_SECONDS="1000000") as service:
        for name, history in zip(NAMES, given.separate, strict=True):
            body = {"name": name, "entity": data.ENTITY, "valueType": "number"}
            post(service.address, "/features/register", msgspec.json.encode(body), "application/json")
            columns = {"entityId": history["e"], "timestamp": _moments(history["t"]), name: history["v"]}
            post(service.address, "/features/write-batch", _stream(pa.table(columns)), ARROW)
        return _asking(service.address, given.rows, NAMES), _asking(service.address, many, NAMES[:1])


def _moments(times: Any) -> pa.Array:
    return pa.array(times, pa.timestamp("us", "UTC"))


def _asking(address: Address, rows: Table, features: Sequence[str]) -> list[float]:
    frame = pd.DataFrame({"entityId": rows["e"], "timestamp": pd.to_datetime(rows["t"], unit="us", utc=True)})
    path = "/features/training-set?" + urlencode({"features": ",".join(features)})

    def ask() -> None:
        body = _stream(pa.Table.from_pandas(frame, preserve_index=False))
        answer = pa.ipc.open_stream(post(address, path, body, ARROW, ARROW)).read_pandas()
        if answer.shape != (len(frame), 2 + len(features)) or answer[features[-1]].isna().all():
            raise RuntimeError("the answer is not what was asked for")

    return _measured(ask)[0]


# The table


def beside(name: str, mine: float, theirs: float, at_least: float) -> Line:
    """Another's time, and how many times as long as Timewell's it is."""
    ratio = theirs / mine
    return Line(f"  {name}", theirs, f"{ratio:.2f} x", f">= {at_least:g} x", ratio >= at_least)


def run() -> list[Line]:
    """Everything, in the order of the table."""
    given = made()
    separate, columns, wide, wide_columns = trio.run(in_process, given)
    their_separate, their_columns, their_wide, their_wide_columns = by_duckdb(given)
    _agree(columns, their_columns)
    _agree(wide_columns, their_wide_columns)
    lines = [
        Line("100,000 x 20 separately timed", median(separate)),
        beside("DuckDB ASOF, threads=1", median(separate), median(their_separate), 5),
        Line("100,000 x 20 written together", median(wide)),
        beside("DuckDB ASOF, threads=1", median(wide), median(their_wide), 2),
    ]
    polars = by_polars(given)
    if polars is not None:
        _agree(wide_columns, polars[1])
        lines.append(beside(f"Polars join_asof, threads={polars[2]}", median(wide), median(polars[0]), 1))
    joined, many = map(median, end_to_end(given))
    rate = MANY_ROWS / many / 1e6
    lines.append(Line("HTTP to pandas: 100,000 x 20", joined, f"{joined:.2f} s", "<= 1 s", joined <= 1))
    lines.append(Line("HTTP to pandas: 1,000,000 x 1", many, f"{rate:.2f} M/s", ">= 1 M/s", rate >= 1))
    return lines


def main() -> int:
    """Exit code 0: all was measured and all joins agree, whatever came of it."""
    print(", ".join(f"{name} {value}" for name, value in environment().items()), flush=True)
    print(f"{'':34}{'median s':>10}{'ratio':>12}{'target':>12}  met?")
    for line in run():
        met = {None: "", True: "yes", False: "NO"}[line.met]
        print(f"{line.name:34}{line.seconds:10.3f}{line.ratio:>12}{line.target:>12}  {met}".rstrip())
    return 0


if __name__ == "__main__":
    sys.exit(main())
