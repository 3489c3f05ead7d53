"""`POST /features/training-set` as the contract has it: names, labels, options, rows as JSON and as Arrow."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from actors.timestamps import LAST_MOMENT, YEAR_ONE, format_timestamp
from tests.live import LiveServer
from tests.web.test_errors import fields, problem

OVER_EVERY_STORE = True

_NUMBERS = count()
PATH = "/features/training-set"
ARROW = "application/vnd.apache.arrow.stream"
TEN = "2025-11-07T10:00:00.000Z"
TEN_MICROS = 1_762_509_600_000_000


@pytest.fixture
def name() -> str:
    """A feature name of its own for each test."""
    return f"f{next(_NUMBERS)}"


def at(minute: int, rest: str = "00.000Z") -> str:
    """A minute after ten, as answers have it."""
    return f"2025-11-07T10:{minute:02}:{rest}"


def fill(server: LiveServer, name: str, *values: Any, value_type: str = "number", **rest: Any) -> str:
    """Register a feature and write one value a minute for u, from ten o'clock on."""
    id_: str = server.register(name, value_type, **rest)["id"]
    if values:
        server.write(*((id_, "u", value, at(minute)) for minute, value in enumerate(values)))
    return id_


def row(time: str, entity: str = "u", **labels: Any) -> dict[str, Any]:
    """A row to ask about."""
    return {"entityId": entity, "timestamp": time, **labels}


def asked(server: LiveServer, *rows: dict[str, Any], **rest: Any) -> list[dict[str, Any]]:
    """The results of a training set."""
    answer = server.post(PATH, {"rows": list(rows), **rest})
    assert answer.status_code == 200, answer.text
    return list(answer.json()["results"])


def values(server: LiveServer, name: str, *times: str, **rest: Any) -> list[Any]:
    """What u had at some times."""
    return [one[name] for one in asked(server, *map(row, times), features=[name], **rest)]


# Time


def test_each_row_has_the_latest_value_at_or_before_its_time(shared_server: LiveServer, name: str) -> None:
    fill(shared_server, name, 1, 2)
    times = ["2025-11-07T09:59:59.999999Z", at(0), at(0, "59.999999Z"), at(1), at(59)]
    assert asked(shared_server, *map(row, times), features=[name]) == [
        {"entityId": "u", "timestamp": time, name: value}
        for time, value in zip(times, [None, 1, 1, 2, 2], strict=True)
    ]


def test_a_value_exactly_lookback_old_counts_and_one_a_microsecond_older_does_not(
    shared_server: LiveServer, name: str
) -> None:
    fill(shared_server, name, 1)
    times = [at(5), at(5, "00.000001Z")]
    for lookback in ("5m", 300, 300.0):
        assert values(shared_server, name, *times, lookback=lookback) == [1, None]
    assert values(shared_server, name, *times, lookback=300.000001) == [1, 1]


def test_the_lookback_is_the_max_age_of_the_feature_where_none_is_given(
    shared_server: LiveServer, name: str
) -> None:
    fill(shared_server, name, 1, maxAge="5m")
    times = [at(5), at(5, "00.000001Z"), at(7)]
    assert values(shared_server, name, *times) == [1, None, None]
    assert values(shared_server, name, *times, lookback="7m") == [1, 1, 1]
    assert values(shared_server, name, *times, lookback="1m") == [None, None, None]
    assert values(shared_server, name, *times, window="7m") == [1, 1, None]


def test_offsets_and_the_hour_that_comes_twice_are_told_apart(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    shared_server.write(
        (id_, "u", 1, "2025-10-26T02:30:00+02:00"),  # summer time in Berlin, 00:30 UTC
        (id_, "u", 2, "2025-10-26T02:30:00+01:00"),  # the same on the clock an hour later, 01:30 UTC
    )
    times = [
        "2025-10-26T02:29:59+02:00",
        "2025-10-26T02:30:00+02:00",
        "2025-10-26T02:29:59+01:00",
        "2025-10-26T02:30:00+01:00",
        "2025-10-26T01:30:00",
        "2025-10-25T20:30:00.000-05:00",
    ]
    found = asked(shared_server, *map(row, times), features=[name])
    assert [one[name] for one in found] == [None, 1, 1, 2, 2, 2]
    assert [one["timestamp"][11:] for one in found] == [
        "00:29:59.000Z",
        "00:30:00.000Z",
        "01:29:59.000Z",
        "01:30:00.000Z",
        "01:30:00.000Z",
        "01:30:00.000Z",
    ]


def test_rows_of_the_first_and_the_last_moment_are_answered(shared_server: LiveServer, name: str) -> None:
    fill(shared_server, name, 1)
    ends = [format_timestamp(YEAR_ONE), format_timestamp(LAST_MOMENT)]
    assert values(shared_server, name, *ends) == [None, 1]
    assert values(shared_server, name, *ends, lookback="10000000d") == [None, 1]
    assert values(shared_server, name, *ends, window="10000d", aggregation="count") == [0, 0]


# What is known


@pytest.mark.parametrize("known_at", ["row", "2025-11-07T10:00:00Z"])
def test_what_arrived_after_the_row_is_not_known_at_its_time(
    shared_server: LiveServer, name: str, known_at: str
) -> None:
    fill(shared_server, name, 1)  # of 2025, and arrives today
    assert values(shared_server, name, at(1)) == [1]
    assert values(shared_server, name, at(1), knownAt=known_at) == [None]
    assert values(shared_server, name, at(1), knownAt=known_at, window="5m", aggregation="count") == [0]


def test_what_has_arrived_by_now_is_known_far_in_the_future(shared_server: LiveServer, name: str) -> None:
    fill(shared_server, name, 1)
    assert values(shared_server, name, at(1), knownAt="9999-01-01T00:00:00Z") == [1]
    assert values(shared_server, name, "9999-01-01T00:00:00Z", knownAt="row") == [1]


@pytest.mark.before_the_store
@pytest.mark.parametrize("known_at", ["yesterday", "", "ROW", 5])
def test_an_unreadable_known_at_is_refused(shared_server: LiveServer, name: str, known_at: Any) -> None:
    fill(shared_server, name, 1)
    answer = shared_server.post(PATH, {"rows": [row(TEN)], "features": [name], "knownAt": known_at})
    assert fields(problem(answer, 400)) == ["knownAt"]


# Names


def test_a_feature_is_named_as_it_was_asked_for(shared_server: LiveServer, name: str) -> None:
    id_ = fill(shared_server, name, 1)
    fill(shared_server, name, 2, version=2)
    references = [name, f"user.{name}", id_]
    (found,) = asked(shared_server, row(TEN), features=references)
    assert found == {**row(TEN), name: 2, f"user.{name}": 2, id_: 1}
    assert list(found) == ["entityId", "timestamp", *references]


def test_a_feature_asked_for_twice_is_one_column(shared_server: LiveServer, name: str) -> None:
    fill(shared_server, name, 1)
    assert asked(shared_server, row(TEN), features=[name, {"ref": name}, name]) == [{**row(TEN), name: 1}]


def test_a_group_comes_before_the_features_beside_it(shared_server: LiveServer, name: str) -> None:
    names = [f"{name}_{letter}" for letter in "abc"]
    for place, one in enumerate(names):
        fill(shared_server, one, place)
    body = {"name": f"g_{name}", "entity": "user", "features": names[1::-1]}
    assert shared_server.post("/groups", body).status_code == 201
    (found,) = asked(shared_server, row(TEN), group=f"g_{name}")
    assert list(found.items())[2:] == [(names[1], 1), (names[0], 0)]
    (found,) = asked(shared_server, row(TEN), group=f"g_{name}", features=[names[2], names[0]])
    assert list(found.items())[2:] == [(names[1], 1), (names[0], 0), (names[2], 2)]


def test_a_group_without_features_beside_a_feature_is_that_feature(shared_server: LiveServer, name: str) -> None:
    fill(shared_server, name, 1)
    body = {"name": f"g_{name}", "entity": "user", "features": []}
    if shared_server.post("/groups", body).status_code == 201:
        assert asked(shared_server, row(TEN), group=f"g_{name}", features=[name]) == [{**row(TEN), name: 1}]


def test_several_aggregations_of_one_feature_have_names_of_their_own(shared_server: LiveServer, name: str) -> None:
    fill(shared_server, name, 1, None, 5, 6)
    wanted = [
        name,
        {"ref": name, "aggregation": "sum", "window": "2m", "as": "sum_2m"},
        {"ref": name, "aggregation": "sum", "window": "4m", "as": "sum_4m"},
        {"ref": name, "aggregation": "avg", "as": "average"},
    ]
    for window in ({"window": "3m"}, {"window": 180}):
        found = asked(shared_server, row(at(3)), row(at(4, "15.000Z")), features=wanted, **window)
        # `window` of the whole request is also that of what names none: the plain one and the average.
        assert [list(one.values())[2:] for one in found] == [[6, 11, 12, 5.5], [6, 6, 11, 5.5]]
        assert list(found[0])[2:] == [name, "sum_2m", "sum_4m", "average"]


def test_a_name_that_is_taken_is_refused(shared_server: LiveServer, name: str) -> None:
    fill(shared_server, name, 1)
    for features, labels in (
        ([name, {"ref": name, "lookback": "1m"}], {}),
        ([name], {name: 1}),
        ([{"ref": name, "as": "label"}], {"label": 1}),
        ([{"ref": name, "as": "entityId"}], {}),
        ([{"ref": name, "as": "timestamp"}], {}),
    ):
        body = {"rows": [{**row(TEN), **labels}], "features": features}
        assert fields(problem(shared_server.post(PATH, body), 400)) == ["features"]


ODD_NAMES = ['say "hi"', "back\\slash", "two\nlines", "", "ümlaut ✓", "class", "0", "a,b", "__proto__"]


@pytest.mark.parametrize("odd", ODD_NAMES)
def test_a_label_may_have_any_name(shared_server: LiveServer, name: str, odd: str) -> None:
    fill(shared_server, name, 1)
    assert asked(shared_server, {**row(TEN), odd: 5}, features=[name]) == [{**row(TEN), odd: 5, name: 1}]


@pytest.mark.parametrize("odd", ODD_NAMES)
def test_a_column_may_be_given_any_name(shared_server: LiveServer, name: str, odd: str) -> None:
    fill(shared_server, name, 1)
    answer = shared_server.post(PATH, {"rows": [row(TEN)], "features": [{"ref": name, "as": odd}]})
    if answer.status_code != 400:  # to refuse a name is as good
        assert answer.json()["results"] == [{**row(TEN), odd: 1}]


# Labels

LABELS = [
    None,
    True,
    False,
    0,
    -5,
    0.5,
    5.0,
    2**53 + 1,
    2**64,
    "",
    "text",
    "ä",
    [],
    [1, [None]],
    {},
    {"a": {"b": 1}},
]


def test_labels_of_every_kind_pass_through(shared_server: LiveServer, name: str) -> None:
    fill(shared_server, name, 1)
    rows = [row(at(minute), label=label) for minute, label in enumerate(LABELS)]
    found = asked(shared_server, *rows, features=[name])
    assert repr(found) == repr([{**one, name: 1} for one in rows])


def test_a_label_that_a_row_lacks_is_null_there(shared_server: LiveServer, name: str) -> None:
    fill(shared_server, name, 1)
    found = asked(shared_server, row(at(0), a=1), row(at(1), b=2), row(at(2)), features=[name])
    assert [(one["a"], one["b"]) for one in found] == [(1, None), (None, 2), (None, None)]


def test_unknown_entities_are_null_beside_known_ones(shared_server: LiveServer, name: str) -> None:
    fill(shared_server, name, 1)
    rows = [row(TEN, "nobody"), row(TEN), row(TEN, "Zoë ✓"), row(TEN)]
    assert [one[name] for one in asked(shared_server, *rows, features=[name])] == [None, 1, None, 1]


# What is refused


@pytest.mark.before_the_store
@pytest.mark.parametrize(
    ("rest", "blamed"),
    [
        ({"features": []}, ["features"]),
        ({}, ["features"]),
        ({"features": ["{name}"], "lookback": "soon"}, ["lookback"]),
        ({"features": ["{name}"], "lookback": 0}, ["lookback"]),
        ({"features": ["{name}"], "window": -1}, ["window"]),
        ({"features": [{"ref": "{name}", "window": "x"}]}, ["features[0].window"]),
        ({"features": ["{name}"], "aggregation": "mode", "window": 1}, ["aggregation"]),
        ({"features": ["{name}"], "aggregation": "sum"}, ["window"]),
        ({"features": [{"ref": "{name}", "agregation": "sum"}]}, ["features[0].agregation"]),
        ({"features": ["{name}"], "lookbak": 5}, ["lookbak"]),
        ({"features": ["{name}"], "rows": 5}, ["rows"]),
        ({"features": ["{name}"], "rows": [{"timestamp": TEN}]}, ["rows.entityId"]),
        ({"features": ["{name}"], "rows": [{"entityId": 5, "timestamp": TEN}]}, ["rows.entityId"]),
        ({"features": ["{name}"], "rows": [{"entityId": "", "timestamp": TEN}]}, ["rows.entityId"]),
        ({"features": ["{name}"], "rows": [{"entityId": "a\n", "timestamp": TEN}]}, ["rows.entityId"]),
        ({"features": ["{name}"], "rows": [{"entityId": "u"}]}, ["rows.timestamp"]),
        ({"features": ["{name}"], "rows": [{"entityId": "u", "timestamp": 5}]}, ["rows.timestamp"]),
        ({"features": ["{name}"], "rows": [{"entityId": "u", "timestamp": "noon"}]}, ["rows.timestamp"]),
    ],
)
def test_a_request_that_is_wrong_is_refused_with_what_is_to_blame(
    shared_server: LiveServer, name: str, rest: dict[str, Any], blamed: list[str]
) -> None:
    fill(shared_server, name, 1)
    body: dict[str, Any] = {"rows": [row(TEN)], **rest}
    for one in body.get("features", []):
        if isinstance(one, dict):
            one["ref"] = name
    body["features"] = [name if one == "{name}" else one for one in body.get("features", [])]
    assert fields(problem(shared_server.post(PATH, body), 400)) == blamed


@pytest.mark.parametrize("unknown", [{"features": ["no_such"]}, {"group": "no_such"}])
def test_what_is_unknown_is_a_404(shared_server: LiveServer, unknown: dict[str, Any]) -> None:
    assert fields(problem(shared_server.post(PATH, {"rows": [row(TEN)], **unknown}), 404)) == []


def test_every_bad_row_is_named_by_its_index(shared_server: LiveServer, name: str) -> None:
    fill(shared_server, name, 1)
    rows = [row(TEN), row("x"), row(TEN), row("2025-13-01T00:00:00Z")]
    body = problem(shared_server.post(PATH, {"rows": rows, "features": [name]}), 400)
    assert [fault["index"] for fault in body["errors"]] == [1, 3]


def test_arithmetic_on_what_is_no_number_is_refused(shared_server: LiveServer, name: str) -> None:
    fill(shared_server, name, "a", value_type="string")
    body = {"rows": [row(TEN)], "features": [name], "aggregation": "avg", "window": 60}
    assert fields(problem(shared_server.post(PATH, body), 400)) == ["aggregation"]


def test_too_many_columns_are_refused(shared_server: LiveServer, name: str) -> None:
    fill(shared_server, name, 1)
    many = [{"ref": name, "as": f"column {n}"} for n in range(1_001)]
    problem(shared_server.post(PATH, {"rows": [row(TEN)], "features": many}), 413)
    (found,) = asked(shared_server, row(TEN), features=many[1:])
    assert len(found) == 1_002 and set(list(found.values())[2:]) == {1}


@pytest.mark.before_the_store
@pytest.mark.parametrize("declared", ["text/csv", "text/plain", ""])
def test_a_body_of_another_type_is_refused(shared_server: LiveServer, declared: str) -> None:
    headers = {"Content-Type": declared} if declared else {}
    problem(shared_server.http.post(PATH, content=b"{}", headers=headers), 415)


# Rows as Arrow


def arrow_body(table: pa.Table | pa.RecordBatch) -> bytes:
    """A table as an Arrow stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write(table)
    return bytes(sink.getvalue())


def send(
    server: LiveServer, body: pa.Table | bytes, accept: str = "application/json", **query: str
) -> httpx.Response:
    """Ask with an Arrow body."""
    data = body if isinstance(body, bytes) else arrow_body(body)
    headers = {"Content-Type": ARROW, "Accept": accept}
    return server.http.post(PATH, content=data, params=query, headers=headers)


def sent(server: LiveServer, body: pa.Table | bytes, **query: str) -> list[dict[str, Any]]:
    """The results for an Arrow body."""
    answer = send(server, body, **query)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["results"])


def moments(*micros: int, unit: str = "us", zone: str | None = "UTC") -> pa.Array:
    """Timestamps given as microseconds after ten."""
    whole = pa.array([TEN_MICROS + one for one in micros], pa.timestamp("us", zone))
    return whole.cast(pa.timestamp(unit, zone), safe=False)


@pytest.fixture
def written(shared_server: LiveServer, name: str) -> Iterator[str]:
    """A feature with a value at ten and one a minute later."""
    fill(shared_server, name, 1, 2)
    yield name


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin", "America/New_York", "+05:30"])
def test_timestamps_of_every_unit_and_zone_are_the_moments_they_mean(
    shared_server: LiveServer, written: str, unit: str, zone: str | None
) -> None:
    seconds = [-1_000_000, 0, 59_000_000, 60_000_000]
    table = pa.table({"entityId": ["u"] * 4, "timestamp": moments(*seconds, unit=unit, zone=zone)})
    found = sent(shared_server, table, features=written)
    assert [one[written] for one in found] == [None, 1, 1, 2]
    assert [one["timestamp"] for one in found] == [format_timestamp(TEN_MICROS + one) for one in seconds]


def test_a_nanosecond_before_a_value_is_before_it(shared_server: LiveServer, written: str) -> None:
    exact = TEN_MICROS * 1_000
    table = pa.table({"entityId": ["u"] * 2, "timestamp": pa.array([exact - 1, exact + 1], pa.timestamp("ns"))})
    assert [one[written] for one in sent(shared_server, table, features=written)] == [None, 1]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()], ids=str)
def test_strings_of_every_kind_are_taken(shared_server: LiveServer, written: str, kind: pa.DataType) -> None:
    times = pa.array(["2025-11-07T11:00:59+01:00", "2025-11-07T10:01:00Z"], kind)
    table = pa.table(
        {"entityId": pa.array(["u", "x"], kind), "timestamp": times, "label": pa.array(["a", None], kind)}
    )
    assert sent(shared_server, table, features=written) == [
        {**row(at(0, "59.000Z")), "label": "a", written: 1},
        {**row(at(1), "x"), "label": None, written: None},
    ]


@pytest.mark.parametrize("accept", ["application/json", ARROW])
def test_dictionaries_are_taken_as_their_values(shared_server: LiveServer, written: str, accept: str) -> None:
    plain = {"entityId": ["u", "x", "u"], "label": ["a", None, "b"]}
    columns = {name: pa.array(values).dictionary_encode() for name, values in plain.items()}
    answer = send(shared_server, pa.table({**columns, "timestamp": moments(0, 0, 0)}), accept, features=written)
    assert answer.status_code == 200, answer.text
    found = pa.ipc.open_stream(answer.content).read_all().to_pydict() if accept == ARROW else None
    if found is None:
        results = answer.json()["results"]
        found = {name: [one[name] for one in results] for name in results[0]}
    assert {**plain, written: [1, None, 1]} == {key: found[key] for key in (*plain, written)}


def test_timestamps_in_a_dictionary_are_taken(shared_server: LiveServer, written: str) -> None:
    times = pa.array([at(0), at(1), at(0)]).dictionary_encode()
    table = pa.table({"entityId": ["u"] * 3, "timestamp": times})
    assert [one[written] for one in sent(shared_server, table, features=written)] == [1, 2, 1]


def test_a_label_with_a_dictionary_inside_passes_through_as_arrow(shared_server: LiveServer, written: str) -> None:
    words = pa.array(["a", "b", "a"]).dictionary_encode()
    label = pa.ListArray.from_arrays(pa.array([0, 2, 3]), words)
    table = pa.table({"entityId": ["u", "u"], "timestamp": moments(0, 0), "label": label})
    answer = send(shared_server, table, ARROW, features=written)
    assert answer.status_code == 200, answer.text
    assert pa.ipc.open_stream(answer.content).read_all()["label"].to_pylist() == [["a", "b"], ["a"]]


def test_a_pandas_frame_comes_back_with_its_labels(shared_server: LiveServer, written: str) -> None:
    times = pd.to_datetime([at(0), at(1)])
    frame = pd.DataFrame({"entityId": ["u", "u"], "timestamp": times, "label": [0.5, np.nan], "n": [1, 2]})
    frame["when"] = times.as_unit("ns")
    answer = send(shared_server, pa.Table.from_pandas(frame, preserve_index=False), ARROW, features=written)
    back = pa.ipc.open_stream(answer.content).read_pandas()
    assert back["when"].tolist() == frame["when"].tolist() and back["n"].tolist() == [1, 2]
    assert back[written].tolist() == [1, 2] and back["timestamp"].tolist() == frame["timestamp"].tolist()
    assert back["label"].isna().tolist() == [False, True]


def test_a_label_of_nanoseconds_is_rendered_as_json(shared_server: LiveServer, written: str) -> None:
    label = pa.array([TEN_MICROS * 1_000 + 1], pa.timestamp("ns", "UTC"))
    table = pa.table({"entityId": ["u"], "timestamp": moments(0), "label": label})
    assert [one["label"] for one in sent(shared_server, table, features=written)] == [TEN]


@pytest.mark.parametrize(
    "label",
    [
        pa.array([0.5, None]),
        pa.array([2**64 - 1, 0], pa.uint64()),
        pa.array([True, None]),
        pa.array([[1, 2], None]),
        pa.array([{"a": 1}, {"a": None}]),
        pa.nulls(2),
        pa.array(["ä", ""]),
    ],
    ids=lambda label: str(label.type),
)
def test_labels_of_arrow_are_rendered_as_json(shared_server: LiveServer, written: str, label: pa.Array) -> None:
    table = pa.table({"entityId": ["u", "u"], "timestamp": moments(0, 0), "label": label})
    assert [one["label"] for one in sent(shared_server, table, features=written)] == label.to_pylist()


def test_options_of_an_arrow_body_stand_in_the_query(shared_server: LiveServer, written: str) -> None:
    table = pa.table({"entityId": ["u"] * 2, "timestamp": moments(0, 120_000_000)})
    two = f"{written},user.{written}.v1"
    assert [list(one)[2:] for one in sent(shared_server, table, features=two)] == [two.split(",")] * 2
    for query, expected in (
        ({"lookback": "30s"}, [1, None]),
        ({"lookback": "60"}, [1, 2]),
        ({"window": "1h", "aggregation": "sum"}, [1, 3]),
        ({"window": "60.5", "aggregation": "count"}, [1, 1]),
        ({"knownAt": "row"}, [None, None]),
        ({"knownAt": "2200-01-01T00:00:00Z"}, [1, 2]),
    ):
        found = sent(shared_server, table, features=written, **query)
        assert [one[written] for one in found] == expected, query


@pytest.mark.parametrize("query", [{"featurs": "a"}, {"lookbak": "1d"}, {"rows": "1"}])
def test_an_unknown_query_parameter_is_refused(
    shared_server: LiveServer, written: str, query: dict[str, str]
) -> None:
    table = pa.table({"entityId": ["u"], "timestamp": moments(0)})
    body = problem(send(shared_server, table, features=written, **query), 400)
    assert fields(body) == list(query)


def test_bytes_are_not_entity_ids(shared_server: LiveServer, written: str) -> None:
    table = pa.table({"entityId": pa.array([b"u"]), "timestamp": moments(0)})
    answer = send(shared_server, table, features=written)
    if answer.status_code == 200:
        assert answer.json()["results"] == [{**row(TEN), written: 1}]
    else:
        assert fields(problem(answer, 400)) == ["entityId"]


def columns(**given: Any) -> dict[str, Any]:
    """A table's columns with some in the place of good ones."""
    return {"entityId": pa.array(["u", "u"]), "timestamp": moments(0, 0), **given}


@pytest.mark.before_the_store
@pytest.mark.parametrize(
    ("table", "blamed"),
    [
        ({"entityId": pa.array(["u"])}, "timestamp"),
        ({"timestamp": moments(0)}, "entityId"),
        (columns(timestamp=pa.array([TEN_MICROS, None], pa.timestamp("us"))), "timestamp"),
        (columns(timestamp=pa.array([at(0), None])), "timestamp"),
        (columns(timestamp=pa.array([1, 2])), "timestamp"),
        (columns(timestamp=pa.nulls(2)), "timestamp"),
        (columns(timestamp=pa.array(["noon", at(0)])), "rows.timestamp"),
        (columns(timestamp=pa.array([2**62, 0], pa.timestamp("us"))), "timestamp"),
        (columns(timestamp=pa.array([2**60, 0], pa.timestamp("s"))), "timestamp"),
        (columns(entityId=pa.array(["u", None])), "entityId"),
        (columns(entityId=pa.array(["u", ""])), "rows.entityId"),
        (columns(entityId=pa.DictionaryArray.from_arrays(pa.array([0, 1]), pa.array(["u", None]))), "entityId"),
    ],
    ids=[
        "no timestamp",
        "no entity id",
        "a null timestamp",
        "a null among texts",
        "integers",
        "nothing but nulls",
        "no time of day",
        "after the year 9999",
        "more microseconds than 64 bits hold",
        "a null entity id",
        "an empty entity id",
        "a null within a dictionary",
    ],
)
def test_arrow_rows_that_are_wrong_are_refused_with_the_column_to_blame(
    shared_server: LiveServer, written: str, table: dict[str, pa.Array], blamed: str
) -> None:
    body = problem(send(shared_server, pa.table(table), features=written), 400)
    assert [field.removeprefix("rows.") for field in fields(body)] == [blamed.removeprefix("rows.")]


def test_a_table_with_two_columns_of_one_name_is_refused(shared_server: LiveServer, written: str) -> None:
    for twice in ("label", "entityId"):
        names = ["entityId", "timestamp", twice, twice]
        arrays = [pa.array(["u"]), moments(0), pa.array(["a"]), pa.array(["b"])]
        table = pa.RecordBatch.from_arrays(arrays, names)
        problem(send(shared_server, arrow_body(table), features=written), 400)


def test_a_body_cut_off_anywhere_is_refused_or_read_as_far_as_it_is_whole(
    shared_server: LiveServer, written: str
) -> None:
    whole = arrow_body(pa.table({"entityId": ["u", "u"], "timestamp": moments(0, 0), "label": [1, 2]}))
    statuses = {}
    for length in range(0, len(whole), 7):
        statuses[length] = send(shared_server, whole[:length], features=written).status_code
    assert set(statuses.values()) <= {200, 400}, statuses
    assert statuses[0] == 400


@pytest.mark.before_the_store
@pytest.mark.parametrize(
    "body", [b"", b"{}", b"ARROW1\0\0", b"\xff" * 64, b"\0" * 64], ids=["empty", "JSON", "a file", "ones", "zeros"]
)
def test_a_body_that_is_no_arrow_stream_is_refused(shared_server: LiveServer, written: str, body: bytes) -> None:
    problem(send(shared_server, body, features=written), 400)


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server for what may well end a process."""
    with LiveServer(tmp_path_factory.mktemp("fragile") / "data") as live:
        fill(live, "fragile", 1)
        yield live


@pytest.fixture
def alive(fragile: LiveServer) -> Iterator[LiveServer]:
    """The server for what may well end a process; a new one for the next test where it did."""
    yield fragile
    try:
        fragile.get("/health/live")
    except httpx.TransportError:
        fragile.kill()
        fragile.start()


SOUND = np.array([0, 3, 7], np.int32).tobytes()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (SOUND, np.array([0, 3, 1_000], np.int32).tobytes()),
        (SOUND, np.array([0, 2**30, 2**30 + 9], np.int32).tobytes()),
        (SOUND, np.array([0, 7, 3], np.int32).tobytes()),
        (b"aaabbbb", b"aaab\xffbb"),
    ],
    ids=["beyond the buffer", "far beyond the buffer", "backwards", "no UTF-8"],
)
@pytest.mark.parametrize("where", ["entityId", "label"])
@pytest.mark.parametrize("accept", ["application/json", ARROW])
def test_strings_that_lead_out_of_their_buffer_are_refused(
    alive: LiveServer, old: bytes, new: bytes, where: str, accept: str
) -> None:
    sound = arrow_body(pa.table({**columns(), where: pa.array(["aaa", "bbbb"])}))
    assert sound.count(old) == 1
    assert send(alive, sound, accept, features="fragile").status_code == 200
    problem(send(alive, sound.replace(old, new), accept, features="fragile"), 400)
    assert alive.get("/health/live").status_code == 200
