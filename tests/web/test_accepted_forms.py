"""The table of docs/accepted-forms.md: what a value may look like, by type and lane."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any, NamedTuple, get_args

import msgspec
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from actors.domain import FeatureChange, ValueSchema, ValueType
from actors.errors import InvalidInput
from actors.ingest.arrow_tables import ingest_table
from actors.ingest.sent import Ingested, Sent, ingest
from actors.registry import FeatureRegistry
from actors.timestamps import parse_timestamp
from actors.types.values import render
from tests.batches import flat
from timewell.arrow import Objects
from timewell.arrow import value_column as column_of_frame
from timewell.commands.columns import BadValue, time_column, value_column

NOW = 1_762_509_600_000_000
REFUSED = "refused"
TYPES: tuple[ValueType, ...] = get_args(ValueType)


class Form(NamedTuple):
    """One value in the forms that it has in each lane; None where a lane cannot say it. `kept`: as JSON."""

    kind: ValueType
    kept: str
    json: str | None = None
    csv: str | None = None
    arrow: pa.Array | None = None
    frame: Any = None


def moments(*texts: str) -> list[Form]:
    """Texts that mean the first of them."""
    kept = f'"{texts[0]}"'
    return [Form("timestamp", kept, f'"{text}"', text, pa.array([text]), [text]) for text in texts]


ODD = str(2**53 + 1)
TEN = "2025-11-07T10:00:00.000Z"
FORMS = [
    Form("number", "5", "5", "5", pa.array([5], pa.uint8()), [5]),
    Form("number", "5", "5.0", "5.0", pa.array([Decimal("5.0")]), [5.0]),
    Form("number", "1000", "1e3", "1e3", pa.array([1000.0], pa.float32()), np.array([1000], np.float32)),
    Form("number", "9007199254740992", "9007199254740993", "9007199254740993", pa.array([2**53 + 1])),
    Form("number", "0", "-0.0", "-0.0", pa.array([-0.0]), [-0.0]),
    Form("number", "1.1805916207174113e21", "1180591620717411303424", None, None, [2**70]),
    Form("number", REFUSED, '"5"', "five", pa.array(["5"]), ["5"]),
    Form("number", REFUSED, "1e999", None, pa.array([float("inf")]), [float("inf")]),
    Form("number", REFUSED, "true", None, pa.array([True]), [True]),
    Form("integer", "5", "5", "+5", pa.array([5], pa.int8()), [5]),
    Form("integer", "5", "5.0", "5.0", pa.array([5.0]), [5.0]),
    Form("integer", "5", None, None, pa.array([Decimal("5.00")]), [Decimal("5.00")]),
    Form("integer", "9007199254740991", "9007199254740991.0", None, pa.array([2.0**53 - 1]), [2.0**53 - 1]),
    Form("integer", ODD, ODD, ODD, pa.array([2**53 + 1]), [2**53 + 1]),
    Form("integer", REFUSED, "9007199254740992.0", None, pa.array([2.0**53]), [2.0**53]),
    Form("integer", REFUSED, "5.5", "5.5", pa.array([5.5]), [5.5]),
    Form("integer", REFUSED, "1e30", "1e30", pa.array([2**64 - 1], pa.uint64())),
    Form("integer", REFUSED, "1180591620717411303424", None, None, [2**70]),
    Form("integer", REFUSED, None, None, None, pl.Series([2**70], dtype=pl.Int128)),
    Form("string", '"00501"', '"00501"', "00501", pa.array(["00501"], pa.string_view()), ["00501"]),
    Form("string", '"a"', '"a"', "a", pa.array(["a"]).dictionary_encode(), pd.Series(["a"], dtype="category")),
    Form("string", '"a"', None, None, None, pl.Series(["a"], dtype=pl.Categorical)),
    Form("string", '"a"', None, None, None, pl.Series(["a"], dtype=pl.Enum(["a"]))),
    Form("string", REFUSED, "5", None, pa.array([5]), [5]),
    Form("boolean", "true", "true", "true", pa.array([True]), [True]),
    Form("boolean", "false", "false", "F", None, None),
    Form("boolean", "true", None, "t", None, None),
    Form("boolean", REFUSED, "1", "yes", pa.array([1]), [1]),
    *moments(
        TEN,
        "2025-11-07T10:00:00Z",
        "2025-11-07T10:00:00",
        "2025-11-07 10:00:00",
        "2025-11-07 11:00:00+01",
        "2025-11-07T11:00:00+0100",
        "2025-11-07 10:00:00 UTC",
        "2025-11-07T10:00:00.0000009Z",
    ),
    *moments("2025-11-07T00:00:00.000Z", "2025-11-07"),
    Form("timestamp", f'"{TEN}"', None, None, pa.array([NOW // 1_000], pa.timestamp("ms")), [pd.Timestamp(TEN)]),
    Form("timestamp", f'"{TEN}"', None, None, pa.array([NOW * 1_000 + 999], pa.timestamp("ns")), None),
    Form("timestamp", '"2025-11-07T00:00:00.000Z"', None, None, pa.array([date(2025, 11, 7)]), None),
    Form("timestamp", REFUSED, "1762509600", "1762509600", pa.array([1762509600]), None),
    Form("timestamp", REFUSED, '"10000-01-01T00:00:00Z"', "10000-01-01", pa.array([2**40], pa.timestamp("s"))),
    Form("vector", "[0.5,0]", "[0.5,-0.0]", "[0.5,-0]", pa.array([[0.5, -0.0]]), [[0.5, -0.0]]),
    Form("vector", REFUSED, "[0.5]", "[0.5]", pa.array([[0.5]]), [[0.5]]),
    Form("json", '{"a":1}', '{"a":1}', '{"a":1}', pa.array(['{"a": 1}']), [{"a": 1}]),
    Form("json", "1180591620717411303424", "1180591620717411303424", None, None, [2**70]),
    Form("json", "[0.0]", "[-0.0]", "[-0.0]", pa.array([[-0.0]])),
    Form("json", REFUSED, None, "{", pa.array([b"{}"])),
    Form("json", REFUSED, None, None, pa.array([float("-inf")]), None),
    Form("json", REFUSED, None, None, pa.array([{"a": [1.5, float("inf")]}]), None),
    Form("json", '{"a":null}', None, None, pa.array([{"a": float("nan")}]), [{"a": None}]),
    *(Form(kind, "null", "null", "", pa.array([None, np.nan], pa.float64()).slice(0, 1)) for kind in TYPES),
]  # fmt: skip


def registered() -> FeatureRegistry:
    made = FeatureRegistry()
    for place, kind in enumerate(TYPES, 1):
        schema = ValueSchema(dimension=2) if kind == "vector" else None
        made.apply(
            made.registration(FeatureChange(entity="user", name=kind, value_type=kind, schema=schema), place)[0]
        )
    return made


REGISTRY = registered()


def told(kind: str, ingested: Ingested) -> str:
    """The value that would be written as JSON, or that it is refused."""
    if ingested.faults:
        assert [fault.index for fault in ingested.faults] == [0]
        return REFUSED
    (one,) = flat(ingested.batch)
    return msgspec.json.encode(render(kind, one.values, one.nulls)[0]).decode()


def by_json(kind: str, text: str) -> str:
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return REFUSED
    return told(kind, ingest(REGISTRY, Sent([f"user.{kind}.v1"], ["u"], [value], [None], [None]), NOW))


def by_arrow(kind: str, column: pa.Array) -> str:
    table = pa.table({"featureId": [f"user.{kind}.v1"], "entityId": ["u"], "value": column})
    try:
        return told(kind, ingest_table(REGISTRY, table, NOW))
    except InvalidInput as error:
        assert [fault.field for fault in error.faults] == ["value"]
        return REFUSED


def by_file(kind: str, column: Any, is_text: bool) -> str:
    """As `timewell load` reads a file."""
    try:
        return by_arrow(kind, value_column(kind, column, is_text))
    except BadValue:
        return REFUSED


def by_frame(kind: str, values: Any) -> str:
    frame = pl.DataFrame({"x": values}) if isinstance(values, pl.Series) else pd.DataFrame({"x": values})
    column = column_of_frame(frame, "x")
    return by_arrow(kind, column.texts() if isinstance(column, Objects) else column)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form.kind} {form.json or form.csv or form.arrow}")
def test_a_value_is_the_same_or_refused_in_every_lane_that_can_say_it(form: Form) -> None:
    lanes = {}
    if form.json is not None:
        lanes["json"] = by_json(form.kind, form.json)
        if not form.json.startswith("1e999"):
            lanes["lines of a file"] = by_file(form.kind, [msgspec.json.decode(form.json)], False)
    if form.csv is not None:
        column = pa.array([form.csv])
        lanes["csv"] = by_file(form.kind, pc.if_else(pc.equal(column, ""), None, column), True)
    if form.arrow is not None:
        lanes["arrow"] = by_arrow(form.kind, form.arrow)
    if form.frame is not None:
        lanes["frame"] = by_frame(form.kind, form.frame)
    assert lanes == dict.fromkeys(lanes, form.kept)


@pytest.mark.parametrize("text", ["2025-11-07", "2025-11-07 10:00:00", "2025-11-07T11:00:00.0000009+01"])
def test_event_times_and_bounds_take_what_values_of_timestamps_take(text: str) -> None:
    moment = parse_timestamp(text)
    sent = Sent(["user.number.v1"], ["u"], [1], [text], [None])
    assert ingest(REGISTRY, sent, NOW).batch[0].times.tolist() == [moment]
    table = pa.table({"entityId": ["u"], "timestamp": [text], "user.number.v1": [1]})
    assert ingest_table(REGISTRY, table, NOW).batch[0].times.tolist() == [moment]
    assert time_column(pa.array([text])).cast(pa.int64()).to_pylist() == [moment]
