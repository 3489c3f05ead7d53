"""Rounds in turns: their order, their limit, and a peer that fails or gives other answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import trio
from trio.testing import MockClock

from loadtest.compare.data import QUICK, Data
from loadtest.compare.rounds import Contest
from loadtest.compare.work import WORKLOADS, Given, Peer, Read, Serve, Timed, Values, View, Work, Write

SERVE, WRITE = (WORKLOADS[name] for name in ("serve-1x2", "write-100"))
SCALE = QUICK._replace(rows=200, entities=50)
ROUNDS = SCALE.rounds + 1


class InMemory(Peer):
    """A store that does everything at once; `takes`: the length of each round by trio's clock."""

    kinds = (Serve, Write)

    def __init__(self, name: str, log: list[str], takes: Callable[[int], float] = lambda _: 0.0) -> None:
        self.name, self._log, self._takes = name, log, takes
        self._rounds = 0
        self._values: dict[tuple[str, str], float] = {}
        self.given: list[Given] = []

    async def start(self) -> None:
        self._log.append(f"{self.name} starts")

    async def stop(self) -> None:
        self._log.append(f"{self.name} stops")

    async def load(self, data: Data) -> None:
        for entity, values in zip(data.entities, data.values, strict=True):
            self._values |= {(entity, f"f{number:03}"): value for number, value in enumerate(values)}

    async def do(self, work: Work, given: Given) -> Timed:
        self._log.append(self.name)
        self.given.append(given)
        await trio.sleep(self._takes(self._rounds))
        self._rounds += 1
        if isinstance(work, Write):
            for batch in given.batches:
                self._write(work.view, batch.entities, batch.values)
        return Timed(10, 1.0)

    def _write(self, view: View, entities: Sequence[str], rows: Values) -> None:
        for entity, values in zip(entities, rows, strict=True):
            self._values |= {(entity, name): value for name, value in zip(view.features, values, strict=True)}

    async def read(self, view: View, entities: Sequence[str]) -> Read:
        return [[self._values.get((entity, name)) for name in view.features] for entity in entities]


class Forgetful(InMemory):
    """Acknowledges writes and keeps none of them."""

    def _write(self, view: View, entities: Sequence[str], rows: Values) -> None:
        pass


class Failing(InMemory):
    """Answers with an error from the second round on."""

    async def do(self, work: Work, given: Given) -> Timed:
        if self._rounds:
            raise RuntimeError("status 500: out of order")
        return await super().do(work, given)


@pytest.fixture
def clock() -> MockClock:
    return MockClock(autojump_threshold=0)


@pytest.fixture
def log() -> list[str]:
    return []


async def contest(ours: InMemory, peer: InMemory, limit: float = 60.0) -> tuple[Contest, list[str]]:
    told: list[str] = []
    data = Data(SCALE)
    for one in (ours, peer):
        await one.load(data)
    return Contest(ours, peer, data, limit, told.append), told


async def test_rounds_go_in_turns_and_the_first_does_not_count(log: list[str], clock: MockClock) -> None:
    between, told = await contest(InMemory("ours", log), InMemory("peer", log))
    found = await between.compare(SERVE)
    assert log == ["ours", "peer"] * ROUNDS
    assert len(found.times_better) == len(found.ours.samples) == SCALE.rounds
    assert len(told) == ROUNDS and "warming up" in told[0] and "round 1" in told[1]


async def test_both_are_given_the_same_and_each_round_something_else(log: list[str], clock: MockClock) -> None:
    ours, peer = InMemory("ours", log), InMemory("peer", log)
    between, _ = await contest(ours, peer)
    await between.compare(SERVE)
    assert peer.given == ours.given
    assert ours.given[0].asked != ours.given[1].asked


async def test_values_that_were_written_are_read_from_both(log: list[str], clock: MockClock) -> None:
    between, _ = await contest(InMemory("ours", log), InMemory("peer", log))
    found = await between.compare(WRITE)
    assert (found.checked_values, found.failure) == (20 * 20, None)


@pytest.mark.parametrize("forgetful", ["ours", "peer"])
async def test_a_store_that_forgets_is_found_out(forgetful: str, log: list[str], clock: MockClock) -> None:
    ours, peer = ((Forgetful if name == forgetful else InMemory)(name, log) for name in ("ours", "peer"))
    between, _ = await contest(ours, peer)
    found = await between.compare(WRITE)
    assert found.failure is not None and "other values of batched" in found.failure


async def test_a_peer_that_fails_is_started_anew_and_keeps_what_it_did_before(
    log: list[str], clock: MockClock
) -> None:
    between, _ = await contest(InMemory("ours", log), Failing("peer", log))
    found = await between.compare(SERVE)
    assert found.failure == "status 500: out of order"
    assert log[-2:] == ["peer stops", "peer starts"]


async def test_a_peer_that_takes_longer_than_the_limit_is_ended_and_no_longer_waited_for(
    log: list[str], clock: MockClock
) -> None:
    peer = InMemory("peer", log, takes=lambda number: 1_000.0 if number == 1 else 0.0)
    between, _ = await contest(InMemory("ours", log), peer, limit=60.0)
    began = trio.current_time()
    found = await between.compare(SERVE)
    assert trio.current_time() - began < 100.0
    assert found.limit_seconds == 60.0 and found.at_least == pytest.approx(10.0 * 60.0)
    assert log[-2:] == ["peer stops", "peer starts"]
