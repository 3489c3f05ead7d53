"""Compressed bodies: what is in them is taken as if it had come so, within the same limits."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator

import pytest
import trio
from trio.testing import MockClock

from tests.live import LiveServer
from tests.web.hostile_requests import SERVE, bare, request
from tests.web.test_errors import problem
from tests.web.test_listening import Passes
from tests.web.two_lanes import front_end

BATCH = "/features/write-batch"
GZIP = {"Content-Encoding": "gzip"}
JSON, LINES = {"Content-Type": "application/json"}, {"Content-Type": "application/x-ndjson"}


@pytest.fixture(scope="module")
def zipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server with a feature and a low limit of bodies."""
    with LiveServer(tmp_path_factory.mktemp("zipped") / "data", MAX_BODY_BYTES="100000") as live:
        live.register("clicks")
        yield live


def item(entity: str) -> bytes:
    return json.dumps({"featureId": "clicks", "entityId": entity, "value": 1}).encode()


def test_gzip_is_taken_by_every_route_and_in_pieces(zipped: LiveServer) -> None:
    for path, body, headers in (
        ("/features/write", item("a"), JSON),
        (BATCH, b'{"values":[%b]}' % item("b"), JSON),
        (BATCH, b"\n".join([item("c")] * 5_000), LINES),
        ("/features/serve", b'{"entityIds":["a"],"features":["clicks"]}', JSON),
    ):
        for coding in ("gzip", "x-gzip", "GZIP"):
            data = gzip.compress(body[:30]) + gzip.compress(body[30:])
            content: bytes | Iterator[bytes] = data if coding == "gzip" else iter([data[:7], data[7:]])
            sent = {**headers, "Content-Encoding": coding}
            assert zipped.http.post(path, content=content, headers=sent).status_code == 200, (path, coding)
    assert zipped.serve(["a", "b", "c"], ["clicks"])[2]["features"] == {"clicks": 1}


def test_what_is_not_gzip_is_refused(zipped: LiveServer) -> None:
    whole = gzip.compress(item("a"))
    for body, words in (
        (item("a"), "incorrect header"),
        (whole[:-3], "ends too early"),
        (whole + b"x", "ends too"),
    ):
        answer = zipped.http.post("/features/write", content=body, headers={**JSON, **GZIP})
        assert words in problem(answer, 400)["detail"]
    assert (
        "Content-Encoding"
        in problem(zipped.http.post("/features/write", content=whole, headers=JSON), 400)["detail"]
    )


def test_a_bomb_is_refused_by_what_it_would_be(zipped: LiveServer) -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    problem(zipped.http.post(BATCH, content=bomb, headers={**JSON, **GZIP}), 413)
    assert zipped.get("/health/live").status_code == 200


@pytest.mark.parametrize("coding", ["br", "deflate", "gzip, gzip"])
def test_other_encodings_are_refused_with_those_that_are_taken(zipped: LiveServer, coding: str) -> None:
    for path in ("/features/write", BATCH, "/features/register"):
        answer = zipped.http.post(path, content=item("a"), headers={**JSON, "Content-Encoding": coding})
        assert "gzip" in problem(answer, 415)["detail"]
        assert answer.headers["Accept-Encoding"] == "gzip, identity"


async def test_what_is_refused_for_its_encoding_is_so_at_once_and_keeps_its_connection(
    mock_clock: MockClock,
) -> None:
    async with front_end("on") as front:
        wire = front.connect()
        about = b"Content-Encoding: br\r\nContent-Length: "
        await wire.send(request(SERVE, b"{}").replace(b"Content-Length: ", about) + bare(b"GET", b"/features/a"))
        received = await wire.take()
        assert [received.count(b"HTTP/1.1 %d " % status) for status in (415, 200)] == [1, 1]


async def test_members_of_gzip_that_hold_nothing_hold_nobody_up() -> None:
    async with front_end("on", max_body_bytes=100_000) as front:
        wire, passes = front.connect(), Passes()
        trio.lowlevel.add_instrument(passes)
        nothing = gzip.compress(b"") * 3_000
        about = b"Content-Encoding: gzip\r\nContent-Length: "
        await wire.send(request(SERVE, nothing).replace(b"Content-Length: ", about))
        received = await wire.take()
        trio.lowlevel.remove_instrument(passes)
        assert b"it is empty" in received
        assert passes.count > 100


def test_a_415_names_every_type_that_the_route_takes(zipped: LiveServer) -> None:
    detail = problem(zipped.http.post(BATCH, content=b"x", headers={"Content-Type": "text/plain"}), 415)["detail"]
    assert all(kind in detail for kind in ("application/json", "application/x-ndjson", "arrow.stream"))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'\xef\xbb\xbf{"values":[]}', "byte order mark, which JSON has none of (byte 0)"),
        (b'{"values":[NaN]}', "no NaN; write null (byte 11)"),
        (b'{"values":[-Infinity]}', "no -Infinity; write null (byte 11)"),
        (b"{'values':[]}", "double quotes, not in single ones (byte 1)"),
        ('{"values":[]}'.encode("utf-16"), "UTF-16, JSON is UTF-8 (byte 0)"),
        ('{"values":[]}'.encode("utf-16-le"), "UTF-16 or UTF-32, JSON is UTF-8 (byte 1)"),
        (b"", "it is empty"),
    ],
    ids=["mark", "NaN", "-Infinity", "quotes", "UTF-16", "UTF-16 unmarked", "empty"],
)
def test_what_is_no_json_is_told_with_its_place(zipped: LiveServer, body: bytes, words: str) -> None:
    assert words in problem(zipped.http.post(BATCH, content=body, headers=JSON), 400)["detail"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"ARROW1\0\0" + b"\0" * 100, "an Arrow file; send the stream format"),
        (b"PAR1" + b"\0" * 100, "a Parquet file"),
        (gzip.compress(b"x" * 100), "looks compressed; say so with Content-Encoding: gzip"),
        (b' {"values": []}', "looks like JSON; send it as Content-Type: application/json"),
        (b'[{"featureId": "x"}]', "looks like JSON; send it as Content-Type: application/json"),
        (b"entityId,timestamp,clicks\nada,2025-01-01,5\n" * 9, "is text"),
        (b"", "is empty"),
    ],
    ids=["file", "Parquet", "gzip", "object", "array", "CSV", "empty"],
)
def test_what_is_no_stream_of_arrow_is_called_what_it_is(zipped: LiveServer, body: bytes, words: str) -> None:
    headers = {"Content-Type": "application/vnd.apache.arrow.stream"}
    assert words in problem(zipped.http.post(BATCH, content=body, headers=headers), 400)["detail"]


def test_a_name_of_megabytes_is_not_echoed(zipped: LiveServer) -> None:
    asked = b'{"entityIds":["a"],"features":["%b"]}' % (b"x" * 90_000)
    answer = zipped.http.post("/features/serve", content=asked, headers=JSON)
    assert answer.status_code == 404
    assert len(answer.content) < 10_000
