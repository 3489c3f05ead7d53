"""The ids of composite entity types: judged together as one by one, put together from columns as from rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.domain import EntityType, FeatureChange
from actors.errors import Fault, InvalidInput, NotFound
from actors.ingest.arrow_tables import ingest_table
from actors.ingest.composite import composed, misfits, parts_of, parts_of_all
from actors.ingest.sent import Ingested, Sent, ingest
from actors.registry import FeatureRegistry
from actors.storage.entries import Catalogued
from actors.turns import Steps, at_once
from tests.batches import flat

NOW = 1_762_509_600_000_000
KEYS = ("user", "merchant")
SHAPE = 'must be a compact JSON array of 2 strings, such as ["user id","merchant id"]'


def registry() -> FeatureRegistry:
    made = FeatureRegistry()
    made.apply(Catalogued(EntityType(name="pair", keys=KEYS, created=NOW, updated=NOW)))
    for entity, name in (("pair", "visits"), ("pair", "spend"), ("user", "spend"), ("user", "age")):
        made.apply(made.registration(FeatureChange(entity=entity, name=name, value_type="number"), NOW)[0])
    return made


REGISTRY = registry()


def sent(*rows: tuple[str, str]) -> Ingested:
    """(feature, entity id) rows with the value 1."""
    features, ids = zip(*rows, strict=True)
    return ingest(REGISTRY, Sent(features, ids, [1] * len(rows), [None] * len(rows), [None] * len(rows)), NOW)


def ids_in(found: Ingested) -> list[tuple[str, str]]:
    """(feature, entity id) of what is written."""
    return [(one.feature, id_) for one in flat(found.batch) for id_ in one.entities]


# Ids as they are given

SPECIAL = ['["u1","m9"]', '["u1", "m9"]', "u1", "", "[]", '["u1"]', '["a","b","c"]', '["a",1]', '["a",""]', "null"]
SPLICED = [
    '["x","y"],["a\\"]',
    '[","b"]',
    '["a","b"]\n["c","d"]',
    '["a"',
    '"b"]',
    '["a\\u0041","b"]',
    '["\x7f","b"]',
]
PARTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), max_size=4)
IDS = st.sampled_from(SPECIAL + SPLICED) | st.text(max_size=6) | PARTS.map(composed) | PARTS.map(json.dumps)


def one_by_one(texts: list[str]) -> list[tuple[int, str]]:
    found = []
    for index, text in enumerate(texts):
        try:
            assert composed(parts_of(text, KEYS)) == text
        except ValueError as error:
            found.append((index, str(error)))
    return found


@given(st.lists(IDS, max_size=6))
@settings(deadline=None, max_examples=100)
def test_ids_are_judged_together_as_they_are_alone(texts: list[str]) -> None:
    assert at_once(misfits(texts, KEYS)) == one_by_one(texts)


@given(st.lists(IDS | st.just('["a","b"]'), max_size=4))
def test_ids_are_taken_apart_together_as_they_are_alone(texts: list[str]) -> None:
    if one_by_one(texts):
        with pytest.raises(ValueError, match=r"must be|its"):
            parts_of_all(texts, KEYS)
    else:
        assert parts_of_all(texts, KEYS) == [parts_of(text, KEYS) for text in texts]


def test_ids_that_would_be_right_spliced_together_are_judged_as_they_are_alone() -> None:
    assert at_once(misfits(SPLICED, KEYS)) == one_by_one(SPLICED)


def test_many_ids_are_judged_in_steps_and_a_wrong_one_is_found_among_them() -> None:
    texts = [composed([f"u{place}", "m"]) for place in range(5_000)]
    assert steps(misfits(texts, KEYS)) == (4, [])
    texts[3_333] = "u"
    count, wrong = steps(misfits(texts, KEYS))
    assert wrong == [(3_333, SHAPE)] and count > 4


def steps(taken: Steps[Any]) -> tuple[int, Any]:
    """How often the steps gave way, and their result."""
    count = 0
    while True:
        try:
            next(taken)
        except StopIteration as done:
            return count, done.value
        count += 1


def test_a_row_whose_id_is_not_of_its_features_type_is_refused_and_the_others_are_taken() -> None:
    found = sent(
        ("user.age", "u1"),
        ("pair.visits", "u1"),
        ("pair.visits", '["u1","m9"]'),
        ("pair.spend", '["u1",""]'),
        ("user.age", '["u1"]'),
        ("pair.spend", ""),
    )
    assert found.faults == [
        Fault("entityId", SHAPE, 1),
        Fault("entityId", "its merchant is empty", 3),
        Fault("entityId", "is empty", 5),
    ]
    assert sorted(ids_in(found)) == [
        ("pair.visits.v1", '["u1","m9"]'),
        ("user.age.v1", '["u1"]'),
        ("user.age.v1", "u1"),
    ]


# Arrow tables that have the ids in one column


def test_both_forms_of_an_arrow_table_refuse_what_rows_are_refused_for() -> None:
    ids = ["u1", '["u1","m9"]', '["u1"]', '["u1","m9"]']
    long = {
        "featureId": ["user.age", "pair.visits", "pair.visits", "pair.spend"],
        "entityId": ids,
        "value": [1.0] * 4,
    }
    found = ingest_table(REGISTRY, pa.table(long), NOW)
    assert found.faults == [Fault("entityId", SHAPE, 2)]
    assert len(ids_in(found)) == 3
    wide = {"entityId": ids, "pair.visits": [1.0, 2.0, 3.0, None], "pair.spend": [None, 1.0, 3.0, None]}
    found = ingest_table(REGISTRY, pa.table(wide), NOW)
    assert found.faults == [Fault("entityId", SHAPE, 0), Fault("entityId", SHAPE, 2)]
    assert ids_in(found) == [("pair.visits.v1", '["u1","m9"]'), ("pair.spend.v1", '["u1","m9"]')]


def test_a_wide_table_judges_an_id_by_what_its_row_writes() -> None:
    wide = {"entityId": ["u1", '["u1","m9"]'], "user.age": [1.0, None], "pair.visits": [None, 2.0]}
    found = ingest_table(REGISTRY, pa.table(wide), NOW)
    assert found.faults == []
    assert ids_in(found) == [("user.age.v1", "u1"), ("pair.visits.v1", '["u1","m9"]')]


# Arrow tables that have the parts of the ids in columns

FORMS: list[Callable[[list[str | None]], Any]] = [
    lambda parts: pa.array(parts, pa.string()),
    lambda parts: pa.array(parts, pa.large_string()),
    lambda parts: pa.array(parts, pa.string_view()),
    lambda parts: pa.array(parts, pa.string()).dictionary_encode(),
    lambda parts: pa.chunked_array([pa.array(parts[:1], pa.string()), pa.array(parts[1:], pa.string())]),
    lambda parts: pa.array(["other", *parts, "other"], pa.string()).slice(1, len(parts)),
    lambda parts: pa.array(["other", *parts], pa.string()).dictionary_encode().slice(1),
]
PART = st.sampled_from(["u1", "u2", "é", '"', "\\", "a,b", "[", '","']) | st.text(
    st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=3
)
ROWS = st.lists(st.tuples(st.none() | PART, PART), min_size=1, max_size=8)


@given(ROWS, st.sampled_from(FORMS), st.sampled_from(FORMS))
@settings(deadline=None, max_examples=100)
def test_ids_are_put_together_from_columns_of_any_form(rows: list[Any], one: Any, other: Any) -> None:
    users, merchants = ([row[place] for row in rows] for place in (0, 1))
    table = pa.table({"merchant": other(merchants), "visits": [1.0] * len(rows), "user": one(users)})
    found = ingest_table(REGISTRY, table, NOW, entity="pair")
    assert found.faults == [Fault("user", "is empty", row) for row, user in enumerate(users) if user is None]
    expected = [json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in rows if row[0] is not None]
    assert ids_in(found) == [("pair.visits.v1", id_) for id_ in expected]
    assert all(parts_of(id_, KEYS) for id_ in expected)


@pytest.mark.parametrize("kind", [pa.int8(), pa.int64(), pa.uint64()])
def test_integers_are_parts_by_their_decimal_text(kind: pa.DataType) -> None:
    table = pa.table({"user": pa.array([7, 0, 7], kind), "merchant": ["m", "m", "n"], "visits": [1.0, 2.0, 3.0]})
    found = ingest_table(REGISTRY, table, NOW, entity="pair")
    assert [id_ for _, id_ in ids_in(found)] == ['["7","m"]', '["0","m"]', '["7","n"]']


def test_parts_that_are_no_ids_or_do_not_fit_in_one_together_are_told_by_row_and_column() -> None:
    users = ["u1", "", "a\nb", "u" * 300, "u1"]
    merchants = ["m", "m", "m", "m" * 300, "m" * 513]
    table = pa.table({"user": users, "merchant": merchants, "visits": [1.0] * 5})
    found = ingest_table(REGISTRY, table, NOW, entity="pair")
    assert found.faults == [
        Fault("user", "is empty", 1),
        Fault("user", "contains a control character", 2),
        Fault("user", "with merchant: is longer than 512 bytes", 3),
        Fault("merchant", "is longer than 512 bytes", 4),
    ]
    assert ids_in(found) == [("pair.visits.v1", '["u1","m"]')]


def test_a_table_without_rows_writes_nothing() -> None:
    none = pa.array([], pa.string())
    table = pa.table({"user": none, "merchant": none, "visits": pa.array([], pa.float64())})
    assert ingest_table(REGISTRY, table, NOW, entity="pair").accepted == 0


def test_the_entity_type_of_a_table_gives_its_bare_names_a_meaning_in_both_forms() -> None:
    found = ingest_table(REGISTRY, pa.table({"user": ["u1"], "spend": [1.0]}), NOW, entity="user")
    assert ids_in(found) == [("user.spend.v1", "u1")]
    found = ingest_table(REGISTRY, pa.table({"entityId": ["u1"], "spend": [1.0]}), NOW, entity="user")
    assert ids_in(found) == [("user.spend.v1", "u1")]
    long = {"featureId": ["spend", "pair.visits.v1"], "user": ["u", "v"], "merchant": [1, 2], "value": [1.0, 2.0]}
    found = ingest_table(REGISTRY, pa.table(long), NOW, entity="pair")
    assert ids_in(found) == [("pair.spend.v1", '["u","1"]'), ("pair.visits.v1", '["v","2"]')]


def test_what_a_table_lacks_or_has_of_another_type_is_told() -> None:
    def refused(columns: dict[str, Any], entity: str | None = "pair") -> str:
        with pytest.raises(InvalidInput) as caught:
            ingest_table(REGISTRY, pa.table(columns), NOW, entity=entity)
        return f"{caught.value.faults[0].field}: {caught.value.faults[0].message}"

    assert refused({"user": ["u"], "visits": [1.0]}).startswith("merchant: the table has no such column")
    assert "?entity=TYPE" in refused({"user": ["u"], "merchant": ["m"], "pair.visits": [1.0]}, None)
    other = refused({"user": ["u"], "merchant": ["m"], "user.age": [1.0]})
    assert other == "user.age: user.age.v1 is not of the entity type pair"
    assert refused({"user": [1.5], "merchant": ["m"], "visits": [1.0]}).startswith(
        "user: must be strings or integers"
    )
    assert (
        '["user id","merchant id"]'
        in ingest_table(REGISTRY, pa.table({"entityId": ["u"], "visits": [1.0]}), NOW, entity="pair")
        .faults[0]
        .message
    )
    with pytest.raises(NotFound):
        ingest_table(REGISTRY, pa.table({"nobody": ["u"], "x": [1.0]}), NOW, entity="nobody")
