"""Everything moves house: from the embedded store into a shared one and back, also when that is cut off."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors.domain import EntityType, Feature
from actors.errors import StorageDown
from actors.migration import migrate
from actors.storage.carrying import by_row, fingerprints, whole
from actors.storage.embedded.on_disk import EmbeddedStorage
from actors.storage.entries import Catalogued, Noted, Registered, Written
from actors.storage.postgres.storage import PostgresStorage
from actors.storage.protocol import LoadedRows, Lot
from actors.table.batch import Table
from actors.table.ids import Entities, Ids, numbered
from tests.batches import a_table
from tests.faults import instead
from tests.live import LiveServer
from tests.servers.postgres import PostgresServer
from tests.servers.valkey import ValkeyServer
from web.cli import main

DAY = "2026-01-01T00:00"
CLICKS = Feature(
    id="user.clicks.v1", entity="user", name="clicks", version=1, value_type="integer", created=1, updated=1
)
PAIR = EntityType(name="pair", keys=("a", "b"), created=1, updated=1)
QUESTIONS: list[tuple[str, dict[str, Any]]] = [
    ("/features/serve", {"entityIds": ["a", "b", "c"], "group": "all"}),
    ("/features/serve", {"entityIds": ["a", "b"], "group": "all", "asOf": f"{DAY}:05Z"}),
    *(
        (
            "/features/historical",
            {
                "entityIds": ["a", "b"],
                "features": [feature],
                "startTime": f"{DAY}:00Z",
                "endTime": f"{DAY}:30Z",
                "aggregation": "count",
            },
        )
        for feature in ("clicks", "name", "place")
    ),
    (
        "/features/training-set",
        {
            "rows": [{"entityId": "a", "timestamp": f"{DAY}:20Z"}],
            "features": ["user.clicks", "user.name"],
            "knownAt": "2030-01-01T00:00:00Z",
        },
    ),
]


def fill(server: LiveServer) -> None:
    """Wide rows, corrections, repeats within a batch, nulls, texts, vectors, a check, a pinned reference."""
    server.register("clicks", "integer", group="all")
    server.register("spent", group="all")
    server.register("name", "string", group="all")
    server.register("place", "vector", group="all", schema={"dimension": 2})
    for second in range(20):
        moment = f"{DAY}:{second:02}Z"
        rows: list[tuple[str, str, Any, str]] = []
        for entity in "ab":
            rows += [("clicks", entity, second, moment), ("spent", entity, second / 7, moment)]
            rows += [("name", entity, None if second % 5 == 0 else f"é{second}", moment)]
        rows += [("place", "a", [second, 0.5], moment), ("clicks", "a", -second, moment)]
        server.write(*rows)
    server.write(("clicks", "b", 99, f"{DAY}:03Z"))
    check = {"id": "low", "checkType": "range", "config": {"max": 5}}
    assert server.post("/features/user.clicks.v1/checks", check).status_code in (200, 201)


def answers(server: LiveServer) -> list[Any]:
    """What it says to all questions, but for when it says it."""
    found = []
    for path, body in QUESTIONS:
        answer = server.post(path, body)
        assert answer.status_code == 200, answer.text
        found.append([{**row, "timestamp": None} for row in answer.json()["results"]])
    for name in ("clicks", "spent", "name", "place"):
        found.append(server.get(f"/features/user.{name}.v1/stats").json())
        found.append(server.get(f"/features/user.{name}.v1/history", entityId="a").json())
    found.append([check["id"] for check in server.get("/features/user.clicks.v1/checks").json()["checks"]])
    return found


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[Any]]]:
    """A data directory, and what its service answered."""
    directory = tmp_path_factory.mktemp("filled") / "data"
    with LiveServer(directory) as server:
        fill(server)
        said = answers(server)
        assert server.stop() == 0
    yield directory, said


@pytest.mark.parametrize("kind", ["postgresql", "redis", "cluster"])
def test_all_answers_are_the_same_after_moving_into_a_shared_store_and_back(
    filled: tuple[Path, list[Any]],
    kind: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    directory, said = filled
    if kind == "postgresql":
        database = request.getfixturevalue("database")
    else:
        server = request.getfixturevalue("valkey" if kind == "redis" else "valkey_cluster")
        server.empty()
        database = server.url
    engine = "postgresql" if kind == "postgresql" else "redis"
    assert main(["migrate", "--from", f"embedded:{directory}", "--to", database]) == 0
    shown = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert (shown["features"], shown["groups"], shown["observations"]) == ("4", "1", "161")
    with LiveServer(tmp_path, STORAGE_TYPE=engine, STORAGE_URL=database) as server:
        assert answers(server) == said
        assert server.stop() == 0
    assert main(["migrate", "--from", database, "--to", f"embedded:{tmp_path / 'back'}", "--json"]) == 0
    with LiveServer(tmp_path / "back") as server:
        assert answers(server) == said
        server.write(("clicks", "b", 7, f"{DAY}:59Z"))
        assert server.get("/features/user.clicks.v1/stats").json()["count"] == said[6]["count"] + 1


def cut_off(url: str) -> PostgresStorage:
    """A storage that goes away after some lots."""
    storage, left = PostgresStorage(url, 60.0), [None, None]

    def carry(sane: Callable[[Lot, Noted], None], lot: Lot, note: Noted) -> None:
        if not left:
            raise StorageDown("cut off: injected")
        left.pop()
        sane(lot, note)

    instead(storage.mover, "carry", carry)
    return storage


def test_what_was_cut_off_goes_on_where_it_was(tmp_path: Path, database: str) -> None:
    source = EmbeddedStorage(str(tmp_path))
    source.open()
    source.log.commit([Registered(CLICKS), Catalogued(PAIR)])
    for run in range(4):
        for arrived in range(10 * run + 10, 10 * run + 20):
            table = a_table(CLICKS.id, 1, ["a"], np.array([arrived]), np.array([arrived]), np.array([False]))
            source.log.commit([Written(arrived, [table], None, b"")])
        source.history.flush({CLICKS.id: CLICKS}.copy, 100)
    source.close()
    with pytest.raises(StorageDown):
        migrate(source, cut_off(database), "here", lambda rows, share: None)
    told: list[float] = []
    done = migrate(source, PostgresStorage(database, 60.0), "here", lambda rows, share: told.append(share))
    assert done.resumed and (done.features, done.observations) == (1, 40)
    assert told == sorted(told) and told[-1] == pytest.approx(1.0)
    target = PostgresStorage(database, 60.0)
    assert target.open().catalogue == [PAIR]
    target.close()


def test_a_target_that_has_something_else_is_refused(
    filled: tuple[Path, list[Any]], database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with LiveServer(tmp_path, STORAGE_TYPE="postgresql", STORAGE_URL=database) as server:
        server.register("other")
        assert server.stop() == 0
    assert main(["migrate", "--from", f"embedded:{filled[0]}", "--to", database]) == 1
    assert "not empty" in capsys.readouterr().err


def test_a_source_that_is_no_storage_does_not_become_one(
    valkey: ValkeyServer, database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    valkey.empty()
    with valkey.client() as client:
        client.function_flush()
    for source in (database, valkey.url, f"embedded:{tmp_path / 'typo'}"):
        assert main(["migrate", "--from", source, "--to", f"embedded:{tmp_path / 'new'}"]) == 1
        assert "there is no storage in" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT to_regnamespace('timewell')").fetchone() == (None,)
    with valkey.client() as client:
        assert (client.keys(), client.function_list()) == ([], [])


@pytest.mark.parametrize("words", ["redis", "mysql://host", "./data", "postgresql"])
def test_a_storage_that_is_none_is_misuse(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["migrate", "--from", "embedded", "--to", words]) == 2
    assert repr(words) in capsys.readouterr().err


keys = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3), st.integers(10, 12)), max_size=12)


@given(st.lists(st.tuples(st.integers(0, 4), keys), max_size=6), st.integers(0, 2**32))
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
def test_rows_put_together_are_the_same_observations_with_one_index_each(
    given_parts: list[tuple[int, list[tuple[str, int, int]]]], seed: int
) -> None:
    random = np.random.default_rng(seed)
    parts = [part(feature, index, random) for feature, index in given_parts if index]
    merged = whole(parts)
    assert sum(len(one.arrived) for one in merged) == sum(len(one.arrived) for one in parts)
    rows = by_row(merged)
    for table, arrived in rows:
        features = {column.feature for column in table.columns}
        assert len(features) == len(table.columns)
        assert {len(column.values) for column in table.columns} == {table.rows} == {len(arrived)}
    assert fingerprints(rows, {}) == fingerprints(merged, {})
    kinds = [frozenset(column.feature for column in table.columns) for table, _ in rows]
    assert len(set(kinds)) == len(kinds)


def part(feature: int, index: list[tuple[str, int, int]], random: np.random.Generator) -> LoadedRows:
    ids, times, arrived = zip(*index, strict=True)
    values = random.integers(0, 3, len(index)).astype(np.float64)
    entities = Entities(Ids(["c", "b", "a"]), np.array([2 - "abc".index(one) for one in ids]))
    table = a_table(
        f"user.f{feature}.v1", feature, entities, np.array(times), values, random.random(len(index)) < 0.2
    )
    return LoadedRows(table, np.array(arrived))


def test_a_fingerprint_tells_every_part_of_an_observation() -> None:
    random = np.random.default_rng(1)
    one = part(1, [("a", 1, 10), ("b", 2, 11)], random)
    seen = {fingerprints([one], {})["user.f1.v1"]}
    table, arrived = one
    (column,) = table.columns
    for change in (
        Table("user", table.entities, table.times + 1, [column]),
        table.only([column._replace(values=column.values + 1)]),
        Table("user", numbered(["a", "c"]), table.times, [column]),
        table.only([column._replace(nulls=~column.nulls)]),
    ):
        seen.add(fingerprints([LoadedRows(change, arrived)], {})["user.f1.v1"])
    seen.add(fingerprints([LoadedRows(table, arrived + 1)], {})["user.f1.v1"])
    assert len(seen) == 6


def test_a_difference_is_not_passed_over(tmp_path: Path, postgres: PostgresServer) -> None:
    def carry(sane: Callable[[Lot, Noted], None], lot: Lot, note: Noted) -> None:
        sane(Lot(lot.mark, [LoadedRows(one.table.cut(0, 1), one.arrived[:1]) for one in lot.parts]), note)

    source = EmbeddedStorage(str(tmp_path))
    with LiveServer(tmp_path) as server:
        server.register("clicks", "integer")
        server.write(("clicks", "a", 1, f"{DAY}:00Z"), ("clicks", "b", 1, f"{DAY}:00Z"))
        assert server.stop() == 0
    with postgres.database() as url, pytest.raises(Exception, match="2 observations there, 1 here"):
        forgetful = PostgresStorage(url, 60.0)
        instead(forgetful.mover, "carry", carry)
        migrate(source, forgetful, "here", lambda rows, share: None)
