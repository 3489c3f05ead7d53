"""The bulk lanes: lines and tables are written like JSON batches, whole or not at all, however long they are."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import chain, count, repeat
from pathlib import Path
from typing import Any, NamedTuple, cast
from unittest.mock import patch

import httpx
import numpy as np
import pyarrow as pa
import pytest
import trio
from hypercorn.typing import ASGIFramework, ASGIReceiveEvent, ASGISendEvent, HTTPScope
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from actors.domain import FeatureChange
from actors.ingest.entity_ids import MOST_FAULTS_NAMED
from actors.ingest.sent import Ingested
from actors.ingest.spool import Spool
from actors.opening import open_router
from actors.router import Router
from actors.settings import Settings
from actors.table.batch import observations
from tests.faults import FaultyStorage
from tests.live import LiveServer
from tests.web.test_errors import JSON, fields, problem
from tests.web.test_writing import SAME, TYPES, register, stored
from web.app import create_app
from web.bodies import bulk
from web.hypercorn.keepalive import ending_connections
from web.hypercorn.streamed_body import MOST_WAITING_BYTES

TEN = "2025-11-07T10:00:00Z"
LINES = {"Content-Type": "application/x-ndjson"}
ARROW = {"Content-Type": "application/vnd.apache.arrow.stream"}
BATCH = "/features/write-batch"
MEGABYTE = 1024 * 1024
PATIENCE_SECONDS = 5.0
_NUMBERS = count()


@pytest.fixture
def name() -> str:
    """A feature name of its own for each test."""
    return f"bulk{next(_NUMBERS)}"


def line(feature: str, value: object = 1, entity: str = "u", **rest: Any) -> bytes:
    """One value as a line without its end."""
    item = {"featureId": feature, "entityId": entity, "value": value, "timestamp": TEN, **rest}
    return json.dumps(item, ensure_ascii=False).encode()


def send_lines(
    server: LiveServer, body: bytes | Iterator[bytes], query: str = "", **headers: str
) -> httpx.Response:
    return server.http.post(BATCH + query, content=body, headers={**LINES, **headers}, timeout=PATIENCE_SECONDS)


def stream_of(table: pa.Table, options: pa.ipc.IpcWriteOptions | None = None, chunk: int | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=chunk)
    return bytes(sink.getvalue())


def send_table(server: LiveServer, table: pa.Table, query: str = "", **headers: str) -> httpx.Response:
    return server.http.post(BATCH + query, content=stream_of(table), headers={**ARROW, **headers})


def long_table(feature: str, values: pa.Array | Sequence[Any], entities: Sequence[str] | None = None) -> pa.Table:
    rows = len(values)
    return pa.table(
        {
            "featureId": [feature] * rows,
            "entityId": entities or ["u"] * rows,
            "value": values,
            "timestamp": [TEN] * rows,
        }
    )


def wide_table(entities: Sequence[str], **columns: pa.Array | Sequence[Any]) -> pa.Table:
    return pa.table({"entityId": entities, "timestamp": [TEN] * len(entities), **columns})


def indices(body: dict[str, Any]) -> list[int]:
    return [fault["index"] for fault in body["errors"]]


def served_text(server: LiveServer, feature: str, entities: list[str]) -> str:
    """The answer of a read, in which no name of the feature is left."""
    asked = {"entityIds": entities, "features": [feature], "asOf": TEN, "includeMetadata": True}
    answer = server.post("/features/serve", asked)
    assert answer.status_code == 200, answer.text
    without_age = re.sub(r'"ageSeconds":[^,}]*', "", answer.text)
    return without_age.replace(feature, "it")


# What is answered


@pytest.mark.parametrize("query", ["", "?partial=false", "?partial=true"])
def test_lines_and_tables_are_answered_with_their_count(shared_server: LiveServer, name: str, query: str) -> None:
    id_ = shared_server.register(name)["id"]
    body = b"\n".join([line(id_, 1), line(id_, None, "v"), line(id_, 2, "w")])
    for answer in (
        send_lines(shared_server, body, query),
        send_table(shared_server, long_table(id_, [1.0, None, 2.0], ["u", "v", "w"]), query),
        send_table(shared_server, wide_table(["u", "v", "w"], **{id_: [1.0, 3.0, 2.0]}), query),
    ):
        assert (answer.status_code, answer.text) == (200, '{"success":true,"count":3}')
        assert answer.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("query", ["", "?partial=true"])
def test_a_batch_that_overwrites_its_own_values_says_how_many(
    shared_server: LiveServer, name: str, query: str
) -> None:
    id_ = shared_server.register(name)["id"]
    values = [
        json.loads(line(id_, value, entity)) for value, entity in ((1, "u"), (None, "v"), (2, "u"), (3, "u"))
    ]
    lines = b"\n".join(json.dumps(one).encode() for one in values)
    numbers = [1.0, None, 2.0, 3.0]
    for answer in (
        shared_server.post(BATCH + query, {"values": values}),
        send_lines(shared_server, lines, query),
        send_table(shared_server, long_table(id_, numbers, ["u", "v", "u", "u"]), query),
        send_table(shared_server, wide_table(["u", "v", "u", "u"], **{id_: [1.0, 0.0, 2.0, 3.0]}), query),
    ):
        assert answer.text == '{"success":true,"count":4,"overwritten":2}'


def test_values_without_timestamps_in_one_batch_happen_at_one_moment_and_it_says_so(
    shared_server: LiveServer, name: str
) -> None:
    id_ = shared_server.register(name)["id"]
    values = [{"featureId": id_, "entityId": "u", "value": value} for value in (1, 2, 3)]
    answer = shared_server.post(BATCH, {"values": values})
    assert answer.text == '{"success":true,"count":3,"overwritten":2}'
    assert stored(shared_server, id_) == [3]


def test_values_that_lines_far_apart_overwrite_are_counted_and_refused_ones_are_not(
    shared_server: LiveServer, name: str
) -> None:
    id_ = shared_server.register(name)["id"]
    far = [b" " * MEGABYTE + line(id_, value, "u") for value in (1, 2, "no", 3)]
    answer = send_lines(shared_server, b"\n".join(far), "?partial=true").json()
    assert (answer["count"], answer["overwritten"], indices(answer)) == (3, 2, [2])


@pytest.mark.parametrize("body", [b"", b"\n", b"\r\n \n\t\r\n\n"])
def test_no_lines_are_written_at_once(shared_server: LiveServer, body: bytes) -> None:
    assert send_lines(shared_server, body).text == '{"success":true,"count":0}'


def test_a_table_of_no_rows_is_written_at_once(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    table = long_table(id_, pa.array([], pa.float64())).cast(
        pa.schema(
            [
                ("featureId", pa.string()),
                ("entityId", pa.string()),
                ("value", pa.float64()),
                ("timestamp", pa.string()),
            ]
        )
    )
    assert send_table(shared_server, table).text == '{"success":true,"count":0}'


def test_a_content_type_may_have_parameters_and_capitals(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    kind = {"Content-Type": "Application/X-NDJSON; charset=utf-8"}
    assert send_lines(shared_server, line(id_), **kind).json() == {"success": True, "count": 1}


@pytest.mark.parametrize("kind", ["application/ndjson", "application/vnd.apache.arrow.file", "text/csv"])
def test_other_types_of_body_are_refused(shared_server: LiveServer, kind: str) -> None:
    problem(shared_server.http.post(BATCH, content=b"x", headers={"Content-Type": kind}), 415)


@pytest.mark.parametrize("path", ["/features/write", "/features/serve", "/features/register"])
def test_other_routes_take_no_lines(shared_server: LiveServer, path: str) -> None:
    problem(shared_server.http.post(path, content=b"{}\n", headers=LINES), 415)


# The same as JSON

AS_ARROW: dict[str, list[pa.DataType]] = {
    "number": [pa.float64()],
    "integer": [pa.int64()],
    "string": [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())],
    "boolean": [pa.bool_()],
    "timestamp": [pa.string(), pa.dictionary(pa.int8(), pa.string())],
    "vector": [pa.list_(pa.float64()), pa.list_(pa.float64(), 3), pa.large_list(pa.float32())],
    "json": [pa.string()],
}


@pytest.mark.parametrize("value_type", TYPES)
def test_a_value_is_served_the_same_whatever_lane_it_came_by(
    shared_server: LiveServer, name: str, value_type: str
) -> None:
    texts = [*SAME[value_type], "null"]
    values = [None if text == "null" else text if value_type == "json" else json.loads(text) for text in texts]
    entities = [f"e{row}" for row in range(len(texts))]
    feature = register(shared_server, name, value_type)
    items = [
        f'{{"featureId":"{feature}","entityId":"{entity}","value":{text},"timestamp":"{TEN}"}}'
        for entity, text in zip(entities, texts, strict=True)
    ]
    batch = f'{{"values":[{",".join(items)}]}}'.encode()
    assert shared_server.http.post(BATCH, content=batch, headers=JSON).status_code == 200
    wanted = served_text(shared_server, feature, entities)
    other = register(shared_server, f"{name}_lines", value_type)
    assert send_lines(shared_server, "\n".join(items).replace(feature, other).encode()).status_code == 200
    assert served_text(shared_server, other, entities) == wanted
    for place, kind in enumerate(AS_ARROW[value_type]):
        column = pa.array(values, kind)
        for form in ("long", "wide"):
            other = register(shared_server, f"{name}_{form}{place}", value_type)
            table = long_table(other, column, entities)
            if form == "wide":
                table = wide_table(entities, **{other: column}).slice(0, len(texts) - 1)
                send_table(shared_server, long_table(other, column.slice(len(texts) - 1), entities[-1:]))
            assert send_table(shared_server, table).status_code == 200
            assert served_text(shared_server, other, entities) == wanted


def test_a_null_is_written_in_the_long_form_and_nothing_in_the_wide_form(
    shared_server: LiveServer, name: str
) -> None:
    long, wide = shared_server.register(name)["id"], shared_server.register(f"{name}_wide")["id"]
    column = pa.array(np.array([1.0, np.nan, 0.0]), mask=np.array([False, False, True]))
    entities = ["a", "b", "c"]
    assert send_table(shared_server, long_table(long, column, entities)).json()["count"] == 3
    assert send_table(shared_server, wide_table(entities, **{wide: column})).json()["count"] == 1
    results = shared_server.serve(entities, [long, wide], includeMetadata=True)
    found = [[result["metadata"][id_]["status"] for result in results] for id_ in (long, wide)]
    assert found == [["present", "null", "null"], ["present", "missing", "missing"]]


def test_a_null_of_the_wide_form_is_written_where_that_is_asked_for(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    whole = shared_server.register(f"{name}_whole", schema={"nullable": False})["id"]
    table = wide_table(["a", "b", "c"], **{id_: pa.array([1.0, np.nan, None])})
    assert send_table(shared_server, table, "?nulls=write").json() == {"success": True, "count": 3}
    results = shared_server.serve(["a", "b", "c"], [id_], includeMetadata=True)
    assert [one["metadata"][id_]["status"] for one in results] == ["present", "null", "null"]
    refused = send_table(shared_server, wide_table(["a"], **{whole: pa.nulls(1)}), "?nulls=write")
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (400, whole)
    for query, field in (("?nulls=some", "nulls"), ("?null=write", "null")):
        assert send_table(shared_server, table, query).json()["errors"][0]["field"] == field
    lines = shared_server.http.post("/features/write-batch?nulls=write", json={"values": []})
    assert (lines.status_code, lines.json()["errors"][0]["field"]) == (400, "nulls")


def test_a_table_without_timestamps_is_written_now(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    before = shared_server.serve(["u"], [id_])[0]["timestamp"]
    send_table(shared_server, pa.table({"entityId": ["u"], id_: [1.0]}))
    after = shared_server.serve(["u"], [id_], includeMetadata=True)[0]
    assert before <= after["metadata"][id_]["timestamp"] <= after["timestamp"]


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_a_compressed_stream_of_many_chunks_is_written_whole(
    shared_server: LiveServer, name: str, compression: str
) -> None:
    id_ = shared_server.register(name, "string")["id"]
    table = long_table(id_, [f"text {row}" for row in range(100)], [f"e{row}" for row in range(100)])
    table = table.set_column(0, "featureId", table["featureId"].dictionary_encode())
    body = stream_of(table, pa.ipc.IpcWriteOptions(compression=compression), 7)
    assert shared_server.http.post(BATCH, content=body, headers=ARROW).json()["count"] == 100
    results = shared_server.serve([f"e{row}" for row in range(100)], [id_])
    assert [result["features"][id_] for result in results] == [f"text {row}" for row in range(100)]


# Tables that are refused


def test_a_column_of_a_wrong_type_is_named_and_nothing_is_written(shared_server: LiveServer, name: str) -> None:
    one, other = shared_server.register(name)["id"], shared_server.register(f"{name}_text", "string")["id"]
    table = wide_table(["u"], **{one: [1.0], other: [1.0]})
    for query in ("", "?partial=true"):
        assert fields(problem(send_table(shared_server, table, query), 400)) == [other]
    assert fields(problem(send_table(shared_server, long_table(one, ["x"])), 400)) == ["value"]
    assert stored(shared_server, one) == []


def test_entity_ids_of_a_wrong_type_are_named(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    table = pa.table({"entityId": [["u"]], id_: [1.0]})
    assert fields(problem(send_table(shared_server, table), 400)) == ["entityId"]


def test_an_unknown_feature_is_a_404_as_a_column_and_a_400_with_its_row_as_a_value(
    shared_server: LiveServer, name: str
) -> None:
    id_ = shared_server.register(name)["id"]
    wide = problem(send_table(shared_server, wide_table(["u"], **{id_: [1.0], "user.nothing": [1.0]})), 404)
    assert "user.nothing" in wide["detail"]
    table = long_table(id_, [1.0, 2.0]).set_column(0, "featureId", pa.array([id_, "user.nothing"]))
    long = problem(send_table(shared_server, table), 400)
    assert (fields(long), indices(long)) == (["featureId"], [1])
    assert "user.nothing" in long["detail"]
    assert stored(shared_server, id_) == []


@pytest.mark.parametrize("form", ["long", "wide"])
def test_a_table_with_a_bad_row_is_refused_whole_or_written_without_it(
    shared_server: LiveServer, name: str, form: str
) -> None:
    id_ = shared_server.register(name, schema={"max": 5})["id"]
    column, entities = [1.0, 9.0, 3.0, float("inf")], ["a", "b", "c", "d"]
    table = long_table(id_, column, entities) if form == "long" else wide_table(entities, **{id_: column})
    field = "value" if form == "long" else id_
    refused = problem(send_table(shared_server, table), 400)
    assert (indices(refused), fields(refused)) == ([1, 3], [field, field])
    assert f"row[1].{field}" in refused["detail"]
    assert [result["features"][id_] for result in shared_server.serve(entities, [id_])] == [None] * 4
    answer = send_table(shared_server, table, "?partial=true")
    assert answer.status_code == 200
    assert (answer.json()["success"], answer.json()["count"], indices(answer.json())) == (False, 2, [1, 3])
    assert [result["features"][id_] for result in shared_server.serve(entities, [id_])] == [1, None, 3, None]


def test_a_bad_event_time_is_left_out_of_a_partial_table(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    table = long_table(id_, [1.0, 2.0], ["a", "b"]).set_column(3, "timestamp", pa.array([TEN, "soon"]))
    answer = send_table(shared_server, table, "?partial=true")
    assert answer.status_code == 200, answer.text
    assert (answer.json()["count"], indices(answer.json())) == (1, [1])


@pytest.mark.parametrize(
    "spoil",
    [lambda _: b"", lambda _: b"nonsense" * 9, lambda body: body[:40], lambda body: body[: len(body) * 3 // 4]],
    ids=["empty", "nonsense", "cut in the schema", "cut in the rows"],
)
def test_a_body_that_is_no_arrow_stream_is_refused(
    shared_server: LiveServer, name: str, spoil: Callable[[bytes], bytes]
) -> None:
    id_ = shared_server.register(name)["id"]
    body = spoil(stream_of(long_table(id_, [1.0] * 500)))
    problem(shared_server.http.post(BATCH, content=body, headers=ARROW), 400)
    assert stored(shared_server, id_) == []


def spoiled(table: pa.Table, column: str, data: bytes, offsets: tuple[int, int]) -> bytes:
    """A stream in which one column has another text, or a text that lies anywhere."""
    sound = (b"!" * 431).decode()
    table = table.set_column(table.column_names.index(column), column, pa.array([sound]))
    body = stream_of(table)
    before = np.array([0, 431], np.int32).tobytes()
    place = body.rindex(before)  # lengths in the metadata come earlier
    assert body.count(sound.encode()) == 1
    body = body[:place] + np.array(offsets, np.int32).tobytes() + body[place + len(before) :]
    return body.replace(sound.encode(), data.ljust(431))


@pytest.mark.parametrize("column", ["featureId", "entityId", "value", "timestamp"])
def test_texts_that_are_not_utf_8_are_refused(shared_server: LiveServer, name: str, column: str) -> None:
    id_ = shared_server.register(name, "string")["id"]
    table = long_table(id_, ["x"])
    body = spoiled(table, column, b"\xff", (0, 431))
    problem(shared_server.http.post(BATCH, content=body, headers=ARROW), 400)
    assert stored(shared_server, id_) == []


def test_a_stream_whose_offsets_point_anywhere_is_refused_and_the_server_lives(server: LiveServer) -> None:
    id_ = server.register("text", "string")["id"]
    for column in ("value", "entityId"):
        for offsets in ((0, 2_000_000_000), (-5, 10), (430, 3)):
            body = spoiled(long_table(id_, ["x"]), column, b"", offsets)
            problem(server.http.post(BATCH, content=body, headers=ARROW), 400)
    assert server.get("/health/live").status_code == 200
    assert stored(server, id_) == []


# Tables that are long


def test_a_table_of_more_values_than_a_commit_takes_is_written_whole(shared_server: LiveServer, name: str) -> None:
    ids = [shared_server.register(f"{name}_{column}")["id"] for column in range(4)]
    rows = 60_001
    entities = [f"{name}-{row}" for row in range(rows)]
    columns = {id_: np.arange(rows) + place for place, id_ in enumerate(ids)}
    assert send_table(shared_server, wide_table(entities, **columns)).json() == {
        "success": True,
        "count": 4 * rows,
    }
    asked = [entities[row] for row in (0, 1, 49_999, 50_000, rows - 1)]
    for result in shared_server.serve(asked, ids):
        row = int(result["entityId"].rpartition("-")[2])
        assert list(result["features"].values()) == [row, row + 1, row + 2, row + 3]


class Service(NamedTuple):
    """The application in process."""

    router: Router
    client: Any
    storage: FaultyStorage


SETTINGS = Settings(storage_type="memory", checkpoint_seconds=1e6)


@asynccontextmanager
async def service() -> AsyncIterator[Service]:
    """With a number feature and a string feature."""
    storage = FaultyStorage()
    async with open_router(SETTINGS, storage) as router:
        for kind in ("number", "string", "json"):
            await router.register(FeatureChange(entity="user", name=kind, value_type=kind))
        yield Service(router, create_app(router, SETTINGS).test_client(), storage)


async def everything(service_: Service, entities: Sequence[str]) -> list[Any]:
    """All observations of all features."""
    found = []
    for feature in ("number", "string", "json"):
        for entity in entities:
            answer = await service_.client.get(
                f"/features/user.{feature}.v1/history", query_string={"entityId": entity}
            )
            found.append((feature, entity, (await answer.get_json())["observations"]))
    return found


async def send_pieces(
    service_: Service, pieces: Sequence[bytes], query: str = "", key: str = ""
) -> tuple[int, Any]:
    """A body of lines, piece by piece."""
    headers = {**LINES, "Idempotency-Key": key} if key else LINES
    async with service_.client.request(BATCH + query, method="POST", headers=headers) as connection:
        for piece in pieces:
            await connection.send(piece)
        await connection.send_complete()
    answer = await connection.as_response()
    return answer.status_code, await answer.get_json()


@given(
    st.lists(
        st.tuples(st.sampled_from(["number", "user.string"]), st.sampled_from("abc"), st.integers(0, 3)),
        max_size=12,
    ),
    st.integers(1, 5),
)
@settings(deadline=None, max_examples=8)
def test_a_table_is_written_in_slices_as_it_is_written_whole(rows: list[tuple[str, str, int]], room: int) -> None:
    table = pa.table(
        {
            "featureId": pa.array([reference for reference, _, _ in rows], pa.string()),
            "entityId": pa.array([entity for _, entity, _ in rows], pa.string()),
            "value": pa.array([str(row) for row in range(len(rows))], pa.string()),
            "timestamp": pa.array([f"2025-11-07T10:00:0{second}Z" for _, _, second in rows], pa.string()),
        }
    )
    table = table.set_column(0, "featureId", pa.array(["user.string.v1"] * len(rows), pa.string()))

    async def written(most: int) -> tuple[Any, list[Any], list[int]]:
        with patch.object(bulk, "GROUP_COMMIT_VALUES", most):
            async with service() as it:
                sizes = sizes_written(it.router)
                answer = await it.client.post(BATCH, data=stream_of(table), headers=ARROW)
                return await answer.get_json(), await everything(it, "abc"), sizes

    whole, sliced = trio.run(written, 1_000), trio.run(written, room)
    assert sliced[:2] == whole[:2]
    again = len(rows) - len({row[1:] for row in rows})
    assert whole[0] == {"success": True, "count": len(rows), **({"overwritten": again} if again else {})}
    assert max(sliced[2]) <= room
    assert sum(sliced[2]) == len(rows)


def sizes_written(router: Router) -> list[int]:
    """How many values each write has, from now on."""
    sizes: list[int] = []
    write = router.write

    async def noted(ingested: Ingested, *rest: Any, **more: Any) -> bytes:
        sizes.append(observations(ingested.batch))
        assert ingested.accepted == sizes[-1]
        return await write(ingested, *rest, **more)

    router.write = noted  # type: ignore[method-assign]
    return sizes


# Lines

GOOD = st.builds(
    lambda feature, entity, value, second: json.dumps(
        {
            "featureId": f"user.{feature}.v1",
            "entityId": entity,
            "value": value if feature == "number" else str(value),
            "timestamp": f"2025-11-07T10:00:{second:02}Z",
        },
        ensure_ascii=False,
    ),
    st.sampled_from(["number", "string"]),
    st.sampled_from(["a", "ü😀", "日\u2028本"]),
    st.integers(0, 9) | st.none(),
    st.integers(0, 59),
)
BAD = st.sampled_from(
    [
        '{"featureId":"number","entityId":"a"}',
        '{"featureId":"number","entityId":"a","value":"x"}',
        '{"featureId":"nobody","entityId":"a","value":1}',
        '{"featureId":"number","entityId":"","value":1}',
        '{"featureId":"number","entityId":"a","value":1,"more":1}',
        '{"featureId":"number","entityId":"a","value":1,"timestamp":"soon"}',
        '{"featureId":"number","entityId":"a","value":1,"version":2}',
        "[]",
        "1",
        "null",
    ]
)
ENDS = st.sampled_from(["\n", "\r\n", "\n\n", "\n \t\r\n", " \n"])


@given(
    st.lists(GOOD, max_size=8) | st.lists(GOOD | BAD, max_size=8),
    st.data(),
    st.sampled_from([1, 100, MEGABYTE]),
    st.booleans(),
)
@settings(deadline=None, max_examples=25)
def test_lines_are_judged_and_written_as_the_same_batch_however_they_are_ended_and_cut(
    lines: list[str], data: st.DataObject, lot: int, partial: bool
) -> None:
    ends = [data.draw(ENDS) for _ in lines]
    text = data.draw(st.sampled_from(["", "\n", "\r\n"])) + "".join(
        each + end for each, end in zip(lines, ends, strict=True)
    )
    body = (text.rstrip() if data.draw(st.booleans()) else text).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=6)))
    pieces = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    query = "?partial=true" if partial else ""

    async def both() -> None:
        async with service() as one, service() as other:
            batch = f'{{"values":[{",".join(lines)}]}}'.encode()
            answer = await one.client.post(BATCH + query, data=batch, headers=JSON)
            with patch.object(bulk, "LOT_BYTES", lot):
                status, said = await send_pieces(other, pieces, query)
            wanted = await answer.get_json()
            places = [place for place, line in enumerate(body.split(b"\n")) if line.strip()]
            for fault in wanted.get("errors", []):  # of lines also the blank ones count
                fault["index"] = places[fault["index"]]
            assert status == answer.status_code
            if status == 200:
                assert {**said, "errors": blamed(said)} == {**wanted, "errors": blamed(wanted)}
            else:
                # What is wrong is told as soon as it is seen, of as much as had come.
                assert blamed(said)
                assert blamed(said) == blamed(wanted)[: len(blamed(said))]
            entities = ["a", "ü😀", "日\u2028本"]
            assert await everything(other, entities) == await everything(one, entities)

    trio.run(both)


def blamed(answer: dict[str, Any]) -> list[tuple[int, str]]:
    return sorted(
        (fault["index"], re.sub(r"^value(s\[\d+\])?\.", "", fault["field"])) for fault in answer.get("errors", [])
    )


def many(feature: str, rows: int) -> list[bytes]:
    """More lines than one lot has, from 10,000 on."""
    pad = "x" * 40
    return [line(feature, row, f"{feature}-{pad}-{row}") for row in range(rows)]


MANY = 20_000


@pytest.mark.parametrize("place", [0, MANY // 2, MANY - 1])
@pytest.mark.parametrize("bad", [b"{", b'{"featureId":"f"}', b"\xff", b"nonsense"])
def test_a_bad_line_is_named_and_nothing_of_any_lot_is_written(
    shared_server: LiveServer, name: str, place: int, bad: bytes
) -> None:
    id_ = shared_server.register(name)["id"]
    lines = many(id_, MANY)
    lines[place] = bad
    body = problem(send_lines(shared_server, b"\n".join(lines)), 400)
    assert indices(body) == [place]
    assert f"line[{place}]" in body["detail"]
    assert "nothing was written" in body["detail"]
    assert shared_server.get(f"/features/{id_}/stats").json()["count"] == 0


def test_many_lots_of_lines_are_written_whole_without_their_bad_ones(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    lines = many(id_, MANY)
    wrong = [0, 7, MANY // 2, MANY - 1]
    for place in wrong:
        lines[place] = line(id_, "text")
    answer = send_lines(shared_server, b"\n".join(lines), "?partial=true").json()
    assert (answer["success"], answer["count"]) == (False, MANY - len(wrong))
    assert indices(answer) == wrong
    places = [*wrong, 1, 8, MANY - 2]
    entities = [json.loads(many(id_, place + 1)[place])["entityId"] for place in places[4:]]
    assert [result["features"][id_] for result in shared_server.serve(entities, [id_])] == places[4:]
    assert shared_server.get(f"/features/{id_}/stats").json()["count"] == MANY - len(wrong)


def test_no_more_faults_are_named_than_of_a_batch(shared_server: LiveServer) -> None:
    answer = send_lines(shared_server, b"{}\n" * (MOST_FAULTS_NAMED + 100), "?partial=true").json()
    assert (answer["success"], answer["count"]) == (False, 0)
    assert indices(answer) == list(range(MOST_FAULTS_NAMED))


@pytest.mark.parametrize("around", [b"", b"{}\n"])
def test_a_line_that_is_nested_far_too_deeply_is_to_blame(
    shared_server: LiveServer, name: str, around: bytes
) -> None:
    id_ = shared_server.register(name, "json")["id"]
    deep = line(id_).replace(b'"value": 1', b'"value": ' + b"[" * 100_000 + b"]" * 100_000)
    body = problem(send_lines(shared_server, line(id_) + b"\n" + deep + b"\n" + around), 400)
    assert 1 in indices(body)


@pytest.mark.parametrize(
    "join",
    [
        lambda one, _: one.replace(b", ", b",\n", 1),
        lambda one, other: one + other,
        lambda one, other: one + b" " + other,
        lambda one, other: one + b"\r" + other,
        lambda one, other: one + b"," + other,
    ],
    ids=["over two lines", "joined", "space", "carriage return", "comma"],
)
@pytest.mark.parametrize("last", [b"", b"\nnonsense"])
def test_what_is_not_one_value_a_line_is_refused(
    shared_server: LiveServer, name: str, join: Callable[[bytes, bytes], bytes], last: bytes
) -> None:
    id_ = shared_server.register(name)["id"]
    body = problem(send_lines(shared_server, join(line(id_, 1), line(id_, 2)) + last), 400)
    assert indices(body)[0] == 0
    assert stored(shared_server, id_) == []


def test_a_line_may_be_long_and_no_longer_than_the_limit(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    long = line(id_, 2, "long").replace(b'"value"', b" " * 3 * MEGABYTE + b'"value"')
    body = b"\n".join([line(id_, 1, "before"), long, line(id_, 3, "after")])
    assert send_lines(shared_server, body).json() == {"success": True, "count": 3}
    results = shared_server.serve(["before", "long", "after"], [id_])
    assert [result["features"][id_] for result in results] == [1, 2, 3]
    endless = line(id_, 4, "before") + b"\n" + b" " * (bulk.LONGEST_LINE_BYTES + 2 * MEGABYTE)
    assert "longer than" in problem(send_lines(shared_server, endless + long), 400)["detail"]
    assert shared_server.serve(["before"], [id_])[0]["features"] == {id_: 1}


# Keys


@pytest.mark.parametrize("lane", ["lines", "table"])
def test_a_repeat_answers_the_same_and_writes_nothing(shared_server: LiveServer, name: str, lane: str) -> None:
    id_ = shared_server.register(name)["id"]
    key = {"Idempotency-Key": name}

    def send(value: object, query: str = "?partial=true") -> httpx.Response:
        if lane == "lines":
            return send_lines(shared_server, line(id_, value) + b"\n" + line(id_, 9, ""), query, **key)
        return send_table(shared_server, long_table(id_, [value, 9], ["u", ""]), query, **key)

    problem(send(0, ""), 400)  # does not use the key up
    first = send(1)
    assert (first.status_code, first.json()["count"]) == (200, 1)
    shared_server.write((id_, "u", 2, TEN))
    assert (send(3).status_code, send(3).text, send(4, "").text) == (200, first.text, first.text)
    assert stored(shared_server, id_) == [2]
    assert shared_server.get(f"/features/{id_}/stats").json()["count"] == 2


def test_a_repeat_is_a_repeat_in_whatever_lane_it_comes(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    key = {"Idempotency-Key": name}
    first = send_lines(shared_server, line(id_, 1), **key)
    assert send_table(shared_server, long_table(id_, [2, 3]), **key).text == first.text
    values = [{"featureId": id_, "entityId": "u", "value": 4}]
    assert shared_server.post(BATCH, {"values": values}, **key).text == first.text
    assert stored(shared_server, id_) == [1]


def test_a_long_body_is_a_repeat_as_a_short_one_is(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    key = {"Idempotency-Key": name}
    padded = (line(id_, 1) + b" " * 400_000 + b"\n") * 100
    first = send_lines(shared_server, padded, **key)
    assert first.json() == {"success": True, "count": 100, "overwritten": 99}
    assert send_lines(shared_server, padded, **key).text == first.text
    assert shared_server.get(f"/features/{id_}/stats").json()["count"] == 100


async def test_a_repeat_that_comes_while_the_first_is_written_writes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bulk, "GROUP_COMMIT_VALUES", 1)
    body = stream_of(long_table("user.number.v1", [1.0, 2.0, 3.0], ["a", "b", "c"]))
    answers = []
    async with service() as it:

        async def send(body: bytes, type_: str) -> None:
            headers = {"Content-Type": type_, "Idempotency-Key": "k"}
            answer = await it.client.post(BATCH, data=body, headers=headers)
            answers.append(await answer.get_json())

        async with trio.open_nursery() as nursery:
            with it.storage.stalled("commit"):
                nursery.start_soon(send, body, ARROW["Content-Type"])
                await wait_all_tasks_blocked(0.01)
                nursery.start_soon(send, body, ARROW["Content-Type"])
                nursery.start_soon(send, b'{"values": [%b]}' % line("user.number.v1", 4.0), "application/json")
                await wait_all_tasks_blocked(0.01)
        figures = await it.router.statistics(it.router.registry.resolve("number"))
        assert answers == [{"success": True, "count": 3}] * 3
        assert figures.count == 3


# Length


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server that takes short bodies and batches."""
    limits = {"MAX_BODY_BYTES": "2048", "MAX_BATCH_VALUES": "2"}
    with LiveServer(tmp_path_factory.mktemp("short") / "data", **limits) as live:
        live.register("a")
        yield live


def in_pieces(body: bytes) -> Iterator[bytes]:
    """Sent without a length."""
    return iter([body[start : start + 700] for start in range(0, len(body), 700)])


@pytest.mark.parametrize("chunked", [True, False])
def test_lines_may_be_longer_than_any_other_body_with_a_length_and_without(
    small: LiveServer, chunked: bool
) -> None:
    body = b"\n".join(line("user.a.v1", row, f"{chunked}{row}") for row in range(300))
    assert len(body) > 10 * 2048
    answer = send_lines(small, in_pieces(body) if chunked else body)
    assert answer.json() == {"success": True, "count": 300}
    assert "content-length" not in answer.request.headers or not chunked
    assert small.serve([f"{chunked}299"], ["a"])[0]["features"] == {"a": 299}


@pytest.mark.parametrize("kind", [JSON, ARROW])
@pytest.mark.parametrize("chunked", [True, False])
def test_any_other_body_of_that_length_is_still_refused(
    small: LiveServer, kind: dict[str, str], chunked: bool
) -> None:
    body = b" " * 20_000
    problem(small.http.post(BATCH, content=in_pieces(body) if chunked else body, headers=kind), 413)
    assert small.get("/health/live").status_code == 200


def test_a_long_body_with_a_bad_beginning_is_answered(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    piece = (line(id_) + b"\n").ljust(1_000) * 250
    pieces = chain([b"nonsense\n"], repeat(piece, 200))
    assert indices(problem(send_lines(shared_server, pieces), 400)) == [0]
    assert stored(shared_server, id_) == []


async def test_no_more_is_received_than_has_its_place_while_the_handler_is_behind() -> None:
    async with service() as it:
        app = ending_connections(cast(ASGIFramework, create_app(it.router, SETTINGS)), trio.Event())
        received, gate = 0, threading.Event()
        piece = ((line("user.number.v1") + b"\n") * 600)[: 64 * 1024].rpartition(b"\n")[0] + b"\n"

        async def receive() -> ASGIReceiveEvent:
            nonlocal received
            await trio.lowlevel.checkpoint()
            if received > 4 * MOST_WAITING_BYTES:
                await trio.sleep_forever()
            received += len(piece)
            return {"type": "http.request", "body": piece, "more_body": True}

        async def send(event: ASGISendEvent) -> None:
            raise AssertionError(f"there is nothing to be answered yet: {event}")

        put = Spool.put

        def slow(spool: Spool, batch: Any) -> None:
            gate.wait(20)
            put(spool, batch)

        with patch.object(Spool, "put", slow):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(app, a_scope(), receive, send)
                await wait_all_tasks_blocked(0.05)
                behind = received
                gate.set()
                nursery.cancel_scope.cancel()
        assert MEGABYTE < behind < MOST_WAITING_BYTES + 3 * MEGABYTE


def a_scope() -> HTTPScope:
    """A POST of lines without a length."""
    headers = [(b"host", b"here"), (b"content-type", b"application/x-ndjson"), (b"transfer-encoding", b"chunked")]
    return {
        "type": "http",
        "http_version": "1.1",
        "asgi": {"spec_version": "2.1", "version": "3.0"},
        "method": "POST",
        "scheme": "http",
        "path": BATCH,
        "raw_path": BATCH.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": None,
        "server": None,
        "state": {},  # type: ignore[typeddict-item]
        "extensions": {},
    }


def megabytes(server: LiveServer, figure: str) -> float:
    """One of the kernel's figures of the server's memory."""
    found = re.search(rf"{figure}:\s+(\d+) kB", Path(f"/proc/{server.pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def test_memory_stays_bounded_while_much_more_is_streamed_than_is_kept(server: LiveServer) -> None:
    id_ = server.register("f", "json")["id"]
    # A moment of an odd shape and a document cost the server more than the client: it is always behind.
    odd = line(id_, {"a": [1, 2, 3]}, "u", timestamp="2025-11-07T12:00:00.5+02:00")
    piece = (odd + b"\n") * 4_000
    pieces = 48 * MEGABYTE // len(piece)
    send_lines(server, piece, "?partial=true")
    before = megabytes(server, "VmHWM")
    bodies = [*[piece] * pieces, b"nonsense\n"]
    body = problem(send_lines(server, iter(bodies)), 400)
    assert indices(body) == [4_000 * pieces]
    assert megabytes(server, "VmHWM") - before < 130
    assert server.get(f"/features/{id_}/stats").json()["count"] == 4_000


# Clients that go away


@pytest.mark.parametrize("lines", [1, 2_000])
async def test_a_client_that_goes_away_in_the_middle_leaves_nothing_written(
    monkeypatch: pytest.MonkeyPatch, lines: int
) -> None:
    monkeypatch.setattr(bulk, "LOT_BYTES", 1)
    whole = b"".join(line("user.number.v1", row) + b"\n" for row in range(lines))
    async with service() as it:
        put = Spool.put
        puts = []

        def noted(spool: Spool, batch: Any) -> None:
            puts.append(batch)
            put(spool, batch)

        gone = trio.Event()
        events: list[dict[str, Any]] = [
            {"type": "http.request", "body": whole, "more_body": True},
            {"type": "http.disconnect"},
        ]

        async def receive() -> ASGIReceiveEvent:
            if len(events) == 1:
                await gone.wait()
            return cast(ASGIReceiveEvent, events.pop(0))

        async def send(event: ASGISendEvent) -> None:
            raise AssertionError(f"nobody is there to be answered: {event}")

        app = ending_connections(cast(ASGIFramework, create_app(it.router, SETTINGS)), trio.Event())
        with patch.object(Spool, "put", noted):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(app, a_scope(), receive, send)
                await wait_all_tasks_blocked(0.01)
                gone.set()
        assert puts, "nothing had been judged yet"
        assert (await it.router.statistics(it.router.registry.resolve("number"))).count == 0
        assert it.storage.commits == [1, 1, 1], "no more than the features"


@pytest.mark.parametrize("framing", ["Content-Length: 1000000", "Transfer-Encoding: chunked"])
def test_a_connection_that_breaks_in_the_middle_leaves_nothing_written(server: LiveServer, framing: str) -> None:
    id_ = server.register("f")["id"]
    body = b"".join(line(id_, row) + b"\n" for row in range(5_000))
    if "chunked" in framing:
        body = f"{len(body):x}\r\n".encode() + body + b"\r\n"
    head = f"POST {BATCH} HTTP/1.1\r\nHost: here\r\nContent-Type: application/x-ndjson\r\n{framing}\r\n\r\n"
    url = httpx.URL(server.url)
    with socket.create_connection((url.host, url.port)) as connection:
        connection.sendall(head.encode() + body)
    assert server.stop() == 0
    assert "Traceback" not in server.log
    server.start()
    assert stored(server, id_) == []


def test_a_line_of_more_elements_than_any_value_is_refused_undecoded(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name, "json")["id"]
    long = b'{"featureId":"%b","entityId":"u","value":[' % id_.encode() + b"1," * 300_000 + b"1]}\n"
    answer = send_lines(shared_server, line(id_, 1) + b"\n" + long)
    told = problem(answer, 400)
    assert (told["errors"][0]["field"], told["errors"][0]["message"]) == (
        "line[1]",
        "has more elements than any value",
    )
