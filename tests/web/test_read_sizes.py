"""What a question brings from disk or a shared store is bounded in bytes.

A small request may need much of what is kept. It is answered in parts where these do, else refused; it is never
taken into memory as a whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.live import LiveServer
from tests.test_reading_history import flush
from tests.web.test_errors import problem
from web.answers.lanes import CSV_TYPE, NDJSON_TYPE

MOST_BYTES = 200_000
LONG = 20_000
TEXTS, ENTITIES, NUMBERS = 30, 40, 400
LAST = "2025-11-07T12:59:00Z"
STORES = ["embedded", "redis", "cluster", "postgresql"]
pytestmark = pytest.mark.parametrize("kept_in", STORES, indirect=True, scope="module")
DAY = {"startTime": "2025-11-07T00:00:00Z", "endTime": "2025-11-08T00:00:00Z"}


@pytest.fixture(scope="module")
def server(kept_in: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """Texts of one entity, one text of many entities, and many numbers of each; nothing stays in memory."""
    small = {"MAX_READ_BYTES": str(MOST_BYTES), "CACHE_SIZE": "1", "CHECKPOINT_SECONDS": "0.02"}
    with LiveServer(tmp_path_factory.mktemp("reads") / "data", **small, **kept_in) as live:
        for name, type_ in (("text", "string"), ("number", "number")):
            live.register(name, type_)
        live.write(*(("user.text.v1", "one", text(row), moment(row)) for row in range(TEXTS)))
        live.write(*(("user.text.v1", f"e{number}", text(number), LAST) for number in range(ENTITIES)))
        for start in range(0, NUMBERS, 50):
            live.write(
                *(
                    ("user.number.v1", f"e{number}", row, moment(row))
                    for row in range(start, start + 50)
                    for number in range(ENTITIES)
                )
            )
        if kept_in["STORAGE_TYPE"] == "embedded":
            flush(live)
            live.kill()
            live.start()  # else what is about to be evicted may still be answered from memory
        yield live


def text(row: int) -> str:
    """A long one."""
    return str(row) * (LONG // len(str(row)))


def moment(row: int) -> str:
    """Of a row."""
    return f"2025-11-07T{row // 60:02}:{row % 60:02}:00Z"


def test_texts_of_one_entity_that_are_too_many_bytes_come_in_shorter_pages(server: LiveServer) -> None:
    for order, step in (("asc", 1), ("desc", -1)):
        values, pages, cursor = list[str](), 0, dict[str, str]()
        while cursor or not pages:
            answer = server.get("/features/text/history", entityId="one", order=order, **cursor)
            assert answer.status_code == 200, answer.text
            page = answer.json()
            assert 0 < len(page["observations"]) <= TEXTS
            values += [one["value"] for one in page["observations"]]
            pages, cursor = pages + 1, {"cursor": page["nextCursor"]} if "nextCursor" in page else {}
        assert values == [text(row) for row in range(TEXTS)][::step]


def test_one_value_is_answered_however_much_else_there_is_of_its_entity(server: LiveServer) -> None:
    expected = {None: TEXTS - 1, moment(3): 3, moment(TEXTS - 1): TEXTS - 1}
    for at, row in expected.items():
        answer = server.post("/features/serve", {"entityIds": ["one"], "features": ["text"], "asOf": at})
        assert answer.status_code == 200, answer.text
        assert answer.json()["results"][0]["features"] == {"text": text(row)}
        rows = [{"entityId": "one", "timestamp": at or LAST}]
        trained = server.post("/features/training-set", {"rows": rows, "features": ["text"]})
        assert trained.json()["results"][0]["text"] == text(row)
    before = {"entityIds": ["one"], "features": ["text"], "asOf": "2025-11-06T00:00:00Z"}
    assert server.post("/features/serve", before).json()["results"][0]["features"] == {"text": None}


def test_few_of_its_observations_are_answered_from_either_end(server: LiveServer) -> None:
    for order, rows in (("asc", [0, 1, 2]), ("desc", [TEXTS - 1, TEXTS - 2, TEXTS - 3])):
        cursor: dict[str, str] = {}
        for place in (0, 1):
            answer = server.get("/features/text/history", entityId="one", limit=3, order=order, **cursor)
            assert answer.status_code == 200, answer.text
            shift = 3 * place * (1 if order == "asc" else -1)
            assert [one["value"] for one in answer.json()["observations"]] == [text(row + shift) for row in rows]
            cursor = {"cursor": answer.json()["nextCursor"]}


def test_less_of_them_is_answered(server: LiveServer) -> None:
    answer = server.get("/features/text/history", entityId="one", startTime=moment(0), endTime=moment(5))
    assert answer.status_code == 200
    assert [one["value"] for one in answer.json()["observations"]] == [text(row) for row in range(6)]


def test_an_aggregate_over_them_is_refused_and_over_less_it_is_answered(server: LiveServer) -> None:
    asked: dict[str, Any] = {"entityIds": ["one"], "features": ["text"], "aggregation": "count"}
    assert "MAX_READ_BYTES" in problem(server.post("/features/historical", {**asked, **DAY}), 413)["detail"]
    some = {"startTime": moment(0), "endTime": moment(5)}
    answer = server.post("/features/historical", {**asked, **some})
    assert answer.json()["results"][0]["text"] == 6


def test_texts_as_they_were_known_are_refused_too(server: LiveServer) -> None:
    rows = [{"entityId": "one", "timestamp": LAST}]
    asked = {"rows": rows, "features": ["text"], "knownAt": "2100-01-01T00:00:00Z"}
    assert "MAX_READ_BYTES" in problem(server.post("/features/training-set", asked), 413)["detail"]


@pytest.mark.parametrize("form", [NDJSON_TYPE, CSV_TYPE])
def test_a_text_each_of_many_entities_is_answered_in_parts(server: LiveServer, form: str) -> None:
    ids = [f"e{number}" for number in range(ENTITIES)]
    headers = {"Accept": form}
    asked: dict[str, Any] = {"entityIds": ids, "features": ["text"], **DAY}
    answer = server.http.post("/features/historical", json=asked, headers=headers)
    assert answer.status_code == 200
    rows = [{"entityId": id_, "timestamp": LAST} for id_ in ids]
    training = server.http.post(
        "/features/training-set", json={"rows": rows, "features": ["text"]}, headers=headers
    )
    assert training.status_code == 200
    for lines in (answer.text.splitlines(), training.text.splitlines()):
        own = lines if form == NDJSON_TYPE else lines[1:]
        assert len(own) == ENTITIES
        for number, line in enumerate(own):
            found = json.loads(line)["text"] if form == NDJSON_TYPE else line.rpartition(",")[2]
            assert found == text(number)


def test_numbers_of_many_entities_are_read_in_parts(server: LiveServer) -> None:
    ids = [f"e{number}" for number in range(ENTITIES)]
    served = server.post("/features/serve", {"entityIds": ids, "features": ["number"]})
    assert [one["features"]["number"] for one in served.json()["results"]] == [NUMBERS - 1] * ENTITIES
    asked = {"entityIds": ids, "features": ["number"], "aggregation": "sum", **DAY}
    summed = server.post("/features/historical", asked)
    assert [one["number"] for one in summed.json()["results"]] == [sum(range(NUMBERS))] * ENTITIES
    rows = [{"entityId": id_, "timestamp": moment(place * 10)} for place, id_ in enumerate(ids)]
    training = server.post("/features/training-set", {"rows": rows, "features": ["number"]})
    assert [one["number"] for one in training.json()["results"]] == [place * 10 for place in range(ENTITIES)]
    known = {"rows": rows, "features": ["number"], "knownAt": "2100-01-01T00:00:00Z"}
    assert server.post("/features/training-set", known).json()["results"] == training.json()["results"]
