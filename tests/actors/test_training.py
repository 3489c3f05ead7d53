"""Point-in-time joins, beside what pandas, DuckDB and other feature stores say of the same tables."""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import numpy as np
import pandas as pd
import pytest
import trio
import trio.testing

from actors import training
from actors.domain import Feature, FeatureChange, Retention
from actors.errors import Unavailable
from actors.ingest.sent import Sent
from actors.messages import Past
from actors.opening import open_router
from actors.router import Router
from actors.settings import Settings
from actors.storage.embedded.local import MemoryStorage
from actors.store import FeatureStore
from actors.table.aggregates import AGGREGATIONS
from actors.table.columns import Indices
from actors.table.found import Found
from actors.table.ids import numbered
from actors.table.index import Index
from actors.table.partition import DiskRows, Partition
from actors.table.rows import Rows
from actors.table.series import Series
from actors.table.sharding import shard_of
from actors.timestamps import FOREVER, NEVER, SECOND, parse_timestamp
from actors.training import Spine, Wanted
from actors.types.values import render
from tests.faults import instead
from tests.model import reduce, rfc3339

NOW = 1_762_509_600_000_000
SHARDS = 2
SETTINGS = Settings(storage_type="memory", shards=SHARDS, checkpoint_seconds=1e6, enable_monitoring=False)
Asked = Sequence[tuple[str, int]]


def entities_of_shard(shard: int, count: int) -> list[str]:
    """Some entities that a given store owns."""
    return [f"u{n}" for n in range(100) if shard_of("user", f"u{n}", SHARDS) == shard][:count]


A, B, C = entities_of_shard(0, 3)


@asynccontextmanager
async def opened(storage: MemoryStorage | None = None, **settings: Any) -> AsyncIterator[Router]:
    """A router whose present is NOW."""
    chosen = msgspec.structs.replace(SETTINGS, **settings)
    async with open_router(chosen, storage or MemoryStorage(), lambda: NOW) as router:
        yield router


async def registered(router: Router, name: str, value_type: Any = "number", **rest: Any) -> Feature:
    """A feature of `user`."""
    return (await router.register(FeatureChange(entity="user", name=name, value_type=value_type, **rest)))[0]


async def put(router: Router, feature: Feature, *rows: tuple[str, int, Any]) -> None:
    """Write (entity, event time, value) in one batch."""
    entities, times, values = zip(*rows, strict=True)
    none = [None] * len(rows)
    sent = Sent([feature.id] * len(rows), entities, values, [rfc3339(time) for time in times], none)
    ingested = router.judge.at_once(sent)
    assert ingested.accepted == len(rows)
    await router.write(ingested, b"")


async def filled(router: Router, rows: Asked, *wanted: Wanted, known: Sequence[int] | None = None) -> list[Any]:
    """The columns asked for, each as a list of JSON values."""
    at = np.array([time for _, time in rows], np.int64)
    ids = numbered([entity for entity, _ in rows])
    roles = [ids] * (1 + max(one.role for one in wanted))
    moments = Spine(roles, at, None if known is None else np.array(known, np.int64))
    columns = await router.fill(moments, wanted)
    assert [column.name for column in columns] == [column.name for column in wanted]
    return [
        msgspec.json.decode(msgspec.json.encode(render(one.value_type, one.values, one.nulls))) for one in columns
    ]


def latest(feature: Feature, lookback: int | None = None) -> Wanted:
    """A feature's latest value."""
    return Wanted(feature.name, feature, lookback)


async def column(router: Router, feature: Feature, rows: Asked, lookback: int | None = None) -> list[Any]:
    """The latest values of one feature."""
    (found,) = await filled(router, rows, latest(feature, lookback))
    return list(found)


# What others document


def ms(number: int) -> int:
    """Milliseconds after 13:30 on the day of the example in pandas' documentation."""
    return parse_timestamp("2016-05-25T13:30:00Z") + number * 1_000


QUOTES = [
    ("GOOG", 23, 720.50, 720.93),
    ("MSFT", 23, 51.95, 51.96),
    ("MSFT", 30, 51.97, 51.98),
    ("MSFT", 41, 51.99, 52.00),
    ("GOOG", 48, 720.50, 720.93),
    ("AAPL", 49, 97.99, 98.01),
    ("GOOG", 72, 720.50, 720.88),
    ("MSFT", 75, 52.01, 52.03),
]
TRADES = [("MSFT", 23), ("MSFT", 38), ("GOOG", 48), ("GOOG", 48), ("AAPL", 48)]


@pytest.mark.parametrize(
    ("earlier", "tolerance", "bid", "ask"),
    [
        (0, None, [51.95, 51.97, 720.5, 720.5, None], [51.96, 51.98, 720.93, 720.93, None]),
        (0, 2_000, [51.95, None, 720.5, 720.5, None], [51.96, None, 720.93, 720.93, None]),
        (1, 10_000, [None, 51.97, None, None, None], [None, 51.98, None, None, None]),
    ],
    ids=["by ticker", "within 2 ms", "within 10 ms, exact matches left out"],
)
async def test_trades_get_the_quotes_that_the_documentation_of_pandas_prints(
    earlier: int, tolerance: int | None, bid: list[Any], ask: list[Any]
) -> None:
    async with opened() as router:
        features = [await registered(router, name) for name in ("bid", "ask")]
        for place, feature in enumerate(features):
            await put(router, feature, *((quote[0], ms(quote[1]), quote[2 + place]) for quote in QUOTES))
        rows = [(ticker, ms(number) - earlier) for ticker, number in TRADES]
        assert await filled(router, rows, *(latest(one, tolerance) for one in features)) == [bid, ask]


async def test_holdings_get_the_prices_that_the_documentation_of_duckdb_prints() -> None:
    midnight = parse_timestamp("2001-01-01T00:00:00Z")
    async with opened() as router:
        price = await registered(router, "price")
        prices = [(ticker, midnight + 30 * n * SECOND, n + 1) for ticker in ("APPL", "GOOG") for n in range(3)]
        await put(router, price, *prices)
        rows = [(ticker, midnight + n * SECOND) for ticker in ("APPL", "GOOG", "DATA") for n in (-30, 30, 90)]
        assert await column(router, price, rows) == [None, 2, 3, None, 2, 3, None, None, None]


async def test_a_row_within_the_time_to_live_joins_and_one_after_it_does_not_as_in_feast() -> None:
    eight, hour = parse_timestamp("2021-04-12T08:00:00Z"), 3_600 * SECOND
    async with opened() as router:
        trips = await registered(router, "trips_today")
        await put(router, trips, (A, eight, 3), (A, eight + 2 * hour, 5), (B, eight, 7))
        rows = [
            (A, eight - 1),
            (A, eight),
            (A, eight + hour),
            (A, eight + 2 * hour - 1),
            (A, eight + 2 * hour),
            (A, eight + 4 * hour),
            (A, eight + 4 * hour + 1),
            (B, eight + 2 * hour),
            (B, eight + 2 * hour + 1),
            ("no driver", eight),
        ]
        assert await column(router, trips, rows, 2 * hour) == [None, 3, 3, 3, 5, 5, None, 7, None, None]


async def test_of_equal_event_times_the_one_created_last_joins_as_in_feast() -> None:
    async with opened() as router:
        clicks = await registered(router, "clicks")
        await put(router, clicks, (A, NOW, 1), (A, NOW, 2))
        await put(router, clicks, (B, NOW, 1), (B, NOW + 1, 9))
        await put(router, clicks, (B, NOW, 3))
        assert await column(router, clicks, [(A, NOW), (B, NOW), (B, NOW + 1)]) == [2, 3, 9]


async def test_a_label_before_any_value_trains_on_null_as_in_featureform() -> None:
    async with opened() as router:
        amount = await registered(router, "avg_transactions")
        await put(router, amount, (A, NOW, 10), (A, NOW + 50, 20))
        assert await column(router, amount, [(A, NOW - 1), (A, NOW + 49), (A, NOW + 50)]) == [None, 10, 20]


async def test_only_values_of_the_future_give_null() -> None:
    async with opened() as router:
        clicks = await registered(router, "clicks")
        await put(router, clicks, (A, NOW + 1, 1), (A, NOW + 2, 2))
        assert await column(router, clicks, [(A, NOW), (A, NEVER // 2)]) == [None, None]


async def test_a_null_that_is_newest_stays_null_and_expires_as_a_value_does() -> None:
    async with opened() as router:
        clicks = await registered(router, "clicks")
        await put(router, clicks, (A, NOW, 1), (A, NOW + 10, None), (A, NOW + 20, 3))
        rows = [(A, NOW + 9), (A, NOW + 10), (A, NOW + 19), (A, NOW + 20)]
        assert await column(router, clicks, rows) == [1, None, None, 3]
        assert await column(router, clicks, rows, 10) == [1, None, None, 3]


@pytest.mark.parametrize("order", ["forwards", "backwards", "shuffled", "one by one"])
async def test_the_order_of_arrival_does_not_matter(order: str) -> None:
    async with opened() as router:
        clicks = await registered(router, "clicks")
        rows = [(entity, NOW + 10 * n, n) for n in range(50) for entity in (A, B)]
        if order == "backwards":
            rows.reverse()
        if order in ("shuffled", "one by one"):
            np.random.default_rng(1).shuffle(rows)
        for lot in [[row] for row in rows] if order == "one by one" else [rows]:
            await put(router, clicks, *lot)
        asked = [(entity, NOW + n) for n in range(-5, 510, 5) for entity in (B, A)]
        expected = [None if time < NOW else min(49, (time - NOW) // 10) for _, time in asked]
        assert await column(router, clicks, asked) == expected


async def test_rows_keep_their_order_and_repeated_rows_are_all_answered() -> None:
    async with opened() as router:
        clicks = await registered(router, "clicks")
        entities = [*entities_of_shard(0, 5), *entities_of_shard(1, 5)]
        await put(router, clicks, *((entity, NOW, n) for n, entity in enumerate(entities)))
        rows = [(entities[n], NOW + n) for n in np.random.default_rng(2).integers(0, 10, 200).tolist()]
        assert await column(router, clicks, rows) == [entities.index(entity) for entity, _ in rows]


async def test_more_rows_than_one_question_holds_are_answered_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened() as router:
        features = [await registered(router, name) for name in ("a", "b", "c")]
        for feature in features:
            await put(router, feature, *((f"u{n % 7}", NOW + n, n) for n in range(100)))
        rows = [(f"u{n % 9}", NOW + n) for n in range(120)]
        wanted = [*map(latest, features), Wanted("sum", features[0], None, "sum", 30)]
        whole = await filled(router, rows, *wanted)
        monkeypatch.setattr(training, "CELLS_PER_QUESTION", 10)
        monkeypatch.setattr(training, "WINDOWED_ROWS_PER_QUESTION", 7)
        assert await filled(router, rows, *wanted) == whole
        assert len({repr(value) for value in whole[0]}) > 50


async def test_a_part_of_the_rows_may_be_asked_about() -> None:
    async with opened() as router:
        clicks = await registered(router, "clicks")
        await put(router, clicks, *((f"u{n}", NOW, n) for n in range(9)))
        ids = numbered([f"u{n % 11}" for n in range(40)])
        whole = Spine([ids], np.arange(40) + NOW - 20)
        for known in (None, np.full(40, FOREVER)):
            for cut in (slice(0, 40), slice(17, 33)):
                (found,) = await router.fill(whole._replace(known=known).rows(cut), [latest(clicks)])
                expected = [n >= 20 and n % 11 < 9 for n in range(40)]
                assert (~found.nulls).tolist() == expected[cut]
                values = [n % 11 for n, here in enumerate(expected) if here and cut.start <= n < cut.stop]
                assert found.values[~found.nulls].tolist() == values


async def test_lots_of_rows_look_up_each_entity_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened() as router:
        clicks = await registered(router, "clicks")
        await put(router, clicks, *((f"u{n}", NOW, n) for n in range(9)))
        whole = Spine([numbered([f"u{n % 11}" for n in range(44)])], np.full(44, NOW))
        found, looked_up, sane = list[Any](), list[str](), Partition.slots

        def slots(self: Partition, entity_type: str, entities: Sequence[str]) -> Indices:
            looked_up.extend(entities)
            return sane(self, entity_type, entities)

        monkeypatch.setattr(Partition, "slots", slots)
        for start in range(0, 44, 5):
            (lot,) = await router.fill(whole.rows(slice(start, start + 5)), [latest(clicks)])
            found += render(lot.value_type, lot.values, lot.nulls)
        assert found == [n % 11 if n % 11 < 9 else None for n in range(44)]
        assert sorted(looked_up) == sorted({f"u{n}" for n in range(11)})


async def test_an_entity_that_is_erased_and_written_again_between_two_lots_has_its_new_value() -> None:
    async with opened() as router:
        clicks = await registered(router, "clicks")
        await put(router, clicks, (A, NOW, 1), (B, NOW, 2), (C, NOW, 3))
        whole = Spine([numbered([A, B, C, A])], np.full(4, NOW))
        (before,) = await router.fill(whole.rows(slice(0, 2)), [latest(clicks)])
        await router.erase("user", A)
        await put(router, clicks, (A, NOW, 4))
        (after,) = await router.fill(whole.rows(slice(2, 4)), [latest(clicks)])
        (both,) = await router.fill(whole, [latest(clicks)])
        assert [one.values[~one.nulls].tolist() for one in (before, after, both)] == [[1, 2], [3, 4], [4, 2, 3, 4]]


async def test_features_of_several_entity_types_are_filled_side_by_side() -> None:
    async with opened() as router:
        clicks = await registered(router, "clicks")
        price, _ = await router.register(FeatureChange(entity="item", name="price", value_type="string"))
        views = await registered(router, "views", "integer")
        await put(router, clicks, (A, NOW, 1))
        await put(router, price, (A, NOW, "cheap"), ("i1", NOW, "dear"))
        await put(router, views, ("i1", NOW, 7))
        found = await filled(
            router, [(A, NOW), ("i1", NOW)], latest(clicks), latest(price)._replace(role=1), latest(views)
        )
        assert found == [[1, None], ["cheap", "dear"], [None, 7]]


@pytest.mark.parametrize("tolerance", [None, 5_000])
async def test_a_large_join_is_what_pandas_and_duckdb_make_of_it(tolerance: int | None) -> None:
    random = np.random.default_rng(3)
    history = pd.DataFrame({"e": random.integers(0, 40, 4_000), "t": random.integers(0, 50_000, 4_000)})
    history = history.drop_duplicates(["e", "t"]).reset_index(drop=True)
    history["v"] = np.arange(len(history), dtype=float)
    asked = pd.DataFrame({"e": random.integers(0, 44, 3_000), "t": random.integers(-99, 51_000, 3_000)})
    asked["n"] = np.arange(len(asked))
    async with opened() as router:
        clicks = await registered(router, "clicks", retention=Retention(values=5))
        rows = [(f"u{e}", NOW + t, v) for e, t, v in zip(history.e, history.t, history.v, strict=True)]
        for start in range(0, len(rows), 500):
            await put(router, clicks, *rows[start : start + 500])
            if start == 2_000:
                await router.checkpointer.checkpoint()
        moments = [(f"u{e}", NOW + t) for e, t in zip(asked.e, asked.t, strict=True)]
        found = await column(router, clicks, moments, tolerance)
    merged = pd.merge_asof(asked.sort_values("t"), history.sort_values("t"), on="t", by="e", tolerance=tolerance)
    in_order = merged.sort_values("n")["v"].tolist()
    assert found == [None if np.isnan(value) else value for value in in_order]
    within = "" if tolerance is None else f" and asked.t - history.t <= {tolerance}"
    query = f"""
        select case when history.t is not null{within} then v end
        from asked asof left join history on asked.e = history.e and asked.t >= history.t order by n
    """
    with duckdb.connect() as connection:
        connection.register("asked", asked)
        connection.register("history", history)
        assert found == [value for (value,) in connection.execute(query).fetchall()]


# Windows


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("checkpointed", [False, True], ids=["in memory", "on disk"])
async def test_a_window_is_open_at_its_beginning_and_closed_at_its_end(
    aggregation: str, checkpointed: bool
) -> None:
    random = np.random.default_rng(4)
    numbers = [None if n % 5 == 0 else float(n) for n in random.integers(-9, 10, 300).tolist()]
    times = (NOW + random.integers(0, 200, 300)).tolist()
    history: dict[tuple[str, int], float | None] = {}
    async with opened() as router:
        clicks = await registered(router, "clicks", retention=Retention(values=2))
        rows = [(f"u{n % 4}", time, value) for n, (time, value) in enumerate(zip(times, numbers, strict=True))]
        for place in range(0, 300, 100):
            await put(router, clicks, *rows[place : place + 100])
            if checkpointed:
                await router.checkpointer.checkpoint()
        history.update({(entity, time): value for entity, time, value in rows})
        asked = [(f"u{n % 5}", NOW + int(time)) for n, time in enumerate(random.integers(-20, 240, 200))]
        windows = [1, 10, 250]
        wanted = [Wanted(f"last {window}", clicks, None, aggregation, window) for window in windows]
        found = await filled(router, asked, *wanted)
    for window, values in zip(windows, found, strict=True):
        expected = [
            reduce(
                aggregation, [v for (e, t), v in sorted(history.items()) if e == entity and at - window < t <= at]
            )
            for entity, at in asked
        ]
        given = [np.nan if value is None else value for value in values]
        assert given == pytest.approx([np.nan if value is None else value for value in expected], nan_ok=True)
        assert [value is None for value in values] == [value is None for value in expected]


async def test_a_value_exactly_a_window_old_is_outside_and_one_a_microsecond_younger_inside() -> None:
    async with opened() as router:
        clicks = await registered(router, "clicks")
        await put(router, clicks, (A, NOW, 5))
        wanted = [Wanted(name, clicks, None, name, 60 * SECOND) for name in ("latest", "count", "sum")]
        rows = [(A, NOW - 1), (A, NOW), (A, NOW + 60 * SECOND - 1), (A, NOW + 60 * SECOND)]
        assert await filled(router, rows, *wanted) == [[None, 5, 5, None], [0, 1, 1, 0], [0, 5, 5, 0]]


# What was known


@pytest.mark.parametrize("checkpointed", [False, True], ids=["in the journal", "on disk"])
async def test_what_was_known_is_told_to_the_arrival(checkpointed: bool) -> None:
    async with opened() as router:
        clicks = await registered(router, "clicks")
        arrivals = []
        for batch in (
            [(A, NOW, 1), (A, NOW, 2)],
            [(A, NOW, 3), (A, NOW + 5, 4)],
            [(A, NOW + 5, 5), (A, NOW - 5, 6)],
        ):
            await put(router, clicks, *batch)
            arrivals.append(router.committed())
            if checkpointed:
                await router.checkpointer.checkpoint()
        known = [arrivals[0] - 1, *arrivals, FOREVER]
        total = Wanted("sum", clicks, None, "sum", 100)
        found = await filled(router, [(A, NOW + 9)] * 5, latest(clicks), total, known=known)
        assert found == [[None, 2, 4, 5, 5], [0, 2, 7, 14, 14]]
        assert await filled(router, [(A, NOW)] * 5, latest(clicks), known=known) == [[None, 2, 3, 3, 3]]


# Retention


async def test_what_is_older_than_the_age_of_retention_answers_nothing() -> None:
    async with opened() as router:
        clicks = await registered(router, "clicks", retention=Retention(age=100 / SECOND))
        await put(router, clicks, (A, NOW - 101, 1), (B, NOW - 100, 2))
        rows = [(A, NOW), (B, NOW), (A, NOW - 101)]
        wanted = latest(clicks), Wanted("sum", clicks, None, "sum", 500)
        expected = [[None, 2, None], [0, 2, 0]]
        assert await filled(router, rows, *wanted) == expected
        assert await filled(router, rows, *wanted, known=[FOREVER] * 3) == expected


# Features that are written together


TOGETHER = ("a", "b", "c")


async def together(router: Router, rows: int) -> list[Feature]:
    """Three features with values at the same moments."""
    features = [await registered(router, name) for name in TOGETHER]
    for place, feature in enumerate(features):
        await put(router, feature, *((f"u{n % 5}", NOW + n, n * 10 + place) for n in range(rows)))
    return features


ASKED = [(f"u{n % 6}", NOW + n) for n in range(-5, 60)]


def expected_of(place: int, written: Sequence[int] = range(40)) -> list[int | None]:
    """What `together` gives, naively."""
    found = []
    for entity, at in ASKED:
        seen = [n for n in written if f"u{n % 5}" == entity and NOW + n <= at]
        found.append(max(seen) * 10 + place if seen else None)
    return found


async def test_features_written_together_answer_as_features_asked_for_one_by_one() -> None:
    async with opened() as router:
        features = await together(router, 40)
        joint = await filled(router, ASKED, *map(latest, features))
        alone = [await column(router, feature, ASKED) for feature in features]
        assert joint == alone == [expected_of(place) for place in range(3)]


@pytest.mark.parametrize("which", [0, 1, 2])
async def test_features_written_together_part_when_one_gets_more_rows(which: int) -> None:
    async with opened() as router:
        features = await together(router, 40)
        await filled(router, ASKED, *map(latest, features))
        more = [(f"u{n % 5}", NOW + n, n * 10 + which) for n in range(40, 55)]
        await put(router, features[which], *more)
        written = [range(55) if place == which else range(40) for place in range(3)]
        expected = [expected_of(place, written[place]) for place in range(3)]
        assert await filled(router, ASKED, *map(latest, features)) == expected
        assert await filled(router, ASKED, *map(latest, features[::-1])) == expected[::-1]


async def test_features_written_together_look_back_as_far_as_each_may() -> None:
    async with opened() as router:
        ages = {"a": None, "b": 20 / SECOND, "c": None}
        features = [
            await registered(router, name, retention=None if age is None else Retention(age=age))
            for name, age in ages.items()
        ]
        for feature in features:
            await put(router, feature, *((A, NOW - n, n) for n in (10, 30, 50)))
        rows = [(A, NOW - 5), (A, NOW - 25), (A, NOW - 45)]
        wanted = [latest(features[0]), latest(features[1]), latest(features[2], 7)]
        expected = [[10, 30, 50], [10, None, None], [10, 30, 50]]
        assert await filled(router, rows, *wanted) == expected
        assert await filled(router, rows, *wanted[:2], latest(features[2], 4)) == [*expected[:2], [None] * 3]


async def test_a_null_of_one_of_several_features_written_together_is_its_own() -> None:
    async with opened() as router:
        features = [await registered(router, name) for name in TOGETHER]
        for place, feature in enumerate(features):
            values = [None if n % 3 == place else n for n in range(9)]
            await put(router, feature, *((A, NOW + n, value) for n, value in enumerate(values)))
        rows = [(A, NOW + n) for n in range(-1, 9)]
        expected = [[None, *(None if n % 3 == place else n for n in range(9))] for place in range(3)]
        assert await filled(router, rows, *map(latest, features)) == expected


async def test_a_correction_of_one_of_several_features_written_together_is_its_own() -> None:
    async with opened() as router:
        features = await together(router, 40)
        await filled(router, ASKED, *map(latest, features))
        await put(router, features[1], ("u4", NOW + 39, -1))
        expected = [expected_of(place) for place in range(3)]
        expected[1] = [-1 if value == 391 else value for value in expected[1]]
        assert -1 in expected[1]
        assert await filled(router, ASKED, *map(latest, features)) == expected


async def test_features_with_the_same_times_for_other_entities_do_not_share_their_answers() -> None:
    async with opened() as router:
        one, other = await registered(router, "one"), await registered(router, "other")
        await put(router, one, (A, NOW, 1), (B, NOW, 2))
        await put(router, other, (A, NOW, 3), (C, NOW, 4))
        rows = [(A, NOW), (B, NOW), (C, NOW)]
        assert await filled(router, rows, latest(one), latest(other)) == [[1, 2, None], [3, None, 4]]


async def test_features_that_share_times_answer_alike_when_one_of_them_is_on_disk() -> None:
    async with opened() as router:
        one = await registered(router, "one", retention=Retention(values=1))
        other = await registered(router, "other")
        for feature, place in ((one, 0), (other, 1)):
            await put(router, feature, *((f"u{n % 5}", NOW + n, n * 10 + place) for n in range(40)))
        await router.checkpointer.checkpoint()
        for order in ([one, other], [other, one]):
            expected = [expected_of(0 if feature is one else 1) for feature in order]
            assert await filled(router, ASKED, *map(latest, order)) == expected


async def test_features_whose_entities_are_only_on_disk_find_each_its_own(tmp_path: Path) -> None:
    chosen = Settings(data_dir=str(tmp_path), cache_size=1, checkpoint_seconds=1e6, enable_monitoring=False)
    names, rows = ("one", "other", "third"), [(A, NOW), (B, NOW + 1), (C, NOW + 2)]
    async with open_router(chosen, now=lambda: NOW) as router:
        for number, (name, row) in enumerate(zip(names, rows, strict=True)):
            await put(router, await registered(router, name), (*row, number))
        await router.checkpointer.checkpoint()
    async with open_router(chosen, now=lambda: NOW) as router:
        features = [router.registry.resolve(name) for name in names]
        expected = [[0, None, None], [None, 1, None], [None, None, 2]]
        assert await filled(router, rows, *map(latest, features)) == expected


def series_of(times: Sequence[int], values: Sequence[float]) -> Series:
    """A series of one entity, whose slot is 1."""
    series = Series(np.dtype(np.float64))
    series.make_room(2)
    stamps = np.array(times, np.int64)
    slots, nulls = np.ones(len(times), np.int32), np.zeros(len(times), np.bool_)
    series.append(Rows(Index(slots, stamps, np.arange(len(times))), np.array(values), nulls))
    return series


def ask(series: Series, found: Found, disk: Rows | None = None) -> list[float]:
    """What a series answers at 10, 20 and 30."""
    one = np.ones(1, np.int64)
    owner, visible = np.zeros(3, np.int64), np.full(3, NEVER)
    return series.past(one, owner, np.array([10, 20, 30]), visible, disk, found).values.tolist()  # type: ignore[no-any-return]


def test_series_with_the_same_times_come_to_hold_them_once() -> None:
    one, other, third = (series_of([10, 20, 30], [n, n + 1, n + 2]) for n in (1.0, 4.0, 7.0))
    found = Found()
    assert [ask(series, found) for series in (one, other, third)] == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert one.runs[0].times is other.runs[0].times is third.runs[0].times
    other.append(other.runs[0].take(slice(1)))
    assert [ask(series, Found()) for series in (one, other, third)] == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]


def searched(monkeypatch: pytest.MonkeyPatch) -> list[Rows]:
    """The rows that are searched from now on."""
    seen: list[Rows] = []
    search = Found.search

    def noting(found: Found, rows: Rows, *rest: Any) -> Any:
        seen.append(rows)
        return search(found, rows, *rest)

    monkeypatch.setattr(Found, "search", noting)
    return seen


def test_series_that_are_written_together_are_searched_once_though_others_come_between(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours = [series_of([10, 20, 30], [n, n + 1, n + 2]) for n in (1.0, 4.0, 7.0)]
    theirs = [series_of([5, 15, 25], [n, n + 1, n + 2]) for n in (11.0, 14.0, 17.0)]
    searches = searched(monkeypatch)
    found = Found()
    answers = [ask(series, found) for pair in zip(ours, theirs, strict=True) for series in pair]
    assert answers == [[1, 2, 3], [11, 12, 13], [4, 5, 6], [14, 15, 16], [7, 8, 9], [17, 18, 19]]
    assert len(searches) == 2


def test_series_that_differ_between_the_times_that_are_looked_at_first_are_searched_for_themselves() -> None:
    times = list(range(2_000))
    one = series_of(times, times)
    for changed in (1, 2, 999, 1_998):
        others = [time for time in times if time != changed]
        alike = series_of([*others, 5_000], [*others, 5_000])
        more = series_of([time + (time > changed) for time in times], times)
        for other in (alike, more):
            found = Found()
            assert ask(one, found) == [10, 20, 30]
            assert ask(other, found) == ask(other, Found())


def test_a_null_that_is_written_after_a_question_is_seen_by_the_next() -> None:
    series = series_of([10, 20], [1.0, 2.0])
    one, owner = np.ones(1, np.int64), np.zeros(3, np.int64)
    asked = one, owner, np.array([10, 20, 30]), NEVER, None
    assert series.past(*asked, Found()).nulls.tolist() == [False, False, False]
    null = Rows(Index(np.ones(1, np.int32), np.array([30]), np.array([9])), np.zeros(1), np.ones(1, np.bool_))
    series.append(null)
    assert series.past(*asked, Found()).nulls.tolist() == [False, False, True]
    series.append(Rows(null.index, null.values, np.zeros(1, np.bool_)))
    assert series.past(*asked, Found()).nulls.tolist() == [False, False, False]


def test_rows_that_joined_a_question_from_disk_are_let_go_of_with_it() -> None:
    memory, other = series_of([30], [3.0]), series_of([10, 20], [1.0, 2.0])
    found = Found()
    ask(other, Found())
    disk = other.runs[0].take(np.arange(2))
    assert ask(memory, found, disk) == [1, 2, 3]
    index = disk.index
    columns = [weakref.ref(it) for it in (index.slots, index.times, index.arrived, disk.values, disk.nulls)]
    del found, disk, index
    gc.collect()
    assert [column() for column in columns] == [None] * 5, "what came from disk stays in memory beyond CACHE_SIZE"


def test_rows_that_a_series_lets_go_of_leave_memory_though_they_were_searched() -> None:
    series = series_of([10, 20, 30], [1.0, 2.0, 3.0])
    ask(series, Found())
    values = weakref.ref(series.runs[0].values)
    series.trim(1, FOREVER)
    assert series.rows == 1
    gc.collect()
    assert values() is None, "evicted rows stay in memory until the next training set"


# Memory that changes while the disk is read


class InterruptedStorage(MemoryStorage):
    """Has something happen while the history is read, the first time it is."""

    def __init__(self) -> None:
        super().__init__()
        self.interruption: Any = None
        instead(self.history, "read", self._read)

    def _read(self, sane: Callable[..., DiskRows], *question: Any) -> DiskRows:
        """In a worker thread, as all reads of files are."""
        happens, self.interruption = self.interruption, None
        if happens is not None:
            trio.from_thread.run(happens)
        return sane(*question)


@asynccontextmanager
async def half_cold(storage: InterruptedStorage) -> AsyncIterator[tuple[Router, Feature]]:
    """Ten values of A and B each on disk, of which memory has the newest three; evicted by the next read."""
    async with opened(storage, cache_size=100) as router:
        clicks = await registered(router, "clicks", retention=Retention(values=3))
        other = await registered(router, "other")
        await put(router, clicks, *((entity, NOW + n, n) for entity in (A, B) for n in range(10)))
        await router.checkpointer.checkpoint()

        async def crowd() -> None:
            await put(router, other, *((C, NOW + n, n) for n in range(60)))
            await trio.testing.wait_all_tasks_blocked()

        storage.interruption = crowd
        yield router, clicks


async def test_what_is_evicted_while_the_disk_is_read_for_older_rows_is_not_answered_from_the_past() -> None:
    storage = InterruptedStorage()
    async with half_cold(storage) as (router, clicks):
        found = await column(router, clicks, [(A, NOW + 2), (A, NOW + 9), (A, NOW + 8)])
        assert storage.interruption is None
        assert found == [2, 9, 8]


async def test_entities_that_turn_cold_one_after_the_other_are_all_answered() -> None:
    storage = InterruptedStorage()
    async with half_cold(storage) as (router, clicks):
        assert await column(router, clicks, [(A, NOW + 2), (B, NOW + 9)]) == [2, 9]
        assert storage.interruption is None


async def test_windows_of_entities_that_turn_cold_one_after_the_other_are_all_answered() -> None:
    storage = InterruptedStorage()
    async with half_cold(storage) as (router, clicks):
        count = Wanted("count", clicks, None, "count", 3)
        assert await filled(router, [(A, NOW + 2), (B, NOW + 9)], count) == [[3, 3]]
        assert storage.interruption is None


async def test_a_history_that_never_stays_the_same_is_unavailable_and_not_a_guess(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    storage = InterruptedStorage()
    async with half_cold(storage) as (router, clicks):
        storage.interruption = None
        stale = storage.history.read(clicks, [A], NEVER, FOREVER)._replace(position=0)
        monkeypatch.setattr(storage.history, "read", lambda *_: stale)
        with pytest.raises(Unavailable):
            await column(router, clicks, [(A, NOW + 2)])


# How much memory an answer takes


@pytest.fixture
def traced() -> Iterator[None]:
    """What is allocated is counted."""
    tracemalloc.start()
    yield
    tracemalloc.stop()


def peak_megabytes() -> float:
    """The most that was allocated at once since the last call."""
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.reset_peak()
    return peak


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("known", [None, FOREVER], ids=["as it is", "as it was known"])
async def test_the_memory_of_windows_does_not_grow_with_rows_times_observations(known: int | None) -> None:
    async with opened() as router:
        clicks = await registered(router, "clicks")
        await put(router, clicks, *((A, NOW + n, n) for n in range(1_000)))
        rows = [(A, NOW + 1_000)] * 12_000
        peak_megabytes()
        (found,) = await filled(
            router,
            rows,
            Wanted("sum", clicks, None, "sum", 2_000),
            known=None if known is None else [known] * len(rows),
        )
        assert set(found) == {sum(range(1_000))}
        assert peak_megabytes() < 200


@pytest.mark.usefixtures("traced")
async def test_the_memory_of_windows_does_not_grow_with_the_observations_of_an_entity() -> None:
    async with opened() as router:
        clicks = await registered(router, "clicks")
        await put(router, clicks, *((A, NOW + n, n) for n in range(6_000)))
        peak_megabytes()
        (found,) = await filled(router, [(A, NOW + 6_000)] * 4_000, Wanted("sum", clicks, None, "sum", 7_000))
        assert set(found) == {sum(range(6_000))}
        assert peak_megabytes() < 200


async def test_a_store_is_asked_in_the_order_in_which_it_has_its_entities(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Sequence[str]] = []
    past = FeatureStore._past

    def noted(self: FeatureStore, message: Past) -> Any:
        seen.append(message.entities)
        return past(self, message)

    monkeypatch.setattr(FeatureStore, "_past", noted)
    async with opened() as router:
        price = await registered(router, "price")
        for entity in (C, A, B):
            await put(router, price, (entity, NOW - 10, 1.0))
        rows = [(entity, NOW) for entity in (A, "never", B, C, A)]
        assert await column(router, price, rows) == [1, None, 1, 1, 1]
    assert [entity for entities in seen for entity in entities if entity != "never"] == [C, A, B]
