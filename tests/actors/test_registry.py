"""What a reference means and what a change would be, against a plain search over all features."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.declaring import promotion
from actors.domain import Feature, FeatureChange, Group, Retention, ValueSchema, feature_id
from actors.errors import Conflict, InvalidInput, NotFound
from actors.registry import FeatureRegistry
from actors.storage.entries import Deleted, Grouped, Registered, Ungrouped

ENTITIES, NAMES, VERSIONS = ["user", "item"], ["clicks", "v1", "user"], [1, 2, 10]
KEYS = st.tuples(st.sampled_from(ENTITIES), st.sampled_from(NAMES), st.sampled_from(VERSIONS))
REFERENCES = [
    *NAMES,
    *(f"{entity}.{name}" for entity in ENTITIES for name in NAMES),
    *(feature_id(entity, name, version) for entity in ENTITIES for name in NAMES for version in VERSIONS),
    "nobody",
    "user.nothing",
    "user.clicks.v3",
    "a.b.c.d",
    "",
]
STEPS = st.lists(st.tuples(st.sampled_from(["register", "delete", "resolve"]), KEYS), max_size=25)


def a_change(entity: str = "user", name: str = "clicks", version: int = 1, **rest: Any) -> FeatureChange:
    return FeatureChange(**{"entity": entity, "name": name, "version": version, "value_type": "number", **rest})


def a_group(*features: str, entity: str = "user", name: str = "g") -> Group:
    return Group(name=name, entity=entity, features=features, created=0, updated=0)


def register(registry: FeatureRegistry, change: FeatureChange, now: int = 1) -> Feature:
    registered, _ = registry.registration(change, now)
    registry.apply(registered)
    return registered.feature


def registry_of(*ids: str) -> FeatureRegistry:
    registry = FeatureRegistry()
    for id_ in ids:
        entity, name, version = id_.split(".")
        register(registry, a_change(entity, name, int(version[1:])))
    return registry


def searched(features: dict[str, Feature], reference: str) -> str:
    """The id that a reference means, or "unknown", or "several"."""
    if reference in features:
        return reference
    found = [
        feature for feature in features.values() if reference in (feature.name, f"{feature.entity}.{feature.name}")
    ]
    if "." not in reference and len({feature.entity for feature in found}) > 1:
        return "several"
    return max(found, key=lambda feature: feature.version).id if found else "unknown"


def resolved(registry: FeatureRegistry, reference: str) -> str:
    try:
        return registry.resolve(reference).id
    except NotFound as error:
        assert repr(reference) in error.detail
        return "unknown"
    except Conflict as error:
        assert all(f"{entity}.{reference}" in error.detail for entity in ENTITIES)
        return "several"


# What a reference means


@given(STEPS)
@settings(deadline=None, max_examples=150)
def test_references_mean_what_a_search_over_all_features_finds(
    steps: list[tuple[str, tuple[str, str, int]]],
) -> None:
    registry = FeatureRegistry()
    for now, (step, key) in enumerate(steps, 1):
        if step == "register":
            register(registry, a_change(*key), now)
        elif step == "delete" and feature_id(*key) in registry.features:
            registry.apply(registry.deletion(feature_id(*key), now))
        features = dict(registry.features)
        assert [resolved(registry, reference) for reference in REFERENCES] == [
            searched(features, reference) for reference in REFERENCES
        ]


@given(st.lists(KEYS, unique=True))
@settings(deadline=None, max_examples=60)
def test_versions_are_listed_lowest_first(keys: list[tuple[str, str, int]]) -> None:
    registry = registry_of(*(feature_id(*key) for key in keys))
    for entity, name in {key[:2] for key in keys}:
        versions = [feature.version for feature in registry.versions(f"{entity}.{name}")]
        assert versions == sorted(version for *key, version in keys if key == [entity, name])


def test_a_registry_opened_with_its_features_is_the_one_that_registered_them() -> None:
    registry = registry_of("user.clicks.v2", "item.clicks.v1", "user.clicks.v10")
    again = FeatureRegistry(registry.features.values(), registry.groups.values())
    assert [resolved(again, reference) for reference in REFERENCES] == [
        resolved(registry, reference) for reference in REFERENCES
    ]


def test_what_is_not_known_is_named() -> None:
    registry = FeatureRegistry()
    with pytest.raises(NotFound, match=r"'user\.clicks'"):
        registry.versions("user.clicks")
    with pytest.raises(NotFound, match="'g'"):
        registry.group("g")


# Registering


def test_registering_is_new_once_and_an_update_afterwards() -> None:
    registry = FeatureRegistry()
    first, new = registry.registration(a_change(description="one", tags=("a",)), 5)
    assert new
    registry.apply(first)
    second, new = registry.registration(a_change(description="two"), 9)
    assert not new
    assert (second.feature.description, second.feature.tags) == ("two", ("a",))
    assert (second.feature.created, second.feature.updated) == (5, 9)


def test_nothing_is_changed_before_the_change_is_applied() -> None:
    registry = FeatureRegistry()
    registered, _ = registry.registration(a_change(group="g"), 5)
    assert (dict(registry.features), dict(registry.groups)) == ({}, {})
    registry.apply(registered)
    updated, _ = registry.registration(a_change(description="later"), 6)
    assert registry.resolve("clicks").description == ""
    registry.apply(updated)
    assert registry.resolve("clicks").description == "later"


def test_an_update_may_take_back_what_was_given() -> None:
    registry = FeatureRegistry()
    register(
        registry, a_change(max_age="1d", owner="me", schema=ValueSchema(min=1), retention=Retention(values=5))
    )
    feature = register(registry, a_change(max_age=None, owner=None, schema=None, retention=None))
    assert (feature.max_age, feature.owner, feature.schema, feature.retention) == (None, None, None, None)


def test_another_value_type_under_the_same_id_is_a_conflict() -> None:
    registry = registry_of("user.clicks.v1")
    with pytest.raises(Conflict):
        registry.registration(a_change(value_type="string"), 9)
    assert registry.registration(a_change(version=2, value_type="string"), 9)[1]


def test_another_dimension_under_the_same_id_is_a_conflict() -> None:
    registry = FeatureRegistry()
    register(registry, a_change(value_type="vector", schema=ValueSchema(dimension=3)))
    with pytest.raises(Conflict):
        registry.registration(a_change(value_type="vector", schema=ValueSchema(dimension=4)), 9)
    register(registry, a_change(value_type="vector", schema=ValueSchema(dimension=3, nullable=False)))


@pytest.mark.parametrize(
    ("rest", "field"),
    [
        ({"name": "a.b"}, "name"),
        ({"name": ""}, "name"),
        ({"entity": "1"}, "entity"),
        ({"version": 0}, "version"),
        ({"version": -1}, "version"),
        ({"group": "a b"}, "group"),
        ({"max_age": "soon"}, "maxAge"),
        ({"max_age": 0}, "maxAge"),
        ({"retention": Retention(values=0)}, "retention.values"),
        ({"retention": Retention(age="-1d")}, "retention.age"),
        ({"schema": ValueSchema(pattern="a")}, "schema.pattern"),
        ({"value_type": "vector"}, "schema.dimension"),
    ],
)
def test_a_registration_that_cannot_be_is_refused_by_the_name_of_its_field(
    rest: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        FeatureRegistry().registration(a_change(**rest), 1)
    assert [fault.field for fault in caught.value.faults] == [field]


def test_an_update_is_checked_like_a_registration() -> None:
    registry = registry_of("user.clicks.v1")
    with pytest.raises(InvalidInput):
        registry.registration(a_change(max_age="soon"), 9)


# Groups


def test_a_feature_may_found_a_group_and_join_one() -> None:
    registry = FeatureRegistry()
    register(registry, a_change(group="g"), 5)
    register(registry, a_change(name="views", group="g"), 6)
    group = registry.group("g")
    assert (group.entity, group.features) == ("user", ("user.clicks.v1", "user.views.v1"))
    assert (group.created, group.updated) == (5, 6)
    assert registry.members("g") == {"user.clicks.v1", "user.views.v1"}
    assert registry.members("h") == set()


def test_a_feature_cannot_join_a_group_of_another_entity_type() -> None:
    registry = FeatureRegistry()
    register(registry, a_change(group="g"))
    with pytest.raises(Conflict):
        registry.registration(a_change("item", group="g"), 2)


def test_a_group_keeps_the_order_and_the_moment_it_was_made() -> None:
    registry = registry_of("user.clicks.v1", "user.clicks.v2", "user.views.v1")
    first, new = registry.grouping(a_group("views", "user.clicks"), 5)
    registry.apply(first)
    second, again = registry.grouping(a_group("user.clicks.v1", "views"), 7)
    registry.apply(second)
    assert (new, again) == (True, False)
    assert registry.group("g").features == ("user.clicks.v1", "views")
    assert (registry.group("g").created, registry.group("g").updated) == (5, 7)
    registry.apply(Ungrouped("g"))
    assert dict(registry.groups) == {}


@pytest.mark.parametrize(
    ("group", "error"),
    [
        (a_group(), InvalidInput),
        (a_group("user.clicks.v1", "user.clicks.v1"), InvalidInput),
        (a_group("user.clicks.v1", name="a b"), InvalidInput),
        (a_group("user.clicks.v1", entity="a b"), InvalidInput),
        (a_group("user.views.v1"), NotFound),
        (a_group("item.clicks.v1"), Conflict),
    ],
)
def test_a_group_that_cannot_be_is_refused(group: Group, error: type[Exception]) -> None:
    registry = registry_of("user.clicks.v1", "item.clicks.v1")
    with pytest.raises(error):
        registry.grouping(group, 5)


def test_a_bare_name_in_a_group_is_one_of_its_entity_type() -> None:
    registry = registry_of("user.clicks.v1", "item.clicks.v1", "item.clicks.v2")
    registry.apply(registry.grouping(a_group("clicks", entity="item"), 5)[0])
    assert registry.group("g").ids == ("item.clicks.v2",)


def test_a_group_stays_of_its_entity_type() -> None:
    registry = registry_of("user.clicks.v1", "item.views.v1")
    registry.apply(registry.grouping(a_group("user.clicks"), 5)[0])
    with pytest.raises(Conflict):
        registry.grouping(a_group("views", entity="item"), 6)


# Deleting


def test_a_feature_that_a_group_reads_is_deleted_by_force_alone() -> None:
    registry = registry_of("user.clicks.v1", "user.views.v1")
    registry.apply(registry.grouping(a_group("user.clicks", "user.views.v1", "clicks"), 5)[0])
    with pytest.raises(Conflict, match="group 'g'"):
        registry.deletion("user.clicks.v1", 9)
    registry.apply(registry.deletion("user.clicks.v1", 9, force=True))
    assert resolved(registry, "clicks") == "unknown"
    assert (registry.group("g").features, registry.group("g").updated) == (("user.views.v1",), 9)
    assert registry.members("g") == {"user.views.v1"}


def test_a_group_reads_the_versions_it_was_made_of() -> None:
    registry = registry_of("user.clicks.v1", "user.clicks.v2")
    registry.apply(registry.grouping(a_group("clicks", "user.clicks.v1"), 5)[0])
    registry.apply(registry.deletion("user.clicks.v1", 9, force=True))
    assert registry.members("g") == {"user.clicks.v2"}
    register(registry, a_change(version=3))
    assert registry.members("g") == {"user.clicks.v2"}


def test_a_group_of_an_earlier_version_reads_what_its_references_mean() -> None:
    before = registry_of("user.clicks.v1", "user.clicks.v2")
    registry = FeatureRegistry(before.features.values(), [a_group("clicks", "user.clicks.v1")])
    assert registry.members("g") == {"user.clicks.v1", "user.clicks.v2"}
    registry.apply(registry.deletion("user.clicks.v2", 9, force=True))
    assert registry.group("g").features == ("user.clicks.v1",)


def test_deleting_a_feature_leaves_groups_that_have_nothing_to_do_with_it_alone() -> None:
    registry = registry_of("user.clicks.v1", "user.views.v1")
    registry.apply(registry.grouping(a_group("clicks", "user.clicks"), 5)[0])
    register(registry, a_change("item", "clicks"))
    registry.apply(registry.deletion("user.views.v1", 9))
    assert registry.group("g").features == ("clicks", "user.clicks")


# Promotion


def test_a_name_means_the_highest_version_that_is_promoted() -> None:
    registry = FeatureRegistry()
    register(registry, a_change(version=1))
    register(registry, a_change(version=2, promoted=False))
    assert resolved(registry, "clicks") == resolved(registry, "user.clicks") == "user.clicks.v1"
    assert registry.resolve("user.clicks.v2").version == 2
    registry.apply(promotion(registry, "user.clicks.v2", 7))
    assert resolved(registry, "clicks") == "user.clicks.v2"
    register(registry, a_change(version=2, promoted=False))
    assert resolved(registry, "clicks") == "user.clicks.v1"


def test_a_name_of_which_no_version_is_promoted_means_nothing_and_says_why() -> None:
    registry = FeatureRegistry()
    register(registry, a_change(promoted=False))
    with pytest.raises(NotFound, match=r"no version of 'user.clicks' is promoted.*user\.clicks\.v1"):
        registry.resolve("user.clicks")
    for reference in ("clicks", "user.clicks", "user.clicks.v2"):
        with pytest.raises(NotFound):
            promotion(registry, reference, 5)


def test_only_an_id_is_deleted() -> None:
    registry = registry_of("user.clicks.v1")
    for reference in ("clicks", "user.clicks", "user.clicks.v2", ""):
        with pytest.raises(NotFound):
            registry.deletion(reference, 5)


def test_a_feature_registered_after_its_deletion_is_a_new_one() -> None:
    registry = registry_of("user.clicks.v1")
    registry.apply(registry.deletion("user.clicks.v1", 5))
    registered, new = registry.registration(a_change(value_type="string"), 9)
    assert new
    assert (registered.feature.created, registered.feature.value_type) == (9, "string")


def test_changes_are_applied_as_they_are() -> None:
    registry = FeatureRegistry()
    feature = registry_of("user.clicks.v1").resolve("clicks")
    group = a_group("user.clicks.v1")
    registry.apply(Registered(feature, [group]))
    assert registry.members("g") == {feature.id}
    registry.apply(Grouped(a_group("user.clicks.v1", name="h")))
    registry.apply(Deleted(feature, [a_group(name="g"), a_group(name="h")]))
    assert (dict(registry.features), registry.members("g"), registry.members("h")) == ({}, set(), set())
