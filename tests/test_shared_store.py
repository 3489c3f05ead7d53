"""Several processes over one PostgreSQL or Redis, which goes away, stands still, comes back; some are killed."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec
import numpy as np
import psycopg
import pytest
import trio
from redis.crc import key_slot

from actors.domain import Feature, FeatureChange, Group, Retention
from actors.errors import Conflict, StartupError, StorageDown
from actors.ingest.sent import Sent
from actors.messages import Refresh
from actors.monitoring.monitor import FeatureMonitor
from actors.opening import make_storage, open_router
from actors.router import Router
from actors.serving import Span
from actors.settings import Settings
from actors.stats.state import decode, encode
from actors.stats.summary import Summary, merge_states
from actors.storage.entries import Deleted, Grouped, Noted, Registered, Written
from actors.storage.redis.link import Command
from actors.storage.redis.storage import RedisStorage
from actors.timestamps import format_timestamp, now
from tests.batches import a_table
from tests.live import LiveServer, storage_over
from tests.servers.postgres import PostgresServer
from tests.servers.server import free_port
from tests.servers.valkey import ValkeyCluster, ValkeyServer
from tests.tls import TlsProxy, certificate

T = "2026-01-01T00:00:00Z"
HASTY = {"STORAGE_TIMEOUT_SECONDS": "1"}
MERGING = {"CHECKPOINT_SECONDS": "0.5"}
PATIENCE_SECONDS = 30.0


def eventually(true: Callable[[], bool]) -> None:
    """Look again and again, but not for ever."""
    until = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < until, "it never came true"


Environment = dict[str, str]


def over_postgresql(url: str) -> Environment:
    return {"STORAGE_TYPE": "postgresql", "STORAGE_URL": url}


def over_redis(url: str) -> Environment:
    return {"STORAGE_TYPE": "redis", "STORAGE_URL": url}


def live(directory: Path, store: Environment, **more: str) -> LiveServer:
    return LiveServer(directory, **store, **more)


@pytest.fixture(params=["postgresql", "redis"])
def store(request: pytest.FixtureRequest) -> Environment:
    """Where an empty shared store is."""
    if request.param == "postgresql":
        return over_postgresql(request.getfixturevalue("database"))
    server = request.getfixturevalue("valkey" if request.param == "redis" else "valkey_cluster")
    server.empty()
    return over_redis(server.url)


@pytest.fixture(scope="module", params=["postgresql", "cluster"])
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[LiveServer, LiveServer]]:
    """Two processes over one store, for tests that use names of their own."""
    with ExitStack() as stack:
        if request.param == "postgresql":
            store = over_postgresql(stack.enter_context(request.getfixturevalue("postgres").database()))
        else:
            store = over_redis(stack.enter_context(ValkeyCluster()).url)
        directory = tmp_path_factory.mktemp("pair")
        yield stack.enter_context(live(directory, store)), stack.enter_context(live(directory, store))


@contextmanager
def own_server(kind: str) -> Iterator[tuple[PostgresServer | ValkeyServer, Environment]]:
    """A server that may be stopped."""
    if kind == "postgresql":
        with PostgresServer() as postgres, postgres.database() as url:
            yield postgres, over_postgresql(url)
    else:
        with ValkeyServer("--appendfsync", "always") as valkey:
            yield valkey, over_redis(valkey.url)


both = pytest.mark.parametrize("kind", ["postgresql", "redis"])


def knows(server: LiveServer, feature: str) -> bool:
    return server.get(f"/features/{feature}").status_code == 200


def test_a_read_by_one_process_sees_what_another_has_acknowledged(pair: tuple[LiveServer, LiveServer]) -> None:
    one, two = pair
    one.register("clicks1", "integer")
    eventually(lambda: knows(two, "user.clicks1.v1"))
    for value in range(30):
        writer, reader = (one, two) if value % 2 else (two, one)
        writer.write(("clicks1", "u1", value, f"2026-01-01T00:00:{value:02}Z"))
        assert reader.serve(["u1"], ["clicks1"])[0]["features"] == {"clicks1": value}


def test_the_later_event_time_wins_whoever_writes_it_and_a_tie_goes_to_the_later_arrival(
    pair: tuple[LiveServer, LiveServer],
) -> None:
    one, two = pair
    one.register("clicks2", "integer")
    eventually(lambda: knows(two, "user.clicks2.v1"))
    one.write(("clicks2", "u1", 2, "2026-01-02T00:00:00Z"))
    two.write(("clicks2", "u1", 1, "2026-01-01T00:00:00Z"))
    assert two.serve(["u1"], ["clicks2"])[0]["features"] == {"clicks2": 2}
    two.write(("clicks2", "u1", 3, "2026-01-02T00:00:00Z"))
    assert one.serve(["u1"], ["clicks2"])[0]["features"] == {"clicks2": 3}
    page = one.get("/features/user.clicks2.v1/history", entityId="u1").json()
    assert [row["value"] for row in page["observations"]] == [1, 3]


def test_two_processes_do_not_register_one_feature_in_two_ways(pair: tuple[LiveServer, LiveServer]) -> None:
    answers: list[int] = []

    def register(server: LiveServer, value_type: str) -> None:
        body = {"name": "either", "entity": "user", "valueType": value_type}
        answers.append(server.post("/features/register", body).status_code)

    threads = [threading.Thread(target=register, args=one) for one in zip(pair, ("number", "string"), strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [201, 409]
    eventually(lambda: all(knows(server, "user.either.v1") for server in pair))
    types = {server.get("/features/user.either.v1").json()["valueType"] for server in pair}
    assert len(types) == 1


def test_a_deletion_and_a_group_reach_the_other_process(pair: tuple[LiveServer, LiveServer]) -> None:
    one, two = pair
    one.register("gone")
    one.register("stays", group="both")
    eventually(lambda: knows(two, "user.gone.v1") and two.get("/groups/both").status_code == 200)
    assert one.http.delete("/features/user.gone.v1").status_code == 204
    eventually(lambda: not knows(two, "user.gone.v1"))
    answer = two.post("/features/write", {"featureId": "gone", "entityId": "u1", "value": 1})
    assert answer.status_code == 404


def test_a_repeated_idempotency_key_is_answered_alike_by_another_process(
    pair: tuple[LiveServer, LiveServer],
) -> None:
    one, two = pair
    one.register("clicks5", "integer")
    eventually(lambda: knows(two, "user.clicks5.v1"))
    body = {"values": [{"featureId": "clicks5", "entityId": "u1", "value": n, "timestamp": T} for n in (1, 2)]}
    first = one.post("/features/write-batch", body, **{"Idempotency-Key": "k"})
    again = two.post("/features/write-batch", {"values": body["values"][:1]}, **{"Idempotency-Key": "k"})
    assert first.json() == again.json() == {"success": True, "count": 2, "overwritten": 1}
    assert one.serve(["u1"], ["clicks5"])[0]["features"] == {"clicks5": 2}


def test_statistics_are_those_of_all_processes_each_observation_counted_once_across_a_kill(
    tmp_path: Path, store: Environment
) -> None:
    with live(tmp_path, store, **MERGING) as one, live(tmp_path, store, **MERGING) as two:
        one.register("clicks", "integer")
        eventually(lambda: knows(two, "user.clicks.v1"))
        for number, server in enumerate((one, two) * 10):
            server.write(*[("clicks", f"u{n}", number, T) for n in range(5)])
        two.kill()  # with what it had not counted for all
        with live(tmp_path, store, **MERGING) as three:

            def count(server: LiveServer) -> Any:
                answer = server.get("/features/user.clicks.v1/stats")
                assert answer.status_code == 200, answer.text
                return answer.json()["count"]

            eventually(lambda: count(three) == 100)
            eventually(lambda: count(one) == 100)
            three.write(("clicks", "u1", 3, T))
            assert count(three) == 101


def test_nothing_acknowledged_is_lost_when_a_process_is_killed_while_both_write(
    tmp_path: Path, store: Environment
) -> None:
    acknowledged: list[tuple[str, int]] = []

    def write(server: LiveServer, entity: str) -> None:
        for number in range(1, 10_000):
            try:
                server.write(("clicks", entity, number, f"2026-01-01T00:{number // 60:02}:{number % 60:02}Z"))
            except Exception:
                return
            acknowledged.append((entity, number))

    with live(tmp_path, store) as one, live(tmp_path, store) as two:
        one.register("clicks", "integer")
        eventually(lambda: knows(two, "user.clicks.v1"))
        threads = [threading.Thread(target=write, args=args) for args in ((one, "a"), (two, "b"))]
        for thread in threads:
            thread.start()
        eventually(lambda: len(acknowledged) > 100)
        two.kill()
        eventually(lambda: not threads[1].is_alive())
        last = max(number for entity, number in acknowledged if entity == "b")
        page = one.get("/features/user.clicks.v1/history", entityId="b", limit=10_000).json()
        assert [row["value"] for row in page["observations"]][:last] == list(range(1, last + 1))
        one.kill()
        threads[0].join()


@both
def test_a_server_that_restarts_is_found_again_and_says_503_until_then(tmp_path: Path, kind: str) -> None:
    with own_server(kind) as (server, store), live(tmp_path, store, **HASTY) as one:
        one.register("clicks", "integer")
        one.write(("clicks", "u1", 1, T))
        server.stop(signal.SIGKILL if kind == "redis" else signal.SIGQUIT)
        read = one.post("/features/serve", {"entityIds": ["u1"], "features": ["clicks"]})
        assert read.status_code == 503 and int(read.headers["Retry-After"]) > 0
        write = one.post("/features/write", {"featureId": "clicks", "entityId": "u1", "value": 2})
        assert write.status_code == 503 and int(write.headers["Retry-After"]) > 0
        eventually(lambda: one.get("/health/ready").status_code == 503)
        assert "shared store" in one.get("/health/ready").json()["status"]
        server.start()
        eventually(lambda: one.get("/health/ready").status_code == 200)
        assert one.serve(["u1"], ["clicks"])[0]["features"] == {"clicks": 1}
        one.write(("clicks", "u1", 3, "2026-01-03T00:00:00Z"))
        assert one.serve(["u1"], ["clicks"])[0]["features"] == {"clicks": 3}
        assert one.get("/features/user.clicks.v1/stats").json()["count"] == 2
        assert one.stop() == 0


@both
def test_a_server_that_stands_still_is_given_up_and_nothing_hangs(tmp_path: Path, kind: str) -> None:
    with own_server(kind) as (server, store), live(tmp_path, store, **HASTY) as one:
        one.register("clicks", "integer")
        one.write(("clicks", "u1", 1, T))
        server.freeze(True)
        try:
            with ExitStack() as stack:
                calls = [
                    ("/features/serve", {"entityIds": ["u1"], "features": ["clicks"]}),
                    ("/features/write", {"featureId": "clicks", "entityId": "u1", "value": 2}),
                ]
                found: list[int] = []
                for path, body in calls:
                    thread = threading.Thread(
                        target=lambda path, body: found.append(one.post(path, body).status_code), args=(path, body)
                    )
                    thread.start()
                    stack.callback(thread.join)
            assert found == [503, 503]
        finally:
            server.freeze(False)
        eventually(lambda: one.get("/health/ready").status_code == 200)
        assert one.serve(["u1"], ["clicks"])[0]["features"]["clicks"] in (1, 2)
        assert one.stop() == 0


def opened(url: str) -> None:
    """Start the actors over a store, and end them again."""
    kind: Any = url.partition(":")[0]

    async def main() -> None:
        async with open_router(Settings(storage_type=kind, storage_url=url, storage_timeout_seconds=2)):
            pass

    trio.run(main)


@both
def test_a_process_whose_server_is_not_there_yet_lives_says_that_it_is_not_ready_and_becomes_it(
    tmp_path: Path, kind: str
) -> None:
    port = free_port()
    with own_server(kind) as (server, store):
        server.stop()
        one = live(tmp_path, store, PORT=str(port))
        starting = threading.Thread(target=one.start)
        starting.start()
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            eventually(lambda: said(client, "/health/live") == 200)
            ready, other = client.get("/health/ready"), client.get("/features/search")
            assert (ready.status_code, ready.json()) == (503, {"status": "waiting for the storage"})
            assert other.status_code == 503 and int(other.headers["retry-after"]) > 0
            assert "storage is not open yet" in other.json()["detail"]
            server.start()
            eventually(lambda: said(client, "/health/ready") == 200)
        starting.join()
        assert f"storage: {kind} at 127.0.0.1:{server.port}" in one.log
        one.register("clicks")
        assert one.stop() == 0


def said(client: httpx.Client, path: str) -> int | None:
    """The status, None while nobody listens."""
    try:
        return client.get(path).status_code
    except httpx.TransportError:
        return None


def test_what_cannot_work_is_refused_at_the_start_with_the_reason(postgres: PostgresServer) -> None:
    with pytest.raises(StartupError, match="STORAGE_URL"):
        make_storage(Settings(storage_type="postgresql"))
    with pytest.raises(StartupError, match="not what PostgreSQL takes"):
        make_storage(Settings(storage_type="postgresql", storage_url="nonsense"))
    with pytest.raises(StartupError, match="nowhere"):
        opened(postgres.url("nowhere"))
    with pytest.raises(StartupError, match="nobody"):
        opened(postgres.url(user="nobody"))


def test_after_a_failover_of_postgresql_the_standby_is_found_and_has_all_that_was_acknowledged(
    tmp_path: Path,
) -> None:
    with PostgresServer() as first, first.standby() as second:
        hosts = f"127.0.0.1:{first.port},127.0.0.1:{second.port}"
        url = f"postgresql://postgres@{hosts}/postgres?target_session_attrs=read-write"
        with live(tmp_path, over_postgresql(url), **HASTY) as one:
            assert f"postgresql at {hosts})" in one.log
            one.register("clicks", "integer")
            for second_of in range(20):
                one.write(("clicks", "u1", second_of, f"2026-01-01T00:00:{second_of:02}Z"))
            first.stop()
            asked = {"entityIds": ["u1"], "features": ["clicks"]}
            assert one.post("/features/serve", asked).status_code == 503
            with psycopg.connect(second.url(), autocommit=True) as connection:
                connection.execute("SELECT pg_promote()")
            eventually(lambda: one.post("/features/serve", asked).status_code == 200)
            one.write(("clicks", "u1", 20, "2026-01-01T00:00:20Z"))
            page = one.get("/features/user.clicks.v1/history", entityId="u1").json()
            assert [row["value"] for row in page["observations"]] == list(range(21))


@both
def test_tls_is_spoken_to_a_server_whose_certificate_is_trusted_and_to_no_other(tmp_path: Path, kind: str) -> None:
    files = certificate(tmp_path)
    with own_server(kind) as (server, store), TlsProxy(server.port, files, kind == "postgresql") as proxy:
        if kind == "postgresql":
            plain = urlsplit(store["STORAGE_URL"])
            url = f"postgresql://{plain.username}@localhost:{proxy.port}{plain.path}?sslmode=verify-full"
            trusting = f"{url}&sslrootcert={files[0]}"
        else:
            url = f"rediss://localhost:{proxy.port}/0"
            trusting = f"{url}?ssl_ca_certs={files[0]}"
        with live(tmp_path, {**store, "STORAGE_URL": trusting}) as one:
            one.register("clicks")
            one.write(("clicks", "u1", 1, T))
            assert one.serve(["u1"], ["clicks"])[0]["features"] == {"clicks": 1}
        assert proxy.connections > 0
        with pytest.raises(RuntimeError, match=r"cannot be used: .*certificate") as refused:
            live(tmp_path, {**store, "STORAGE_URL": url}).start()
        assert "trying again" not in str(refused.value)  # which would mend nothing


def test_tables_of_a_later_version_are_left_alone(database: str) -> None:
    opened(database)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("INSERT INTO timewell.version VALUES (1000)")
    with pytest.raises(StartupError, match="1000"):
        opened(database)


def test_a_database_that_takes_no_writes_answers_503_to_them_and_goes_on_reading(
    tmp_path: Path, database: str
) -> None:
    with live(tmp_path, over_postgresql(database)) as one:
        one.register("clicks", "integer")
        one.write(("clicks", "u1", 1, T))
        with psycopg.connect(database, autocommit=True) as connection:
            name = connection.info.dbname
            connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only TO on".encode())
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            )
        answer = one.post("/features/write", {"featureId": "clicks", "entityId": "u1", "value": 2})
        assert answer.status_code == 503
        assert "read-only" in answer.json()["detail"]
        assert one.serve(["u1"], ["clicks"])[0]["features"] == {"clicks": 1}


CLICKS = Feature(
    id="user.clicks.v1", entity="user", name="clicks", version=1, value_type="integer", created=1, updated=1
)
GROUP = Group(name="clicks", entity="user", features=(CLICKS.id,), created=1, updated=1)
CLICK = a_table(CLICKS.id, 1, ["u1"], np.array([5]), np.array([1]), np.array([False]))


def test_a_write_refused_because_its_feature_is_gone_is_refused_again_under_the_same_key(
    store: Environment,
) -> None:
    with storage_over(store) as one:
        one.log.commit([Registered(CLICKS)])
        with storage_over(store) as two:
            two.log.commit([Deleted(CLICKS)])
        for _ in range(2):
            (answer,) = one.log.commit([Written(0, [CLICK], "key", b"taken")])
            assert isinstance(answer, Conflict)
            assert one.log.answers(["key"], 0) == {}


def test_what_a_writer_that_was_taken_over_had_not_saved_is_counted_once(store: Environment) -> None:
    with storage_over(store) as storage:
        storage.log.commit([Registered(CLICKS), Written(0, [CLICK], None, b"")])
        monitor = FeatureMonitor(storage.summaries.position)
        for batch in storage.log.replay(monitor.position):
            monitor.apply(*batch)
        for _ in monitor.folding():
            pass
        position, parts = monitor.leave()
        storage._writers.close()  # as when the connection is lost between the two
        encoded = {key: encode(part) for key, part in parts.items()}
        with pytest.raises(StorageDown):
            storage.summaries.save(position, encoded, merge_states)
        assert storage.summaries.read_whole(CLICKS).states == {}
        assert [batch[0].rows for _, batch in storage.log.replay(storage.summaries.position)] == [1]


def test_a_save_of_which_nobody_knows_whether_it_landed_is_waited_for(database: str) -> None:
    with storage_over(over_postgresql(database)) as storage, ThreadPoolExecutor(1) as threads:
        before, writer = storage.summaries.position, storage._writers.current()
        with storage._link.alone() as connection, connection.transaction():  # whose client has given up
            connection.execute("UPDATE writers SET position = position + 1 WHERE id = %s", (writer,))
            asked = threads.submit(lambda: storage.summaries.position)
            with storage._link.alone() as looking:
                waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
                eventually(lambda: asked.done() or looking.execute(waiting).fetchone() != (0,))
        assert asked.result() == before + 1


async def test_a_writer_begins_after_all_that_its_process_has_written_though_its_clock_is_ahead(
    valkey: ValkeyServer,
) -> None:
    valkey.empty()
    wall = Wall()
    wall.micros += 7_200_000_000
    settings = Settings(storage_type="redis", storage_url=valkey.url, checkpoint_seconds=1e6)
    one, two = RedisStorage(valkey.url, 10.0, now=wall), RedisStorage(valkey.url, 10.0)
    async with open_router(settings, one, wall) as first, open_router(settings, two) as second:
        await first.register(FeatureChange(entity="user", name="clicks", value_type="number"))
        await write_now(first, 1)
        await first.checkpointer.checkpoint()
        await write_now(first, 2)
        own = one._writers.current()
        one._writers.close()  # as when this process stands still for so long that it is taken for dead
        two._writers.renewed(two._writers.current())
        assert len(list(two.log.replay(two.summaries.position))) == 1 and one._writers.current() != own
        for router in (first, second):
            await router.checkpointer.checkpoint()
        assert (await second.statistics(second.registry.resolve("clicks"))).count == 2


def of_the_form_before(storage: Any) -> None:
    """What a storage has, as the first version kept it."""
    if isinstance(storage, RedisStorage):
        root, link = b"tw:{timewell}", storage._link
        (writers,) = link.ask([Command(root, ("HKEYS", root + b":writers"))])
        link.ask([Command(root, ("HDEL", root + b":batches:" + writer, "0")) for writer in writers])
        link.ask([Command(root, ("UNLINK", root + b":leases")), Command(root, ("UNLINK", root + b":arrived"))])
        link.ask([Command(root, ("HSET", root + b":versions", "form", 1))])
        link.load("#!lua name=timewell1\nredis.register_function('timewell1_write', function() return 1 end)\n")
        return
    with storage._link.write() as connection:
        connection.execute("ALTER TABLE summaries RENAME TO windows")
        connection.execute("DROP TABLE catalogue")
        connection.execute("DELETE FROM version WHERE number > 1")


def test_what_the_first_version_kept_is_all_there_and_its_processes_can_change_nothing_more(
    store: Environment,
) -> None:
    with storage_over(store) as old:
        old.log.commit([Registered(CLICKS), Noted("check", "clicks range-1", b"a check"), Grouped(GROUP)])
        old.log.commit([Written(0, [CLICK], "first", b"counted")])
        monitor = FeatureMonitor(old.summaries.position)
        for batch in old.log.replay(monitor.position):
            monitor.apply(*batch)
        for _ in monitor.folding():
            pass
        position, parts = monitor.leave()
        old.summaries.save(position, {key: encode(part) for key, part in parts.items()}, merge_states)
        old.log.commit([Written(0, [CLICK], "second", b"not counted yet")])
        of_the_form_before(old)
        with storage_over(store) as new:
            assert new.registry.registered()[:2] == ([CLICKS], [GROUP])
            assert new.notes("check") == {"clicks range-1": b"a check"}
            assert new.log.answers(["first", "second"], 0) == {"first": b"counted", "second": b"not counted yet"}
            (whole,) = new.summaries.read_whole(CLICKS).states.values()
            assert decode(whole, Summary).count == len(new.summaries.read(CLICKS, 0, 5).states) == 1
            assert new.values.ranges([CLICKS], ["u1"], 0, 5)[0].rows.size
            if isinstance(new, RedisStorage):  # in PostgreSQL the connection of the old one is still there
                assert [batch[0].rows for _, batch in new.log.replay(new.summaries.position)] == [1]
                with pytest.raises(StorageDown, match="not found"):
                    new._link.ask([Command(b"a", ("FCALL", "timewell1_write", 1, b"a"))])
            else:
                with pytest.raises(StorageDown, match="windows"), old._link.write() as connection:
                    connection.execute("SELECT state FROM windows")


def test_one_entity_may_get_values_of_thousands_of_features_at_once(store: Environment) -> None:
    features = [
        msgspec.structs.replace(CLICKS, id=f"user.f{n}.v1", name=f"f{n}", created=n) for n in range(1, 2_001)
    ]
    (click,) = CLICK.columns
    batch = [CLICK.only([click._replace(feature=one.id, created=one.created) for one in features])]
    with storage_over(store) as storage:
        storage.log.commit([Registered(feature) for feature in features])
        for _ in range(2):
            (entry,) = storage.log.commit([Written(0, batch, None, b"")])
            assert isinstance(entry, Written), entry
        assert storage.values.ranges([features[-1]], ["u1"], 0, 5)[0].rows.size


def test_statistics_can_be_asked_for_while_the_writer_is_another_from_now_on(store: Environment) -> None:
    with storage_over(store) as storage:
        storage.log.commit([Registered(CLICKS), Written(0, [CLICK], None, b"")])
        for ask in (
            storage.summaries.totals,
            lambda: storage.summaries.read_whole(CLICKS),
            lambda: storage.summaries.position,
        ):
            storage._writers.close()  # as who leads does where it finds a dead one
            assert ask() is not None


def test_a_process_that_is_stopped_for_a_while_counts_nothing_twice(tmp_path: Path, database: str) -> None:
    store = over_postgresql(database)
    with live(tmp_path, store, **MERGING) as one, live(tmp_path, store, **MERGING) as two:
        one.register("clicks", "integer")
        eventually(lambda: knows(two, "user.clicks.v1"))
        two.write(("clicks", "u1", 1, T))
        with psycopg.connect(database, autocommit=True) as connection:
            # As if the network had been away: with the connections goes what a process is a writer by.
            query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            connection.execute(query)
        with live(tmp_path, store, **MERGING) as three:  # takes over what was not counted

            def count(server: LiveServer) -> Any:
                return server.get("/features/user.clicks.v1/stats").json().get("count")

            eventually(lambda: count(three) == 1)
            eventually(
                lambda: (
                    two.post("/features/write", {"featureId": "clicks", "entityId": "u1", "value": 2}).status_code
                    == 200
                )
            )
            eventually(lambda: count(two) == 2)
            eventually(lambda: count(three) == 2)
            assert two.stop(signal.SIGTERM) == 0


def test_a_redis_that_wants_a_password_or_is_none_is_refused_at_the_start_with_the_reason() -> None:
    with ValkeyServer("--requirepass", "secret") as valkey:
        with pytest.raises(StartupError, match=r"(?i)auth"):
            opened(valkey.url)
        with pytest.raises(StartupError, match=r"(?i)wrongpass|password"):
            opened(valkey.url.replace("redis://", "redis://:wrong@"))
        opened(valkey.url.replace("redis://", "redis://:secret@"))
    with pytest.raises(StartupError, match="not what Redis takes"):
        make_storage(Settings(storage_type="redis", storage_url="http://host"))


def test_what_a_later_version_keeps_in_redis_is_left_alone() -> None:
    with ValkeyServer() as valkey:
        opened(valkey.url)
        with valkey.client() as client:
            client.hset("tw:{timewell}:versions", "form", 1000)
        with pytest.raises(StartupError, match="1000"):
            opened(valkey.url)


def test_a_redis_that_is_full_answers_503_to_writes_and_goes_on_reading(tmp_path: Path) -> None:
    with ValkeyServer() as valkey, live(tmp_path, over_redis(valkey.url)) as one:
        one.register("clicks", "integer")
        one.write(("clicks", "u1", 1, T))
        with valkey.client() as client:
            client.config_set("maxmemory", 1)
            rows = [{"featureId": "clicks", "entityId": f"u{n}", "value": 2} for n in range(1, 4)]
            answer = one.post("/features/write-batch", {"values": rows})
            assert answer.status_code == 503
            assert "full" in answer.json()["detail"]
            found = one.serve(["u1", "u2"], ["clicks"])
            assert [row["features"]["clicks"] for row in found] == [1, None]
            client.config_set("maxmemory", 0)
        one.write(("clicks", "u1", 3, "2026-01-03T00:00:00Z"))
        assert one.serve(["u1"], ["clicks"])[0]["features"] == {"clicks": 3}


def test_a_redis_that_has_become_a_replica_answers_503_to_writes(tmp_path: Path) -> None:
    with ValkeyServer() as valkey, live(tmp_path, over_redis(valkey.url)) as one:
        one.register("clicks", "integer")
        one.write(("clicks", "u1", 1, T))
        with valkey.client() as client:
            client.replicaof("127.0.0.1", free_port())
            answer = one.post("/features/write", {"featureId": "clicks", "entityId": "u1", "value": 2})
            assert answer.status_code == 503
            assert "read-only" in answer.json()["detail"]
            client.replicaof("NO", "ONE")
        one.write(("clicks", "u1", 3, "2026-01-03T00:00:00Z"))


def test_a_write_waits_for_as_many_replicas_as_it_is_told_to(tmp_path: Path) -> None:
    with (
        ValkeyServer("--repl-diskless-sync-delay", "0") as valkey,
        live(tmp_path, over_redis(f"{valkey.url}?replicas=1"), **HASTY) as one,
    ):
        body = {"name": "clicks", "entity": "user", "valueType": "integer"}
        assert one.post("/features/register", body).status_code == 503
        with ValkeyServer("--replicaof", f"127.0.0.1 {valkey.port}") as replica:
            with valkey.client() as client:
                eventually(lambda: client.info("replication")["connected_slaves"] == 1)
            eventually(lambda: one.post("/features/register", body).status_code in (200, 201))
            one.write(("clicks", "u1", 1, T))
            with replica.client() as client:
                assert client.zcard("tw:{user:u1}:h") == 1


def test_slots_may_move_from_one_node_to_another_while_both_processes_write(
    tmp_path: Path, valkey_cluster: ValkeyCluster
) -> None:
    valkey_cluster.empty()
    store = over_redis(valkey_cluster.url)
    slot = key_slot(b"tw:{user:moving}:h")
    owner = next(node for node in valkey_cluster.nodes if owns(valkey_cluster, node, slot))
    other = next(node for node in valkey_cluster.nodes if node is not owner)
    with live(tmp_path, store) as one, live(tmp_path, store) as two:
        one.register("clicks", "integer")
        eventually(lambda: knows(two, "user.clicks.v1"))
        one.write(("clicks", "moving", 0, T))
        ids = {node: valkey_cluster.say(node, "CLUSTER", "MYID") for node in (owner, other)}
        valkey_cluster.say(other, "CLUSTER", "SETSLOT", slot, "IMPORTING", ids[owner])
        valkey_cluster.say(owner, "CLUSTER", "SETSLOT", slot, "MIGRATING", ids[other])
        keys = valkey_cluster.say(owner, "CLUSTER", "GETKEYSINSLOT", slot, 100)
        valkey_cluster.say(owner, "MIGRATE", "127.0.0.1", other.port, "", 0, 5_000, "KEYS", *keys)
        two.write(("clicks", "moving", 1, "2026-01-02T00:00:00Z"))  # the old owner sends it on
        assert one.serve(["moving"], ["clicks"])[0]["features"] == {"clicks": 1}
        for node in (other, owner):
            valkey_cluster.say(node, "CLUSTER", "SETSLOT", slot, "NODE", ids[other])
        one.write(("clicks", "moving", 2, "2026-01-03T00:00:00Z"))  # and now it has moved
        assert two.serve(["moving"], ["clicks"])[0]["features"] == {"clicks": 2}
        page = one.get("/features/user.clicks.v1/history", entityId="moving").json()
        assert [row["value"] for row in page["observations"]] == [0, 1, 2]


def test_a_replica_takes_over_from_a_node_of_the_cluster_that_is_killed(tmp_path: Path) -> None:
    with ValkeyCluster() as cluster, live(tmp_path, over_redis(cluster.url)) as one:
        slot = key_slot(b"tw:{user:here}:h")
        owner = next(node for node in cluster.nodes if owns(cluster, node, slot))
        replica = cluster.replicate(owner)
        one.register("clicks", "integer")
        one.write(("clicks", "here", 1, T))

        def has_it() -> bool:
            cluster.say(replica, "READONLY")
            with replica.client() as client:
                return b"db0:keys=" in cluster.say(replica, "INFO", "keyspace") and bool(client.ping())

        eventually(has_it)
        owner.stop(signal.SIGKILL)
        body = {"featureId": "clicks", "entityId": "here", "value": 2, "timestamp": "2026-01-02T00:00:00Z"}
        eventually(lambda: one.post("/features/write", body).status_code == 200)
        page = one.get("/features/user.clicks.v1/history", entityId="here").json()
        assert [row["value"] for row in page["observations"]] == [1, 2]
        eventually(lambda: one.get("/health/ready").status_code == 200)


def owns(cluster: ValkeyCluster, node: ValkeyServer, slot: int) -> bool:
    for first, last, (_, port, *_), *_ in cluster.say(node, "CLUSTER", "SLOTS"):
        if first <= slot <= last:
            return bool(port == node.port)
    return False


def test_what_is_past_its_retention_age_is_trimmed_in_redis_at_the_next_write(
    tmp_path: Path, valkey: ValkeyServer
) -> None:
    valkey.empty()
    with live(tmp_path, over_redis(valkey.url)) as one:
        one.register("clicks", "integer", retention={"age": "1d"})
        one.write(("clicks", "u1", 1, "2026-01-01T00:00:00Z"))
        one.write(("clicks", "u1", 2, format_timestamp(now())))
        with valkey.client() as client:
            assert client.zcard("tw:{user:u1}:h") == 1
            left = client.pttl("tw:{user:u1}:h")
            assert 86_000_000 < left <= 86_460_000  # what removes goes on from the last arrival before the start
        one.register("spent")
        one.write(("clicks", "u1", 3, format_timestamp(now())))
        with valkey.client() as client:
            assert client.pttl("tw:{user:u1}:h") == -1


class Wall:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.micros = now()

    def __call__(self) -> int:
        return self.micros


@asynccontextmanager
async def routers(store: Environment, *walls: Wall) -> AsyncIterator[list[Router]]:
    """Processes with clocks of their own, in one."""
    kind: Any = store["STORAGE_TYPE"]
    settings = Settings(storage_type=kind, storage_url=store["STORAGE_URL"], checkpoint_seconds=1e6)
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(open_router(settings, now=wall)) for wall in walls]


async def write_now(router: Router, value: float) -> None:
    ingested = await router.judge.rows(Sent(["user.clicks.v1"], ["u"], [value], [None], [None]), 1)
    await router.write(ingested, b"")


async def served_now(router: Router) -> float:
    grid = await router.latest(["u"], router.registry.select(["clicks"], None), router.now(), current=True)
    return float(grid.values[0][0, 0])


@pytest.mark.parametrize("store", ["postgresql", "redis", "cluster"], indirect=True)
async def test_processes_whose_clocks_differ_see_what_the_other_wrote_and_the_later_write_wins(
    store: Environment,
) -> None:
    ahead, behind = Wall(), Wall()
    ahead.micros += 3_600_000_000
    async with routers(store, ahead, behind) as (one, two):
        await one.register(FeatureChange(entity="user", name="clicks", value_type="number"))
        await two._mailboxes["registry"].ask(Refresh())
        for value in range(4):
            writer, reader = (one, two) if value % 2 == 0 else (two, one)
            await write_now(writer, value)
            assert await served_now(reader) == await served_now(writer) == value
            ahead.micros -= 600_000_000
    async with routers(store, behind) as (three,):
        assert await served_now(three) == 3
        await write_now(three, 4)
        assert await served_now(three) == 4


async def test_a_clock_that_is_ahead_for_a_while_costs_no_value_in_redis(valkey: ValkeyServer) -> None:
    valkey.empty()
    wall = Wall()
    storage = RedisStorage(valkey.url, 10.0, now=wall)
    async with open_router(Settings(storage_type="redis", checkpoint_seconds=1e6), storage, wall) as router:
        change = FeatureChange(entity="user", name="clicks", value_type="number", retention=Retention(age="1h"))
        await router.register(change)
        for ahead in (0, 7_200_000_000, 0):
            at = format_timestamp(wall.micros - 1_800_000_000)
            wall.micros += ahead
            await router.write(router.judge.at_once(Sent(["user.clicks.v1"], ["u"], [1.0], [at], [None])), b"")
            wall.micros += 1_000_000 - ahead
        found = await router.observations("u", router.registry.resolve("clicks"), Span(0, 2**62), 10, False)
        assert len(found.times) == 3


async def test_nor_when_values_came_in_under_it_and_the_process_starts_under_it(valkey: ValkeyServer) -> None:
    valkey.empty()
    wall = Wall()
    settings = Settings(storage_type="redis", checkpoint_seconds=1e6)
    change = FeatureChange(entity="user", name="clicks", value_type="number", retention=Retention(age="1h"))
    for ahead in (0, 7_200_000_000, 7_200_000_000, 0):
        at = format_timestamp(wall.micros - 1_800_000_000)
        wall.micros += ahead
        async with open_router(settings, RedisStorage(valkey.url, 10.0, now=wall), wall) as router:
            await router.register(change)
            await router.write(router.judge.at_once(Sent(["user.clicks.v1"], ["u"], [1.0], [at], [None])), b"")
            wall.micros += 1_000_000 - ahead
            found = await router.observations("u", router.registry.resolve("clicks"), Span(0, 2**62), 10, False)
    assert len(found.times) == 4


@pytest.mark.parametrize("store", ["postgresql", "redis"], indirect=True)
async def test_nor_does_it_cost_an_idempotency_key_then(store: Environment) -> None:
    wall = Wall()
    for ahead, key in ((0, "early"), (90_000_000_000, "late"), (90_000_000_000, "later")):
        wall.micros += ahead
        async with routers(store, wall) as (router,):
            await router.write(router.judge.at_once(Sent([], [], [], [], [])), b"done", key)
            await router.checkpointer.checkpoint()
        wall.micros += 1_000_000 - ahead
    async with routers(store, wall) as (router,):
        assert [await router.repeated(key) for key in ("early", "late", "later")] == [b"done"] * 3
