"""What one process is told to register, change or delete, the others go by at their very next request."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
import trio

from actors.domain import Feature
from actors.errors import Conflict, RequestError, StorageDown
from actors.messages import Erase
from actors.opening import open_router
from actors.settings import STORAGE_CONNECTIONS, Settings
from actors.storage.entries import Registered, Removed, Written
from actors.storage.postgres.storage import PostgresStorage
from actors.storage.protocol import Stale, Versions
from actors.storage.redis.link import Command, RedisLink
from actors.table.batch import Table
from actors.timestamps import FOREVER
from tests.batches import a_table
from tests.faults import instead
from tests.live import LiveServer, storage_over
from tests.servers.postgres import PostgresServer
from tests.servers.valkey import ValkeyServer

T = "2026-01-01T00:00:00Z"
Pair = tuple[LiveServer, LiveServer]


@pytest.fixture(scope="module", params=["redis", "cluster", "postgresql"])
def store(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    if request.param == "postgresql":
        with request.getfixturevalue("postgres").database() as url:
            yield {"STORAGE_TYPE": "postgresql", "STORAGE_URL": url}
    else:
        server = request.getfixturevalue("valkey" if request.param == "redis" else "valkey_cluster")
        server.empty()
        yield {"STORAGE_TYPE": "redis", "STORAGE_URL": server.url}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, store: dict[str, str]) -> Iterator[Pair]:
    """Two processes over one store."""
    directory = tmp_path_factory.mktemp("pair")
    with ExitStack() as stack:
        one, two = (stack.enter_context(LiveServer(directory, **store)) for _ in range(2))
        yield one, two


def write(server: LiveServer, feature: str, value: Any, **headers: str) -> int:
    body = {"featureId": feature, "entityId": "u1", "value": value, "timestamp": T}
    return server.post("/features/write", body, **headers).status_code


def served(server: LiveServer, reference: str) -> Any:
    """The value, or the status of what is no answer."""
    answer = server.post("/features/serve", {"entityIds": ["u1"], "features": [reference]})
    return answer.json()["results"][0]["features"][reference] if answer.status_code == 200 else answer.status_code


PERIOD = {"startTime": "2025-01-01T00:00:00Z", "endTime": "2027-01-01T00:00:00Z"}


def arrow(**columns: list[Any]) -> bytes:
    sink = pa.BufferOutputStream()
    table = pa.table(columns)
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def test_what_one_process_registers_together_is_written_and_read_through_the_other(pair: Pair) -> None:
    one, two = pair
    features = [{"name": f"together_{place}", "entity": "user", "valueType": "number"} for place in range(3)]
    body = {"features": features, "services": [{"name": "together", "features": ["together_0", "together_2"]}]}
    assert two.get("/services/together").status_code == 404
    assert one.post("/registrations", body).status_code == 200
    assert write(two, "together_2", 5) == 200
    assert two.post("/registrations", body).json()["services"] == [{"id": "together.v1", "outcome": "unchanged"}]
    answer = one.post("/features/serve", {"entityIds": ["u1"], "service": "together"})
    assert answer.json()["results"][0]["features"] == {"together_0": None, "together_2": 5}
    assert write(one, "together_1", 5) == 200


def test_lists_registered_at_once_through_two_processes_are_each_registered_whole(pair: Pair) -> None:
    def body(place: int) -> dict[str, Any]:
        names = [f"at_once_{place}_{at}" for at in range(3)]
        features = [{"name": name, "entity": "user", "valueType": "number"} for name in names]
        return {"features": features, "services": [{"name": f"at_once_{place}", "features": names}]}

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda at: pair[at % 2].post("/registrations", body(at)), range(8)))
    assert {answer.status_code for answer in answers} == {200}
    for at in range(8):
        for server in pair:
            answer = server.post("/registrations", body(at)).json()
            assert {one["outcome"] for one in (*answer["features"], *answer["services"])} == {"unchanged"}


def test_every_route_knows_at_once_what_another_process_has_registered_and_deleted(pair: Pair) -> None:
    one, two = pair
    entities = {"entityIds": ["u1"]}
    line = b'{"featureId": "%b", "entityId": "u1", "value": 1}\n'
    body = {"reference": [1], "current": [2]}
    period = {"startTime": T, "endTime": "2026-01-02T00:00:00Z"}

    def send(kind: str, data: bytes) -> Any:
        return two.http.post("/features/write-batch", content=data, headers={"Content-Type": kind})

    asks: dict[str, Callable[[str], Any]] = {
        "get": lambda f: two.get(f"/features/{f}"),
        "versions": lambda f: two.get(f"/features/user.{f}/versions"),
        "serve": lambda f: two.post("/features/serve", {**entities, "features": [f]}),
        "serve rows": lambda f: two.post("/features/serve", {"rows": [{"user": 1}], "features": [f]}),
        "service": lambda f: two.post("/services", {"name": f"s_{f}", "features": [f]}),
        "serve nobody": lambda f: two.post("/features/serve", {"entityIds": [], "features": [f]}),
        "historical": lambda f: two.post(
            "/features/historical", {**entities, "features": [f], "aggregation": "avg", **PERIOD}
        ),
        "training": lambda f: two.post(
            "/features/training-set", {"rows": [{"entityId": "u1", "timestamp": T}], "features": [f]}
        ),
        "history": lambda f: two.get(f"/features/{f}/history", entityId="u1"),
        "stats": lambda f: two.get(f"/features/{f}/stats"),
        "checks": lambda f: two.get(f"/features/{f}/checks"),
        "put check": lambda f: two.post(f"/features/{f}/checks", {"checkType": "range", "config": {"min": 0}}),
        "drift": lambda f: two.get(f"/features/{f}/drift"),
        "compare": lambda f: two.post(f"/features/{f}/drift", body),
        "scores": lambda f: two.get(f"/features/{f}/drift/history"),
        "pin": lambda f: two.http.put(f"/features/{f}/reference", json=period),
        "write": lambda f: two.post("/features/write", {"featureId": f, "entityId": "u1", "value": 1}),
        "batch": lambda f: two.post(
            "/features/write-batch", {"values": [{"featureId": f, "entityId": "u1", "value": 1}]}
        ),
        "partial": lambda f: two.post(
            "/features/write-batch?partial=true", {"values": [{"featureId": f, "entityId": "u1", "value": 1}]}
        ),
        "ndjson": lambda f: send("application/x-ndjson", line % f.encode()),
        "arrow": lambda f: send("application/vnd.apache.arrow.stream", arrow(entityId=["u1"], **{f: [1.0]})),
        "group": lambda f: two.post("/groups", {"name": f"g_{f}", "entity": "user", "features": [f]}),
        "register": lambda f: two.post("/features/register", {"name": f, "entity": "user", "valueType": "string"}),
        "delete": lambda f: two.http.delete(f"/features/user.{f}.v1"),
    }
    for number, (what, ask) in enumerate(asks.items()):
        name = f"routes{number}"
        one.register(name)
        answer = ask(name)
        expected = {"put check": 201, "group": 201, "service": 201, "delete": 204, "register": 409}.get(what, 200)
        assert answer.status_code == expected, (what, answer.text)
        if what == "partial":
            assert answer.json() == {"success": True, "count": 1}
        if what in ("delete", "register"):
            continue
        one.delete_feature(f"user.{name}.v1")
        answer = ask(name)
        if what in ("batch", "ndjson"):
            assert answer.status_code == 400 and "unknown feature" in answer.text, (what, answer.text)
        elif what == "partial":
            assert answer.json()["count"] == 0
        else:
            assert answer.status_code == 404, (what, answer.text)
    assert two.get("/features", q=f"routes{len(asks) - 1}").json() == {"features": []}


def test_a_reference_means_what_it_means_in_whichever_process_that_was_changed(pair: Pair) -> None:
    one, two = pair
    one.register("plan")
    assert write(two, "plan", 1) == 200
    one.register("plan", version=2)
    assert served(two, "user.plan") is None  # the highest version is another one
    assert write(two, "plan", 2) == 200
    assert served(one, "user.plan.v1") == 1 and served(one, "user.plan.v2") == 2
    one.register("plan", entity="shop")
    for server in pair:
        assert served(server, "plan") == write(server, "plan", 3) == 409
    assert one.http.delete("/features/shop.plan.v1").status_code == 204
    assert served(two, "plan") == 2
    assert one.http.delete("/features/user.plan.v2").status_code == 204
    assert served(two, "plan") == served(two, "user.plan") == 1


def test_a_feature_that_was_deleted_and_registered_with_another_type_is_that_one_everywhere(pair: Pair) -> None:
    one, two = pair
    for number in range(5):
        one.register("turns", "number")
        assert write(two, "turns", number) == 200
        assert served(two, "turns") == number
        assert one.http.delete("/features/user.turns.v1").status_code == 204
        one.register("turns", "string")
        assert served(two, "turns") is None
        assert write(two, "turns", number) == 400
        assert write(two, "turns", "text") == 200
        assert served(one, "turns") == "text"
        assert one.http.delete("/features/user.turns.v1").status_code == 204


def test_a_schema_and_a_maximal_age_hold_in_every_process_at_once(pair: Pair) -> None:
    one, two = pair
    one.register("narrow")
    assert write(two, "narrow", 10) == 200
    one.register("narrow", schema={"max": 5})
    assert write(two, "narrow", 10) == 400
    one.register("narrow", schema={"max": 20}, maxAge="1d")
    assert served(two, "narrow") is None
    assert write(two, "narrow", 20) == 200


def test_entity_types_services_and_promotions_are_those_of_all_processes(pair: Pair) -> None:
    one, two = pair
    one.register("parted", entity="two_keys")
    assert two.http.delete("/entities/two_keys").status_code == 409
    for _ in range(3):
        assert one.http.delete("/features/two_keys.parted.v1").status_code == 204
        assert two.post("/entities", {"name": "two_keys", "keys": ["a", "b"]}).status_code == 201
        assert one.get("/entities/two_keys").json()["keys"] == ["a", "b"]
        one.register("parted", entity="two_keys")
        one.register("parted", entity="two_keys", version=2, promoted=False)
        service = {"name": "model", "features": ["two_keys.parted", {"ref": "two_keys.parted.v2", "as": "new"}]}
        asked = {"rows": [{"a": "x", "b": 1}], "service": "model"}
        assert two.post("/services", service).status_code == 201
        assert one.get("/services/model").json()["features"][0]["ref"] == "two_keys.parted.v1"
        two.write(("two_keys.parted.v1", '["x","1"]', 1, T), ("two_keys.parted.v2", '["x","1"]', 2, T))
        for server in pair:
            answer = server.post("/features/serve", asked)
            assert answer.json()["results"][0]["features"] == {"two_keys.parted": 1, "new": 2}
        assert two.post("/features/two_keys.parted.v2/promote", {}).status_code == 200
        features = {"rows": asked["rows"], "features": ["two_keys.parted"]}
        assert list(one.post("/features/serve", features).json()["results"][0]["features"].values()) == [2]
        assert one.http.delete("/features/two_keys.parted.v2").status_code == 409
        assert one.http.delete("/services/model.v1").status_code == 204
        assert two.post("/features/serve", asked).status_code == two.get("/services/model").status_code == 404
        assert two.http.delete("/features/two_keys.parted.v2").status_code == 204
        assert one.http.delete("/features/two_keys.parted.v1").status_code == 204
        assert two.http.delete("/entities/two_keys").status_code == 204
        assert one.get("/entities/two_keys").status_code == 404
        one.register("parted", entity="two_keys")


def test_groups_checks_and_pinned_references_are_those_of_all_processes(pair: Pair) -> None:
    one, two = pair
    one.register("member")
    other = {"checkType": "range", "config": {"min": 0}}
    for _ in range(3):
        one.post("/groups", {"name": "ours", "entity": "user", "features": ["member"]})
        asked = {"entityIds": ["u1"], "group": "ours"}
        assert two.post("/features/serve", asked).status_code == 200
        assert "ours" in two.get("/groups").text and two.get("/groups/ours").status_code == 200
        assert two.http.delete("/groups/ours").status_code == 204
        assert one.post("/features/serve", asked).status_code == one.get("/groups/ours").status_code == 404
        assert one.http.delete("/groups/ours").status_code == 404

        ids = [server.post("/features/member/checks", other).json()["id"] for server in (one, two, one)]
        assert ids == ["range-1", "range-2", "range-3"]
        assert [len(server.get("/features/member/checks").json()["checks"]) for server in pair] == [3, 3]
        for id_, server in zip(ids, (two, one, two), strict=True):
            assert server.http.delete(f"/features/member/checks/{id_}").status_code == 204
        assert [server.get("/features/member/checks").json()["checks"] for server in pair] == [[], []]

        one.http.put("/features/member/reference", json={"startTime": T, "endTime": T})
        assert two.http.delete("/features/member/reference").status_code == 204
        assert one.http.delete("/features/member/reference").status_code == 404


def test_a_check_that_another_process_replaces_is_not_answered_by_what_the_old_one_found(pair: Pair) -> None:
    one, two = pair
    one.register("checked")
    assert write(one, "checked", 10) == write(two, "checked", 10) == 200  # statistics are merged now and then
    for most, status in ((20, "passing"), (5, "failing"), (20, "passing")):
        check = {"id": "limit", "checkType": "range", "config": {"max": most}}
        assert one.post("/features/checked/checks", check).json()["status"] == status
        (found,) = two.get("/features/checked/checks").json()["checks"]
        assert (found["config"], found["status"]) == ({"max": most}, status)


def test_checks_without_an_id_that_are_put_at_once_have_ids_of_their_own(pair: Pair) -> None:
    pair[0].register("numbered")
    asks = [(server, {"checkType": "range", "config": {"min": n}}) for n, server in enumerate(pair * 4)]
    with ThreadPoolExecutor(len(asks)) as threads:
        answers = list(threads.map(lambda ask: ask[0].post("/features/numbered/checks", ask[1]), asks))
    made = {answer.json().get("id"): answer.json().get("config") for answer in answers}
    assert sorted(made) == [f"range-{n}" for n in range(1, len(asks) + 1)]
    for server in pair:
        found = server.get("/features/numbered/checks").json()["checks"]
        assert {check["id"]: check["config"] for check in found} == made


def test_erasures_of_one_entity_by_two_processes_at_once_are_told_the_truth(pair: Pair) -> None:
    pair[0].register("erased")
    pair[0].write(*[("erased", "gone", n, f"2026-01-01T00:00:0{n}Z") for n in range(3)])
    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lambda server: server.http.delete("/entities/user/gone"), pair * 3))
    assert {answer.json()["deleted"]["observations"] for answer in answers} <= {0, 3}
    assert any(answer.json()["deleted"] == {"observations": 3, "features": 1} for answer in answers)
    for server in pair:
        page = server.get("/features/user.erased.v1/history", entityId="gone").json()
        assert page["observations"] == []


async def test_erasures_of_one_entity_at_once_are_told_the_same(pair: Pair, store: dict[str, str]) -> None:
    pair[0].register("forgotten")
    pair[0].write(*[("forgotten", "lost", n, f"2026-01-01T00:00:0{n}Z") for n in range(3)])
    kind: Any = store["STORAGE_TYPE"]
    told: list[Removed] = []
    async with open_router(Settings(storage_type=kind, storage_url=store["STORAGE_URL"])) as router:

        async def erase() -> None:
            told.append((await router.erase("user", "lost"))[1])

        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(erase)
        assert told == [Removed(3, 1)] * 6
        assert (await router.erase("user", "lost"))[1] == Removed(0, 0)


async def test_an_erasure_asked_for_before_another_process_made_one_is_told_what_that_removed(
    pair: Pair, store: dict[str, str]
) -> None:
    pair[0].register("forgotten")
    kind: Any = store["STORAGE_TYPE"]
    settings = Settings(storage_type=kind, storage_url=store["STORAGE_URL"])
    async with open_router(settings) as one, open_router(settings) as other:
        for values in (3, 2):  # what is written in between is removed by an erasure of its own
            rows = [("forgotten", "both", n, f"2026-01-01T00:00:0{n}Z") for n in range(values)]
            await trio.to_thread.run_sync(pair[0].write, *rows)
            last = one.checkpointer._last_erasure
            assert last is not None
            before = await trio.to_thread.run_sync(last, "user", "both")
            routers = (one, other, one)
            told = [await each._mailboxes["journal"].ask(Erase("user", "both", before)) for each in routers]
            assert [erased.removed for erased in told] == [Removed(values, 1)] * 3
            for router in (one, other):
                assert (await router.erase("user", "both"))[1] == Removed(0, 0)


def test_more_threads_than_connections_to_redis_wait_for_one(valkey: ValkeyServer) -> None:
    link = RedisLink(valkey.url, 10.0)
    with ThreadPoolExecutor(2 * STORAGE_CONNECTIONS) as threads:
        waiting = [Command(b"nobody", ("BLPOP", b"nobody", 0.1))]
        found = list(threads.map(lambda _: link.ask(waiting), range(2 * STORAGE_CONNECTIONS)))
    link.close()
    assert found == [[None]] * len(found)


CLICKS = Feature(
    id="user.clicks.v1", entity="user", name="clicks", version=1, value_type="integer", created=1, updated=1
)
OTHER = msgspec.structs.replace(CLICKS, id="user.other.v1", name="other", created=2)
NEVER = msgspec.structs.replace(CLICKS, id="user.never.v1", name="never", created=3)


def table_of(feature: Feature, value: int) -> Table:
    return a_table(feature.id, feature.created, ["u1"], np.array([5]), np.array([value]), np.array([False]))


def values(storage: Any) -> list[int]:
    return list(storage.history.read(CLICKS, ["u1"], 0, FOREVER).rows.values)


def test_what_was_judged_by_a_registry_that_is_another_by_now_is_not_written(store: dict[str, str]) -> None:
    with storage_over(store) as one, storage_over(store) as two:
        one.log.commit([Registered(CLICKS)])
        two.registry.registered()
        judged = two.registry.versions_seen
        one.log.commit([Registered(OTHER)])
        (refused,) = two.log.commit([Written(0, [table_of(CLICKS, 1)], "write again", b"said", judged)])
        assert isinstance(refused, Stale) and values(one) == []
        assert isinstance(
            two.log.commit([Written(0, [table_of(CLICKS, 2)], "write again", b"said", None)])[0], Written
        )
        assert values(one) == [2] and one.log.answers(["write again"], 0) == {"write again": b"said"}


def test_of_one_key_twice_in_a_commit_the_second_is_written_where_the_first_was_refused(
    store: dict[str, str],
) -> None:
    with storage_over(store) as one:
        one.log.commit([Registered(CLICKS)])
        first, second = (
            Written(0, [table_of(NEVER, 1)], "both", b"1"),
            Written(0, [table_of(CLICKS, 2)], "both", b"2"),
        )
        refused, taken, again = one.log.commit([first, second, first])
        assert isinstance(refused, Conflict) and taken.answer == again.answer == b"2"
        assert values(one)[-1] == 2 and one.log.answers(["both"], 0) == {"both": b"2"}


class Counting(PostgresStorage):
    """Counts how often it is asked for versions, and may be out of reach."""

    def __init__(self, url: str) -> None:
        super().__init__(url, 10.0)
        self.asked, self.away = 0, False
        instead(self.registry, "versions_now", self._versions_now)

    def _versions_now(self, sane: Callable[[], Versions]) -> Versions:
        self.asked += 1
        if self.away:
            raise StorageDown("away")
        return sane()


async def test_many_who_ask_for_what_nobody_knows_cost_few_visits(postgres: PostgresServer) -> None:
    with postgres.database() as url:
        storage = Counting(url)
        async with open_router(Settings(storage_type="postgresql", storage_url=url), storage) as router:
            refused: list[Exception] = []

            async def ask() -> None:
                try:
                    (await router.registered()).resolve("nothing")
                except (RequestError, StorageDown) as error:
                    refused.append(error)

            async def flood() -> None:
                refused.clear()
                async with trio.open_nursery() as nursery:
                    for _ in range(500):
                        nursery.start_soon(ask)

            before = storage.asked
            await flood()
            assert {type(error).__name__ for error in refused} == {"NotFound"} and len(refused) == 500
            assert storage.asked - before <= 20
            storage.away = True
            await flood()
            assert {type(error).__name__ for error in refused} == {"StorageDown"} and len(refused) == 500
