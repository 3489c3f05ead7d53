"""Every type that Arrow has, wherever a column may stand: it is taken right or refused by name, never a 500."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any

import httpx
import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from tests.live import LiveServer
from tests.web.test_errors import fields, problem
from tests.web.test_writing import stored

ARROW = "application/vnd.apache.arrow.stream"
BATCH, TRAINING = "/features/write-batch", "/features/training-set"
TEN = datetime(2025, 11, 7, 10, tzinfo=UTC)
MICROS = 1_762_509_600_000_000
_NUMBERS = count()


def listed(values: pa.Array, kind: Any = pa.ListArray) -> pa.Array:
    offsets = pa.array([0, 1, 1], pa.int64() if kind is pa.LargeListArray else pa.int32())
    return kind.from_arrays(offsets, values)


def views(values: pa.Array, kind: Any = pa.ListViewArray) -> pa.Array:
    width = pa.int64() if kind is pa.LargeListViewArray else pa.int32()
    return kind.from_arrays(pa.array([0, 0], width), pa.array([len(values), 0], width), values)


def extension(kind: pa.DataType, storage: pa.Array) -> pa.Array:
    return pa.ExtensionArray.from_storage(kind, storage)


HALVES = pa.array(np.array([1.5, 2.0], np.float16))
SIDES = pa.array([0, 1], pa.int8())
WORDS = pa.array(["rome", "oslo"])
VIEWS = WORDS.cast(pa.string_view())
COLUMNS = [
    pa.nulls(2),
    pa.array([True, None]),
    *(pa.array([1, None], kind) for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64())),
    *(pa.array([1, 2**8 - 1], kind) for kind in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())),
    pa.array([2**64 - 1, 2**53 + 1], pa.uint64()),
    HALVES,
    pa.array([0.1, None], pa.float32()),
    pa.array([5.0, 2.0**60]),
    pa.array([float("nan"), float("inf")]),
    *(pa.array([Decimal("1.10"), None], kind(9, 2)) for kind in (pa.decimal32, pa.decimal64, pa.decimal128)),
    pa.array([Decimal(2**60 + 1), Decimal(10**60)], pa.decimal256(70, 0)),
    *(pa.array(["a", None], kind) for kind in (pa.string(), pa.large_string(), pa.string_view())),
    *(pa.array([b"\xff", None], kind) for kind in (pa.binary(), pa.large_binary(), pa.binary_view())),
    pa.array([b"\xff", None], pa.binary(1)),
    *(pa.array([1, 2**40], pa.timestamp(unit)) for unit in ("s", "ms", "us", "ns")),
    pa.array([2**62, -(2**62)], pa.timestamp("s", "UTC")),
    pa.array([MICROS * 1_000 + 1, -1], pa.timestamp("ns", "Europe/Berlin")),
    pa.array([20_000, 2**31 - 1], pa.date32()),
    pa.array([1_728_000_000_000, 2**62], pa.date64()),
    pa.array([1, None], pa.time32("s")),
    pa.array([1, 86_399_999], pa.time32("ms")),
    pa.array([1, None], pa.time64("us")),
    pa.array([86_399_999_999_999, None], pa.time64("ns")),
    *(pa.array([2**62, -1], pa.duration(unit)) for unit in ("s", "ms", "us", "ns")),
    pa.array([pa.MonthDayNano([1, 2, 3]), None], pa.month_day_nano_interval()),
    listed(pa.array([1])),
    listed(pa.array([0.5]), pa.LargeListArray),
    pa.array([[1.0, 2.0], None], pa.list_(pa.float32(), 2)),
    views(pa.array([1, 2])),
    views(pa.array([1, 2]), pa.LargeListViewArray),
    listed(pa.array([datetime(2025, 1, 1)])),
    listed(pa.array([b"\xff"])),
    listed(pa.array([2**62], pa.timestamp("s"))),
    pa.array([{"a": 1, "b": [{"c": "x"}]}, None]),
    pa.StructArray.from_arrays([pa.array([1, 2]), pa.array([3, 4])], ["a", "a"]),
    pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())),
    pa.array([[(1, "x"), (2, "y")], []], pa.map_(pa.int8(), pa.string())),
    WORDS.dictionary_encode(),
    pa.array([1.5, None]).dictionary_encode(),
    pa.DictionaryArray.from_arrays(pa.array([0, None], pa.uint32()), WORDS.cast(pa.string_view())),
    pa.DictionaryArray.from_arrays(pa.array([0, None], pa.int8()), listed(pa.array([1]))),
    pa.DictionaryArray.from_arrays(pa.array([1, 0], pa.int8()), HALVES),
    listed(pa.array(["x"]).dictionary_encode()),
    pa.RunEndEncodedArray.from_arrays(pa.array([1, 2], pa.int32()), WORDS),
    pa.RunEndEncodedArray.from_arrays(pa.array([2], pa.int16()), pa.array([5])),
    pa.UnionArray.from_dense(SIDES, pa.array([0, 0], pa.int32()), [pa.array([1]), pa.array(["x"])]),
    pa.UnionArray.from_sparse(SIDES, [pa.array([1, 2]), pa.array(["x", "y"])]),
    extension(pa.json_(), pa.array(['{"a":1}', None])),
    extension(pa.uuid(), pa.array([b"0123456789abcdef", None], pa.binary(16))),
    extension(pa.bool8(), pa.array([1, 0], pa.int8())),
    extension(pa.fixed_shape_tensor(pa.float32(), (2,)), pa.array([[1, 2], [3, 4]], pa.list_(pa.float32(), 2))),
    listed(extension(pa.json_(), pa.array(["{}"]))),
]  # fmt: skip
EACH = pytest.mark.parametrize("column", COLUMNS, ids=[f"{place}-{one.type}" for place, one in enumerate(COLUMNS)])
TYPES = ("number", "integer", "string", "boolean", "timestamp", "vector", "json")


@pytest.fixture(scope="module")
def features(shared_server: LiveServer) -> dict[str, str]:
    """A feature of each type, the one of vectors with two components."""
    schemas = {"vector": {"dimension": 2}}
    return {
        kind: str(shared_server.register(f"arrow_{kind}", kind, schema=schemas.get(kind))["id"]) for kind in TYPES
    }


def body_of(table: pa.Table, compression: str | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def send(
    server: LiveServer, path: str, table: pa.Table | bytes, accept: str = "application/json"
) -> httpx.Response:
    body = table if isinstance(table, bytes) else body_of(table)
    return server.http.post(path, content=body, headers={"Content-Type": ARROW, "Accept": accept})


def taken_or_refused(answer: httpx.Response, *names: str) -> bool:
    """Whether it was taken; else a 400 that names the column."""
    if answer.status_code == 200:
        return True
    assert set(fields(problem(answer, 400))) <= set(names), answer.text
    return False


@EACH
def test_a_column_of_any_type_is_written_or_refused_by_name(
    shared_server: LiveServer, features: dict[str, str], column: pa.Array
) -> None:
    entities = [f"e{next(_NUMBERS)}", f"e{next(_NUMBERS)}"]
    for kind, id_ in features.items():
        wide = pa.table({"entityId": entities, id_: column})
        long = pa.table({"featureId": [id_] * 2, "entityId": entities, "value": column})
        taken = taken_or_refused(send(shared_server, BATCH, wide), id_)
        assert taken_or_refused(send(shared_server, BATCH, long), "value") == taken
        if taken:
            read = {"entityIds": entities, "features": [id_]}
            assert shared_server.post("/features/serve", read).status_code == 200, kind


@EACH
def test_keys_of_any_type_are_taken_or_refused_by_name(
    shared_server: LiveServer, features: dict[str, str], column: pa.Array
) -> None:
    id_ = features["number"]
    whole = pa.table({"entityId": ["u", "v"], "timestamp": [TEN, TEN], id_: [1.0, 2.0]})
    for name in ("entityId", "timestamp"):
        table = whole.set_column(whole.column_names.index(name), name, column)
        taken_or_refused(send(shared_server, BATCH, table), name)
        rows = table.select(["entityId", "timestamp"])
        taken_or_refused(send(shared_server, f"{TRAINING}?features={id_}", rows), name, f"rows.{name}")
    table = pa.table({"featureId": column, "entityId": ["u", "v"], "value": [1.0, 2.0]})
    taken_or_refused(send(shared_server, BATCH, table), "featureId")


@EACH
def test_a_label_of_any_type_comes_back_as_it_is_or_is_refused_by_name(
    shared_server: LiveServer, features: dict[str, str], column: pa.Array
) -> None:
    rows = pa.table({"entityId": ["u", "v"], "timestamp": [TEN, TEN], "label": column})
    path = f"{TRAINING}?features={features['number']}"
    answers = {
        kind: send(shared_server, path, rows, kind)
        for kind in ("application/json", "application/x-ndjson", "text/csv", ARROW)
    }
    texts = [answers[kind] for kind in ("application/json", "application/x-ndjson")]
    assert len({answer.status_code for answer in texts}) == 1
    assert answers["text/csv"].status_code in (200, texts[0].status_code)
    if not taken_or_refused(texts[0], "label"):
        return
    results = texts[0].json()["results"]
    assert [json.loads(line) for line in texts[1].text.splitlines()] == results
    assert answers[ARROW].status_code == 200
    assert pa.ipc.open_stream(answers[ARROW].content).read_all()["label"].null_count == column.null_count


INNER = extension(pa.json_(), pa.array(['{"a":1}', '"x"']))
NESTED = [
    (pa.StructArray.from_arrays([INNER[:1]], ["z"]), {"z": {"a": 1}}),
    (pa.ListArray.from_arrays(pa.array([0, 2], pa.int32()), INNER), [{"a": 1}, "x"]),
    (pa.LargeListArray.from_arrays(pa.array([1, 2], pa.int64()), INNER), ["x"]),
    (pa.FixedSizeListArray.from_arrays(INNER, 2), [{"a": 1}, "x"]),
    (pa.MapArray.from_arrays(pa.array([0, 1], pa.int32()), pa.array(["k"]), INNER[:1]), {"k": {"a": 1}}),
    (pa.ListArray.from_arrays(pa.array([0, 1], pa.int32()), pa.StructArray.from_arrays([INNER[:1]], ["z"])),
     [{"z": {"a": 1}}]),
]  # fmt: skip
"""Texts that are JSON, within other values."""
SAID = [
    (pa.array([b"\xff\x00"]), "/wA="),
    (extension(pa.json_(), pa.array(['{"a": [1]}'])), {"a": [1]}),
    (pa.array([0.1], pa.float32()), 0.1),
    (pa.array([Decimal("1.10")]), "1.10"),
    (pa.array([-1], pa.timestamp("ns")), "1969-12-31T23:59:59.999999Z"),
    (pa.array([2_932_896], pa.date32()), "9999-12-31"),
    (pa.array([3_600_000_000_001], pa.time64("ns")), "01:00:00.000000001"),
    (pa.array([timedelta(days=-1, hours=-1)], pa.duration("ms")), "-P1DT3600S"),
    (pa.array([2**62], pa.duration("s")), "P53375995583650DT27904S"),
    (pa.array([{"at": datetime(2025, 1, 1), "of": [b"a"]}]), {"at": "2025-01-01T00:00:00.000Z", "of": ["YQ=="]}),
    (pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())), {"k": 1}),
    (pa.array([[(1, "x")]], pa.map_(pa.int8(), pa.string())), [[1, "x"]]),
    (pa.array([[]], pa.map_(pa.int8(), pa.string())), []),
    (pa.array([[]], pa.map_(pa.large_string(), pa.string())), {}),
    (extension(pa.uuid(), pa.array([b"0123456789abcdef"], pa.binary(16))), "30313233-3435-3637-3839-616263646566"),
    (pa.RunEndEncodedArray.from_arrays(pa.array([1], pa.int32()), pa.array(["rome"])), "rome"),
    *NESTED,
]  # fmt: skip


@pytest.mark.parametrize(("label", "said"), SAID, ids=[str(label.type) for label, _ in SAID])
def test_a_label_is_said_in_json_as_this(
    shared_server: LiveServer, features: dict[str, str], label: pa.Array, said: Any
) -> None:
    rows = pa.table({"entityId": ["u"], "timestamp": [TEN], "label": label})
    answer = send(shared_server, f"{TRAINING}?features={features['number']}", rows)
    assert answer.json()["results"][0]["label"] == said


ENDLESS = [
    pa.array([0.5, np.inf]),
    pa.array([0.5, -np.inf], pa.float16()),
    pa.array([[0.5], [np.inf]], pa.list_(pa.float32())),
    pa.array([{"of": [1.0]}, {"of": [2.0, -np.inf]}]),
    pa.array([[("k", 1.0)], [("k", np.inf)]], pa.map_(pa.string(), pa.float64())),
]


@pytest.mark.parametrize("label", ENDLESS, ids=[str(label.type) for label in ENDLESS])
def test_an_infinite_label_is_refused_where_json_would_have_a_null_for_it(
    shared_server: LiveServer, features: dict[str, str], label: pa.Array
) -> None:
    rows = pa.table({"entityId": ["u", "v"], "timestamp": [TEN, TEN], "label": label})
    asked = f"{TRAINING}?features={features['number']}"
    for kind in ("application/json", "application/x-ndjson"):
        refused = problem(send(shared_server, asked, rows, kind), 400)
        assert [fault["field"] for fault in refused["errors"]] == ["label"] and "infinit" in refused["detail"]
    answer = send(shared_server, asked, rows, ARROW)
    assert pa.ipc.open_stream(answer.content).read_all()["label"].combine_chunks().equals(label)
    if pa.types.is_float64(label.type):
        assert send(shared_server, asked, rows, "text/csv").text.splitlines()[2].split(",")[2] == "inf"


def test_a_label_of_json_that_is_none_is_refused_by_its_row(
    shared_server: LiveServer, features: dict[str, str]
) -> None:
    label = extension(pa.json_(), pa.array([None, "{"]))
    rows = pa.table({"entityId": ["u", "v"], "timestamp": [TEN, TEN], "label": label})
    refused = problem(send(shared_server, f"{TRAINING}?features={features['number']}", rows), 400)
    assert [(fault["field"], fault["index"]) for fault in refused["errors"]] == [("label", 1)]


@pytest.mark.parametrize(
    ("kind", "column", "said"),
    [
        ("json", extension(pa.json_(), pa.array(['{"a":1}'])), {"a": 1}),
        *(("json", column, said) for column, said in NESTED),
        ("json", pa.array([Decimal("1.5")]), 1.5),
        ("json", pa.array([{"at": datetime(2025, 1, 1)}]), {"at": "2025-01-01T00:00:00.000Z"}),
        ("string", pa.DictionaryArray.from_arrays(pa.array([0], pa.uint32()), VIEWS), "rome"),
        ("boolean", extension(pa.bool8(), pa.array([1], pa.int8())), True),
        ("timestamp", pa.array([20_000], pa.date32()), "2024-10-04T00:00:00.000Z"),
        ("timestamp", pa.array([-1], pa.timestamp("ns")), "1969-12-31T23:59:59.999999Z"),
        ("integer", pa.array([2.0**53 - 1]), 2**53 - 1),
        ("vector", views(pa.array([-0.0, 1.0])).slice(0, 1), [0, 1]),
    ],
    ids=str,
)  # fmt: skip
def test_a_column_of_this_type_is_written_as_this(
    shared_server: LiveServer, features: dict[str, str], kind: str, column: pa.Array, said: Any
) -> None:
    entity = f"e{next(_NUMBERS)}"
    assert send(shared_server, BATCH, pa.table({"entityId": [entity], features[kind]: column})).status_code == 200
    answer = shared_server.post("/features/serve", {"entityIds": [entity], "features": [features[kind]]})
    assert answer.json()["results"][0]["features"] == {features[kind]: said}


MISSING = [pa.array([None, np.nan], pa.float64(), from_pandas=False), pa.array([None, None], pa.string())]


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("column", MISSING, ids=["double", "string"])
def test_a_column_of_missing_values_is_nothing_in_the_wide_form_and_nulls_in_the_long_one(
    shared_server: LiveServer, kind: str, column: pa.Array
) -> None:
    schema = {"dimension": 2} if kind == "vector" else None
    id_ = shared_server.register(f"missing_{kind}_{next(_NUMBERS)}", kind, schema=schema)["id"]
    wide = pa.table({"entityId": ["u", "u"], "timestamp": pa.array([None, np.nan]), id_: column})
    assert send(shared_server, BATCH, wide).text == '{"success":true,"count":0}'
    long = pa.table({"featureId": [id_] * 2, "entityId": ["u", "v"], "value": column})
    assert send(shared_server, BATCH, long).text == '{"success":true,"count":2}'
    assert stored(shared_server, id_) == [None]


def test_a_file_without_rows_as_pandas_writes_it_writes_nothing(
    shared_server: LiveServer, features: dict[str, str]
) -> None:
    columns = {"entityId": pa.nulls(0), "timestamp": pa.array([], pa.float64())}
    table = pa.table({**columns, **{id_: pa.array([], pa.float64()) for id_ in features.values()}})
    assert send(shared_server, BATCH, table).text == '{"success":true,"count":0}'


def test_a_stream_that_polars_writes_itself_is_taken(shared_server: LiveServer) -> None:
    id_ = shared_server.register(f"city_{next(_NUMBERS)}", "string")["id"]
    for kind in (pl.Categorical, pl.Enum(["rome", "oslo"])):
        frame = pl.DataFrame({"entityId": ["a", "b"], "timestamp": [TEN] * 2, id_: ["rome", "oslo"]})
        body = frame.cast({id_: kind}).write_ipc_stream(None, compat_level=pl.CompatLevel.newest()).getvalue()
        assert send(shared_server, BATCH, body).text.startswith('{"success":true,"count":2')
        served = shared_server.serve(["a", "b"], [id_])
        assert [one["features"][id_] for one in served] == ["rome", "oslo"]


# How much


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server that takes little, and in whose memory what it should not make would show."""
    settings = {"MAX_TABLE_VALUES": "100000", "MAX_DECOMPRESSED_BYTES": "4194304"}
    with LiveServer(tmp_path_factory.mktemp("small") / "data", STORAGE_TYPE="memory", **settings) as server:
        server.register("x", "string")
        yield server


def many(values: pa.Array, rows: int) -> pa.Array:
    """So many rows that say the same, in few bytes."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int8)), values)


LONGS = many(pa.array(["a" * 60_000]), 1_000)
RUN = pa.RunEndEncodedArray.from_arrays(pa.array([1_000], pa.int32()), pa.array(["a" * 60_000]))
WHOLE = pa.array([1_000] * 1_000, pa.int32())
ALIKE = pa.array(["a" * 600] * 10_000)
TOO_LARGE = {
    "rows of nulls": (pa.table({"user.x.v1": pa.nulls(30_000_000)}), None),
    "columns": (pa.table({f"user.x{place}.v1": pa.array([1]) for place in range(2_001)}), None),
    "values": (pa.table({f"user.x{place}.v1": pa.nulls(300) for place in range(400)}), None),
    "zstd": (pa.table({"entityId": ALIKE}), "zstd"),
    "lz4": (pa.table({"entityId": ALIKE}), "lz4"),
    "dictionary": (pa.table({"entityId": ["u"] * 1_000, "user.x.v1": LONGS}), None),
    "dictionary within": (pa.table({"x": pa.FixedSizeListArray.from_arrays(LONGS, 10)}), None),
    "runs": (pa.table({"x": RUN}), None),
    "nulls within": (pa.table({"x": pa.FixedSizeListArray.from_arrays(pa.nulls(30_000_000), 30_000_000)}), None),
    "views": (
        pa.table({"x": pa.ListViewArray.from_arrays(pa.array([0] * 1_000, pa.int32()), WHOLE, WHOLE)}),
        None,
    ),
}


@pytest.mark.parametrize("name", TOO_LARGE)
def test_a_table_that_stands_for_too_much_is_refused(small: LiveServer, name: str) -> None:
    table, compression = TOO_LARGE[name]
    body = body_of(table, compression)
    assert len(body) < 2_000_000
    for path in (BATCH, f"{TRAINING}?features=x"):
        problem(send(small, path, body), 413)


@pytest.mark.parametrize("compression", [None, "zstd", "lz4"])
def test_a_table_of_as_much_as_may_be_is_taken(small: LiveServer, compression: str | None) -> None:
    entities = [f"e{row}" for row in range(40_000)]
    table = pa.table({"entityId": entities, "user.x.v1": many(pa.array(["abc"]), 40_000)})
    assert send(small, BATCH, body_of(table, compression)).json()["count"] == 40_000


def test_metadata_with_any_byte_changed_is_refused_or_read_and_the_server_lives(small: LiveServer) -> None:
    table = pa.table({"entityId": ["u", "v"], "user.x.v1": pa.array(["a", "b"]).dictionary_encode()})
    whole = body_of(table, "lz4")
    rng = np.random.default_rng(7)
    for place in rng.choice(len(whole), 60, replace=False).tolist():
        body = bytearray(whole)
        body[place] ^= int(rng.integers(1, 256))
        assert send(small, BATCH, bytes(body)).status_code in (200, 400, 404, 413), place


def test_integers_beside_fractions_keep_their_digits_in_an_arrow_answer(
    shared_server: LiveServer, features: dict[str, str]
) -> None:
    labels = [2**60 + 1, 0.5]
    rows = [{"entityId": "u", "timestamp": TEN.isoformat(), "label": label} for label in labels]
    asked = {"rows": rows, "features": [features["number"]]}
    answer = shared_server.http.post(TRAINING, json=asked, headers={"Accept": ARROW})
    assert answer.status_code == 200, answer.text
    found = pa.ipc.open_stream(answer.content).read_all()["label"].to_pylist()
    assert [json.loads(text) for text in found] == labels


def test_a_text_within_another_value_that_is_no_json_is_refused_by_its_column(
    shared_server: LiveServer, features: dict[str, str]
) -> None:
    column = pa.StructArray.from_arrays([extension(pa.json_(), pa.array(["{"]))], ["z"])
    refused = problem(send(shared_server, BATCH, pa.table({"entityId": ["u"], features["json"]: column})), 400)
    assert features["json"] in refused["detail"] and "not JSON" in refused["detail"]
