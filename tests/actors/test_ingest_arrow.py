"""Arrow tables are judged as the same values in JSON rows are, whatever Arrow type holds them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, NamedTuple, get_args

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.domain import FeatureChange, ValueSchema, ValueType
from actors.errors import Conflict, InvalidInput, NotFound
from actors.ingest.arrow_tables import ingest_table
from actors.ingest.entity_ids import MOST_FAULTS_NAMED
from actors.ingest.sent import Ingested, Sent, ingest
from actors.registry import FeatureRegistry
from actors.settings import MAX_ENTITY_ID_BYTES, MAX_VALUE_BYTES
from actors.timestamps import LAST_MOMENT, YEAR_ONE, format_timestamp, parse_timestamp
from actors.types.integer import Integer
from actors.types.type import NO_FEATURE
from actors.types.values import render
from tests.batches import flat

NOW = 1_762_509_600_000_000
TEN = "2025-11-07T10:00:00Z"
SCHEMAS = {"vector": ValueSchema(dimension=3)}
TYPES: tuple[ValueType, ...] = get_args(ValueType)
CHANGES = [
    *(FeatureChange(entity="user", name=kind, value_type=kind, schema=SCHEMAS.get(kind)) for kind in TYPES),
    FeatureChange(entity="user", name="number", value_type="number", version=2),
    FeatureChange(entity="item", name="price", value_type="number"),
    FeatureChange(entity="user", name="price", value_type="number"),
    FeatureChange(entity="user", name="filled", value_type="number", schema=ValueSchema(nullable=False)),
    FeatureChange(entity="user", name="document", value_type="json", schema=ValueSchema(nullable=False)),
    FeatureChange(entity="user", name="rated", value_type="number", schema=ValueSchema(min=-1, max=2.5)),
    FeatureChange(entity="user", name="chosen", value_type="number", schema=ValueSchema(enum=(1, 2.5))),
    FeatureChange(entity="user", name="counted", value_type="integer", schema=ValueSchema(min=0.5, max=7)),
    FeatureChange(entity="user", name="coded", value_type="integer", schema=ValueSchema(enum=(1, 2**60))),
    FeatureChange(
        entity="user", name="named", value_type="string", schema=ValueSchema(pattern="^a", max_length=3)
    ),
    FeatureChange(entity="user", name="listed", value_type="string", schema=ValueSchema(enum=("a", "ab", "é"))),
    FeatureChange(entity="user", name="flagged", value_type="boolean", schema=ValueSchema(enum=(True,))),
    FeatureChange(
        entity="user",
        name="dated",
        value_type="timestamp",
        schema=ValueSchema(min=TEN, max="2026-01-01T00:00:00Z"),
    ),
]


def registry() -> FeatureRegistry:
    made = FeatureRegistry()
    for now, change in enumerate(CHANGES, 1):
        made.apply(made.registration(change, now)[0])
    return made


REGISTRY = registry()
Row = tuple[str, str, Any, str | None]
"""Reference, entity id, JSON value, timestamp."""


class Judged(NamedTuple):
    """What would be written, by feature and in order of arrival, and who is to blame."""

    written: dict[str, list[tuple[str, int, str]]]
    faults: list[tuple[int | None, str]]


def outcome(ingested: Ingested, value_field: str = "value") -> Judged:
    written: dict[str, list[tuple[str, int, str]]] = {}
    for one in flat(ingested.batch):
        feature = REGISTRY.features[one.feature]
        assert one.created == feature.created
        assert one.times.dtype == np.int64
        assert len(one.entities) == len(one.times) == len(one.values) == len(one.nulls) > 0
        values = [
            msgspec.json.encode(value).decode() for value in render(feature.value_type, one.values, one.nulls)
        ]
        rows = zip(one.entities, one.times.tolist(), values, strict=True)
        written.setdefault(one.feature, []).extend(rows)
    assert ingested.accepted == sum(map(len, written.values()))
    faults = [(fault.index, "value" if fault.field == value_field else fault.field) for fault in ingested.faults]
    assert faults == sorted(faults, key=lambda fault: fault[0] or 0)
    return Judged(written, sorted(faults, key=str))


def by_json(rows: Sequence[Row]) -> Judged:
    """The oracle: the rows through the JSON lane."""
    return outcome(ingest(REGISTRY, sent(rows), NOW))


def sent(rows: Sequence[Row]) -> Sent:
    return Sent(
        [reference for reference, _, _, _ in rows],
        [entity for _, entity, _, _ in rows],
        [value for _, _, value, _ in rows],
        [timestamp for _, _, _, timestamp in rows],
        [None] * len(rows),
    )


def judged(table: pa.Table, value_field: str = "value") -> Judged:
    return outcome(ingest_table(REGISTRY, table, NOW), value_field)


def long_table(reference: str, values: pa.Array | pa.ChunkedArray, **columns: Any) -> pa.Table:
    """A row for each value of one feature; entities e0, e1, ..."""
    count = len(values)
    entities = [f"e{row}" for row in range(count)]
    given_ = {"featureId": pa.array([reference] * count, pa.string()), "entityId": pa.array(entities, pa.string())}
    return pa.table({**given_, "value": values, **columns})


def wide_table(reference: str, values: pa.Array | pa.ChunkedArray, **columns: Any) -> pa.Table:
    entities = pa.array([f"e{row}" for row in range(len(values))], pa.string())
    return pa.table({"entityId": entities, reference: values, **columns})


def rows_of(reference: str, values: Sequence[Any]) -> list[Row]:
    return [(reference, f"e{row}", value, None) for row, value in enumerate(values)]


def values_written(table: pa.Table) -> list[str]:
    """The values of a table of one feature, all good, as JSON texts."""
    found = judged(table)
    assert found.faults == []
    return [value for rows in found.written.values() for _, _, value in rows]


# Every type from every Arrow type


class Held(NamedTuple):
    """How an Arrow type holds values: which, as what JSON, and how a column is made."""

    type: pa.DataType
    values: st.SearchStrategy[Any]
    to_json: Callable[[Any], Any] = lambda value: value
    make: Callable[[list[Any], pa.DataType], pa.Array] = lambda values, kind: pa.array(
        values, kind, from_pandas=False
    )


def number_json(value: Any) -> Any:
    return None if math.isnan(value) else float(value)


def whole_json(value: Any) -> Any:
    """What a whole number of another type is as an integer."""
    if isinstance(value, float) and not math.isfinite(value):
        return number_json(value)
    return int(value) if value == int(value) else float(value)


def integer_of(kind: pa.DataType) -> Callable[[float], Any]:
    """What a float is as an integer. One with neighbours that are no floats may stand for these: it is refused."""
    inexact = {16: 2.0**11, 32: 2.0**24, 64: 2.0**53}[FLOATS[kind]]
    return lambda value: 0.5 if inexact <= abs(value) < math.inf else whole_json(value)


def integers(bits: int, signed: bool) -> st.SearchStrategy[int]:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return st.integers(low, high) | st.sampled_from([low, high, 0, 1])


SIGNED = [pa.int8(), pa.int16(), pa.int32(), pa.int64()]
UNSIGNED = [pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]
WHOLE = [
    *(Held(kind, integers(kind.bit_width, True)) for kind in SIGNED),
    *(Held(kind, integers(kind.bit_width, False)) for kind in UNSIGNED),
]
FLOATS = {pa.float16(): 16, pa.float32(): 32, pa.float64(): 64}
SMALL_DECIMALS = st.integers(-(10**9), 10**9).map(lambda number: Decimal(number) / 4)
MICROS = st.integers(YEAR_ONE, LAST_MOMENT) | st.integers(NOW - 10**9, NOW) | st.sampled_from([YEAR_ONE, -1, 0])
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ["", "null", "é😀", "a\x00b"]
)


def float_column(values: list[Any], kind: pa.DataType) -> pa.Array:
    """NaN stays NaN, and None is a null."""
    dtype = f"float{FLOATS[kind]}"
    mask = np.array([value is None for value in values], np.bool_)
    return pa.array(np.array([0.0 if value is None else value for value in values], dtype), kind, mask=mask)


def moments(unit: str, zone: str | None) -> Held:
    scale = {"s": 1_000_000, "ms": 1_000, "us": 1, "ns": 1}[unit]
    if unit == "ns":  # int64 nanoseconds end in 2262
        counts = st.integers(-(2**63) // 1_000 + 1, 2**63 // 1_000 - 1).map(lambda micros: micros * 1_000)
        return Held(pa.timestamp(unit, zone), counts, lambda count: format_timestamp(count // 1_000))
    counts = MICROS.map(lambda micros: min(-(-micros // scale), LAST_MOMENT // scale))
    return Held(pa.timestamp(unit, zone), counts, lambda count: format_timestamp(count * scale))


def component_lists(least: int = 0, most: int = 5) -> st.SearchStrategy[Any]:
    plain = st.floats(-60_000, 60_000, width=16)
    odd = plain | st.none() | st.sampled_from([math.nan, math.inf])
    fitting = st.lists(plain, min_size=3, max_size=3)
    return fitting | fitting | st.lists(odd, min_size=least, max_size=most)


ANY_JSON = st.recursive(
    st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(st.none() | inner, max_size=3) | st.dictionaries(TEXTS, st.none() | inner, max_size=3),
    max_leaves=5,
)
STRUCT = pa.struct([("a", pa.int64()), ("b", pa.list_(pa.struct([("c", pa.string())]))), ("d", pa.float64())])
STRUCTS = st.fixed_dictionaries(
    {
        "a": st.none() | integers(64, True),
        "b": st.none() | st.lists(st.none() | st.fixed_dictionaries({"c": st.none() | TEXTS}), max_size=2),
        "d": st.none() | st.floats(allow_nan=False, allow_infinity=False),
    }
)
HELD: dict[str, list[Held]] = {
    "number": [
        *(held._replace(to_json=float) for held in WHOLE),
        *(Held(kind, st.floats(width=bits), number_json, float_column) for kind, bits in FLOATS.items()),  # type: ignore[arg-type]
        Held(pa.decimal128(20, 2), SMALL_DECIMALS, float),
        Held(pa.decimal256(40, 4), SMALL_DECIMALS, float),
    ],
    "integer": [
        *WHOLE,
        *(
            Held(
                kind,
                st.integers(-2000, 2000).map(float) | st.floats(width=bits),  # type: ignore[arg-type]
                integer_of(kind),
                float_column,
            )
            for kind, bits in FLOATS.items()
        ),
        Held(pa.decimal128(20, 2), SMALL_DECIMALS, whole_json),
        Held(pa.decimal256(40, 4), SMALL_DECIMALS, whole_json),
    ],
    "string": [Held(pa.string(), TEXTS), Held(pa.large_string(), TEXTS)],
    "boolean": [Held(pa.bool_(), st.booleans())],
    "timestamp": [
        *(
            moments(unit, zone)
            for unit in ("s", "ms", "us", "ns")
            for zone in (None, "UTC", "Europe/Berlin", "-05:30")
        ),
        *(
            Held(kind, MICROS.map(format_timestamp) | st.sampled_from(["soon", "", "2025-11-07T12:00:00+02:00"]))
            for kind in (pa.string(), pa.large_string())
        ),
    ],
    "vector": [
        Held(pa.list_(pa.float64()), component_lists()),
        Held(pa.large_list(pa.float32()), component_lists()),
        Held(pa.list_(pa.float64(), 3), component_lists(3, 3)),
        Held(pa.list_(pa.int8()), st.lists(st.none() | st.integers(-128, 127), min_size=2, max_size=4)),
        Held(pa.list_(pa.uint64(), 3), st.lists(integers(64, False), min_size=3, max_size=3)),
    ],
    "json": [
        Held(pa.string(), ANY_JSON.map(json.dumps), json.loads),
        Held(pa.large_string(), ANY_JSON.map(json.dumps), json.loads),
        Held(STRUCT, STRUCTS),
        Held(pa.list_(pa.int64()), st.lists(st.none() | integers(64, True), max_size=3)),
        *WHOLE,
        Held(pa.bool_(), st.booleans()),
    ],
}  # fmt: skip
CASES = [(kind, held) for kind, several in HELD.items() for held in several]
NAMES = [f"{kind}-from-{held.type}" for kind, held in CASES]


class Column(NamedTuple):
    """An Arrow column and the JSON values that it stands for."""

    arrow: pa.ChunkedArray
    json: list[Any]


@st.composite
def columns(draw: st.DrawFn, held: Held, least: int = 0) -> Column:
    """Nulls among the values, in several chunks, each a slice out of a longer array, or with a dictionary."""
    values = draw(st.lists(st.none() | held.values, min_size=least, max_size=8))
    rest = draw(st.lists(st.none() | held.values, max_size=3))
    encoded = not (pa.types.is_nested(held.type) or held.type == pa.float16()) and draw(st.booleans())
    chunks: list[pa.Array] = []
    start = 0
    while start < len(values) or not chunks:
        end = draw(st.integers(start + 1, max(start + 1, len(values))))
        before, part = rest[: draw(st.integers(0, len(rest)))], values[start:end]
        chunk = held.make([*before, *part, *rest], held.type)
        chunk = chunk.dictionary_encode() if encoded else chunk
        chunks.append(chunk.slice(len(before), len(part)))
        start = end
    wanted = [None if value is None else held.to_json(value) for value in values]
    return Column(pa.chunked_array(chunks), wanted)


@pytest.mark.parametrize(("kind", "held"), CASES, ids=NAMES)
@given(data=st.data())
@settings(deadline=None, max_examples=8)
def test_a_long_table_is_judged_as_the_same_rows_in_json(kind: str, held: Held, data: st.DataObject) -> None:
    column = data.draw(columns(held))
    assert judged(long_table(f"user.{kind}.v1", column.arrow)) == by_json(rows_of(f"user.{kind}.v1", column.json))


@pytest.mark.parametrize(("kind", "held"), CASES, ids=NAMES)
@given(data=st.data())
@settings(deadline=None, max_examples=8)
def test_a_wide_table_is_judged_as_the_same_rows_in_json_without_the_nulls(
    kind: str, held: Held, data: st.DataObject
) -> None:
    column = data.draw(columns(held))
    reference = f"user.{kind}.v1"
    wanted = by_json(rows_of(reference, column.json))
    kept = [row for row in rows_of(reference, column.json) if row[2] is not None]
    assert judged(wide_table(reference, column.arrow), reference) == Judged(by_json(kept).written, wanted.faults)


@pytest.mark.parametrize("kind", TYPES)
def test_a_column_of_nothing_but_nulls_without_a_type_is_written_nulls_or_nothing(kind: str) -> None:
    reference = f"user.{kind}.v1"
    assert judged(long_table(reference, pa.nulls(2))) == by_json(rows_of(reference, [None, None]))
    assert judged(wide_table(reference, pa.nulls(2))) == Judged({}, [])


@pytest.mark.parametrize("kind", ["string", "timestamp", "json"])
def test_a_column_of_string_views_is_a_column_of_strings(kind: str) -> None:
    texts = {"string": "grüße, a little longer than inline", "timestamp": TEN, "json": '{"a":[1]}'}[kind]
    reference = f"user.{kind}.v1"
    column = pa.array([texts, None], pa.string())
    wanted = judged(long_table(reference, column))
    assert wanted.faults == []
    assert judged(long_table(reference, column.cast(pa.string_view()))) == wanted
    assert judged(wide_table(reference, column.cast(pa.string_view()))) == judged(wide_table(reference, column))


@pytest.mark.parametrize("text", ["4503599627370497.25", "5.00000000000000000000000000001", "-0.5"])
def test_a_decimal_with_a_fraction_is_no_integer_however_small_that_is(text: str) -> None:
    values = pa.array([Decimal(7), Decimal(text), None], pa.decimal256(70, 30))
    column = Integer().from_arrow(NO_FEATURE, values, "x")
    assert [place for place, _ in column.refused] == [1]
    assert (column.values[0], column.nulls.tolist()) == (7, [False, False, True])


@pytest.mark.parametrize("kind", [pa.decimal128(38, 0), pa.decimal256(50, 2)], ids=str)
@pytest.mark.parametrize("whole", [2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63), 2**63])
def test_a_whole_decimal_is_an_exact_integer(kind: pa.DataType, whole: int) -> None:
    table = long_table("user.integer.v1", pa.array([Decimal(whole), None], kind))
    assert judged(table) == by_json(rows_of("user.integer.v1", [whole, None]))


@pytest.mark.parametrize("text", ["0.1", "123.456", "-0.3", "99999999.99", "1234567890123456.78"])
def test_a_decimal_is_the_nearest_float64(text: str) -> None:
    assert values_written(long_table("user.number.v1", pa.array([Decimal(text)]))) == [json.dumps(float(text))]


def test_half_floats_in_several_dictionaries_are_those_of_each() -> None:
    chunks = [pa.array(np.array([number], np.float16)).dictionary_encode() for number in (1.0, 2.5)]
    assert values_written(long_table("user.number.v1", pa.chunked_array(chunks))) == ["1", "2.5"]


def test_integers_with_gaps_are_what_pandas_makes_of_them() -> None:
    frame = pd.DataFrame({"entityId": ["a", "b", "c"], "user.integer.v1": [1, None, -3]})
    table = pa.Table.from_pandas(frame)
    assert table.schema.field("user.integer.v1").type == pa.float64()
    assert judged(table).written == {"user.integer.v1": [("a", NOW, "1"), ("c", NOW, "-3")]}
    raw = pa.Table.from_pandas(frame[["entityId"]]).append_column(
        "user.integer.v1", pa.array(frame["user.integer.v1"].to_numpy())
    )
    assert raw["user.integer.v1"].null_count == 0, "a NaN and no null"
    assert judged(raw) == judged(table)


@pytest.mark.parametrize("kind", FLOATS, ids=str)
def test_a_float_that_may_stand_for_its_neighbour_is_no_integer(kind: pa.DataType) -> None:
    digits = {16: 11, 32: 24, 64: 53}[FLOATS[kind]]
    column = float_column([2.0**digits - 1, None, 2.0**digits, -(2.0**digits), 1 - 2.0**digits], kind)
    found = ingest_table(REGISTRY, long_table("user.integer.v1", column), NOW)
    assert [(fault.index, fault.field) for fault in found.faults] == [(2, "value"), (3, "value")]
    assert "several integers" in found.faults[0].message
    (one,) = flat(found.batch)
    assert one.values.tolist() == [2**digits - 1, 0, 1 - 2**digits]


@pytest.mark.parametrize("kind", ["timestamp", "event time"])
@pytest.mark.parametrize(
    "column",
    [
        pa.array([2**62], pa.timestamp("us")),
        pa.array([2**62], pa.timestamp("s")),
        pa.array([-(2**62)], pa.timestamp("ms")),
        pa.array([LAST_MOMENT + 1], pa.timestamp("us", "UTC")),
        pa.array([YEAR_ONE - 1], pa.timestamp("us")),
        pa.array([2**64 // 1_000_000 + 5], pa.timestamp("s")),
    ],
    ids=lambda column: f"{column.type}-{column.cast(pa.int64())[0]}",
)
def test_a_moment_that_rfc_3339_cannot_say_is_refused(kind: str, column: pa.Array) -> None:
    if kind == "timestamp":
        assert judged(long_table("user.timestamp.v1", column)) == Judged({}, [(0, "value")])
        return
    table = long_table("user.number.v1", pa.array([1.0]), timestamp=column)
    assert refusal(table)[0] == "timestamp"


def refusal(table: pa.Table) -> list[str]:
    """The fields to blame, whether a whole column cannot be taken or single rows."""
    try:
        ingested = ingest_table(REGISTRY, table, NOW)
    except InvalidInput as error:
        return [fault.field for fault in error.faults]
    assert ingested.batch == []
    return [fault.field for fault in ingested.faults]


def test_the_moments_at_the_ends_of_time_are_taken() -> None:
    column = pa.array([YEAR_ONE, LAST_MOMENT], pa.timestamp("us"))
    table = long_table("user.timestamp.v1", column, timestamp=column)
    wanted = [(YEAR_ONE, '"0001-01-01T00:00:00.000Z"'), (LAST_MOMENT, '"9999-12-31T23:59:59.999999Z"')]
    assert [row[1:] for row in judged(table).written["user.timestamp.v1"]] == wanted


def test_json_that_is_no_number_is_a_null_as_it_is_elsewhere() -> None:
    column = pa.array([1.5, math.nan], pa.float64())
    found = ingest_table(REGISTRY, long_table("user.json.v1", column), NOW).batch
    assert [one.nulls.tolist() for one in flat(found)] == [[False, True]]
    assert judged(wide_table("user.json.v1", column)).written == {"user.json.v1": [("e0", NOW, "1.5")]}


@pytest.mark.parametrize("text", ["", "{", "nul", "1 2", "NaN", "[1e999]", r'"\ud800"', "'a'", "[" * 60_000])
@pytest.mark.parametrize("feature", ["json", "document"])
def test_a_text_that_is_not_json_is_refused_once(text: str, feature: str) -> None:
    column = pa.array(["{}", text, "[1]"])
    found = judged(long_table(f"user.{feature}.v1", column))
    assert found.faults == [(1, "value")]
    assert [value for _, _, value in found.written[f"user.{feature}.v1"]] == ["{}", "[1]"]


def test_json_text_that_is_nested_far_too_deeply_is_refused() -> None:
    deep = "[" * 30_000 + "]" * 30_000
    assert judged(long_table("user.json.v1", pa.array(["1", deep]))).faults == [(1, "value")]


def test_a_json_text_of_null_is_a_null() -> None:
    column = pa.array(["null", "1"])
    assert judged(long_table("user.json.v1", column)) == by_json(rows_of("user.json.v1", [None, 1]))
    assert list(judged(wide_table("user.json.v1", column)).written["user.json.v1"]) == [("e1", NOW, "1")]


def test_texts_as_long_as_may_be_are_taken_and_longer_ones_refused() -> None:
    longest = "é" * (MAX_VALUE_BYTES // 2)
    column = pa.array([longest, longest + "a", "a", None, "b"]).slice(0, 4)
    assert judged(long_table("user.string.v1", column)).faults == [(1, "value")]
    assert judged(wide_table("user.string.v1", column.cast(pa.large_string()))).faults == [(1, "user.string.v1")]


def test_components_beyond_float32_are_refused_in_their_row() -> None:
    column = pa.array([[1, 2, 3], [1, 2, 1e39], None, [1, 2, -1e39]], pa.list_(pa.float64()))
    assert judged(long_table("user.vector.v1", column)).faults == [(1, "value"), (3, "value")]


def test_vectors_of_another_length_are_refused_in_their_rows_also_where_the_type_fixes_it() -> None:
    column = pa.array([[1, 2], None, [3, 4]], pa.list_(pa.float32(), 2))
    found = judged(long_table("user.vector.v1", column))
    assert found == Judged({"user.vector.v1": [("e1", NOW, "null")]}, [(0, "value"), (2, "value")])


WRONG = {
    "number": [["a"], [True], [[1.0]], [{"a": 1}], pa.array([1], pa.timestamp("us")), pa.array([1], pa.date32())],
    "integer": [["1"], [False], [b"1"], pa.array([1], pa.duration("s"))],
    "string": [[1], [True], [b"a"], [["a"]]],
    "boolean": [[1], [0.0], ["true"]],
    "timestamp": [[1], [1.5], [True], [b"x"], pa.array([1], pa.time64("us"))],
    "vector": [[1.0], ["[1,2,3]"], [["1", "2", "3"]], [[True, False, True]], [{"a": 1}], [[[1.0]]]],
}
WRONG_CASES = [(kind, pa.array(column)) for kind, several in WRONG.items() for column in several]


@pytest.mark.parametrize(
    ("kind", "column"), WRONG_CASES, ids=[f"{kind}-from-{column.type}" for kind, column in WRONG_CASES]
)
def test_a_column_of_another_type_is_refused_by_name(kind: str, column: pa.Array) -> None:
    reference = f"user.{kind}.v1"
    for table, field in ((long_table(reference, column), "value"), (wide_table(reference, column), reference)):
        with pytest.raises(InvalidInput) as refused:
            ingest_table(REGISTRY, table, NOW)
        assert [fault.field for fault in refused.value.faults] == [field]
        assert field in refused.value.detail
        assert reference in refused.value.detail


# Schemas


MOMENTS = [TEN, "2025-11-07T09:59:59.999999Z", "2026-01-01T01:00:00+01:00", "2027-01-01T00:00:00Z"]
CONSTRAINED: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "filled": (pa.float64(), st.floats(-3, 3, width=16)),
    "rated": (pa.float32(), st.floats(-3, 3, width=16)),
    "chosen": (pa.float64(), st.sampled_from([1.0, 2.0, 2.5])),
    "counted": (pa.int16(), st.integers(-1, 9)),
    "coded": (pa.uint64(), st.sampled_from([0, 1, 2**60, 2**60 + 1, 2**63, 2**64 - 1])),
    "named": (pa.large_string(), st.sampled_from(["a", "abc", "abcd", "b", "", "aéé", "aéé😀"])),
    "listed": (pa.string(), st.sampled_from(["a", "ab", "é", "", "b"])),
    "flagged": (pa.bool_(), st.booleans()),
    "dated": (pa.string(), st.sampled_from(MOMENTS)),
}  # fmt: skip


def said(ingested: Ingested) -> list[tuple[int | None, str]]:
    return [(fault.index, fault.message) for fault in ingested.faults]


@pytest.mark.parametrize("name", CONSTRAINED)
@given(data=st.data())
@settings(deadline=None, max_examples=20)
def test_a_schema_refuses_the_same_rows_in_the_same_words_as_for_json(name: str, data: st.DataObject) -> None:
    kind, several = CONSTRAINED[name]
    values = data.draw(st.lists(st.none() | several, max_size=8))
    column, rows = pa.array(values, kind), rows_of(f"user.{name}.v1", values)
    assert judged(long_table(f"user.{name}.v1", column)) == by_json(rows)
    by_table = said(ingest_table(REGISTRY, long_table(f"user.{name}.v1", column), NOW))
    # A column of numbers has no 3.0 that is not a 3, and one of timestamps no way to write them.
    plain = [int(one) if isinstance(one, float) and one.is_integer() else one for one in values]
    expected = said(ingest(REGISTRY, sent(rows_of(f"user.{name}.v1", plain)), NOW))
    if name == "dated":
        by_table, expected = ([(index, "") for index, _ in found] for found in (by_table, expected))
    assert by_table == expected


def test_bounds_of_timestamps_hold_for_columns_of_timestamps_and_are_told_as_timestamps() -> None:
    texts = [TEN, "2025-11-07T09:59:59Z", "2027-01-01T00:00:00Z", "2026-01-01T00:00:00Z"]
    micros = [parse_timestamp(text) for text in texts]
    ingested = ingest_table(REGISTRY, long_table("user.dated.v1", pa.array(micros, pa.timestamp("us"))), NOW)
    assert [fault.index for fault in ingested.faults] == [1, 2]
    assert "2025-11-07T09:59:59" in ingested.faults[0].message, "microseconds are our own affair"


def test_a_gap_in_a_wide_table_is_nothing_and_so_no_null_that_a_schema_forbids() -> None:
    found = judged(wide_table("user.filled.v1", pa.array([1.0, None, math.nan, 2.0])), "user.filled.v1")
    assert found == Judged({"user.filled.v1": [("e0", NOW, "1"), ("e3", NOW, "2")]}, [])


# Whom and when


ENTITIES = st.sampled_from(["u", "v", "ü😀", "", "a\nb", "x" * 513, "é" * 256, "é" * 257])


@given(st.lists(st.tuples(ENTITIES | st.none(), st.none() | st.just(TEN)), max_size=8), st.booleans())
@settings(deadline=None, max_examples=40)
def test_entity_ids_and_timestamps_are_judged_as_in_json(
    keys: list[tuple[str | None, str | None]], encoded: bool
) -> None:
    entities = pa.array([entity for entity, _ in keys], pa.string())
    entities = entities.dictionary_encode() if encoded else entities
    times = pa.array([time for _, time in keys], pa.string())
    rows: list[Row] = [("user.number.v1", entity or "", row, time) for row, (entity, time) in enumerate(keys)]
    values = pa.array(range(len(keys)), pa.int64())
    table = long_table("user.number.v1", values, entityId=entities, timestamp=times)
    assert judged(table) == by_json(rows)
    wide = wide_table("user.number.v1", values, entityId=entities, timestamp=times)
    assert judged(wide) == by_json(rows)


@pytest.mark.parametrize(
    ("column", "entities"),
    [
        (pa.array([1, -2], pa.int64()), ["1", "-2"]),
        (pa.array([1, 2], pa.uint8()).dictionary_encode(), ["1", "2"]),
        (pa.array(["a", "b"], pa.large_string()), ["a", "b"]),
        (pa.array(["a", "b"]).dictionary_encode(), ["a", "b"]),
        (pa.array(["a", "b"], pa.string_view()), ["a", "b"]),
        (pa.chunked_array([["a"], [], ["b"]]), ["a", "b"]),
        (pa.array(["x", "a", "b", "y"]).slice(1, 2), ["a", "b"]),
        (pa.array([2**63 + 1, 0], pa.uint64()), ["9223372036854775809", "0"]),
    ],
    ids=["int64", "dictionary of ints", "large_string", "dictionary", "string_view", "chunks", "slice", "uint64"],
)
def test_entity_ids_may_be_texts_or_whole_numbers_of_any_kind(
    column: pa.Array | pa.ChunkedArray, entities: list[str]
) -> None:
    for table in (
        wide_table("user.number.v1", pa.array([1, 2]), entityId=column),
        long_table("user.number.v1", pa.array([1, 2]), entityId=column),
    ):
        assert [row[0] for row in judged(table).written["user.number.v1"]] == entities


@pytest.mark.parametrize(
    "column",
    [pa.array([["a"]]), pa.array([{"a": 1}]), pa.array([b"\xff"]), pa.array([[["a"]]])],
    ids=lambda column: str(column.type),
)
def test_entity_ids_that_cannot_be_texts_are_refused_by_name(column: pa.Array) -> None:
    for table in (
        wide_table("user.number.v1", pa.array([1]), entityId=column),
        long_table("user.number.v1", pa.array([1]), entityId=column),
    ):
        assert refusal(table) == ["entityId"]


def test_a_null_entity_id_is_to_blame_once_a_row_however_many_columns() -> None:
    entities = pa.array(["a", None, "b" * (MAX_ENTITY_ID_BYTES + 1)])
    table = pa.table({"entityId": entities, "number": [1, 2, 3], "integer": [1, 2, 3]})
    found = judged(table)
    assert found.faults == [(1, "entityId"), (2, "entityId")]
    assert found.written == {"user.number.v2": [("a", NOW, "1")], "user.integer.v1": [("a", NOW, "1")]}


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York", "+05:30"])
def test_event_times_of_any_unit_and_zone_are_moments(unit: str, zone: str | None) -> None:
    moment = parse_timestamp(TEN)
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    column = pa.array([moment // 10**6 * per_second, None, -per_second], pa.timestamp(unit, zone))
    for make in (long_table, wide_table):
        chunked = pa.chunked_array([column.slice(0, 1), column.slice(1)])
        found = judged(make("user.number.v1", pa.array([1, 2, 3]), timestamp=chunked))
        assert [row[1] for row in found.written["user.number.v1"]] == [moment, NOW, -1_000_000]


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())], ids=str
)
def test_event_times_may_be_texts_of_any_kind(kind: pa.DataType) -> None:
    column = pa.array([TEN, None, "2025-11-07T12:00:00.25+02:00"]).cast(kind)
    found = judged(wide_table("user.number.v1", pa.array([1, 2, 3]), timestamp=column))
    moment = parse_timestamp(TEN)
    assert [row[1] for row in found.written["user.number.v1"]] == [moment, NOW, moment + 250_000]


def test_event_times_in_several_dictionaries_are_those_of_each() -> None:
    chunks = [pa.array([TEN]).dictionary_encode(), pa.array(["1970-01-01T00:00:00Z", TEN]).dictionary_encode()]
    found = judged(wide_table("user.number.v1", pa.array([1, 2, 3]), timestamp=pa.chunked_array(chunks)))
    assert [row[1] for row in found.written["user.number.v1"]] == [parse_timestamp(TEN), 0, parse_timestamp(TEN)]


@pytest.mark.parametrize("column", [pa.nulls(2), pa.array([None, None], pa.timestamp("s")), None], ids=str)
def test_no_event_time_at_all_is_now(column: pa.Array | None) -> None:
    given_ = {} if column is None else {"timestamp": column}
    for make in (long_table, wide_table):
        found = judged(make("user.number.v1", pa.array([1, 2]), **given_))
        assert [row[1] for row in found.written["user.number.v1"]] == [NOW, NOW]


def test_an_event_time_that_is_none_is_to_blame_in_its_row_alone() -> None:
    texts: list[str | None] = [TEN, "soon", None, ""]
    rows: list[Row] = [("user.number.v1", f"e{row}", row, text) for row, text in enumerate(texts)]
    for make in (long_table, wide_table):
        table = make("user.number.v1", pa.array(range(4)), timestamp=pa.array(texts))
        assert judged(table) == by_json(rows)


@pytest.mark.parametrize("column", [pa.array([1]), pa.array([1.5]), pa.array([True]), pa.array([[TEN]])], ids=str)
def test_event_times_that_are_no_times_are_refused_by_name(column: pa.Array) -> None:
    for make in (long_table, wide_table):
        assert refusal(make("user.number.v1", pa.array([1]), timestamp=column)) == ["timestamp"]


# Which feature


REFERENCES = ["user.number.v1", "number", "user.integer.v1", "item.price", "user.rated"]
STRAY = ["nobody", "price", "user.number.v9", "a.b.c.d", ""]
MIXED = st.lists(
    st.tuples(
        st.sampled_from([*REFERENCES, *REFERENCES, *STRAY]),
        st.sampled_from(["u", "v", ""]),
        st.none() | st.integers(-2, 3) | st.sampled_from([0.5, 2.5]),
    ),
    max_size=10,
)


def mixed_table(rows: Sequence[tuple[str, str, float | None]], encoded: bool, cut: int) -> pa.Table:
    references = pa.array([reference or None for reference, _, _ in rows], pa.string())
    values = pa.array([value for _, _, value in rows], pa.float64())
    columns_: dict[str, Any] = {
        "featureId": references.dictionary_encode() if encoded else references,
        "entityId": pa.array([entity for _, entity, _ in rows], pa.string()),
        "value": values,
        "timestamp": pa.array([TEN] * len(rows), pa.string()),
    }
    table = pa.table(columns_)
    return pa.concat_tables([table.slice(0, cut), table.slice(cut)])


def mixed_rows(rows: Sequence[tuple[str, str, float | None]]) -> list[Row]:
    """Whole floats of integer features are integers, as Arrow has them."""
    return [
        (reference, entity, int(value) if value is not None and value == int(value) else value, TEN)
        for reference, entity, value in rows
    ]


@given(MIXED, st.booleans(), st.integers(0, 10))
@settings(deadline=None, max_examples=40)
def test_a_long_table_of_many_features_is_judged_as_the_same_rows_in_json(
    rows: list[tuple[str, str, float | None]], encoded: bool, cut: int
) -> None:
    assert judged(mixed_table(rows, encoded, cut)) == by_json(mixed_rows(rows))


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["user.number.v2", "user.number", "number"]),
            st.sampled_from(["u", "v"]),
            st.floats(0, 9),
        ),
        min_size=2,
        max_size=8,
    )
)
@settings(deadline=None, max_examples=40)
def test_references_to_one_feature_by_several_names_keep_the_order_of_the_rows(
    rows: list[tuple[str, str, float | None]],
) -> None:
    assert judged(mixed_table(rows, False, 0)) == by_json(mixed_rows(rows))


def test_chunks_with_dictionaries_of_their_own_name_the_features_that_they_name() -> None:
    first = pa.array(["user.number.v1", "user.integer.v1"]).dictionary_encode()
    second = pa.array(["user.integer.v1", None, "user.number.v1"]).dictionary_encode()
    table = long_table("", pa.array([0.0, 1.0, 2.0, 3.0, 4.0]), featureId=pa.chunked_array([first, second]))
    found = judged(table)
    assert found.faults == [(3, "featureId")]
    assert found.written == {
        "user.number.v1": [("e0", NOW, "0"), ("e4", NOW, "4")],
        "user.integer.v1": [("e1", NOW, "1"), ("e2", NOW, "2")],
    }


@pytest.mark.parametrize(
    "column", [pa.array([1, 2]), pa.nulls(2), pa.array(["x", "y"], pa.string_view())], ids=str
)
def test_references_that_are_none_are_to_blame_in_their_rows(column: pa.Array) -> None:
    assert judged(long_table("", pa.array([1, 2]), featureId=column)).faults == [
        (0, "featureId"),
        (1, "featureId"),
    ]


def test_a_null_inside_a_dictionary_is_a_null() -> None:
    references = pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int8()), pa.array(["user.number.v1", None]))
    found = ingest_table(REGISTRY, long_table("", pa.array([1, 2]), featureId=references), NOW)
    assert [fault.index for fault in found.faults] == [1]
    assert "None" not in found.faults[0].message


def test_columns_of_one_feature_under_two_references_are_both_written_the_later_column_later() -> None:
    table = pa.table({"entityId": ["a", "b"], "number": [1.0, 2.0], "user.number.v2": [3.0, None]})
    assert judged(table).written == {"user.number.v2": [("a", NOW, "1"), ("b", NOW, "2"), ("a", NOW, "3")]}


def test_columns_of_several_entity_types_are_written_for_each() -> None:
    table = pa.table({"entityId": ["a"], "item.price": [1.0], "user.price": [2.0]})
    assert judged(table).written == {"item.price.v1": [("a", NOW, "1")], "user.price.v1": [("a", NOW, "2")]}


def test_a_wide_column_of_an_unknown_or_ambiguous_feature_refuses_the_table() -> None:
    with pytest.raises(NotFound, match=r"user\.nobody"):
        ingest_table(REGISTRY, pa.table({"entityId": ["a"], "number": [1.0], "user.nobody": [1.0]}), NOW)
    with pytest.raises(Conflict, match=r"item\.price"):
        ingest_table(REGISTRY, wide_table("price", pa.array([1.0])), NOW)


# The table


@pytest.mark.parametrize("missing", ["entityId", "value"])
def test_a_long_table_needs_its_columns(missing: str) -> None:
    assert refusal(long_table("user.number.v1", pa.array([1.0])).drop_columns([missing])) == [missing]


def test_a_wide_table_needs_its_entities_and_a_feature() -> None:
    assert refusal(pa.table({"user.number.v1": [1.0]})) == ["entityId"]
    with pytest.raises(InvalidInput, match="no column for a feature"):
        ingest_table(REGISTRY, pa.table({"entityId": ["a"], "timestamp": [TEN]}), NOW)


@pytest.mark.parametrize("name", ["timestmap", "version", "metadata"])
def test_a_column_that_the_long_form_does_not_know_is_refused_by_name(name: str) -> None:
    assert refusal(long_table("user.number.v1", pa.array([1.0]), **{name: pa.array([2])})) == [name]


@pytest.mark.parametrize(
    ("make", "name"),
    [(long_table, name) for name in ("featureId", "entityId", "value", "timestamp")]
    + [(wide_table, name) for name in ("entityId", "timestamp", "user.number.v1")],
)
def test_a_column_that_comes_twice_is_refused_by_name(make: Callable[..., pa.Table], name: str) -> None:
    table = make("user.number.v1", pa.array([1.0]), timestamp=pa.array([TEN]))
    assert refusal(table.append_column(name, table[name])) == [name]


@pytest.mark.parametrize("chunks", [0, 1, 3])
@pytest.mark.parametrize("kind", TYPES)
def test_a_table_of_no_rows_writes_nothing(kind: str, chunks: int) -> None:
    values = pa.chunked_array([pa.array([], HELD[kind][0].type)] * chunks, HELD[kind][0].type)
    for make in (long_table, wide_table):
        table = make(f"user.{kind}.v1", values)
        assert ingest_table(REGISTRY, table, NOW) == Ingested([], 0, [])


@pytest.mark.parametrize("kind", WRONG)
def test_a_table_of_no_rows_still_needs_types_that_can_be(kind: str) -> None:
    with pytest.raises(InvalidInput):
        ingest_table(REGISTRY, wide_table(f"user.{kind}.v1", pa.array([], pa.binary())), NOW)


def test_the_features_of_a_wide_table_share_one_list_of_ids_where_all_rows_are_written() -> None:
    table = pa.table({"entityId": ["a", "b"], "number": [1.0, 2.0], "integer": [1, 2], "boolean": [True, None]})
    batch = ingest_table(REGISTRY, table, NOW).batch
    assert [len(one.columns) for one in batch] == [2, 1]
    assert [one.entities for one in flat(batch)] == [["a", "b"], ["a", "b"], ["a"]]


def test_a_fault_in_one_column_leaves_the_other_columns_of_its_row() -> None:
    table = pa.table({"entityId": ["a", "b"], "rated": [99.0, 1.0], "integer": [1, 2], "number": [math.inf, None]})
    found = judged(table)
    assert found.faults == [(0, "number"), (0, "rated")]
    assert found.written == {
        "user.rated.v1": [("b", NOW, "1")],
        "user.integer.v1": [("a", NOW, "1"), ("b", NOW, "2")],
    }


def test_a_table_of_nothing_but_faults_names_so_many_of_them() -> None:
    found = ingest_table(REGISTRY, wide_table("rated", pa.array([9.0] * (MOST_FAULTS_NAMED + 5))), NOW)
    assert found.batch == []
    assert [fault.index for fault in found.faults] == list(range(MOST_FAULTS_NAMED))
