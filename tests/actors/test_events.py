"""Everyone who listens is told of everything, those who come back of what they missed, the slow that they were."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from itertools import count

import msgspec
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.clock import ArrivalClock
from actors.monitoring import events as module
from actors.monitoring.events import Event, Events
from web.answers.event_stream import HEARTBEAT_SECONDS, stream

START = 1_762_509_600_000_000


def hub(now: Iterator[int] | None = None) -> Events:
    """A hub whose wall clock stands still, unless it is given another."""
    moments = now if now is not None else iter(lambda: START, None)
    return Events(ArrivalClock(lambda: next(moments)))


def waiting(incoming: AsyncIterator[Event]) -> list[Event]:
    """What a listener can read at once."""
    assert isinstance(incoming, trio.MemoryReceiveChannel)
    found = []
    try:
        while True:
            found.append(incoming.receive_nowait())
    except (trio.WouldBlock, trio.EndOfChannel):
        return found


async def test_every_listener_gets_every_event_in_order() -> None:
    events = hub()
    with events.listening() as one, events.listening() as other:
        told = [events.publish("k", {"n": number}) for number in range(5)]
        assert waiting(one) == waiting(other) == told
    assert [event.data["n"] for event in told] == list(range(5))
    assert {event.kind for event in told} == {"k"}


async def test_ids_are_times_that_grow_even_where_the_clock_stands_still_or_steps_back() -> None:
    events = hub(iter([START, START, START - 50, START + 100]))
    ids = [events.publish("k", {}).id for _ in range(4)]
    assert ids == [START, START + 1, START + 2, START + 100]


async def test_who_begins_to_listen_is_not_told_of_the_past_unless_it_asks() -> None:
    events = hub()
    old = [events.publish("k", {"n": number}) for number in range(3)]
    with events.listening() as incoming, events.listening(old[0].id) as back, events.listening(0) as all_:
        new = events.publish("k", {"n": 3})
        assert waiting(incoming) == [new]
        assert waiting(back) == [*old[1:], new]
        assert waiting(all_) == [*old, new]


@given(st.lists(st.booleans(), max_size=40), st.integers(0, 40))
def test_a_listener_that_comes_back_with_the_last_id_misses_nothing_and_hears_nothing_twice(
    steps: list[bool], leaves: int
) -> None:
    events = hub()
    published: list[Event] = []
    heard: list[Event] = []
    with events.listening() as incoming:
        published += [events.publish("k", {}) for _ in steps[:leaves]]
        heard += waiting(incoming)
    published += [events.publish("k", {}) for _ in steps[leaves:]]
    with events.listening(heard[-1].id if heard else 0) as incoming:
        heard += waiting(incoming)
        published.append(events.publish("k", {}))
        heard += waiting(incoming)
    assert heard == published


async def test_so_many_events_are_remembered_and_no_more() -> None:
    events = hub()
    told = [events.publish("k", {"n": number}) for number in range(module.REMEMBERED + 7)]
    with events.listening(0) as incoming:
        assert waiting(incoming) == told[7:]


async def test_a_listener_that_falls_behind_is_let_go_after_what_it_was_told_and_the_others_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 4)
    monkeypatch.setattr(module, "BEHIND", 3)
    events = hub()
    heard: list[Event] = []
    with events.listening() as slow, events.listening() as quick:
        told = []
        for _ in range(20):
            told.append(events.publish("k", {}))
            heard += waiting(quick)
        assert heard == told
        late = [event async for event in slow]  # it ends
        assert late == told[: len(late)]
        assert 3 <= len(late) < 20
        heard += [events.publish("k", {})]
        assert waiting(quick) == heard[-1:]


async def test_publishing_never_waits_for_anybody() -> None:
    events = hub()
    with events.listening():
        with trio.CancelScope() as scope:
            scope.cancel()  # whatever waits is cancelled
            for _ in range(module.REMEMBERED + module.BEHIND + 10):
                events.publish("k", {})
        assert not scope.cancelled_caught


async def test_when_the_process_stops_every_listening_ends(autojump_clock: MockClock) -> None:
    events = hub()
    ended: list[list[Event]] = []

    async def listen() -> None:
        with events.listening() as incoming:
            ended.append([event async for event in incoming])

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            nursery.start_soon(listen)
            await wait_all_tasks_blocked()
            told = events.publish("k", {})
            await wait_all_tasks_blocked()
            events.close()
    assert ended == [[told], [told]]
    events.publish("k", {})  # nobody is there, and that is no error


async def test_who_stops_listening_is_forgotten() -> None:
    events = hub()
    with events.listening():
        assert len(events._listeners) == 1
    assert not events._listeners


# As server-sent events


async def read(body: AsyncIterator[bytes], count_: int) -> list[bytes]:
    return [await anext(body) for _ in range(count_)]


def parsed(text: bytes) -> dict[str, str]:
    """The fields of one event of the stream."""
    assert text.endswith(b"\n\n")
    return dict(line.split(": ", 1) for line in text.decode().splitlines() if line)


async def test_an_event_is_sent_with_its_id_kind_time_and_data() -> None:
    events = hub()
    body = stream(events, None)
    assert (await anext(body)).startswith(b":")
    events.publish("alert.firing", {"message": "two\nlines", "observed": 0.5})
    fields = parsed(await anext(body))
    assert (fields["id"], fields["event"]) == (str(START), "alert.firing")
    assert msgspec.json.decode(fields["data"]) == {
        "time": "2025-11-07T10:00:00.000Z", "message": "two\nlines", "observed": 0.5,
    }  # fmt: skip
    await body.aclose()  # type: ignore[attr-defined]
    assert not events._listeners


async def test_a_stream_goes_on_after_the_last_id_that_was_seen() -> None:
    events = hub(count(START))
    seen = [events.publish("k", {"n": number}) for number in range(4)]
    body = stream(events, seen[1].id)
    texts = await read(body, 3)
    assert [parsed(text)["id"] for text in texts[1:]] == [str(seen[2].id), str(seen[3].id)]
    await body.aclose()  # type: ignore[attr-defined]


async def test_a_quiet_stream_says_that_it_is_still_there_and_loses_no_event_over_it(
    autojump_clock: MockClock,
) -> None:
    events = hub()
    body = stream(events, None)
    await anext(body)
    began = trio.current_time()
    for _ in range(3):
        assert (await anext(body)).startswith(b":")
    assert trio.current_time() - began == pytest.approx(3 * HEARTBEAT_SECONDS)
    events.publish("k", {})
    assert parsed(await anext(body))["event"] == "k"
    await body.aclose()  # type: ignore[attr-defined]


async def test_a_stream_ends_when_the_process_stops(autojump_clock: MockClock) -> None:
    events = hub()
    body = stream(events, None)
    await anext(body)
    told = events.publish("k", {})
    events.close()
    with trio.fail_after(HEARTBEAT_SECONDS / 2):
        rest = [text async for text in body]
    assert [parsed(text)["id"] for text in rest] == [str(told.id)]
