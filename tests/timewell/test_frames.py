"""Frames in and out of the clients: pandas and Polars, what Arrow carries between, and what cannot be carried."""

from __future__ import annotations

import importlib
import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import httpx
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import timewell
from tests.live import LiveServer
from timewell import AsyncClient, Client, arrow
from timewell.routes import exports, serving

TEN = datetime(2025, 11, 7, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)
KINDS = ["pandas", "polars"]
ALL_TYPES: dict[str, list[Any]] = {
    "number": [1.5, 2.0],
    "integer": [2**60 + 1, 3],
    "string": ["é", ""],
    "boolean": [True, False],
    "timestamp": ["2025-01-01T00:00:00.000001Z", "2025-01-02T00:00:00.000Z"],
    "vector": [[0.5, 1.5], [2.0, 3.0]],
    "json": [{"a": [1, None]}, 5],
}


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything goes out in parts of two rows."""
    monkeypatch.setattr(arrow, "MOST_ROWS", 2)
    monkeypatch.setattr(serving, "MOST_ENTITIES", 2)


def frame(kind: str, **columns: Any) -> Any:
    return pd.DataFrame(columns) if kind == "pandas" else pl.DataFrame(columns)


def rows(given: Any) -> list[dict[str, Any]]:
    """The rows of a frame; missing values as None."""
    if isinstance(given, pl.DataFrame):
        return given.to_dicts()
    return [
        {key: None if pd.api.types.is_scalar(value) and pd.isna(value) else value for key, value in row.items()}
        for row in given.astype(object).to_dict("records")
    ]


def column(given: Any, name: str) -> list[Any]:
    return [row[name] for row in rows(given)]


def fill(client: Client, name: str, value_type: str = "number") -> str:
    """A feature with values for ada at ten and eleven, for bob at eleven."""
    id_ = client.register(name, "user", value_type).id  # type: ignore[arg-type]
    client.write_batch([(id_, "ada", 1, TEN), (id_, "ada", 2, TEN + HOUR), (id_, "bob", 3, TEN + HOUR)])
    return id_


# Training sets


@pytest.mark.parametrize("kind", KINDS)
def test_each_row_gets_what_was_known_at_its_moment_beside_its_labels(
    client: Client, name: str, kind: str
) -> None:
    id_ = fill(client, name)
    at = [TEN + 2 * HOUR, TEN, TEN, TEN - HOUR]
    given = frame(kind, label=["a", None, "c", "d"], user=["ada", "ada", "bob", "ada"], ts=at)
    answer = client.training_set(given, [id_], id_column="user", timestamp_column="ts")
    assert type(answer) is type(given)
    assert list(answer.columns) == ["label", "user", "ts", id_]
    assert column(answer, id_) == [2, 1, None, None]
    assert column(answer, "label") == ["a", None, "c", "d"]


def test_rows_of_dicts_come_back_as_dicts(client: Client, name: str, small_parts: None) -> None:
    id_ = fill(client, name)
    given = [{"user": one, "ts": at, "label": {1}} for one in ("ada", "bob", 5) for at in (TEN, "2025-11-08")]
    given = [{**row, "ts": TEN if row["ts"] == "2025-11-08" else TEN + HOUR} for row in given]
    answer = client.training_set(given, [id_], id_column="user", timestamp_column="ts")
    assert answer == [{**row, id_: value} for row, value in zip(given, [2, 1, 3, None, None, None], strict=True)]
    assert client.training_set([], [id_]) == []


def test_an_index_and_odd_dtypes_of_a_pandas_frame_stay_as_they_are(client: Client, name: str) -> None:
    id_ = fill(client, name)
    given = pd.DataFrame(
        {
            "entityId": pd.Categorical(["ada", "bob", "ada"]),
            "timestamp": pd.to_datetime(["2025-11-07 10:00", "2025-11-07 11:00", "2025-11-07 12:00"]),
            "odd": [object(), {1}, None],
        },
        index=pd.Index([7, 7, 3], name="key"),
    )
    answer = client.training_set(given, [id_])
    pd.testing.assert_frame_equal(answer[list(given.columns)], given)
    assert answer[id_].tolist() == [1, 3, 2] and answer[id_].dtype == np.float64


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value_type", ALL_TYPES)
def test_every_type_comes_back_exactly_from_training_and_from_serving(
    client: Client, name: str, kind: str, value_type: str
) -> None:
    schema = {"dimension": 2} if value_type == "vector" else None
    id_ = client.register(name, "user", value_type, schema=schema).id  # type: ignore[arg-type]
    values = ALL_TYPES[value_type]
    client.write_batch([(id_, "a", values[0], TEN), (id_, "b", values[1], TEN)])
    given = frame(kind, entityId=["a", "b", "c"], timestamp=[TEN] * 3)
    expected = [as_column(value_type, value) for value in values] + [None]
    for answer in (client.training_set(given, [id_]), client.serve_frame(given["entityId"], [id_])):
        assert type(answer) is type(given)
        assert [None if one is None else plain(one) for one in column(answer, id_)] == expected


def as_column(value_type: str, value: Any) -> Any:
    """A value as a frame has it."""
    if value_type == "timestamp":
        return datetime.fromisoformat(value)
    return json.dumps(value, separators=(",", ":")) if value_type == "json" else value


def plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("value_type", "dtype"), [("integer", "int64"), ("boolean", "bool")])
def test_whole_numbers_and_booleans_stay_so_where_values_are_missing(
    client: Client, name: str, kind: str, value_type: str, dtype: str
) -> None:
    id_ = client.register(name, "user", value_type).id  # type: ignore[arg-type]
    client.write(id_, "a", ALL_TYPES[value_type][0], TEN)
    known, both = client.serve_frame(["a"], [id_]), client.serve_frame(["a", "b"], [id_])
    assert (str(known[id_].dtype), str(both[id_].dtype)) == (dtype, {"bool": "boolean"}.get(dtype, "Int64"))
    assert column(client.serve_frame(["a", "b"], [id_], as_frame="polars"), id_)[1] is None


@pytest.mark.parametrize("kind", KINDS)
def test_large_sets_go_out_in_parts_and_come_back_in_order(
    client: Client, name: str, kind: str, small_parts: None
) -> None:
    id_ = fill(client, name)
    users = ["bob", "ada", "nobody", "ada", "bob"]
    given = frame(kind, entityId=users, timestamp=[TEN + HOUR] * 5)
    assert column(client.training_set(given, [id_]), id_) == [3, 2, None, 2, 3]
    served = client.serve_frame(given["entityId"], [id_], id_column="user")
    assert (column(served, "user"), column(served, id_)) == (users, [3, 2, None, 2, 3])


@pytest.mark.parametrize("kind", KINDS)
def test_a_set_without_rows_has_its_columns(client: Client, name: str, kind: str) -> None:
    id_ = fill(client, name)
    given = frame(kind, entityId=["ada"], timestamp=[TEN])[:0]
    for answer in (client.training_set(given, [id_]), client.serve_frame(given["entityId"], [id_])):
        assert len(answer) == 0 and id_ in answer.columns


@pytest.mark.parametrize("kind", [*KINDS, None])
def test_a_lookback_a_window_and_what_was_known_narrow_the_answer(client: Client, name: str, kind: Any) -> None:
    id_ = fill(client, name)
    given: Any = [{"entityId": "ada", "timestamp": TEN + 2 * HOUR}]
    given = given if kind is None else arrow.as_kind(given, kind)

    def asked(**options: Any) -> Any:
        answer = client.training_set(given, [id_], **options)
        return answer[0][id_] if kind is None else column(answer, id_)[0]

    assert asked(lookback=timedelta(minutes=59)) is None
    assert asked(lookback="1h") == 2
    assert asked(lookback=3600) == 2
    assert asked(window=2.5 * 3600, aggregation="sum") == 3
    assert asked(known_at=TEN) is None
    assert asked(known_at=datetime(2999, 1, 1)) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_features_may_have_options_and_names_of_their_own(client: Client, name: str, kind: str) -> None:
    id_ = fill(client, name)
    given = frame(kind, entityId=["ada"], timestamp=[TEN + 2 * HOUR])
    wanted: list[Any] = [id_, {"ref": id_, "aggregation": "sum", "window": timedelta(days=1), "as": "total"}]
    answer = client.training_set(given, wanted)
    assert list(answer.columns)[2:] == [id_, "total"] and column(answer, "total") == [3]


@pytest.mark.parametrize("kind", KINDS)
def test_a_group_is_read_into_frames_by_its_own_names(client: Client, name: str, kind: str) -> None:
    fill(client, name)
    client.register(f"{name}b", "user", "integer")
    client.put_group(name, "user", [name, f"user.{name}b"])
    client.register(name, "shop", "string")
    given = frame(kind, entityId=["ada"], timestamp=[TEN])
    assert list(client.training_set(given, group=name).columns)[2:] == [name, f"user.{name}b"]
    served = client.serve_frame(given["entityId"], [f"user.{name}"], group=name)
    assert list(served.columns) == ["entityId", name, f"user.{name}b", f"user.{name}"]
    assert column(served, name) == column(served, f"user.{name}") == [2]


def test_rows_become_a_frame_of_the_library_asked_for(client: Client, name: str) -> None:
    id_ = fill(client, name)
    given = [{"entityId": "ada", "timestamp": TEN}]
    assert isinstance(client.training_set(given, [id_], as_frame="polars"), pl.DataFrame)
    assert isinstance(client.training_set(given, [id_], as_frame="pandas"), pd.DataFrame)
    assert isinstance(client.training_set(pl.DataFrame(given), [id_], as_frame="pandas"), pd.DataFrame)
    assert isinstance(client.training_set(pd.DataFrame(given), [id_], as_frame="polars"), pl.DataFrame)


def test_served_rows_are_all_as_of_one_moment(
    shared_server: LiveServer, client: Client, name: str, small_parts: None
) -> None:
    id_ = fill(client, name)
    answer = client.serve_frame(pl.Series(["ada", "bob", "ada"]), [id_], as_of=TEN)
    assert column(answer, id_) == [1, None, 1]
    asked: list[Any] = []

    def reply(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, content=shown)
        body = json.loads(request.content)
        asked.append(body["asOf"])
        results = [
            {"entityId": one, "features": {id_: 1}, "timestamp": f"2025-11-07T1{len(asked)}:00:00.000Z"}
            for one in body["entityIds"]
        ]
        return httpx.Response(200, json={"results": results})

    shown = httpx.get(f"{shared_server.url}/features/{id_}").content
    Client(transport=httpx.MockTransport(reply)).serve_frame(["a", "b", 5], [id_])
    assert asked == [None, "2025-11-07T11:00:00.000Z"]


async def test_frames_are_awaited_too(shared_server: LiveServer, client: Client, name: str) -> None:
    id_ = fill(client, name)
    given = pl.DataFrame({"entityId": ["ada"], "timestamp": [TEN]})
    async with AsyncClient(shared_server.url) as tasks:
        assert column(await tasks.training_set(given, [id_]), id_) == [1]
        assert column(await tasks.serve_frame(given["entityId"], [id_]), id_) == [2]


# Keys


@pytest.mark.parametrize(
    "ids",
    [
        pd.Series([1, 2]),
        pd.Series(["1", "2"], dtype="category"),
        pd.Series(["1", "2"], dtype=object),
        pl.Series([1, 2], dtype=pl.UInt8),
        pl.Series(["1", "2"], dtype=pl.Categorical),
    ],
)
def test_ids_are_text_or_whole_numbers(ids: Any) -> None:
    given = ids.to_frame("id")
    assert arrow.id_column_of(given, "id").to_pylist() == ["1", "2"]


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        ([1.0, 2.5], "text or whole numbers, not double"),
        (["a", None], "id: is missing"),
        ([True, False], "not bool"),
        (["a", 1], "no one type"),
    ],
)
def test_other_ids_are_refused(ids: list[Any], words: str) -> None:
    with pytest.raises(timewell.InvalidInput, match=words) as refused:
        arrow.id_column_of(pd.DataFrame({"id": ids}), "id")
    assert refused.value.errors[0].field == "id"


@pytest.mark.parametrize(("dtype", "first"), [("float16", 2**11), ("float32", 2**24), ("float64", 2**53)])
def test_a_float_that_may_stand_for_several_whole_numbers_is_no_id(dtype: str, first: int) -> None:
    below = pd.DataFrame({"id": np.array([first - 1], dtype)})
    assert arrow.id_column_of(below, "id").to_pylist() == [str(first - 1)]
    with pytest.raises(timewell.InvalidInput, match="text or whole numbers"):
        arrow.id_column_of(pd.DataFrame({"id": np.array([first + 1], dtype)}), "id")


STORED_AS_ANOTHER: list[Any] = [
    pd.Series(pd.period_range("2025", periods=2)), pd.Series(pd.Categorical(pd.period_range("2025", periods=2))),
    pd.Series(pd.interval_range(0, 2)), pd.Series(pd.cut([1, 5], 2)),
    pd.Series(pd.PeriodIndex([pd.NaT, pd.Period("2025-01-02")])),
]  # fmt: skip


@pytest.mark.parametrize("values", STORED_AS_ANOTHER, ids=range(len(STORED_AS_ANOTHER)))
def test_a_column_that_is_stored_as_other_values_is_refused_by_name_and_row(values: Any) -> None:
    given = pd.DataFrame({"odd": values, "user": "ada", "timestamp": TEN})
    row = int(values.isna().sum())
    for ask in (
        lambda: Client().write_frame(given, "user", id_column="odd"),
        lambda: Client().write_frame(given, "user", keys={"user": "odd"}),
        lambda: Client().write_frame(given, "user", id_column="user"),
        lambda: Client().training_set(given, ["f"], id_column="odd"),
        lambda: Client().training_set(given, ["f"], keys={"user": "odd"}),
        lambda: Client().training_set(given, ["f"], keys=["user"], fields=["odd"]),
        lambda: arrow.id_rows(given, ["odd"]),
    ):
        with pytest.raises(timewell.InvalidInput, match=rf"^\[{row}\]\.odd: a (Period|Interval) ") as refused:
            ask()
        assert refused.value.errors[0].index == row


def test_columns_of_arrow_within_pandas_are_what_they_mean() -> None:
    flags = pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1, 0], pa.int8()))
    given = pd.DataFrame({"flag": pd.Series(flags, dtype=pd.ArrowDtype(pa.bool8()))})
    assert arrow.value_column(given, "flag").to_pylist() == [True, False]
    with pytest.raises(timewell.InvalidInput, match="not bool"):
        arrow.id_column_of(given, "flag")
    texts = pa.ExtensionArray.from_storage(pa.json_(), pa.array(['"a"', "3"]))
    given = pd.DataFrame({"json": pd.Series(texts, dtype=pd.ArrowDtype(pa.json_()))})
    assert arrow.value_column(given, "json").to_pylist() == ['"a"', "3"]
    with pytest.raises(timewell.InvalidInput, match="json: entity ids are text or whole numbers, not JSON"):
        arrow.id_column_of(given, "json")


@pytest.mark.parametrize(
    "times",
    [
        pd.Series(pd.to_datetime(["2025-11-07 10:00:00.000000999"])),
        pd.Series(pd.to_datetime(["2025-11-07 11:00"])).dt.tz_localize("Europe/Berlin"),
        pd.Series(["2025-11-07T10:00:00Z"]),
        pd.Series(["2025-11-07T12:00:00+02:00"], dtype=object),
        pl.Series([TEN]),
        pl.Series([TEN.replace(tzinfo=None)], dtype=pl.Datetime("ms")),
        pl.Series(["2025-11-07 10:00:00"]),
    ],
)
def test_moments_are_taken_as_both_libraries_have_them(times: Any) -> None:
    assert arrow.time_column_of(times.to_frame("ts"), "ts").to_pylist() == [TEN]


@pytest.mark.parametrize(
    ("given", "unit"),
    [
        (1762509600, "s"),
        (1762509600.0, "s"),
        (Decimal(1762509600), "s"),
        ("1762509600000", "ms"),
        (np.int64(1762509600000000), "us"),
        (1762509600000000999, "ns"),
        ("2025-11-07 10:00:00", None),
        ("2025-11-07T11:00:00+01", None),
        ("2025-11-07T10:00:00.0000009Z", None),
    ],
)
def test_moments_are_taken_in_every_form_by_frames_and_by_rows(
    client: Client, name: str, given: Any, unit: Any
) -> None:
    id_ = fill(client, name)
    for rows_ in (
        pd.DataFrame({"entityId": ["ada"], "timestamp": [given]}),
        [{"entityId": "ada", "timestamp": given}],
    ):
        answer = client.training_set(rows_, [id_], timestamp_unit=unit)
        assert column(answer, id_) == [1] if isinstance(answer, pd.DataFrame) else answer[0][id_] == 1
    polars = pl.DataFrame(
        {"entityId": ["ada"], "timestamp": [given if isinstance(given, str) else int(given)], id_: [9.5]}
    )
    client.write_frame(polars, "user", timestamp_unit=unit)
    assert client.serve(["ada"], [id_], as_of=TEN)[0].features[id_] == 9.5


@pytest.mark.parametrize("given", [[TEN], ["2025-11-07T10:00:00Z"]])
def test_moments_may_be_told_in_runs(given: list[Any]) -> None:
    runs = pa.RunEndEncodedArray.from_arrays(pa.array([3]), pa.array(given))
    frame = pd.DataFrame({"ts": pd.Series(pd.arrays.ArrowExtensionArray(pa.chunked_array([runs])))})
    assert arrow.time_column_of(frame, "ts").to_pylist() == [TEN] * 3


def test_days_are_their_first_moments(client: Client, name: str) -> None:
    days = [date(2025, 11, 7), date(1677, 1, 1)]
    for given in (pd.DataFrame({"ts": days}, dtype=object), pl.DataFrame({"ts": days})):
        found = arrow.time_column_of(given, "ts").to_pylist()
        assert found == [datetime(one.year, one.month, one.day, tzinfo=UTC) for one in days]


@pytest.mark.parametrize(
    ("times", "unit", "words"),
    [
        (
            pl.Series([TEN, datetime(9999, 12, 31)], dtype=pl.Datetime("ms")).dt.offset_by("1y"),
            None,
            "years 1 to 9999",
        ),
        (pl.Series([TEN.date(), date(9999, 12, 31)]).dt.offset_by("1y"), None, "years 1 to 9999"),
        (pd.Series(np.array(["2025-01-01", "30000-01-01"], "datetime64[s]")), None, "years 1 to 9999"),
        (pd.Series([1, 10**17]), "s", "not a number of seconds within the years"),
        (pd.Series([1.0, np.inf]), "ms", "inf is not a number of milliseconds"),
        (pd.Series(["1", "noon"]), "us", "'noon' is not a number of microseconds"),
    ],
)
def test_a_moment_that_cannot_be_held_is_refused_by_its_row(times: Any, unit: Any, words: str) -> None:
    with pytest.raises(timewell.InvalidInput, match=words) as refused:
        arrow.time_column_of(times.to_frame("ts"), "ts", unit)
    assert (refused.value.errors[0].field, refused.value.errors[0].index) == ("ts", 1)


@pytest.mark.parametrize(
    ("times", "index", "words"),
    [([TEN, None], 1, "is missing"), (["2025-11-07T10:00:00Z", "soon"], 1, "'soon' is not"), ([5], 0, "5 is not")],
)
def test_other_moments_are_refused_by_their_row(times: list[Any], index: int, words: str) -> None:
    for given in (pd.DataFrame({"ts": times}), pl.DataFrame({"ts": times})):
        with pytest.raises(timewell.InvalidInput, match=words) as refused:
            arrow.time_column_of(given, "ts")
        assert refused.value.errors[0].index == index


def test_what_is_wrong_with_rows_is_told_by_their_place_in_the_whole(
    client: Client, name: str, small_parts: None
) -> None:
    id_ = fill(client, name)
    for users in (["ada"] * 4 + [""], ["ada"] * 2 + ["\x00", "ada", ""]):
        given = pd.DataFrame({"entityId": users, "timestamp": TEN})
        dicts = given.to_dict("records")
        for ask in (given, pl.from_pandas(given), dicts):
            with pytest.raises(timewell.InvalidInput) as refused:
                client.training_set(ask, [id_])
            assert refused.value.errors[0].index == next(i for i, user in enumerate(users) if user != "ada")
        with pytest.raises(timewell.InvalidInput):
            client.serve_frame(users, [id_])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([{"entityId": "ada"}], "timestamp: is missing"),
        ([{"entityId": 1.5, "timestamp": TEN}], "neither text nor a whole number"),
        ([{"entityId": True, "timestamp": TEN}], "neither text nor a whole number"),
        (pl.LazyFrame({"entityId": ["a"]}), r"collect\(\) it first"),
        (pl.Series([1]), "is no pandas or Polars DataFrame"),
        (pd.DataFrame({"entityId": ["a"]}), "no column of this name"),
        (pd.DataFrame([["a", "b"]], columns=["entityId", "entityId"]), "several columns of this name"),
    ],
)
def test_rows_that_cannot_be_asked_with_are_refused(given: Any, words: str) -> None:
    with pytest.raises(timewell.InvalidInput, match=words):
        Client().training_set(given, ["f"])


def test_ids_are_a_list_or_a_column_not_a_frame_and_not_one_text() -> None:
    for ids, words in ((pl.DataFrame({"id": ["a"]}), "the column of a frame"), ("ada", r"give a list: \['ada'\]")):
        with pytest.raises(timewell.InvalidInput, match=words):
            Client().serve_frame(ids, ["f"])
    with pytest.raises(timewell.InvalidInput, match="give a list"):
        Client().training_set([], "f")


def test_a_label_that_is_named_like_a_feature_is_refused(client: Client, name: str) -> None:
    id_ = fill(client, name)
    dicts = [{"entityId": "ada", "timestamp": TEN, id_: 1}]
    for given in (dicts, pd.DataFrame(dicts), pl.DataFrame(dicts)):
        with pytest.raises(timewell.InvalidInput, match="is a column of the rows as well"):
            client.training_set(given, [id_])


# What is written


class Taken:
    """A service that takes Arrow batches and notes them."""

    def __init__(self, *answers: httpx.Response) -> None:
        self.tables: list[Any] = []
        self.requests: list[httpx.Request] = []
        self._answers = list(answers)
        self.client = Client(transport=httpx.MockTransport(self._reply))

    def _reply(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.tables.append(pa.ipc.open_stream(request.content).read_all())
        if self._answers:
            return self._answers.pop(0)
        return httpx.Response(200, json={"success": True, "count": self.tables[-1].num_rows})


@pytest.mark.parametrize("kind", KINDS)
def test_a_frame_is_written_as_a_column_per_feature(kind: str) -> None:
    taken = Taken()
    given = frame(kind, user_id=[1, 2], ts=[TEN, TEN], clicks=[1, None], city=["x", None])
    written = taken.client.write_frame(given, "user", id_column="user_id", timestamp_column="ts")
    assert (written.success, written.count) == (True, 2)
    (table,), (request,) = taken.tables, taken.requests
    assert request.url.path == "/features/write-batch"
    assert request.headers["Content-Type"] == "application/vnd.apache.arrow.stream"
    assert request.headers["Idempotency-Key"]
    assert table.column_names == ["entityId", "timestamp", "user.clicks", "user.city"]
    assert table["entityId"].to_pylist() == ["1", "2"] and table["timestamp"].to_pylist() == [TEN, TEN]
    assert table["user.clicks"].to_pylist() == [1, None] and table["user.city"].to_pylist() == ["x", None]
    assert table["user.city"].type == pa.string()


def test_columns_are_chosen_and_named() -> None:
    taken = Taken()
    given = pd.DataFrame({"entityId": ["a"], "timestamp": [TEN], "x": [1], "y": [2]})
    taken.client.write_frame(given, "user", columns=["y"])
    taken.client.write_frame(given, "user", columns={"x": "clicks", "y": "shop.sales.v2"}, timestamp_column=None)
    assert taken.tables[0].column_names == ["entityId", "timestamp", "user.y"]
    assert taken.tables[1].column_names == ["entityId", "user.clicks", "shop.sales.v2"]
    with pytest.raises(timewell.InvalidInput, match=r"two columns are 'user\.z'"):
        taken.client.write_frame(given, "user", columns={"x": "z", "y": "user.z"})


def test_a_frame_is_written_in_parts_bounded_in_rows_and_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    given = pd.DataFrame({"entityId": ["a"] * 5, "timestamp": TEN, "x": np.arange(5)})
    monkeypatch.setattr(arrow, "MOST_ROWS", 2)
    taken = Taken()
    assert taken.client.write_frame(given, "user", idempotency_key="mine").count == 5
    assert [table.num_rows for table in taken.tables] == [2, 2, 1]
    assert [request.headers["Idempotency-Key"] for request in taken.requests] == ["mine-0", "mine-1", "mine-2"]
    monkeypatch.setattr(arrow, "MOST_BYTES", 1)
    taken = Taken()
    taken.client.write_frame(given, "user")
    assert [table.num_rows for table in taken.tables] == [1] * 5
    assert taken.client.write_frame(given[:0], "user").count == 0


def test_rows_that_later_parts_replace_are_counted(client: Client, name: str, small_parts: None) -> None:
    fill(client, name)
    client.register(f"{name}_text", "user", "string")
    columns: dict[str, Any] = {
        name: [1.0, 2.0, 3.0, float("nan"), 4.0],
        f"{name}_text": ["a", None, "b", "c", "d"],
    }
    given = frame("pandas", entityId=["a", "b", "a", "a", "b"], timestamp=[TEN] * 5, **columns)
    assert client.write_frame(given, "user").overwritten == 2 + 3 - 1
    assert client.write_frame(given, "user", nulls="write").overwritten == 6
    assert client.write_frame(given[3:], "user").overwritten is None


def test_a_refused_part_says_what_is_written_and_which_row_is_to_blame(small_parts: None) -> None:
    fault = {"field": "x", "message": "is wrong", "index": 1}
    refusal = httpx.Response(400, json={"detail": "x: is wrong", "errors": [fault]})
    given = pd.DataFrame({"entityId": ["a"] * 4, "timestamp": TEN, "x": 1})
    with pytest.raises(timewell.InvalidInput, match="rows before 2 are written") as refused:
        Taken(httpx.Response(200, json={"success": True, "count": 2}), refusal).client.write_frame(given, "user")
    assert refused.value.errors[0].index == 3
    partly = httpx.Response(200, json={"success": False, "count": 1, "errors": [fault]})
    taken = Taken(httpx.Response(200, json={"success": True, "count": 2}), partly)
    written = taken.client.write_frame(given, "user", partial=True)
    assert (written.success, written.count) == (False, 3)
    assert written.errors is not None and written.errors[0].index == 3
    assert taken.requests[0].url.params["partial"] == "true"


ODD_COLUMNS: list[Any] = [
    pd.Series([b"ada"]), pd.Series([bytearray(b"ada")]), pd.Series(["a", b"b"]), pd.Series([np.array([b"ada"])]),
    pd.Series([{"a": b"ada"}]), pd.Series([b"ada"], dtype="category"), pd.Series([[b"ada"], ["bob"]]),
    pl.Series([b"ada"]), pl.Series([[b"ada"]]), pl.Series([{"a": b"ada"}]), pl.Series([b"a"], dtype=pl.Object),
    pd.Series([{1, 2}]), pd.Series([[1], {2}]), pd.Series([TEN.date(), TEN]), pd.Series([{"a": float("nan")}]),
    pd.Series([{1: 2}]), pd.Series(["\ud800"], dtype=object),
]  # fmt: skip


@pytest.mark.parametrize("values", ODD_COLUMNS, ids=range(len(ODD_COLUMNS)))
def test_a_column_that_would_become_another_one_is_refused_by_its_name(values: Any) -> None:
    given = (
        values.to_frame("odd").assign(entityId="a") if isinstance(values, pd.Series) else values.to_frame("odd")
    )
    if isinstance(given, pl.DataFrame):
        given = given.with_columns(entityId=pl.lit("a"))
    with pytest.raises(timewell.InvalidInput, match=r"^(\[[01]\]\.)?odd"):
        Client().write_frame(given, "user", timestamp_column=None)
    with pytest.raises(timewell.InvalidInput, match=r"^(\[[01]\]\.)?odd"):
        Client().write_frame(given, "user", id_column="odd", timestamp_column=None)


@pytest.mark.parametrize("kind", KINDS)
def test_objects_of_unlike_fields_are_written_to_a_feature_of_json_and_to_no_other(
    client: Client, name: str, kind: str
) -> None:
    json_id, text_id = (client.register(f"{name}{one}", "user", one).id for one in ("json", "string"))
    values = [{"a": 1}, {"a": "x"}, None, [1, "a"], [{"b": None}, {"c": 2}]]
    values = values if kind == "pandas" else [{"a": 1}, {"a": 2}, None, {"a": None}, {"a": 3}]
    given = frame(kind, entityId=list("abcde"), timestamp=[TEN] * 5, values=values)
    assert client.write_frame(given, "user", columns={"values": json_id}).count == 4
    assert [one.features[json_id] for one in client.serve(list("abcde"), [json_id])] == values
    with pytest.raises(timewell.InvalidInput, match=r"^values: .* is of type string, not json"):
        client.write_frame(given, "user", columns={"values": text_id})


@pytest.mark.parametrize(
    "values",
    [
        pd.Series(["rome", "oslo", None], dtype="category"),
        pd.Series(["rome", "oslo", None], dtype="string[pyarrow]"),
        pl.Series(["rome", "oslo", None], dtype=pl.Categorical),
        pl.Series(["rome", "oslo", None], dtype=pl.Enum(["oslo", "rome"])),
    ],
)
def test_categories_are_written_as_their_texts(client: Client, name: str, values: Any) -> None:
    id_ = client.register(name, "user", "string").id
    given = values.to_frame(name)
    keys = {"entityId": list("abc"), "timestamp": [TEN] * 3}
    given = given.assign(**keys) if isinstance(given, pd.DataFrame) else given.hstack(pl.DataFrame(keys))
    assert client.write_frame(given, "user").count == 2
    assert [one.features[id_] for one in client.serve(list("abc"), [id_])] == ["rome", "oslo", None]


def test_values_of_python_in_a_column_are_what_they_are_elsewhere() -> None:
    taken = Taken()
    mixed: list[Any] = [Decimal("1.5"), 2.25]
    given = pd.DataFrame({"entityId": [UUID(int=5), UUID(int=6)], "x": [UUID(int=7), UUID(int=8)], "y": mixed})
    taken.client.write_frame(given, "user", timestamp_column=None)
    assert taken.tables[0].to_pylist() == [
        {"entityId": str(UUID(int=5)), "user.x": str(UUID(int=7)), "user.y": 1.5},
        {"entityId": str(UUID(int=6)), "user.x": str(UUID(int=8)), "user.y": 2.25},
    ]


def test_vectors_of_both_libraries_are_lists() -> None:
    for given in (
        pd.DataFrame({"entityId": ["a"], "v": [np.array([0.5, 1.5], np.float32)]}),
        pl.DataFrame({"entityId": ["a"], "v": [[0.5, 1.5]]}, schema_overrides={"v": pl.Array(pl.Float32, 2)}),
    ):
        taken = Taken()
        taken.client.write_frame(given, "user", timestamp_column=None)
        assert taken.tables[0]["user.v"].type == pa.list_(pa.float32())
        assert taken.tables[0]["user.v"].to_pylist() == [[0.5, 1.5]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value_type", ALL_TYPES)
def test_every_type_that_is_written_in_a_frame_is_served_as_it_was(
    client: Client, name: str, kind: str, value_type: str
) -> None:
    schema = {"dimension": 2} if value_type == "vector" else None
    id_ = client.register(name, "user", value_type, schema=schema).id  # type: ignore[arg-type]
    values = ALL_TYPES[value_type] if value_type != "json" else [{"a": [1, None]}, {"b": 5}]
    given = frame(kind, user=["a", "b"], ts=[TEN, TEN], values=values)
    if value_type == "json" and kind == "polars":
        given = given.with_columns(values=pl.Series([json.dumps(value) for value in values]))
    written = client.write_frame(given, "user", id_column="user", timestamp_column="ts", columns={"values": name})
    assert (written.success, written.count) == (True, 2)
    assert [one.features[id_] for one in client.serve(["a", "b"], [id_])] == values


@pytest.mark.parametrize("kind", KINDS)
def test_missing_values_are_not_written_and_integers_with_gaps_are_integers(
    client: Client, name: str, kind: str
) -> None:
    first, second = (client.register(f"{name}{end}", "user", "integer").id for end in "ab")
    client.write(second, "1", 7, TEN - HOUR)
    given = frame(
        kind, entityId=[1, 2, 3], timestamp=[TEN] * 3, **{f"{name}a": [1, 2, 3], f"{name}b": [None, 5, 6]}
    )
    assert client.write_frame(given, "user").count == 5
    served = client.serve(["1", "2", "3"], [first, second])
    assert [list(one.features.values()) for one in served] == [[1, 7], [2, 5], [3, 6]]


@pytest.mark.parametrize("kind", KINDS)
def test_missing_values_are_counted_and_written_as_nulls_where_that_is_asked_for(
    client: Client, name: str, kind: str, small_parts: None
) -> None:
    id_ = client.register(name, "user", "number").id
    text = client.register(f"{name}_text", "user", "string").id
    client.write(id_, f"{kind}b", 7, TEN - HOUR)
    keys = {"entityId": [f"{kind}{one}" for one in "abc"], "timestamp": [TEN] * 3}
    given = frame(kind, **keys, **{name: [1.0, float("nan"), None], f"{name}_text": ["x", None, "z"]})
    skipped = client.write_frame(given, "user", idempotency_key=name + kind)
    assert (skipped.count, skipped.skipped, skipped.repeated) == (3, 3, 0)
    again = client.write_frame(given, "user", idempotency_key=name + kind)
    assert (again.count, again.repeated) == (3, 3)
    asked = [f"{kind}b", f"{kind}c"]
    assert [one.features[id_] for one in client.serve(asked, [id_])] == [7, None]
    written = client.write_frame(given, "user", nulls="write")
    assert (written.count, written.skipped) == (6, 0)
    served = client.serve(asked, [id_, text], include_metadata=True)
    statuses = [[one.metadata[id_].status, one.metadata[text].status] for one in served]  # type: ignore[index]
    assert statuses == [["null", "null"], ["null", "present"]]


@pytest.mark.parametrize("kind", KINDS)
def test_the_service_names_the_row_of_the_frame_and_what_is_written(
    client: Client, name: str, kind: str, small_parts: None
) -> None:
    client.register(name, "user", "number", schema={"min": 0})
    given = frame(kind, entityId=list("abcde"), timestamp=[TEN] * 5, **{name: [1.0, 2.0, 3.0, -4.0, 5.0]})
    with pytest.raises(timewell.InvalidInput, match="rows before 2 are written") as refused:
        client.write_frame(given, "user", idempotency_key=name)
    assert [one.index for one in refused.value.errors] == [3]
    assert [one.features[name] for one in client.serve(list("abcde"), [name])] == [1, 2, None, None, None]
    written = client.write_frame(given, "user", partial=True)
    assert (written.success, written.count, [one.index for one in written.errors or ()]) == (False, 4, [3])
    with pytest.raises(timewell.NotFound, match="unheard"):
        client.write_frame(given, "user", columns={name: "unheard"})


async def test_a_frame_that_was_written_trains(shared_server: LiveServer, name: str) -> None:
    async with AsyncClient(shared_server.url) as client:
        await client.register(name, "user", "number")
        given = pl.DataFrame({"entityId": ["a", "a"], "timestamp": [TEN, TEN + HOUR], name: [1.0, 2.0]})
        assert (await client.write_frame(given, "user")).count == 2
        answer = await client.training_set(given.rename({name: "label"}), [name])
        assert answer[name].to_list() == answer["label"].to_list() == [1.0, 2.0]


# Failures


def test_a_library_that_is_missing_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ImportError, match=r"this needs polars: pip install 'timewell\[polars\]'"):
        arrow.library("polars")


def test_an_answer_of_another_form_or_length_is_the_servers_failure() -> None:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, pa.schema({"entityId": pa.string(), "timestamp": pa.string()})):
        pass
    given = pd.DataFrame({"entityId": ["a"], "timestamp": [TEN]})
    for content, words in ((b"x", "not an Arrow stream"), (bytes(sink.getvalue()), "has 0 rows for 1")):
        transport = httpx.MockTransport(lambda _, content=content: httpx.Response(200, content=content))
        with pytest.raises(timewell.ServerFailed, match=words):
            Client(transport=transport).training_set(given, ["f"])


@pytest.mark.parametrize("kind", KINDS)
def test_an_export_comes_in_frames_of_some_entities_with_the_types_of_the_features(
    client: Client, name: str, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "MOST_IDS", 2)
    whose = f"kind_{name}"
    number, text = client.register("n", whose, "number"), client.register("t", whose, "string")
    values = [(number.id, f"e{place}", place / 2, TEN) for place in range(5)]
    client.write_batch([*values, (text.id, "e1", "x", TEN + HOUR), (text.id, "e1", None, TEN)])
    parts = list(client.export([number.id, text.id], as_frame=kind))
    assert [len(part) for part in parts] == [3, 2, 1]
    assert all(arrow.kind_of(part) == kind for part in parts)
    whole = pl.concat([part if kind == "polars" else pl.from_pandas(part) for part in parts])
    assert whole["entityId"].to_list() == ["e0", "e1", "e1", "e2", "e3", "e4"]
    assert whole[number.id].to_list() == [0.0, 0.5, None, 1.0, 1.5, 2.0]
    assert whole[text.id].to_list() == [None, None, "x", None, None, None]
    assert whole["timestamp"].to_list() == [TEN, TEN, TEN + HOUR, TEN, TEN, TEN]
    (some,) = client.export([number.id], entity_ids=["e4", "nobody"], start=TEN, end=TEN, as_frame=kind)
    assert some[number.id].to_list() == [2.0]
    with pytest.raises(timewell.InvalidInput):
        list(client.export([]))


async def test_the_async_client_exports_the_same(shared_server: LiveServer, client: Client, name: str) -> None:
    feature = client.register("n", f"kind_{name}", "number")
    client.write_batch([(feature.id, f"e{place}", place, TEN) for place in range(5)])
    async with AsyncClient(shared_server.url) as other:
        (part,) = [part async for part in other.export([feature.id])]
    assert part[feature.id].tolist() == [0, 1, 2, 3, 4]
