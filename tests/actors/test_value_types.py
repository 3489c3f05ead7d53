"""A value type is one file: with a line in TYPES it is taken, kept, aggregated and watched, in a directory too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest

from actors.domain import FeatureChange, ValueSchema, ValueType
from actors.errors import InvalidInput
from actors.ingest.sent import Sent
from actors.monitoring import drift
from actors.opening import open_router
from actors.router import Router
from actors.serving import Span
from actors.storage.embedded import delta, forgetting, layout, runs
from actors.storage.embedded.local import LocalStorage, MemoryStorage
from actors.storage.embedded.on_disk import EmbeddedStorage
from actors.table.aggregates import allowed
from actors.timestamps import FOREVER, NEVER, parse_timestamp
from actors.types import values
from actors.types.constraints import check_schema, coerce
from actors.types.number import Number
from actors.types.type import Array, Coerced, Observed, Type, column_of, expected, is_text, mismatch
from actors.types.values import TYPES, convert_arrow, render
from tests.actors.service import SETTINGS
from web.answers.shown_statistics import statistics_answer

YEAR = Span(parse_timestamp("2025-01-01T00:00:00Z"), parse_timestamp("2026-01-01T00:00:00Z"))


class Grade(Type):
    """A to F, kept as a byte: a type of a test."""

    name = "grade"
    dtype = np.dtype(np.uint8)
    arrow = pa.int8()
    constraints = frozenset({"min", "max"})
    compared = "amounts"

    def from_json(self, feature: Any, value: Any) -> int:
        if not (isinstance(value, str) and len(value) == 1 and "A" <= value <= "F"):
            raise expected("a grade from A to F", value)
        return ord(value) - ord("A")

    def to_json(self, values: Array) -> list[Any]:
        return [chr(ord("A") + grade) for grade in values.tolist()]

    def from_arrow(self, feature: Any, values: pa.Array, field: str) -> Coerced:
        if not is_text(values.type):
            raise mismatch(feature, values, field)
        return column_of(self, feature, values.to_pylist(), (len(values),))

    def amount_to_json(self, amount: float | int | None) -> Any:
        return None if amount is None else self.to_json(np.array([round(amount)]))[0]


@pytest.fixture(autouse=True)
def grades(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The type, registered."""
    monkeypatch.setitem(TYPES, Grade.name, Grade())
    schema = pa.schema([*layout.KEYS, *(pa.field(name, type_.arrow) for name, type_ in TYPES.items())])
    for module in (layout, runs, delta, forgetting):  # made of TYPES on import
        monkeypatch.setattr(module, "SCHEMA", schema)
    monkeypatch.setattr(values, "_BY_DTYPE", values.by_dtype(TYPES.values()))
    yield


async def registered(router: Router) -> Any:
    change = FeatureChange(entity="pupil", name="grade", value_type=cast(ValueType, "grade"))
    feature, _ = await router.register(change)
    return feature


async def write(router: Router, entities: Sequence[str], given: Sequence[Any], times: Sequence[str]) -> None:
    count = len(given)
    sent = Sent(["pupil.grade.v1"] * count, entities, given, times, [None] * count)
    await router.write(router.judge.at_once(sent), b"done", None)


@pytest.fixture(params=["memory", "directory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> LocalStorage:
    return MemoryStorage() if request.param == "memory" else EmbeddedStorage(str(tmp_path))


async def test_it_is_taken_kept_served_and_aggregated(storage: LocalStorage) -> None:
    times = ["2025-01-01T00:00:00Z", "2025-01-02T00:00:00Z", "2025-01-03T00:00:00Z"]
    async with open_router(SETTINGS, storage) as router:
        feature = await registered(router)
        await write(router, ["ada"] * 3, ["C", None, "A"], times)
        await router.checkpointer.checkpoint()  # into the history and the statistics
        page = await router.observations("ada", feature, YEAR, 10, False)
        assert render("grade", page.values, page.nulls) == ["C", None, "A"]
        rows = storage.history.versions(feature, ["ada"], NEVER, FOREVER)
        assert render("grade", rows.values, rows.nulls) == ["C", None, "A"]
        for aggregation, expected_ in (("latest", "A"), ("min", "A"), ("max", "C")):
            answer = await router.aggregate(["ada"], feature, aggregation, YEAR)
            assert render(answer.value_type, answer.values, answer.nulls) == [expected_]
        told = statistics_answer(feature, await router.statistics(feature))
        assert (told.count, told.null_count, told.min, told.max) == (3, 1, "A", "C")
        assert told.mean is None
        assert allowed("max", "grade")
        assert not allowed("avg", "grade")


async def test_what_is_none_is_refused_in_json_and_in_arrow() -> None:
    async with open_router(SETTINGS, MemoryStorage()) as router:
        feature = await registered(router)
        judged = router.judge.at_once(Sent(["pupil.grade.v1"], ["ada"], ["G"], [None], [None]))
        assert [fault.message for fault in judged.faults] == ['expected a grade from A to F, got "G"']
        column = convert_arrow(feature, pa.array(["B", "x"]), "grade")
        assert [one.position for one in column.refused] == [1]
        with pytest.raises(InvalidInput, match="int64"):
            convert_arrow(feature, pa.array([1]), "grade")


def test_a_schema_may_say_of_it_what_it_says_and_no_more() -> None:
    check_schema("grade", ValueSchema(min="B", max="D"))
    with pytest.raises(InvalidInput, match="makes no sense for valueType grade"):
        check_schema("grade", ValueSchema(pattern="A"))


async def test_it_is_compared_as_it_says() -> None:
    async with open_router(SETTINGS, MemoryStorage()) as router:
        feature = await registered(router)
        moved = drift.of_samples(feature, ["A", "B"] * 500, ["E", "F"] * 500)
        assert moved.verdict == "drift"
        assert coerce(feature, ["A"]).values.tolist() == [0]


class Loudness(Number):
    """Kept like numbers, and observed in another way."""

    name = "loudness"

    def observed(self, values: Array) -> Observed:
        return Observed(values, -values)


def test_a_type_that_statistics_would_take_for_another_is_refused() -> None:
    with pytest.raises(TypeError, match="number and loudness are both kept as float64"):
        values.by_dtype([*TYPES.values(), Loudness()])


def test_a_directory_says_that_delta_does_not_have_a_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delta, "SCHEMA", pa.schema([pa.field("grade", pa.uint8())]))
    with pytest.raises(TypeError, match="a column of uint8"):
        delta.new_table()
