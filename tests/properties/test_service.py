"""Any sequence of requests, checkpoints, evictions and restarts answers as the naive oracle does."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors.opening import open_router
from actors.settings import Settings
from actors.timestamps import parse_timestamp
from tests.model import PERCENTILES, Model, rfc3339
from tests.servers.postgres import PostgresServer
from tests.servers.valkey import ValkeyCluster, ValkeyServer
from web.app import create_app

NOW = 1_762_509_600_000_000
STEP = 250_001
FEATURES = ("user.a.v1", "user.b.v1", "user.b.v2", "user.c.v1")
ENTITIES = ("u1", "u2", "Zoë ✓ 東京", "nobody")
EVERYTHING = ("latest", "first", "count", "distinct")
ARITHMETIC = ("avg", "sum", "min", "max", "std", *PERCENTILES)

# Values whose squares and sums stay exact enough for a comparison to nine digits.
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "number": st.one_of(st.integers(-1000, 1000), st.floats(-1e6, 1e6, width=32)),
    "integer": st.integers(-(2**63), 2**63 - 1) | st.integers(-5, 5),
    "string": st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    "boolean": st.booleans(),
    "timestamp": st.integers(0, 10).map(lambda n: f"2025-01-01T00:00:00.{n:03}Z"),
    "vector": st.lists(st.integers(-99, 99).map(lambda n: n / 10), min_size=2, max_size=2),
    "json": st.recursive(
        st.none() | st.booleans() | st.integers(-9, 9),
        lambda inner: st.dictionaries(st.text(max_size=2), inner),
        max_leaves=3,
    ).map(lambda value: {"it": value}),
}

times = st.integers(-12, 3).map(lambda n: NOW + n * STEP)
features = st.sampled_from(FEATURES)
entities = st.sampled_from(ENTITIES[:3])


class Step(NamedTuple):
    """What to do, and with what."""

    action: str
    detail: Any = None


_types = st.sampled_from(sorted(VALUES))
_named = st.sampled_from((*ENTITIES, None))
_asked = st.lists(st.tuples(features, st.sampled_from(("user", "payee"))), min_size=1, max_size=6)
_steps = st.lists(
    st.one_of(
        st.builds(Step, st.just("write"), st.lists(st.tuples(features, entities, times), max_size=12)),
        st.builds(Step, st.just("write"), st.lists(st.tuples(features, entities, times), max_size=12)),
        st.builds(Step, st.just("serve"), st.none() | times),
        st.builds(Step, st.just("rows"), st.tuples(st.lists(st.tuples(_named, _named), max_size=4), _asked)),
        st.builds(
            Step,
            st.just("historical"),
            st.tuples(features, times, times, st.none() | st.integers(STEP // 3, 5 * STEP)),
        ),
        st.builds(Step, st.just("history"), st.tuples(features, entities, times, times, st.booleans())),
        st.builds(Step, st.just("statistics"), features),
        st.builds(Step, st.just("ids"), st.sampled_from(("", "u", "Zoë"))),
        st.builds(Step, st.just("erase"), st.sampled_from(ENTITIES)),
        st.just(Step("checkpoint")),
        st.just(Step("restart")),
        st.builds(Step, st.just("replace"), st.tuples(features, _types)),
    ),
    min_size=1,
    max_size=14,
)


class Service:
    """The application over a data directory, asked in process and compared with the model at every step."""

    def __init__(self, settings: Settings, draw: Callable[[str], Any]) -> None:
        self.settings = settings
        self.model = Model()
        self.draw = draw

    async def run(self, steps: Sequence[Step]) -> None:
        waiting = list(steps)
        first = True
        while waiting or first:
            async with open_router(self.settings, now=lambda: NOW) as router:
                self.router = router
                self.client = create_app(router, self.settings).test_client()
                if first:
                    for feature, value_type in zip(
                        FEATURES, ("number", "integer", "string", "vector"), strict=True
                    ):
                        await self.register(feature, value_type)
                    first = False
                while waiting:
                    step = waiting.pop(0)
                    if step.action == "restart":
                        break
                    await getattr(self, step.action)(
                        *(() if step.detail is None and step.action != "serve" else (step.detail,))
                    )

    async def post(self, path: str, body: Any) -> Any:
        answer = await self.client.post(path, json=body)
        assert answer.status_code in (200, 201), await answer.get_data(as_text=True)
        return await answer.get_json()

    async def register(self, feature: str, value_type: str) -> None:
        entity, name, version = feature.split(".")
        body: dict[str, Any] = {
            "name": name,
            "entity": entity,
            "valueType": value_type,
            "version": int(version[1:]),
        }
        body["retention"] = {"values": 2}
        if value_type == "vector":
            body["schema"] = {"dimension": 2}
        await self.post("/features/register", body)
        self.model.register(feature, value_type)

    async def replace(self, detail: tuple[str, str]) -> None:
        feature, value_type = detail
        assert (await self.client.delete(f"/features/{feature}")).status_code == 204
        self.model.delete(feature)
        await self.register(feature, value_type)

    async def write(self, rows: Sequence[tuple[str, str, int]]) -> None:
        values = []
        for feature, entity, time in rows:
            value = self.draw(self.model.types[feature])
            values.append({"featureId": feature, "entityId": entity, "value": value, "timestamp": rfc3339(time)})
            self.model.write(feature, entity, value, time)
        overwritten = len(rows) - len(set(rows))
        assert await self.post("/features/write-batch", {"values": values}) == {
            "success": True,
            "count": len(rows),
            **({"overwritten": overwritten} if overwritten else {}),
        }

    async def erase(self, entity: str) -> None:
        answer = await self.client.delete(f"/entities/user/{entity}")
        assert answer.status_code == 200
        observations, features = self.model.erase(entity)
        assert (await answer.get_json())["deleted"] == {"observations": observations, "features": features}

    async def checkpoint(self) -> None:
        await self.router.checkpointer.checkpoint()

    async def serve(self, as_of: int | None) -> None:
        body: dict[str, Any] = {"entityIds": ENTITIES, "features": FEATURES, "includeMetadata": True}
        if as_of is not None:
            body["asOf"] = rfc3339(as_of)
        results = (await self.post("/features/serve", body))["results"]
        # The present is that of the store where this process's clock is behind.
        at = parse_timestamp(results[0]["timestamp"], "timestamp") if as_of is None else as_of
        assert [result["entityId"] for result in results] == list(ENTITIES)
        for entity, result in zip(ENTITIES, results, strict=True):
            for feature in FEATURES:
                status, value = self.model.latest(feature, entity, at)
                assert (result["metadata"][feature]["status"], result["features"][feature]) == (status, value)

    async def rows(self, detail: tuple[list[tuple[str | None, str | None]], list[tuple[str, str]]]) -> None:
        named, asked = detail
        rows = [dict(zip(("user", "payee"), pair, strict=True)) for pair in named]
        entries = [{"ref": ref, "key": key, "as": f"{place}"} for place, (ref, key) in enumerate(asked)]
        body = {"rows": rows, "features": entries, "includeMetadata": True}
        results = (await self.post("/features/serve", body))["results"]
        keys = {key for _, key in asked}
        assert [result["keys"] for result in results] == [{key: row[key] for key in sorted(keys)} for row in rows]
        for row, result in zip(rows, results, strict=True):
            at = parse_timestamp(result["timestamp"], "timestamp")
            for place, (feature, key) in enumerate(asked):
                entity = row[key]
                expected = ("missing", None) if entity is None else self.model.latest(feature, entity, at)
                found = result["metadata"][f"{place}"]["status"], result["features"][f"{place}"]
                assert found == expected

    async def historical(self, detail: tuple[str, int, int, int | None]) -> None:
        feature, one, other, width = detail
        start, end = sorted((one, other))
        names = EVERYTHING + (ARITHMETIC if self.model.types[feature] in ("number", "integer") else ())
        for name in names:
            body: dict[str, Any] = {
                "entityIds": ENTITIES,
                "features": [feature],
                "startTime": rfc3339(start),
                "endTime": rfc3339(end),
                "aggregation": name,
            }
            if width is not None:
                body["window"] = width / 1e6
            rows = (await self.post("/features/historical", body))["results"]
            if width is None:
                expected = [self.model.aggregate(feature, entity, start, end, name) for entity in ENTITIES]
            else:
                expected = [
                    v for entity in ENTITIES for v in self.model.windows(feature, entity, start, end, width, name)
                ]
            assert len(rows) == len(expected)
            for row, value in zip(rows, expected, strict=True):
                assert same(row[feature], value), (name, row, value)

    async def history(self, detail: tuple[str, str, int, int, bool]) -> None:
        feature, entity, one, other, descending = detail
        start, end = sorted((one, other))
        query = {"entityId": entity, "startTime": rfc3339(start), "endTime": rfc3339(end), "limit": "2"}
        query["order"] = "desc" if descending else "asc"
        found: list[Any] = []
        while True:
            page = await (await self.client.get(f"/features/{feature}/history", query_string=query)).get_json()
            found += [item["value"] for item in page["observations"]]
            if "nextCursor" not in page:
                break
            query["cursor"] = page["nextCursor"]
        expected = [value for _, value in self.model.between(feature, entity, start, end)]
        assert found == (expected[::-1] if descending else expected)

    async def ids(self, prefix: str) -> None:
        query, found = {"prefix": prefix, "limit": "1"}, list[str]()
        while True:
            page = await (await self.client.get("/entities/user/ids", query_string=query)).get_json()
            found += page["ids"]
            if "nextCursor" not in page:
                break
            query["cursor"] = page["nextCursor"]
        assert found == self.model.ids("user", prefix)

    async def statistics(self, feature: str) -> None:
        figures = await (await self.client.get(f"/features/{feature}/stats")).get_json()
        accepted = self.model.accepted[feature]
        present = [value for value in accepted if value is not None]
        assert figures["count"] == len(accepted)
        assert figures["nullCount"] == len(accepted) - len(present)
        assert figures["uniqueValues"] == len({repr(value) for value in present})
        if present and self.model.types[feature] == "number":
            assert same(figures["mean"], math.fsum(present) / len(present))
            assert same(figures["min"], min(present)) and same(figures["max"], max(present))


def same(got: Any, expected: Any) -> bool:
    """Equal, or for fractions equal to nine digits."""
    if isinstance(expected, float) and isinstance(got, int | float):
        return math.isclose(got, expected, rel_tol=1e-9, abs_tol=1e-6)
    return bool(got == expected)


def normal(value: Any) -> Any:
    """5 and 5.0, 0.0 and -0.0 are one number to the oracle's `distinct`, as they are to JSON."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return [normal(item) for item in value] if isinstance(value, list) else value


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(_steps, st.sampled_from((1, 8, 1_000_000)), st.data())
def test_any_sequence_of_requests_answers_as_the_oracle_does(
    steps: list[Step], cache_size: int, data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        chosen = Settings(data_dir=directory, cache_size=cache_size, shards=2)
        trio.run(Service(chosen, drawing(data)).run, steps)


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(_steps, st.data())
def test_so_it_does_over_postgresql(postgres: PostgresServer, steps: list[Step], data: st.DataObject) -> None:
    chosen = Settings(storage_type="postgresql", storage_url=postgres.empty(), shards=2)
    trio.run(Service(chosen, drawing(data)).run, steps)


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(_steps, st.data())
def test_so_it_does_over_redis(valkey: ValkeyServer, steps: list[Step], data: st.DataObject) -> None:
    valkey.empty()
    chosen = Settings(storage_type="redis", storage_url=valkey.url, shards=2)
    trio.run(Service(chosen, drawing(data)).run, steps)


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(_steps, st.data())
def test_so_it_does_over_a_cluster_of_redis(
    valkey_cluster: ValkeyCluster, steps: list[Step], data: st.DataObject
) -> None:
    valkey_cluster.empty()
    chosen = Settings(storage_type="redis", storage_url=valkey_cluster.url, shards=2)
    trio.run(Service(chosen, drawing(data)).run, steps)


def drawing(data: st.DataObject) -> Callable[[str], Any]:
    """What draws a value of a type."""
    return lambda value_type: normal(data.draw(st.none() | VALUES[value_type]))
