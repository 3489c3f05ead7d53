"""`GET /entities/{name}/ids`, over every store."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.storage.listed import page_of
from tests.live import LiveServer
from tests.web.test_errors import problem
from timewell import AsyncClient, Client
from timewell.routes import registry
from web.answers.pages import to_cursor
from web.routes.ids import encoded

OVER_EVERY_STORE = True
_NUMBERS = count()
TEN = "2025-11-07T10:00:00Z"


@pytest.fixture
def entity(shared_server: LiveServer) -> str:
    """An entity type of its own for each test, with two features."""
    name = f"type{next(_NUMBERS)}"
    for feature in ("a", "b"):
        shared_server.register(feature, entity=name)
    return name


def write(server: LiveServer, entity: str, *ids: str, feature: str = "a", value: Any = 1) -> None:
    server.write(*((f"{entity}.{feature}.v1", id_, value, TEN) for id_ in ids))


def pages(server: LiveServer, entity: str, **query: Any) -> list[list[str]]:
    found, cursor = [], None
    while cursor != "":
        answer = server.get(f"/entities/{entity}/ids", **query, **({} if cursor is None else {"cursor": cursor}))
        assert answer.status_code == 200, answer.text
        found.append(answer.json()["ids"])
        cursor = answer.json().get("nextCursor", "")
    return found


def ids(server: LiveServer, entity: str, **query: Any) -> list[str]:
    return [id_ for page in pages(server, entity, **query) for id_ in page]


def test_every_id_that_was_written_is_listed_once_in_the_order_of_code_points(
    shared_server: LiveServer, entity: str
) -> None:
    assert pages(shared_server, entity) == [[]]
    write(shared_server, entity, "b", "a", "Z", "é", "😀", "\uffff", "a/b", 'q"', '["u1","m9"]')
    write(shared_server, entity, "a", "null", feature="b", value=None)
    expected = sorted(["b", "a", "Z", "é", "😀", "\uffff", "a/b", 'q"', '["u1","m9"]', "null"])
    assert ids(shared_server, entity) == expected
    assert ids(shared_server, entity, limit=1) == expected
    assert ids(shared_server, entity, prefix="a", limit=1) == ["a", "a/b"]
    assert ids(shared_server, entity, prefix='["u1",') == ['["u1","m9"]']
    assert ids(shared_server, entity, prefix="none") == []


def test_an_erased_id_and_those_of_a_deleted_feature_are_gone(shared_server: LiveServer, entity: str) -> None:
    write(shared_server, entity, "a", "b", "ids")
    write(shared_server, entity, "b", "c", feature="b")
    assert ids(shared_server, entity) == ["a", "b", "c", "ids"]
    assert shared_server.http.delete(f"/entities/{entity}/ids").status_code == 200
    assert shared_server.http.delete(f"/entities/{entity}/c").status_code == 200
    assert ids(shared_server, entity) == ["a", "b"]
    assert shared_server.http.delete(f"/features/{entity}.a.v1").status_code == 204
    assert ids(shared_server, entity) == ["b"]


def test_what_is_written_between_two_pages_is_there_if_it_comes_later(
    shared_server: LiveServer, entity: str
) -> None:
    write(shared_server, entity, "a", "c", "e")
    first = shared_server.get(f"/entities/{entity}/ids", limit=2).json()
    assert first["ids"] == ["a", "c"]
    write(shared_server, entity, "b", "d")
    rest = shared_server.get(f"/entities/{entity}/ids", cursor=first["nextCursor"]).json()
    assert rest == {"ids": ["d", "e"]}


@pytest.mark.before_the_store
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"])) | st.text('a,"\\[]')))
def test_a_page_is_the_json_of_its_ids(ids: list[str]) -> None:
    assert encoded(page_of(ids, None)) == msgspec.json.encode({"ids": ids})
    assert encoded(page_of(ids, "é")) == msgspec.json.encode({"ids": ids, "nextCursor": to_cursor("é")})


@pytest.mark.before_the_store
@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "10001"}, "limit"),
        ({"cursor": "!"}, "cursor"),
        ({"cursor": "_w"}, "cursor"),
        ({"cursor": to_cursor("a\nb")}, "cursor"),
        ({"prefix": "a\x00"}, "prefix"),
        ({"prefix": "a" * 513}, "prefix"),
        ({"sort": "desc"}, "sort"),
    ],
)
def test_what_a_query_has_wrong_is_named(
    shared_server: LiveServer, entity: str, query: dict[str, str], field: str
) -> None:
    answer = shared_server.get(f"/entities/{entity}/ids", **query)
    assert problem(answer, 400)["errors"][0]["field"] == field


def test_an_unknown_entity_type_is_not_found(shared_server: LiveServer) -> None:
    assert "nobody" in problem(shared_server.get("/entities/nobody/ids"), 404)["detail"]


def test_both_clients_iterate_through_the_pages(
    shared_server: LiveServer, entity: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "MOST_OF_A_PAGE", 2)
    write(shared_server, entity, *(f"u{number}" for number in range(7)), "v")

    async def listed() -> list[str]:
        async with AsyncClient(shared_server.url) as client:
            return [id_ async for id_ in client.ids(entity, prefix="u")]

    with Client(shared_server.url) as client:
        assert list(client.ids(entity)) == [*(f"u{number}" for number in range(7)), "v"]
        assert list(client.ids(entity, prefix="u")) == asyncio.run(listed()) == [f"u{n}" for n in range(7)]
