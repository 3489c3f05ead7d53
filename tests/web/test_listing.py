"""Lists of registered things, however long: in pieces, between which others have their turn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.live import LiveServer
from web.answers import listing
from web.answers.listing import listed

ITEMS = st.lists(st.text(max_size=20) | st.integers(0, 9), max_size=12)
LONG = "x" * 200_000


async def body_of(lists: Any, more: Any = None) -> bytes:
    answer = await listed(lists, more)
    async with answer.response as body:
        return b"".join([piece async for piece in body])


@given(st.dictionaries(st.text(max_size=5), ITEMS, min_size=1, max_size=3), st.booleans(), st.integers(0, 30))
@settings(deadline=None)
def test_whatever_the_pieces_together_they_are_the_whole(lists: Any, more: bool, size: int) -> None:
    rest = {"\0more": "é"} if more else {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listing, "SLICE_BYTES", size)
        patch.setattr(listing, "LISTED_BYTES_PER_TURN", size)
        found = trio.run(body_of, lists, rest)
    assert found == msgspec.json.encode({**lists, **rest})


async def test_others_have_their_turn_while_a_list_is_encoded() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        await body_of({"features": [LONG] * 20})
        nursery.cancel_scope.cancel()
    assert turns >= 15  # the tasks of a pass run in any order


async def test_an_item_is_not_made_before_its_piece_is_taken() -> None:
    made = list[int]()

    def items() -> Iterator[str]:
        for number in range(100):
            made.append(number)
            yield LONG

    answer = await listed({"features": items()})
    assert len(made) < 20
    async with answer.response as body:
        async for _ in body:
            break
    assert len(made) < 20


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server with long texts of everything, more than a piece holds."""
    with LiveServer(tmp_path_factory.mktemp("lists") / "data") as live:
        for version in range(1, 9):
            live.register("long", version=version, description=LONG)
            group = {"name": f"g{version}", "entity": "user", "features": ["long"], "description": LONG}
            assert live.post("/groups", group).status_code == 201
            check = {"id": f"c{version}", "checkType": "null", "config": {"maxNullRate": 0.5}}
            assert live.post(f"/features/user.long.v{version}/checks", check).status_code == 201
        yield live


@pytest.mark.parametrize(
    ("path", "name"),
    [("/groups", "groups"), ("/features/user.long/versions", "versions"), ("/features", "features")],
)
def test_all_of_a_long_list_comes_though_in_pieces(full: LiveServer, path: str, name: str) -> None:
    answer = full.http.get(path)
    assert "Content-Length" not in answer.headers
    assert [len(one["description"]) for one in answer.json()[name]] == [len(LONG)] * 8
    head = full.http.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert full.http.get("/health/ready").status_code == 200


def test_a_short_list_comes_at_once_with_its_length(full: LiveServer) -> None:
    for path, count in (("/checks", 8), ("/features/user.long/checks", 1)):
        answer = full.http.get(path)
        assert int(answer.headers["Content-Length"]) == len(answer.content)
        assert len(answer.json()["checks"]) == count
    assert full.http.get("/monitor/alerts").json() == {"alerts": []}
    assert full.http.get("/features?q=nothing").json() == {"features": []}
