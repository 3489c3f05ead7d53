"""Slots of a Redis Cluster move, key by key, while two processes write, read and register."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis.crc import key_slot

from actors.domain import Feature
from actors.storage.redis.functions import ROOT
from actors.storage.redis.link import Command, RedisLink
from actors.storage.redis.stored_rows import Shapes
from actors.storage.shared.packed import Shape
from tests.live import LiveServer
from tests.servers.valkey import ValkeyCluster, ValkeyServer

ENTITIES = [f"e{number}" for number in range(6)]
SLOTS = [key_slot(ROOT), *(key_slot(b"tw:{user:%b}:h" % entity.encode()) for entity in ENTITIES)]
MOST_MOVES = 14


@pytest.fixture
def cluster(valkey_cluster: ValkeyCluster) -> ValkeyCluster:
    valkey_cluster.empty()
    return valkey_cluster


def owner(cluster: ValkeyCluster, slot: int) -> ValkeyServer:
    for first, last, (_, port, *_), *_ in cluster.say(cluster.nodes[0], "CLUSTER", "SLOTS"):
        if first <= slot <= last:
            return next(node for node in cluster.nodes if node.port == port)
    raise AssertionError("nobody has the slot")


def move(cluster: ValkeyCluster, slot: int, meanwhile: Callable[[], None] = lambda: None) -> None:
    """Move a slot to another node, one key at a time, and tell everybody when all are there."""
    source = owner(cluster, slot)
    target = next(node for node in cluster.nodes if node is not source)
    ids = {node.port: cluster.say(node, "CLUSTER", "MYID") for node in (source, target)}
    cluster.say(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source.port])
    cluster.say(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target.port])
    meanwhile()
    while keys := cluster.say(source, "CLUSTER", "GETKEYSINSLOT", slot, 1):
        cluster.say(source, "MIGRATE", "127.0.0.1", target.port, "", 0, 5_000, "KEYS", *keys)
        meanwhile()
    for node in (target, source, *cluster.nodes):
        cluster.say(node, "CLUSTER", "SETSLOT", slot, "NODE", ids[target.port])


class Load:
    """Writes and reads of one entity by way of two processes in turns, and what came of them."""

    def __init__(self, entity: str, servers: list[LiveServer]) -> None:
        self.entity = entity
        self.acknowledged: list[int] = []
        self.statuses: Counter[int] = Counter()
        self.wrong: list[Any] = []
        self._servers = servers
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            body = {"featureId": "clicks", "entityId": self.entity, "value": number, "timestamp": moment(number)}
            written = self._servers[number % 2].post("/features/write", body)
            self.statuses[written.status_code] += 1
            if written.status_code == 200:
                self.acknowledged.append(number)
            asked = {"entityIds": [self.entity], "features": ["clicks"]}
            read = self._servers[(number + 1) % 2].post("/features/serve", asked)
            self.statuses[read.status_code] += 1
            if read.status_code == 200:
                value = read.json()["results"][0]["features"]["clicks"]
                if (value or 0) < max(self.acknowledged, default=0):
                    self.wrong.append((number, value))


def moment(number: int) -> str:
    return f"2026-01-01T{number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}Z"


def test_nothing_acknowledged_is_lost_and_nothing_wrong_is_read_while_slots_move(
    tmp_path: Path, cluster: ValkeyCluster
) -> None:
    store = {"STORAGE_TYPE": "redis", "STORAGE_URL": cluster.url}
    with LiveServer(tmp_path, **store) as one, LiveServer(tmp_path, **store) as two:
        one.register("clicks", "integer")
        moves, registered = 0, []

        def busy() -> bool:
            return sum(len(load.acknowledged) for load in loads) < 20 * len(loads)

        with Load(ENTITIES[0], [one, two]) as a, Load(ENTITIES[1], [two, one]) as b:
            loads = [a, b]
            while moves < len(SLOTS) or (busy() and moves < MOST_MOVES):
                move(cluster, SLOTS[moves % len(SLOTS)])
                moves += 1
                answer = two.post(
                    "/features/register", {"name": f"f{moves}", "entity": "user", "valueType": "number"}
                )
                assert answer.status_code in (201, 503)
                registered += [f"f{moves}"] if answer.status_code == 201 else []
        for load in loads:
            assert load.wrong == []
            assert set(load.statuses) <= {200, 503} and load.statuses[503] <= load.statuses[200] / 5
            page = one.get("/features/clicks/history", entityId=load.entity, limit=10_000).json()
            assert set(load.acknowledged) <= {row["value"] for row in page["observations"]}
        known = {feature["name"] for feature in one.get("/features", limit=1_000).json()["features"]}
        assert {"clicks", *registered} <= known


def test_a_registry_whose_slot_is_being_moved_is_neither_split_nor_forgotten(
    tmp_path: Path, cluster: ValkeyCluster
) -> None:
    store = {"STORAGE_TYPE": "redis", "STORAGE_URL": cluster.url}
    with LiveServer(tmp_path, **store) as one, LiveServer(tmp_path, **store) as two:
        one.register("before", group="ours", retention={"age": "1d"})
        statuses: Counter[int] = Counter()

        def change() -> None:
            name = f"during{sum(statuses.values())}"
            made = one.post("/features/register", {"name": name, "entity": "user", "valueType": "number"})
            statuses[made.status_code] += 1
            if made.status_code == 201:
                assert two.get(f"/features/{name}").status_code == 200
            assert two.get("/features/before").status_code == 200

        move(cluster, SLOTS[0], change)
        assert set(statuses) <= {201, 503} and statuses[201] > 0
        names = {feature["name"] for feature in two.get("/features").json()["features"]}
        assert len(names) == 1 + statuses[201]


def test_a_transaction_is_done_by_the_node_that_a_slot_is_moved_to(cluster: ValkeyCluster) -> None:
    link = RedisLink(cluster.url, 5.0)
    link.open()
    key = b"tw:{sent on}:n"
    words = [("HSET", key, "a", 1), ("HINCRBY", key, "a", 5)]
    found: list[Any] = []

    def ask() -> None:
        found.append(link.ask([Command(key, one) for one in words], whole=True))

    move(cluster, key_slot(key), ask)
    ask()
    assert found == [[1, 6], [0, 6]]
    link.close()


def test_the_shapes_that_have_a_feature_are_found_however_many_selections_there_are(
    cluster: ValkeyCluster,
) -> None:
    link = RedisLink(cluster.url, 5.0)
    link.open()
    shapes, other = Shapes(link), Shapes(link)
    features = [
        Feature(
            id=f"user.f{n}.v1", entity="user", name=f"f{n}", version=1, value_type="number", created=n, updated=n
        )
        for n in range(1, 6)
    ]
    for count in range(1, 6):
        shapes.number("user", Shape(tuple(range(1, count + 1)), ("<f8",) * count))
    other.load()
    assert [len(other.known.holding("user", [feature])) for feature in features] == [5, 4, 3, 2, 1]
    assert len(other.known.holding("user", features)) == 5
    assert other.known.holding("shop", features) == []
    link.close()
