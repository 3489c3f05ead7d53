"""How old every feature and group is."""

from __future__ import annotations

from collections.abc import Sequence

from actors.domain import Feature
from actors.messages import Vitals
from actors.router import Router
from actors.timestamps import SECOND, format_timestamp
from actors.turns import Steps, by_turns
from timewell.monitoring_wire import FeatureFreshness, FreshnessAnswer, GroupFreshness

FEATURES_PER_TURN = 200


async def freshness_answer(router: Router) -> FreshnessAnswer:
    """The ages of all registered features and groups, sorted by id and name."""
    registry = await router.registered()
    stored = (feature for feature in registry.features.values() if feature.definition is None)
    features = sorted(stored, key=lambda feature: feature.id)
    vitals = await router.monitoring.watch.every_vitals(features)
    now = router.wall()
    ages = await by_turns(_of_features(features, vitals, now))
    by_id = {age.feature_id: age for age in ages}
    groups = [
        _group(name, [by_id[id_] for id_ in sorted(router.registry.members(name)) if id_ in by_id])
        for name in sorted(router.registry.groups)
    ]
    return FreshnessAnswer(ages, groups)


def _of_features(
    features: Sequence[Feature], vitals: Sequence[Vitals | str], now: int
) -> Steps[list[FeatureFreshness]]:
    ages = list[FeatureFreshness]()
    for feature, of_one in zip(features, vitals, strict=True):
        ages.append(of_feature(feature, of_one, now))
        if len(ages) % FEATURES_PER_TURN == 0:
            yield
    return ages


def of_feature(feature: Feature, vitals: Vitals | str, now: int) -> FeatureFreshness:
    """How old a feature is. `vitals`: when it was last written, or a text that says why that is unknown."""
    if isinstance(vitals, str):
        max_age = feature.expires_after
        width = None if max_age is None else max_age / SECOND
        return FeatureFreshness(feature.id, None, None, None, None, width, None, vitals)
    age, max_age = _age(vitals.newest, now), feature.expires_after
    return FeatureFreshness(
        feature.id,
        None if vitals.newest is None else format_timestamp(vitals.newest),
        None if vitals.arrived is None else format_timestamp(vitals.arrived),
        age,
        _age(vitals.arrived, now),
        None if max_age is None else max_age / SECOND,
        None if max_age is None else _late(feature, vitals, now, max_age),
    )


def _late(feature: Feature, vitals: Vitals, now: int, max_age: int) -> bool | None:
    """Whether the newest value is older than `max_age`. A feature never written is late once it is that old."""
    if vitals.newest is None:
        return True if now - feature.created > max_age else None
    return now - vitals.newest > max_age


def _age(time: int | None, now: int) -> float | None:
    return None if time is None else max(0, now - time) / SECOND


def _group(name: str, members: list[FeatureFreshness]) -> GroupFreshness:
    return GroupFreshness(
        name,
        _oldest([member.event_age_seconds for member in members]),
        _oldest([member.arrival_age_seconds for member in members]),
        [member.feature_id for member in members if member.late],
    )


def _oldest(ages: list[float | None]) -> float | None:
    known = [age for age in ages if age is not None]
    return max(known) if known and len(known) == len(ages) else None
