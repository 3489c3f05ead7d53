"""Whatever bytes come, the fast lane and the ordinary way answer the same and do the same."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, combinations, count
from typing import Any, cast

import h11
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from actors.settings import Settings
from tests.web import hostile_requests as hostile
from tests.web.hostile_requests import BODIES, HOT, assemble, lengths
from tests.web.two_lanes import Piece, TwoLanes
from web.fastlane import FastLane
from web.gate import Gate

EXAMPLES = 100
NUMBERS = count(1)


@pytest.fixture(scope="module")
def lanes() -> Iterator[TwoLanes]:
    """Both front ends; each example has entities and keys of its own."""
    with TwoLanes() as two:
        yield two


def agree(lanes: TwoLanes, pieces: list[Piece], eof: bool = False) -> bytes:
    """Both lanes do the same with these bytes. Returns what they answer in the end."""
    number = b"-%07d" % next(NUMBERS)
    sent = [Piece(piece.data.replace(b"-0000000", number), piece.alone) for piece in pieces]
    on, off = lanes.compare(sent, eof, hostile.PROBE.replace(b"-0000000", number))
    assert on == off
    assert not on.crashes
    assert not on.left_open
    return on.stages[-1][0]


def some(choices: tuple[bytes, ...]) -> SearchStrategy[bytes]:
    """One of several, the plain one (the first) most often."""
    return st.one_of(st.just(choices[0]), st.just(choices[0]), st.sampled_from(choices))


@st.composite
def bodies(draw: DrawFn, target: bytes) -> bytes:
    """A body for a route: right, wrong, or no JSON at all."""
    body = draw(st.sampled_from(BODIES.get(target, BODIES[HOT[0]])))
    kind = draw(st.sampled_from(("plain", "plain", "plain", "value", "around", "cut", "text")))
    if kind == "value":
        return hostile.observation(draw(st.sampled_from(hostile.TEXTS)), draw(st.sampled_from((b"a", b"b", b"c"))))
    if kind == "around":
        around = draw(st.sampled_from(hostile.AROUND))
        return around + body if draw(st.booleans()) else body + around
    if kind == "cut":
        return body[: draw(st.integers(0, len(body)))]
    return draw(st.sampled_from(hostile.TEXTS)) if kind == "text" else body


@st.composite
def fields(draw: DrawFn, body: bytes) -> list[bytes]:
    """The lines of a head, among them those that a hot request needs, more or less."""
    odd = draw(st.integers(0, 3))
    host = draw(st.sampled_from(hostile.HOSTS)) if odd == 1 else hostile.HOSTS[0]
    kind = draw(some(hostile.TYPES))
    length = draw(st.sampled_from(lengths(len(body)))) if odd == 2 else b"%d" % len(body)
    lines = [b"Host: " + host, b"Content-Type: " + kind, b"Content-Length: " + length]
    if draw(st.booleans()):
        lines.append(b"Connection: " + draw(some(hostile.CONNECTIONS)))
    if draw(st.integers(0, 3)) == 0:
        lines.append(b"Idempotency-Key: " + draw(some(hostile.KEYS)))
    if odd == 3:
        lines += draw(st.lists(st.sampled_from(hostile.LINES), min_size=1, max_size=3))
    elif draw(st.integers(0, 20)) == 0:
        lines.append(draw(st.sampled_from(hostile.LARGE_LINES)))
    if draw(st.integers(0, 8)) == 0:
        lines.pop(draw(st.integers(0, len(lines) - 1)))
    if draw(st.integers(0, 8)) == 0:
        lines.append(draw(st.sampled_from(lines)))
    return [draw(spelled(line)) for line in draw(st.permutations(lines))]


@st.composite
def spelled(draw: DrawFn, line: bytes) -> bytes:
    """A line with its name in another case, and other space around its value."""
    name, colon, value = line.partition(b":")
    how = draw(st.integers(0, 9))
    if how < 6 or not colon:
        return line
    name = draw(st.sampled_from((name.lower(), name.upper(), name.swapcase())))
    before, after = draw(
        st.sampled_from(((b"", b""), (b" ", b""), (b"\t ", b" \t"), (b"  ", b"\t"), (b" ", b"\r")))
    )
    return name + colon + before + value.strip(b" ") + after


@st.composite
def odd_requests(draw: DrawFn) -> bytes:
    """A request that may be hot, or nearly."""
    target = draw(st.sampled_from(HOT))
    body = draw(bodies(target))
    start = b" ".join(
        (
            draw(st.sampled_from(hostile.METHODS)) if draw(st.integers(0, 15)) == 0 else b"POST",
            draw(st.sampled_from(hostile.TARGETS)) if draw(st.integers(0, 10)) == 0 else target,
            draw(st.sampled_from(hostile.VERSIONS)) if draw(st.integers(0, 15)) == 0 else b"HTTP/1.1",
        )
    )
    end = draw(st.sampled_from(hostile.LINE_ENDS)) if draw(st.integers(0, 20)) == 0 else b"\r\n"
    whole = assemble(start, draw(fields(body)), body, end)
    for _ in range(draw(st.sampled_from((0, 0, 0, 0, 1, 2)))):
        where = draw(st.integers(0, len(whole)))
        gone = draw(st.integers(0, 3))
        whole = whole[:where] + draw(st.sampled_from((b"", *hostile.SPOILERS))) + whole[where + gone :]
    return whole


@st.composite
def plain_requests(draw: DrawFn) -> bytes:
    """A hot request as clients send it."""
    target = draw(st.sampled_from(HOT))
    return hostile.request(target, draw(st.sampled_from(BODIES[target])))


REQUESTS = st.one_of(odd_requests(), odd_requests(), plain_requests(), st.sampled_from(hostile.ORDINARY))


@st.composite
def streams(draw: DrawFn) -> list[Piece]:
    """Requests one after another, cut into pieces anywhere."""
    whole = b"".join(draw(st.lists(REQUESTS, min_size=1, max_size=5)))
    if draw(st.integers(0, 6)) == 0:
        whole = whole[: draw(st.integers(0, len(whole)))]
    how = draw(st.sampled_from(("whole", "cut", "cut", "bytes")))
    if how == "bytes" and len(whole) < 500:
        return [Piece(whole[n : n + 1], True) for n in range(len(whole))]
    cuts = draw(st.lists(st.integers(0, len(whole)), max_size=4 if how == "cut" else 0))
    places = [0, *sorted(cuts), len(whole)]
    alone = draw(st.lists(st.booleans(), min_size=len(places), max_size=len(places)))
    return [Piece(whole[begin:end], apart) for begin, end, apart in zip(places, places[1:], alone, strict=False)]


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(pieces=streams(), eof=st.booleans())
def test_any_stream_of_bytes_leads_to_the_same_on_both_lanes(
    lanes: TwoLanes, pieces: list[Piece], eof: bool
) -> None:
    agree(lanes, pieces, eof)


# The corpus, each case by itself, with a plain request behind it


BODY = BODIES[hostile.WRITE][0]
START = b"POST /features/write HTTP/1.1"
HOST, KIND, LENGTH = b"Host: localhost:3001", b"Content-Type: application/json", b"Content-Length: %d" % len(BODY)
FIELDS = (HOST, KIND, LENGTH)
CASES: dict[str, list[bytes]] = {
    "some fields": [assemble(START, some, BODY) for some in chain(*(combinations(FIELDS, n) for n in range(4)))],
    "double fields": [assemble(START, [*FIELDS, twice], BODY) for twice in FIELDS],
    "hosts": [assemble(START, [b"Host: " + host, KIND, LENGTH], BODY) for host in hostile.HOSTS],
    "types": [assemble(START, [HOST, b"Content-Type: " + kind, LENGTH], BODY) for kind in hostile.TYPES],
    "lengths": [assemble(START, [HOST, KIND, b"Content-Length: " + said], BODY) for said in lengths(len(BODY))],
    "connections": [hostile.request(hostile.WRITE, BODY, b"Connection: " + said) for said in hostile.CONNECTIONS],
    "keys": [hostile.request(hostile.WRITE, BODY, b"Idempotency-Key: " + key) for key in hostile.KEYS],
    "lines": [assemble(START, [HOST, line, KIND, LENGTH], BODY) for line in hostile.LINES],
    "large lines": [assemble(START, [line, HOST, KIND, LENGTH], BODY) for line in hostile.LARGE_LINES],
    "methods": [hostile.request(hostile.WRITE, BODY, method=method) for method in hostile.METHODS],
    "targets": [hostile.request(target, BODY) for target in hostile.TARGETS],
    "versions": [hostile.request(hostile.WRITE, BODY, version=version) for version in hostile.VERSIONS],
    "line ends": [assemble(START, [HOST, KIND, LENGTH], BODY, end) for end in hostile.LINE_ENDS],
    "ordinary": list(hostile.ORDINARY),
}
PLAIN = hostile.request(hostile.SERVE, BODIES[hostile.SERVE][1])


@pytest.mark.parametrize("chapter", CASES)
def test_a_head_leads_to_the_same_on_both_lanes(lanes: TwoLanes, chapter: str) -> None:
    for case in CASES[chapter]:
        agree(lanes, [Piece(case + PLAIN, False)])


def texts(target: bytes) -> list[bytes]:
    """Bodies for a route, among them each text in the place of a value and of a whole body."""
    plain = BODIES[target]
    around = [body for one in plain for side in hostile.AROUND for body in (side + one, one + side)]
    if target == hostile.SERVE:
        valued = [b'{"entityIds":[%b],"features":["a"]}' % text for text in hostile.TEXTS]
    else:
        values = [hostile.observation(text, feature) for text in hostile.TEXTS for feature in (b"a", b"b", b"c")]
        valued = values if target == hostile.WRITE else [b'{"values":[%b]}' % value for value in values]
    return [*plain, *around, *valued, *hostile.TEXTS]


@pytest.mark.parametrize("target", HOT, ids=bytes.decode)
def test_a_body_leads_to_the_same_on_both_lanes(lanes: TwoLanes, target: bytes) -> None:
    requests = [hostile.request(target, body) for body in texts(target)]
    for begin in range(0, len(requests), 50):
        some_requests = requests[begin : begin + 50]
        answers = agree(lanes, [Piece(b"".join(some_requests), False)])
        assert answers.count(b"HTTP/1.1 ") == len(some_requests), "nothing in a body ends the connection"


# What is taken as hot


LANE = FastLane(cast(Any, None), Settings(), Gate(trio.Event()))


@st.composite
def near_heads(draw: DrawFn) -> bytes:
    """A head that is hot, or that nearly is."""
    token = st.text("!#$%&'*+-.^_`|~09azAZ", min_size=1, max_size=8).map(str.encode)
    value = st.binary(max_size=12) | st.text('aZ09 \t,;="~', max_size=12).map(str.encode)
    length = draw(st.sampled_from(lengths(draw(st.integers(0, 5_000))))) if draw(st.booleans()) else b"7"
    lines = [
        b"Host: " + draw(some(hostile.HOSTS)),
        b"Content-Type: " + draw(some(hostile.TYPES)),
        b"Content-Length: " + length,
        *draw(st.lists(st.tuples(token, value).map(b": ".join) | st.sampled_from(hostile.LINES), max_size=3)),
    ]
    start = b"POST %b HTTP/1.1" % draw(st.sampled_from(HOT))
    return assemble(start, [draw(spelled(line)) for line in draw(st.permutations(lines))], b"")


@settings(max_examples=3 * EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(head=near_heads(), rest=st.binary(max_size=20))
def test_what_is_taken_as_hot_is_to_hypercorns_parser_the_same_request(head: bytes, rest: bytes) -> None:
    head = head[: head.index(b"\r\n\r\n") + 4]  # a value may have ended it
    hot = LANE.recognise(head + rest)
    if hot is None:
        return
    assert hot.begin == len(head)
    body = b"x" * min(hot.end - hot.begin, 10_000)
    parser = h11.Connection(h11.SERVER)
    parser.receive_data(head + body)
    request = parser.next_event()
    assert isinstance(request, h11.Request)
    assert (request.method, request.target, request.http_version) == (b"POST", hot.asked.path.encode(), b"1.1")
    fields = dict(request.headers)
    assert int(fields[b"content-length"]) == hot.end - hot.begin
    assert not {b"transfer-encoding", b"expect", b"upgrade"} & fields.keys()
    assert not parser.they_are_waiting_for_100_continue
    received = b""
    while isinstance(event := parser.next_event(), h11.Data):
        received += event.data
    assert received == body
    if len(body) == hot.end - hot.begin:
        assert isinstance(event, h11.EndOfMessage)
        assert parser.their_state is h11.DONE, "the connection is kept"


CLIENTS = {
    "curl": ["Host: 127.0.0.1:3001", "User-Agent: curl/8.5.0", "Accept: */*"],
    "requests": ["Host: a.b-c.example", "User-Agent: python-requests/2.32.3", "Connection: keep-alive"],
    "go": ["Host: t:1", "User-Agent: Go-http-client/1.1", "Accept-Encoding: gzip"],
    "node": ["host: localhost", "connection: keep-alive", "accept-language: *", "sec-fetch-mode: cors"],
    "traced": [
        "Host: T",
        "Idempotency-Key: 0b9f2c1e-0b3e",
        "traceparent: 00-0af7-b7ad-01",
        "Authorization: Bearer a.b",
    ],
}
KINDS = ["application/json", "application/json; charset=utf-8", "application/json;charset=UTF-8"]


@pytest.mark.parametrize("client", CLIENTS)
def test_the_heads_of_common_clients_are_hot(client: str) -> None:
    lines = [line.encode() for line in CLIENTS[client]]
    for target in HOT:
        for kind in KINDS:
            fields = [*lines, b"Content-Type: " + kind.encode(), b"Content-Length: 2"]
            assert LANE.recognise(assemble(b"POST %b HTTP/1.1" % target, fields, b"{}")) is not None
