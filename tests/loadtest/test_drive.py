"""The open loop in virtual time: how a stall of the service shows, and delays of the driver."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import trio
from trio.testing import MockClock

from loadtest.machine.messages import Answer
from loadtest.openloop.drive import DRAIN_SECONDS, Drive, Lane, OpenLoop
from loadtest.openloop.recording import Recording, empty
from loadtest.openloop.schedule import Instants, constant

STALL = 1.0, 2.0
TAKES = 0.001
REQUESTS = [b"one", b"two", b"three"]


def request_of(row: int) -> bytes:
    return REQUESTS[row % 3]


class Service:
    """Answers a millisecond later, but not during the stall."""

    def __init__(self) -> None:
        self.began = trio.current_time()
        self.asked: list[bytes] = []

    async def ask(self, request: bytes) -> Answer:
        """The request itself as the answer."""
        self.asked.append(request)
        since = trio.current_time() - self.began
        start, end = STALL
        await trio.sleep(end - since if start <= since < end else TAKES)
        return Answer(200, request)


async def driven(service: Service, instants: Instants, connections: int = 4) -> tuple[Recording, Drive]:
    recording = empty(instants)
    drive = await OpenLoop(recording, request_of).run([service.ask] * connections)
    return recording, drive


async def test_a_stall_shows_in_every_request_that_was_due_meanwhile(autojump_clock: MockClock) -> None:
    arrays, _ = await driven(Service(), constant(100, 3))
    latency = arrays.done - arrays.scheduled
    stalled = (arrays.scheduled >= STALL[0]) & (arrays.scheduled < STALL[1])
    assert stalled.sum() == 100
    assert np.all(latency[stalled] >= STALL[1] - arrays.scheduled[stalled] - 1e-9)
    assert np.all(latency[stalled] <= STALL[1] - arrays.scheduled[stalled] + 0.05)
    assert np.all(latency[arrays.scheduled < STALL[0]] == pytest.approx(TAKES))
    assert np.all(arrays.status == 200)


async def test_counted_from_the_sending_only_one_request_a_connection_would_have_seen_it(
    autojump_clock: MockClock,
) -> None:
    arrays, _ = await driven(Service(), constant(100, 3))
    assert ((arrays.done - arrays.sent) > 0.1).sum() == 4
    assert ((arrays.done - arrays.scheduled) > 0.1).sum() > 80


async def test_waiting_for_a_free_connection_is_not_the_drivers_delay(autojump_clock: MockClock) -> None:
    arrays, drive = await driven(Service(), constant(100, 3))
    np.testing.assert_allclose(arrays.sent, arrays.ready, atol=1e-9)
    assert arrays.ready.max() > 2
    assert drive.held_up == 0


async def test_requests_are_sent_in_turn_and_each_once(autojump_clock: MockClock) -> None:
    service = Service()
    arrays, _ = await driven(service, constant(100, 3))
    assert service.asked == [REQUESTS[row % 3] for row in range(300)]
    assert not np.isnan(arrays.done).any()


async def test_a_sample_of_answers_is_kept_by_row(autojump_clock: MockClock) -> None:
    _, drive = await driven(Service(), constant(100, 3))
    assert dict(drive.samples) == {row: REQUESTS[row % 3] for row in range(300)}


async def test_answers_that_never_come_are_waited_for_for_a_while(autojump_clock: MockClock) -> None:
    recording = empty(constant(10, 1))

    async def never(_request: bytes) -> Answer:
        await trio.sleep_forever()
        raise AssertionError

    began = trio.current_time()
    await OpenLoop(recording, request_of).run([never] * 4)
    assert trio.current_time() - began == pytest.approx(0.9 + DRAIN_SECONDS, abs=0.01)
    arrays = recording
    assert np.isnan(arrays.done).all()
    assert np.isnan(arrays.sent).tolist() == [False] * 4 + [True] * 6


async def test_failed_connections_are_noted_and_the_others_go_on(autojump_clock: MockClock) -> None:
    recording = empty(constant(10, 1))
    answers: Sequence[OSError | int] = [200, OSError(), 503, ConnectionResetError(), 200]
    turn = iter(range(10))

    async def moody(request: bytes) -> Answer:
        await trio.sleep(TAKES)
        answer = answers[next(turn) % len(answers)]
        if isinstance(answer, OSError):
            raise answer
        return Answer(answer, request)

    drive = await OpenLoop(recording, request_of).run([moody])
    assert recording.status.tolist() == [200, 0, 503, 0, 200] * 2
    assert not np.isnan(recording.done).any()
    assert [row for row, _ in drive.samples] == [0, 4, 5, 9]


async def test_drivers_share_a_recording_each_with_rows_of_its_own(autojump_clock: MockClock) -> None:
    recording = empty(constant(100, 1))
    services = [Service(), Service()]
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for number, service in enumerate(services):
            loop = OpenLoop(recording, request_of, Lane(number, 2))
            nursery.start_soon(loop.run, [service.ask] * 2, began)
    assert [len(service.asked) for service in services] == [50, 50]
    assert services[1].asked == [REQUESTS[row % 3] for row in range(1, 100, 2)]
    np.testing.assert_allclose(recording.sent, recording.scheduled, atol=1e-9)


def test_a_spinning_driver_sends_what_is_due_and_knows_its_slack() -> None:
    recording = empty(constant(1_000, 0.05))

    async def at_once(request: bytes) -> Answer:
        await trio.lowlevel.checkpoint()
        return Answer(200, request)

    drive = trio.run(lambda: OpenLoop(recording, request_of, spins=True).run([at_once] * 2))
    arrays = recording
    assert np.all(arrays.sent >= arrays.scheduled)
    assert np.all(arrays.status == 200)
    assert 0 < drive.busy < 1
