"""A batch that is read a piece at a time is judged as one that is decoded whole: values, faults, words and all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import msgspec
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.domain import FeatureChange, ValueType
from actors.errors import Fault, InvalidInput, TimewellError, TooLarge
from actors.ingest.sent import Ingested, Sent, ingest, judging
from actors.registry import FeatureRegistry
from actors.router import Router
from actors.turns import Steps, at_once, by_turns
from actors.types.values import render
from tests.batches import OneFeature, flat
from timewell.rows_wire import TrainingSet
from timewell.wire import Body, Observation, Observations
from web.bodies import items, outline, writing_rows
from web.bodies.items import Array, Items
from web.bodies.requests import decode
from web.bodies.writing_rows import judge_batch, judging_batch, to_sent


class RawObservations(Body):
    """A batch before its items are looked at."""

    values: list[msgspec.Raw]


NOW = 1_762_509_600_000_000
KINDS: dict[str, ValueType] = {"number": "number", "text": "string", "json": "json"}


def registry() -> FeatureRegistry:
    """Three features."""
    made = FeatureRegistry([], [])
    for name, kind in KINDS.items():
        made.apply(made.registration(FeatureChange(entity="user", name=name, value_type=kind), NOW)[0])
    return made


REGISTRY = registry()


class Judge:
    """As much of a router as judges."""

    registry = REGISTRY

    @property
    def judge(self) -> Judge:
        return self

    async def rows(self, sent: Sent, _: int) -> Ingested:
        return ingest(REGISTRY, sent, NOW)

    async def by_turns(self, judging: Callable[[int], Steps[Ingested]], _: int) -> Ingested:
        return await by_turns(judging(NOW))


ROUTER = cast(Router, Judge())

TEXTS = st.sampled_from(
    ['"a"', '"},{"', '"]}"', '"\\"},"', '"\\\\"', '"ü😀"', '"\\u00fc"', '"[[{"', '"a\\\\\\"},"']
)
NESTED = st.sampled_from(
    ['{"a":[1,{"b":2},{"c":[]}]}', "[{},{}]", "[[],[]]", "{}", '{"x":"},"}', "[1,2,3]", "null"]
)
GOOD = st.builds(
    '{{"featureId":{},"entityId":{},"value":{}}}'.format,
    st.sampled_from(['"number"', '"text"', '"json"', '"nobody"']),
    TEXTS,
    st.sampled_from(["1", "-2.5e3", "null"]) | TEXTS | NESTED,
)
BAD = st.sampled_from(
    ["0", "[]", "{}", "null", '"},"', '{"featureId":1}', '{"x":1}', "[[", "}", "]", "]}", "tru", "", "{]"]
) | st.sampled_from(
    ["NaN", '{"value":-Infinity}', '{"a":"\\q"}', '{"a":"\\u12"}', '"open', "\ufeff"],
)
HEADS = st.sampled_from(
    ['{"values":['] * 6
    + [
        '  {\n"values" : [ ',
        '{"v\\u0061lues":[',
        '{"more":[{"a":"]"}],"values":[',
        '{"values":0,"a":[',
        "[",
        "",
        "\ufeff{",
        "{",
    ]
)
TAILS = st.sampled_from(["]}"] * 6 + ["] \n} ", '],"more":1}', "]", "", "]}}", '],"values":[]}', "}", "]}x"])
COMMAS = st.sampled_from([","] * 8 + [" ,\n", "", ",,"])


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Batches, most of them with something wrong."""
    parts = draw(st.lists(GOOD, max_size=6) | st.lists(GOOD | BAD, max_size=6))
    text = draw(HEADS)
    for place, part in enumerate(parts):
        text += (draw(COMMAS) if place else "") + part
    data = (text + draw(TAILS)).encode()
    if draw(st.integers(0, 9)) == 0:
        data = data[: draw(st.integers(0, len(data)))]
    if draw(st.integers(0, 9)) == 0 and data:
        at = draw(st.integers(0, len(data) - 1))
        data = data[:at] + draw(st.sampled_from([b"\xff", b"\\", b'"', b",", b"}", b"0"])) + data[at + 1 :]
    return data


def whole(data: bytes) -> Ingested:
    """What a batch is when it is decoded in one go, and item by item where an item is to blame."""
    try:
        return ingest(REGISTRY, to_sent(decode(data, Observations).values), NOW)
    except InvalidInput as error:
        if not error.faults or not error.faults[0].field.startswith("values["):
            raise
    good, indices, faults = list[Observation](), list[int](), list[Fault]()
    for index, item in enumerate(decode(data, RawObservations).values):
        try:
            good.append(decode(item, Observation))
            indices.append(index)
        except InvalidInput as error:
            fault = error.faults[0] if error.faults else Fault("value", error.detail)
            faults.append(Fault(fault.field, fault.message, index))
    judged = ingest(REGISTRY, to_sent(good), NOW)
    faults += [Fault(one.field, one.message, indices[one.index or 0]) for one in judged.faults]
    return judged._replace(faults=sorted(faults, key=lambda fault: fault.index or 0))


def shown(result: Ingested | TimewellError) -> Any:
    """For a comparison."""
    if isinstance(result, TimewellError):
        return type(result), result.detail, result.faults
    return sorted(map(rows_of, flat(result.batch))), result.accepted, result.faults, result.more


def rows_of(one: OneFeature) -> tuple[Any, ...]:
    values = msgspec.json.encode(render(KINDS[one.feature.split(".")[1]], one.values, one.nulls))
    return one.feature, one.entities, one.times.tolist(), values


def outcome(work: Any) -> Any:
    try:
        return shown(work())
    except TimewellError as error:
        return shown(error)


@contextmanager
def pieces(size: int) -> Iterator[None]:
    """Pieces of so many bytes, so that cuts fall everywhere."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (items, outline, writing_rows):
            patch.setattr(module, "CHUNK_BYTES", size)
        patch.setattr(writing_rows, "ROWS_JUDGED_TOGETHER", 2)
        yield


SIZES = st.sampled_from([1, 7, 40])


@given(bodies(), SIZES)
@settings(deadline=None, max_examples=200)
def test_a_batch_in_pieces_is_judged_as_the_whole(data: bytes, size: int) -> None:
    with pieces(size):
        told = outcome(lambda: trio.run(judge_batch, ROUTER, data, 100))
    if "given twice" not in str(told):
        assert told == outcome(lambda: whole(data))


def test_long_items_are_judged_before_many_of_them_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    judged = list[int]()

    def noted(registry: Any, sent: Any, now: int) -> Any:
        judged.append(len(sent.values))
        return judging(registry, sent, now)

    monkeypatch.setattr(writing_rows, "judging", noted)
    monkeypatch.setattr(items, "CHUNK_BYTES", 1)
    item = b'{"featureId":"number","entityId":"a","value":1}'
    ingested = at_once(judging_batch(REGISTRY, b'{"values":[%b]}' % b",".join([item] * 200), 1_000, NOW))
    assert (ingested.accepted, sum(judged)) == (200, 200)
    assert max(judged) <= 32


def test_an_array_that_is_given_twice_is_refused() -> None:
    item = b'{"featureId":"number","entityId":"a","value":1}'
    data = b'{"values":[%b],"values":[%b]}' % (item, item)
    with pieces(7), pytest.raises(InvalidInput, match="values: is given twice"):
        at_once(judging_batch(REGISTRY, data, 100, NOW))


@pytest.mark.parametrize("item", [b"0", b'{"featureId":"number","entityId":"a","value":1}'])
def test_items_beyond_the_limit_are_neither_decoded_nor_judged(
    monkeypatch: pytest.MonkeyPatch, item: bytes
) -> None:
    seen = 0

    def counting(*arguments: Any) -> Any:
        nonlocal seen
        seen += 1
        return decode(*arguments)

    monkeypatch.setattr(writing_rows, "decode", counting)
    data = b'{"values":[' + b",".join([item] * 300_000) + b"]}"
    with pytest.raises(TooLarge, match="at most 1000 values"):
        at_once(judging_batch(REGISTRY, data, 1_000, NOW))
    assert seen <= 1_000


@pytest.mark.parametrize(
    ("field", "place", "reason"),
    [('"k%d":1', 0, "k0"), ('"values":1', 0, "keys"), ('"values":[],"x%d":1', 1, "values|x0|keys")],
)
def test_a_body_of_very_many_fields_is_refused_after_a_few(field: str, place: int, reason: str) -> None:
    many = ",".join(field % number if "%" in field else field for number in range(200_000))
    data = "{" + (many + ',"values":[]' if place == 0 else '"values":[],' + many) + "}"
    steps, count = judging_batch(REGISTRY, data.encode(), 100, NOW), 0
    with pytest.raises((InvalidInput, TooLarge), match=reason):
        for _ in steps:
            count += 1
    assert count < 300


def test_an_item_of_absurd_length_is_refused_by_its_index() -> None:
    long = b'{"featureId":"json","entityId":"a","value":[' + b"0," * 600_000 + b"0]}"
    data = b'{"values":[{"featureId":"number","entityId":"a","value":1},' + long + b"]}"
    with pytest.raises(InvalidInput) as refused:
        at_once(judging_batch(REGISTRY, data, 1_000, NOW))
    assert (refused.value.faults[0].index, refused.value.detail) == (1, "values[1]: is longer than 1048576 bytes")


ROWS = st.sampled_from(
    ['{"entityId":"a","timestamp":"t","l":{"x":[1,{}]}}', '{"entityId":"},{"}', "{}", "1", "[]", "{", '"']
    + ["{}"] * 6
)
FEATURES = st.sampled_from(
    ['"features":["a","b"]', '"features":[{"ref":"a"}]', '"group":"],"', '"window":{}', '"x":1']
)


@given(st.lists(ROWS, max_size=5), st.lists(FEATURES, max_size=2), st.booleans(), COMMAS, SIZES)
@settings(deadline=None, max_examples=100)
def test_training_rows_in_pieces_are_those_of_the_whole(
    rows: list[str], others: list[str], first: bool, comma: str, size: int
) -> None:
    fields = [f'"rows":[{comma.join(rows)}]']
    data = ("{" + ",".join([*fields, *others] if first else [*others, *fields]) + "}").encode()
    taken: list[Any] = []

    def by_pieces() -> Any:
        array = Array("rows", TrainingSet, list[dict[str, Any]], None)
        body = at_once(Items(data, array, taken.extend).reading())
        return msgspec.structs.replace(body, rows=taken)

    def told(work: Any) -> Any:
        try:
            return work()
        except InvalidInput as error:
            return error.detail, error.faults

    with pieces(size):
        found = told(by_pieces)
    assert found == told(lambda: decode(data, TrainingSet))
