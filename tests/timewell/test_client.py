"""The Python clients: every route against a live server, and what they do when answers fail or stay away."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import inspect
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import MappingProxyType
from typing import Any, assert_type
from uuid import UUID

import httpx
import numpy as np
import pandas as pd
import pytest
import trio

import timewell
from tests.live import ROOT, LiveServer
from timewell import AsyncClient, Client, Retry
from timewell.calls import Route
from timewell.plain import to_plain
from timewell.routes import registry
from timewell.times import moment, period, span, span_word
from timewell.wire import ServedEntity
from web.routes.document import ROUTES

TEN = datetime(2025, 11, 7, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)
END = TEN + 2 * HOUR

Reply = httpx.Response | Exception


# The routes


def test_a_registered_feature_is_found_in_every_way(client: Client, name: str) -> None:
    made = client.register(
        name, "user", "number", tags=["shop", name], schema={"min": 0}, max_age=timedelta(days=7), owner="ada"
    )
    assert (made.id, made.value_type, made.max_age, made.owner) == (f"user.{name}.v1", "number", 604800, "ada")
    second = client.register(name, "user", "number", version=2, description="better")
    assert client.feature(f"user.{name}") == second
    assert client.versions(f"user.{name}") == [made, second]
    assert client.features(tags=[name, "shop"], match="all") == [made]
    assert client.features(entity="user", q=f"user.{name}.") == [made, second]
    client.delete_feature(made.id)
    with pytest.raises(timewell.NotFound):
        client.feature(made.id)


def test_what_an_update_leaves_out_keeps_its_value(client: Client, name: str) -> None:
    client.register(name, "user", "number", description="kept", max_age="7d")
    updated = client.register(name, "user", "number", max_age=None)
    assert (updated.description, updated.max_age) == ("kept", None)


def test_lists_are_read_over_all_their_pages(client: Client, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "MOST_OF_A_PAGE", 2)
    ids = [client.register(name, f"e{number}", "number", tags=[name]).id for number in range(5)]
    assert [found.id for found in client.features(tags=[name])] == ids
    assert [found.id for found in client.features(tags=[name], limit=3)] == ids[:3]
    client.write_batch([(ids[0], "u", number, TEN + number * HOUR) for number in range(5)])
    assert [seen.value for seen in client.history(ids[0], "u")] == [0, 1, 2, 3, 4]
    assert [seen.value for seen in client.history(ids[0], "u", order="desc", limit=3)] == [4, 3, 2]
    assert [seen.value for seen in client.history(ids[0], "u", start=TEN + HOUR, end=TEN + 2 * HOUR)] == [1, 2]


def test_a_group_is_made_read_and_deleted(client: Client, name: str) -> None:
    client.register(name, "user", "number")
    client.write(f"user.{name}", "ada", 4, TEN)
    made = client.put_group(name, "user", [name], description="one")
    assert client.group(name) == made and made in client.groups()
    assert client.serve(["ada"], group=name)[0].features == {name: 4}
    client.delete_group(name)
    with pytest.raises(timewell.NotFound, match=name):
        client.group(name)


def test_values_are_served_as_of_now_and_as_of_a_moment(client: Client, name: str) -> None:
    client.register(name, "user", "number")
    client.write(name, "ada", 3, TEN)
    client.write(name, "ada", np.float64(5.5), TEN + HOUR)
    ada, alan = assert_type(client.serve(["ada", "alan"], [name], include_metadata=True), list[ServedEntity])
    assert (ada.entity_id, ada.features, alan.features) == ("ada", {name: 5.5}, {name: None})
    assert isinstance(ada.metadata, dict) and isinstance(alan.metadata, dict)
    assert (ada.metadata[name].status, alan.metadata[name].status) == ("present", "missing")
    (then,) = client.serve(["ada"], [name], as_of=TEN)
    assert (then.features, then.timestamp) == ({name: 3}, "2025-11-07T10:00:00.000Z")


def test_a_batch_is_taken_as_tuples_and_as_mappings(client: Client, name: str) -> None:
    id_ = client.register(name, "user", "number").id
    written = client.write_batch(
        [
            (id_, "ada", 1, TEN),
            (id_, "bob", 2),
            {"featureId": id_, "entityId": "eve", "value": np.int64(3), "timestamp": pd.Timestamp(TEN)},
            {"featureId": id_, "entityId": "dan", "value": pd.NA, "version": 1},
        ]
    )
    assert (written.success, written.count) == (True, 4)
    assert [one.features[id_] for one in client.serve(["ada", "bob", "eve", "dan"], [id_])] == [1, 2, 3, None]


def test_a_refused_batch_names_the_values_to_blame(client: Client, name: str) -> None:
    id_ = client.register(name, "user", "number", schema={"min": 0}).id
    values = [(id_, "ada", 1, TEN), (id_, "bob", -1, TEN)]
    with pytest.raises(timewell.InvalidInput, match="below the minimum") as refused:
        client.write_batch(values)
    assert refused.value.status == 400
    assert [(one.index, one.field) for one in refused.value.errors] == [(1, "value")]
    written = client.write_batch(values, partial=True)
    assert (written.success, written.count) == (False, 1)
    assert written.errors is not None and written.errors[0].index == 1


def test_a_repeat_with_the_same_key_writes_nothing(client: Client, name: str) -> None:
    id_ = client.register(name, "user", "number").id
    client.write(id_, "ada", 1, TEN, idempotency_key=name)
    client.write(id_, "ada", 2, TEN, idempotency_key=name)
    assert client.serve(["ada"], [id_])[0].features == {id_: 1}


@pytest.mark.parametrize(
    ("value", "words"),
    [(float("nan"), "None writes a null"), (np.float32("inf"), "not a number"), (TEN.date(), "is a date")],
)
def test_a_value_that_json_would_change_is_refused_before_it_is_sent(
    client: Client, value: object, words: str
) -> None:
    with pytest.raises(timewell.InvalidInput, match=words) as refused:
        client.write_batch([("f", "ada", 1), ("f", "ada", value)])
    assert (refused.value.status, refused.value.errors[0].index) == (None, 1)


class Colour(enum.Enum):
    RED = "red"
    RAW = b"red"


@dataclasses.dataclass
class Point:
    x: int


BYTES = [b"ada", bytearray(b"ada"), memoryview(b"ada"), np.bytes_(b"ada"), np.array([b"ada"]), Colour.RAW]
ODD: list[Any] = [
    *BYTES, {1, 2}, frozenset(), Point(1), {1: 2}, {b"a": 1}, TEN.date(), TEN.time(), HOUR, np.timedelta64(1, "h"),
    pd.Timedelta(HOUR), Path("ada"), 1j, np.complex128(1), float("nan"), Decimal("nan"), Decimal("1e999"),
    "\ud800", range(3), np.void(b"a"), pd.Period("2025"), object(),
]  # fmt: skip


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: f"{type(odd).__name__}")
def test_a_value_that_would_become_another_one_is_refused_wherever_it_stands(odd: Any) -> None:
    with Client(transport=httpx.MockTransport(lambda _: pytest.fail("was sent"))) as client:
        for value, place in ((odd, "value"), ([1, odd], "value[1]"), ({"a": [{"b": odd}]}, "value.a[0].b")):
            for index, write in ((None, lambda one: client.write("f", "ada", one)), (1, both(client))):
                where = place if index is None else f"[{index}].{place}"
                with pytest.raises(timewell.InvalidInput, match="^" + re.escape(where)) as refused:
                    write(value)
                assert (refused.value.errors[0].index, refused.value.errors[0].field[: len(place)]) == (
                    index,
                    place,
                )
        with pytest.raises(timewell.InvalidInput, match=r"config\.values\[0\]"):
            client.put_check("f", "enum", {"values": [odd]})


def both(client: Client) -> Callable[[Any], object]:
    return lambda one: client.write_batch([("f", "ada", 1), {"featureId": "f", "entityId": "a", "value": one}])


@pytest.mark.parametrize("odd", [*BYTES, None, 1.5, True, Path("ada"), object(), TEN])
def test_an_entity_id_that_is_no_text_is_refused_on_every_way(odd: Any) -> None:
    moments = {"start": TEN, "end": TEN}
    with Client(transport=httpx.MockTransport(lambda _: pytest.fail("was sent"))) as client:
        for ask in (
            lambda: client.write("f", odd, 1),
            lambda: client.write_batch([("f", "ada", 1), ("f", odd, 1)]),
            lambda: client.serve(["ada", odd], ["f"]),
            lambda: client.historical([odd], ["f"], **moments),  # type: ignore[arg-type]
            lambda: client.history("f", odd),
            lambda: client.erase("user", odd),
            lambda: client.training_set([{"entityId": odd, "timestamp": TEN}], ["f"]),
        ):
            with pytest.raises(timewell.InvalidInput, match="entityId"):
                ask()


def test_a_name_that_is_bytes_is_refused_and_not_looked_for() -> None:
    name: Any = b"f"
    with Client(transport=httpx.MockTransport(lambda _: pytest.fail("was sent"))) as client:
        for ask in (
            lambda: client.feature(name),
            lambda: client.serve(["ada"], [name]),
            lambda: client.serve(["ada"], name),
            lambda: client.features(tags=[name]),
            lambda: client.features(q=name),
            lambda: client.write(name, "ada", 1),
            lambda: client.register(name, "user", "number"),
            lambda: client.drift_of_samples("f", reference=name, current=[1]),
        ):
            with pytest.raises(timewell.InvalidInput):
                ask()


def test_values_of_python_are_written_as_what_they_are(client: Client, name: str) -> None:
    client.register(name, "user", "json")
    numbers: list[Any] = [Decimal("1.10"), Decimal("5.00"), Decimal("1e3"), np.float32(0.5), 2**60 + 1, True]
    texts: list[Any] = [UUID(int=5), Colour.RED, np.str_("é"), TEN, pd.Timestamp(TEN), np.datetime64("2025-11-07")]
    nothing: list[Any] = [None, pd.NA, pd.NaT, np.datetime64("NaT")]
    given = {"numbers": tuple(numbers), "texts": pd.Series(texts), "nothing": np.array(nothing, object)}
    client.write(name, UUID(int=7), MappingProxyType(given), TEN)
    (served,) = client.serve([str(UUID(int=7))], [name])
    assert served.features[name] == {
        "numbers": [1.1, 5, 1000, 0.5, 2**60 + 1, True],
        "texts": [str(UUID(int=5)), "red", "é", *["2025-11-07T10:00:00Z"] * 2, "2025-11-07T00:00:00Z"],
        "nothing": [None] * 4,
    }
    copied = client.register(f"{name}_copy", "user", "number", schema={"min": 0}, retention={"values": 5})
    again = client.register(f"{name}_2", "user", "number", schema=copied.schema, retention=copied.retention)  # type: ignore[arg-type]
    assert (again.schema, again.retention) == (copied.schema, copied.retention)


def test_vectors_and_moments_are_written_as_numpy_and_pandas_have_them(client: Client, name: str) -> None:
    client.register(f"{name}v", "user", "vector", schema={"dimension": 2})
    client.register(f"{name}t", "user", "timestamp")
    client.write(f"{name}v", "ada", np.array([0.5, 1.5], np.float32), np.datetime64(TEN.replace(tzinfo=None)))
    client.write(f"{name}t", "ada", pd.Timestamp(TEN), "2025-11-07T10:00:00Z")
    (ada,) = client.serve(["ada"], [f"{name}v", f"{name}t"])
    assert ada.features == {f"{name}v": [0.5, 1.5], f"{name}t": "2025-11-07T10:00:00.000Z"}


def test_history_is_aggregated_whole_and_in_windows(client: Client, name: str) -> None:
    id_ = client.register(name, "user", "number").id
    client.write_batch([(id_, "ada", 1, TEN), (id_, "ada", 3, TEN + HOUR)])
    assert client.historical(["ada"], [id_], start=TEN, end=END, aggregation="avg") == [
        {"entityId": "ada", id_: 2}
    ]
    rows = client.historical(["ada"], [id_], start=TEN, end=END, aggregation={id_: "count"}, window=HOUR)
    assert [row[id_] for row in rows] == [1, 1]
    assert rows[1]["windowStart"] == "2025-11-07T11:00:00.000Z"


def test_statistics_checks_and_freshness_are_read(client: Client, name: str) -> None:
    id_ = client.register(name, "user", "number").id
    client.write_batch([(id_, "ada", number, TEN + number * HOUR) for number in range(4)])
    assert (client.stats(id_).count, client.stats(id_).mean) == (4, 1.5)
    assert client.stats(id_, start=TEN + HOUR, end=TEN + 2 * HOUR).mean == 1.5
    check = client.put_check(id_, "range", {"min": 0, "max": 2}, check_id="sane")
    assert (check.id, check.status) == ("sane", "failing")
    assert [one.id for one in client.checks(id_)] == ["sane"]
    assert (id_, "sane") in [(one.feature_id, one.id) for one in client.checks()]
    client.delete_check(id_, "sane")
    assert client.checks(id_) == []
    assert id_ in [one.feature_id for one in client.freshness().features]
    assert client.alerts("firing") == []


def test_drift_is_told_between_periods_and_between_samples(client: Client, name: str) -> None:
    id_ = client.register(name, "user", "number").id
    values = np.random.default_rng(1).normal(size=200)
    shifted = pd.Series(values + 5)
    client.write_batch([(id_, f"u{place}", one, TEN) for place, one in enumerate(values)])
    client.write_batch([(id_, f"u{place}", one, TEN + HOUR) for place, one in enumerate(shifted)])
    before, after = (TEN, TEN), (TEN + HOUR, TEN + HOUR)
    told = client.drift(id_, reference=before, current=after)
    assert (told.verdict, told.drift, told.reference.count) == ("drift", True, 200)
    assert client.drift(id_, reference=before, current=before).verdict == "stable"
    assert client.drift_of_samples(id_, reference=values, current=shifted, method="ks").verdict == "drift"
    pinned = client.pin_reference(id_, *before)
    assert (pinned.feature_id, pinned.start_time) == (id_, "2025-11-07T10:00:00.000Z")
    assert client.drift(id_, current=after).reference.start_time == pinned.start_time
    client.unpin_reference(id_)
    assert client.drift_history(id_, limit=5) == []


def test_errors_say_what_the_service_said(client: Client, name: str) -> None:
    client.register(name, "user", "number")
    with pytest.raises(timewell.Conflict) as conflict:
        client.register(name, "user", "string")
    assert conflict.value.status == 409 and name in conflict.value.detail
    with pytest.raises(timewell.NotFound) as unknown:
        client.serve(["ada"], ["user.nothing"])
    assert str(unknown.value) == unknown.value.detail
    with pytest.raises(timewell.TooLarge):
        client.serve([str(number) for number in range(10_001)], [name])
    with pytest.raises(timewell.InvalidInput, match=r"give a list: \['ada'\]"):
        client.serve("ada", [name])
    with pytest.raises(timewell.InvalidInput, match="a tuple is"):
        client.write_batch([("f", "ada")])  # type: ignore[list-item]


async def test_the_same_methods_are_awaited_under_trio(shared_server: LiveServer, name: str) -> None:
    await session(shared_server.url, name)


def test_the_same_methods_are_awaited_under_asyncio(shared_server: LiveServer, name: str) -> None:
    asyncio.run(session(shared_server.url, name))


async def session(url: str, name: str) -> None:
    async with AsyncClient(url) as client:
        id_ = (await client.register(name, "user", "number")).id
        await client.write(id_, "ada", 1, TEN)
        written = await client.write_batch([(id_, "bob", 2, TEN)])
        assert written.count == 1
        served = await client.serve(["ada", "bob"], [id_])
        assert_type(served, list[ServedEntity])
        assert [one.features[id_] for one in served] == [1, 2]
        with pytest.raises(timewell.NotFound):
            await client.feature("user.nothing")
        await client.delete_feature(id_)


def test_threads_share_a_client(client: Client, name: str) -> None:
    client.register(name, "user", "integer")
    users = [f"u{number}" for number in range(40)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda user: client.write(name, user, int(user[1:]), TEN), users))
    assert [one.features[name] for one in client.serve(users, [name])] == list(range(40))


def test_a_restarted_server_is_found_again(server: LiveServer) -> None:
    with Client(server.url) as client:
        client.register("kept", "user", "number")
        server.kill()
        with LiveServer(server.data_dir, PORT=str(httpx.URL(server.url).port)):
            client.write("kept", "ada", 1)
            assert client.serve(["ada"], ["kept"])[0].features == {"kept": 1}


# When answers fail or stay away


class Scripted:
    """Answers in turn, the last one for ever; notes the requests and the pauses between them."""

    def __init__(self, *replies: Reply, **retry: Any) -> None:
        self.requests: list[httpx.Request] = []
        self.pauses: list[float] = []
        self.time = 0.0
        self._replies = list(replies)
        self.replies: Callable[[], Reply] = self._next
        self.client = Client(transport=httpx.MockTransport(self.reply), retry=self.retry(**retry))
        self.client._sleep = self._pause

    def retry(self, **given: Any) -> Retry:
        return Retry(clock=lambda: self.time, chance=lambda: 1.0, **given)

    def reply(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        reply = self.replies()
        if isinstance(reply, Exception):
            raise reply
        return httpx.Response(reply.status_code, headers=reply.headers, content=reply.content)

    def _next(self) -> Reply:
        return self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]

    def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.time += seconds


def busy(status: int = 503, retry_after: str | None = None) -> httpx.Response:
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return httpx.Response(status, headers=headers, json={"title": "Busy", "detail": "not now", "status": status})


OK = httpx.Response(200, json={"success": True})


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_service_is_asked_again_after_the_time_that_it_names(status: int) -> None:
    script = Scripted(busy(status, "2"), busy(status), OK)
    script.client.write("f", "ada", 1)
    assert script.pauses == [2.0 + 0.1, 0.2]


def test_every_attempt_at_a_write_carries_the_same_key_and_every_write_another() -> None:
    script = Scripted(httpx.ReadError("gone"), busy(), OK)
    script.client.write("f", "ada", 1)
    script.client.write("f", "ada", 1)
    keys = [request.headers["Idempotency-Key"] for request in script.requests]
    assert len(keys) == 4 and len(set(keys[:3])) == 1 and keys[3] != keys[0]
    assert len({request.content for request in script.requests}) == 1


def test_attempts_are_bounded_and_their_pauses_double_up_to_a_limit() -> None:
    script = Scripted(busy(), attempts=6, longest_pause=0.5)
    with pytest.raises(timewell.Unavailable, match="not now") as given_up:
        script.client.serve(["u"], ["f"])
    assert script.pauses == [0.1, 0.2, 0.4, 0.5, 0.5]
    assert (given_up.value.status, given_up.value.attempts) == (503, 6)


@pytest.mark.parametrize("seconds", [7.0, 29.0])
def test_a_service_that_takes_seconds_to_restart_is_waited_for(seconds: float) -> None:
    script = Scripted(longest_pause=2.0)
    script.replies = lambda: httpx.ConnectError("refused") if script.time < seconds else OK
    script.client.write("f", "ada", 1)
    assert seconds <= script.time <= 30
    assert script.pauses[:6] == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0]


def test_for_how_long_a_service_is_asked_again_can_be_said() -> None:
    for kind in (Client, AsyncClient):
        assert kind(retry_seconds=60)._retry.seconds == 60
        assert kind()._retry == Retry(seconds=30.0, attempts=None)
    script = Scripted(busy(), seconds=0.0)
    with pytest.raises(timewell.Unavailable):
        script.client.serve(["u"], ["f"])
    assert len(script.requests) == 1


def test_the_whole_time_is_bounded() -> None:
    script = Scripted(busy(), attempts=100, seconds=3.0, first_pause=1.0)
    with pytest.raises(timewell.Unavailable):
        script.client.serve(["u"], ["f"])
    assert script.pauses == [1.0, 2.0]


def test_a_longer_wait_than_there_is_time_for_is_left_to_the_caller() -> None:
    script = Scripted(busy(retry_after="60"))
    with pytest.raises(timewell.Unavailable) as given_up:
        script.client.serve(["u"], ["f"])
    assert (script.pauses, given_up.value.retry_after) == ([], 60.0)


def test_the_time_to_wait_may_be_a_date() -> None:
    script = Scripted(busy(retry_after="Wed, 21 Oct 2015 07:28:00 GMT"), OK)
    script.client.write("f", "ada", 1)
    assert script.pauses == [0.1]
    script = Scripted(busy(retry_after="Mon, 21 Oct 2999 07:28:00 GMT"))
    with pytest.raises(timewell.Unavailable) as given_up:
        script.client.write("f", "ada", 1)
    assert script.pauses == [] and (given_up.value.retry_after or 0) > 1e9


@pytest.mark.parametrize("given", ["soon", ""])
def test_a_time_to_wait_that_says_nothing_is_passed_over(given: str) -> None:
    script = Scripted(busy(retry_after=given), OK)
    script.client.write("f", "ada", 1)
    assert script.pauses == [0.1]


@pytest.mark.parametrize("error", [httpx.ConnectError("refused"), httpx.ReadTimeout(""), httpx.ReadError("")])
def test_no_answer_at_all_is_unreachable_with_its_cause(error: httpx.TransportError) -> None:
    script = Scripted(error, attempts=3)
    with pytest.raises(timewell.Unreachable, match=r"no answer from \S+ after 3 attempts") as given_up:
        script.client.serve(["u"], ["f"])
    assert given_up.value.__cause__ is error and given_up.value.status is None
    assert len(script.requests) == 3


def test_no_answer_at_all_names_the_address_but_for_its_password() -> None:
    with timewell.Client("http://ada:secret@127.0.0.1:1", retry_seconds=0) as client:
        with pytest.raises(timewell.Unreachable, match=r"no answer from http://127\.0\.0\.1:1 after ") as told:
            client.serve(["u"], ["f"])
    assert "secret" not in str(told.value)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, timewell.InvalidInput),
        (401, timewell.Denied),
        (403, timewell.Denied),
        (404, timewell.NotFound),
        (405, timewell.TimewellError),
        (409, timewell.Conflict),
        (413, timewell.TooLarge),
        (415, timewell.UnsupportedMediaType),
        (500, timewell.ServerFailed),
        (599, timewell.ServerFailed),
    ],
)
def test_other_errors_are_raised_at_once(status: int, kind: type[timewell.TimewellError]) -> None:
    for content in (b'{"detail": "so it is"}', b"so it is"):
        script = Scripted(httpx.Response(status, content=content))
        with pytest.raises(timewell.TimewellError, match="so it is") as refused:
            script.client.write("f", "ada", 1)
        assert type(refused.value) is kind
        assert refused.value.status == status and len(script.requests) == 1


def test_an_error_without_words_is_named_by_its_status() -> None:
    for status, words in ((404, "Not Found"), (599, "HTTP status 599")):
        with pytest.raises(timewell.TimewellError, match=words):
            Scripted(httpx.Response(status)).client.groups()


def test_an_answer_that_is_not_what_the_route_promises_is_the_servers_failure() -> None:
    for content in (b"<html>", b'{"groups": 5}'):
        with pytest.raises(timewell.ServerFailed, match="not what was expected"):
            Scripted(httpx.Response(200, content=content)).client.groups()


def test_a_request_that_must_not_happen_twice_is_repeated_only_where_it_cannot_have_happened() -> None:
    check = {"id": "range-1", "featureId": "f", "checkType": "range", "config": {}, "status": "passing"}
    made = httpx.Response(201, json={**check, "observed": 0, "message": "", "lastRun": ""})
    script = Scripted(httpx.ConnectError("refused"), busy(429), made)
    assert script.client.put_check("f", "range", {}).id == "range-1"
    for lost in (httpx.ReadError("gone"), busy()):
        script = Scripted(lost, made)
        with pytest.raises(timewell.Unavailable):
            script.client.put_check("f", "range", {})
        assert script.client.put_check("f", "range", {}, check_id="range-1").status == "passing"


def test_what_is_not_found_after_a_lost_answer_to_a_deletion_is_deleted() -> None:
    Scripted(httpx.ReadError("gone"), httpx.Response(404)).client.delete_feature("user.f.v1")
    with pytest.raises(timewell.NotFound):
        Scripted(httpx.Response(404)).client.delete_feature("user.f.v1")


async def test_tasks_wait_without_holding_each_other_up(autojump_clock: object) -> None:
    script = Scripted(busy(retry_after="20"), OK)
    transport = httpx.MockTransport(script.reply)
    async with AsyncClient(transport=transport, retry=script.retry()) as client:
        started = trio.current_time()
        await client.write("f", "ada", 1)
        assert trio.current_time() - started == pytest.approx(20.1)
    assert len(script.requests) == 2


def test_pauses_under_asyncio_and_errors_come_out_of_the_await() -> None:
    script = Scripted(busy())

    async def ask() -> None:
        retry = script.retry(attempts=3, first_pause=0.0)
        async with AsyncClient(transport=httpx.MockTransport(script.reply), retry=retry) as client:
            await client.groups()

    with pytest.raises(timewell.Unavailable):
        asyncio.run(ask())
    assert len(script.requests) == 3


# How requests look


def test_the_base_url_may_have_a_path_and_headers_go_with_every_request() -> None:
    script = Scripted(httpx.Response(200, json={"groups": []}))
    transport = httpx.MockTransport(script.reply)
    with Client("https://host/store/", headers={"Authorization": "Bearer x"}, transport=transport) as client:
        client.groups()
    assert str(script.requests[0].url) == "https://host/store/groups"
    assert script.requests[0].headers["Authorization"] == "Bearer x"


def test_names_are_escaped_in_paths_and_words_in_queries() -> None:
    history = {"featureId": "f", "entityId": "a&b", "observations": []}
    script = Scripted(httpx.Response(200, json=history))
    script.client.history("a/b?", "a&b+c", start=datetime(2025, 1, 1, tzinfo=timezone(HOUR)))
    (request,) = script.requests
    assert request.url.raw_path.startswith(b"/features/a%2Fb%3F/history?")
    assert request.url.params["entityId"] == "a&b+c"
    assert request.url.params["startTime"] == "2024-12-31T23:00:00Z"


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (datetime(2025, 1, 1), "2025-01-01T00:00:00Z"),
        (datetime(2025, 1, 1, 1, tzinfo=timezone(HOUR)), "2025-01-01T00:00:00Z"),
        (pd.Timestamp("2025-01-01 00:00:00.123456789"), "2025-01-01T00:00:00.123456Z"),
        (pd.Timestamp("2025-01-01", tz="Europe/Berlin"), "2024-12-31T23:00:00Z"),
        (np.datetime64("2025-01-01"), "2025-01-01T00:00:00Z"),
        ("2025-01-01T00:00:00+01:00", "2025-01-01T00:00:00+01:00"),
    ],
)
def test_times_are_taken_in_every_form(given: Any, text: str) -> None:
    assert moment(given) == text
    assert period((given, given), "current") == f"{text}/{text}"


@pytest.mark.parametrize(
    "given",
    [pd.NaT, np.datetime64("NaT"), 5, TEN.date(), None, np.datetime64(10**16, "s"), np.datetime64("20000-01-01")],
)
def test_what_is_no_time_is_refused(given: Any) -> None:
    with pytest.raises(timewell.InvalidInput, match=r"asOf: .* is not a time"):
        moment(given, "asOf")


@pytest.mark.parametrize("given", [datetime.min, datetime.max])
def test_a_moment_that_leaves_the_years_in_utc_is_refused(given: datetime) -> None:
    hours = timedelta(hours=1 if given is datetime.min else -1)
    with pytest.raises(timewell.InvalidInput, match=r"asOf: .* is not within the years 1 to 9999"):
        moment(given.replace(tzinfo=timezone(hours)), "asOf")


@pytest.mark.parametrize(
    ("given", "seconds", "word"),
    [
        (timedelta(days=7), 604800, "604800s"),
        (pd.Timedelta(milliseconds=1500), 1.5, "1.5s"),
        (np.timedelta64(1, "h"), 3600, "3600s"),
        (90, 90, "90s"),
        ("7d", "7d", "7d"),
        (None, None, None),
    ],
)
def test_lengths_of_time_are_taken_in_every_form(given: Any, seconds: object, word: str | None) -> None:
    assert (span(given, "window"), span_word(given, "window")) == (seconds, word)


@pytest.mark.parametrize("given", [pd.NaT, float("nan"), True, np.timedelta64("NaT"), TEN])
def test_what_is_no_length_of_time_is_refused(given: Any) -> None:
    with pytest.raises(timewell.InvalidInput, match=r"window: .* is not a duration"):
        span(given, "window")


def test_values_of_other_libraries_become_plain() -> None:
    assert to_plain(np.bool_(True)) is True
    assert to_plain(pd.Series([1, 2])) == [1, 2]
    assert to_plain(pd.NaT) is to_plain(np.datetime64("NaT")) is None
    assert to_plain(TEN) == "2025-11-07T10:00:00Z"
    with pytest.raises(timewell.InvalidInput, match="no value of a feature"):
        to_plain(object())


# What users see


def test_every_public_method_is_documented_and_the_same_in_both_clients() -> None:
    routes = {name: one for name in dir(Client) if isinstance(one := getattr(Client, name), Route)}
    assert len(routes) >= 25
    with Client() as client:
        for name, one in routes.items():
            assert one.__doc__ and getattr(AsyncClient, name) is one
            assert "self" not in inspect.signature(getattr(client, name)).parameters
            assert getattr(client, name).__doc__ == one.__doc__
    assert all(getattr(timewell, name).__doc__ for name in timewell.__all__)


ASKED: dict[str, tuple[Any, ...]] = {
    "register": ("n", "e", "number"),
    "features": (),
    "feature": ("r",),
    "versions": ("r",),
    "promote": ("r",),
    "used_by": ("r",),
    "delete_feature": ("r",),
    "put_entity_type": ("n", ["k"]),
    "entity_types": (),
    "entity_type": ("n",),
    "delete_entity_type": ("n",),
    "register_together": (),
    "put_service": ("n", ["f"]),
    "services": (),
    "service": ("n",),
    "delete_service": ("n",),
    "put_group": ("n", "e", ["f"]),
    "groups": (),
    "group": ("n",),
    "delete_group": ("n",),
    "write": ("f", "e", 1),
    "write_batch": ([],),
    "serve": (["e"], ["f"]),
    "historical": (["e"], ["f"]),
    "history": ("f", "e"),
    "training_set": ([{"entityId": "e", "timestamp": TEN}], ["f"]),
    "stats": ("f",),
    "put_check": ("f", "null", {}),
    "checks": (),
    "delete_check": ("f", "c"),
    "drift": ("f",),
    "drift_history": ("f",),
    "freshness": (),
    "alerts": (),
    "drift_of_samples": ("f",),
    "pin_reference": ("f", TEN, TEN),
    "unpin_reference": ("f",),
    "agreement": (),
    "monitor_status": (),
    "export": (["f"],),
    "keep_training_set": ("t", ["f"]),
    "training_sets": (),
    "kept_training_set": ("t",),
    "training_set_rows": ("t",),
    "delete_training_set": ("t",),
    "erase": ("e", "i"),
    "ids": ("e",),
    "live": (),
    "ready": (),
    "metrics": (),
    "openapi": (),
    "docs": (),
    "events": (),
}
"""Every method that asks one route, with the least that it takes."""
MORE: dict[str, dict[str, Any]] = {
    "historical": {"start": TEN, "end": TEN},
    "export": {"entity_ids": ["e"]},
    "drift_of_samples": {"reference": [1], "current": [1]},
}


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_every_route_of_the_document_has_its_method(kind: type[Client | AsyncClient]) -> None:
    asked: list[httpx.Request] = []

    def reply(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(404)

    client = kind(transport=httpx.MockTransport(reply))

    async def awaited(answer: Any) -> None:
        if isinstance(answer, AsyncIterator):
            await anext(answer)
        else:
            await answer

    ways = [(name, ASKED[name]) for name in ASKED] + [("checks", ("f",))]
    for name, given in ways:
        with pytest.raises(timewell.NotFound):
            answer = getattr(client, name)(*given, **MORE.get(name, {}))
            next(answer) if isinstance(answer, Iterator) else asyncio.run(awaited(answer))
    for route in ROUTES:
        shape = re.sub(r"{\w+}", "[^/]+", route.path)
        assert [
            one for one in asked if one.method == route.method.upper() and re.fullmatch(shape, one.url.path)
        ], route
    left_out = {
        "write_frame",
        "serve_frame",
        "serve_rows",
        "define",
    }  # other forms of write_batch, serve, register
    assert {name for name in dir(kind) if isinstance(getattr(kind, name), Route)} - left_out == {*ASKED} - {
        "events",
        "export",
        "ids",
    }


class Fading(BaseHTTPRequestHandler):
    """Answers of which the end never comes."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked += 1  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b'5\r\n{"res\r\n')
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_an_answer_that_is_cut_off_each_time_is_asked_for_three_times_and_told_as_such(
    kind: type[Client | AsyncClient],
) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Fading) as server:
        server.asked = 0  # type: ignore[attr-defined]
        Thread(target=server.serve_forever, daemon=True).start()
        client = kind(f"http://127.0.0.1:{server.server_port}", retry=Retry(first_pause=0.0))

        async def awaited(answer: Any) -> None:
            await answer

        with pytest.raises(timewell.ServerFailed, match="did not end it, in 3 attempts") as told:
            answer = client.serve(["e"], ["f"])
            asyncio.run(awaited(answer))  # the blocking client has raised by now
        assert isinstance(told.value.__cause__, httpx.RemoteProtocolError)
        assert server.asked == 3  # type: ignore[attr-defined]
        server.shutdown()


def test_events_are_read_as_they_come_in_both_clients() -> None:
    first, second = b'id: 5\nevent: alert\ndata: {"time": "x"}\n\n', b"id: 7\nevent: check\ndata: {}\n\n"
    text = b": listening\n\n" + first + b": still here\n\n" + second
    asked: list[httpx.Request] = []

    def reply(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, content=text)

    expected = [(5, "alert", {"time": "x"}), (7, "check", {})]
    got = [(one.id, one.kind, one.data) for one in Client(transport=httpx.MockTransport(reply)).events(after=3)]

    async def listen() -> list[Any]:
        client = AsyncClient(transport=httpx.MockTransport(reply))
        return [(one.id, one.kind, one.data) async for one in client.events()]

    assert got == asyncio.run(listen()) == expected
    assert [one.headers.get("Last-Event-ID") for one in asked] == ["3", None]


def test_a_service_that_is_not_ready_says_so_at_once() -> None:
    script = Scripted(httpx.Response(503, json={"status": "waiting for store-0"}))
    assert script.client.ready().status == "waiting for store-0"
    assert (len(script.requests), script.pauses) == (1, [])


def test_importing_the_client_imports_no_library_of_frames_and_no_server() -> None:
    code = "import sys; from timewell import AsyncClient, Client; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"pandas", "polars", "pyarrow", "scipy", "quart", "deltalake"} & set(loaded.stdout.split())


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize("url", ["localhost:3001", "", "ftp://localhost", "//localhost"])
def test_a_url_that_is_not_of_http_is_refused_at_once(kind: type[Client | AsyncClient], url: str) -> None:
    with pytest.raises(ValueError, match="must start with http"):
        kind(url)
