"""One idempotency key through two processes at the same moment: what it stands for is written once."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier
from typing import Any

import httpx
import pytest

from actors.settings import GROUP_COMMIT_VALUES
from tests.live import LiveServer, storage_over
from tests.test_shared_registry import Pair, arrow, pair, store
from web.bodies.bulk import LOT_BYTES, LOTS_PER_COMMIT

__all__ = ["pair", "store"]
REPLAYED = "idempotent-replayed"
COLUMNS = 21
ROWS = GROUP_COMMIT_VALUES // (COLUMNS - 1)
ROUTE = "/features/write-batch"
Send = Callable[[str, str, LiveServer], httpx.Response]


def at_once(pair: Pair, send: Callable[[LiveServer], httpx.Response]) -> list[httpx.Response]:
    """The same request to both processes at the same moment."""
    ready = Barrier(2)

    def one(server: LiveServer) -> httpx.Response:
        ready.wait()
        return send(server)

    with ThreadPoolExecutor(2) as threads:
        return list(threads.map(one, pair))


def lines(feature: str, key: str, server: LiveServer) -> httpx.Response:
    """A stream that is written in more than one commit; its values have no timestamps, so that each counts."""
    text = "x" * 65_000
    line = json.dumps({"featureId": feature, "entityId": "u1", "value": text}).encode() + b"\n"
    count = LOTS_PER_COMMIT * LOT_BYTES // len(line) + 20
    body = b"".join(line.replace(b"u1", b"u%d" % n) for n in range(count))
    return server.http.post(
        ROUTE, content=body, headers={"Content-Type": "application/x-ndjson", "Idempotency-Key": key}
    )


def table(feature: str, key: str, server: LiveServer) -> httpx.Response:
    """So wide that it is written in more than one commit."""
    columns: dict[str, list[Any]] = {"entityId": [f"u{n}" for n in range(ROWS)]}
    columns |= {f"{feature}{place or ''}": [True] * ROWS for place in range(COLUMNS)}
    kind = "application/vnd.apache.arrow.stream"
    return server.http.post(
        ROUTE, content=arrow(**columns), headers={"Content-Type": kind, "Idempotency-Key": key}
    )


def few(feature: str, key: str, server: LiveServer) -> httpx.Response:
    values = [{"featureId": feature, "entityId": f"u{n}", "value": 1} for n in range(20)]
    return server.post(ROUTE, {"values": values}, **{"Idempotency-Key": key})


@pytest.mark.parametrize(
    ("kind", "value_type", "send"),
    [("lines", "string", lines), ("table", "boolean", table), ("json", "integer", few)],
)
def test_a_key_that_two_processes_get_at_once_is_written_once(
    pair: Pair, kind: str, value_type: str, send: Send
) -> None:
    name = f"once_{kind}"
    for place in range(COLUMNS if kind == "table" else 1):
        pair[0].register(f"{name}{place or ''}", value_type)
    for turn in range(3 if kind == "json" else 1):
        one, two = at_once(pair, partial(send, name, f"{kind} {turn}"))
        assert (one.status_code, two.status_code) == (200, 200), (one.text, two.text)
        assert one.content == two.content
        assert sorted(answer.headers.get(REPLAYED, "") for answer in (one, two)) == ["", "true"]
        for entity in ("u0", "u7"):
            page = pair[0].get(f"/features/{name}/history", entityId=entity).json()
            assert len(page["observations"]) == turn + 1


def test_a_claim_of_a_key_is_that_of_one_process_until_it_lets_go_or_is_gone(store: dict[str, str]) -> None:
    with storage_over(store) as two:
        with storage_over(store) as one:
            assert one.claims.claim("k") and one.claims.claim("k")
            assert not two.claims.claim("k") and two.claims.claim("another")
            one.claims.disclaim("k")
            assert two.claims.claim("k") and not one.claims.claim("k")
            two.claims.disclaim("k")
            assert one.claims.claim("k")
            one.claims.disclaim("k")
        assert two.claims.claim("k")
