"""What the columns of an answer read, and which fields of a row say of whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from timewell.calls import Asking, Talk, get, path
from timewell.errors import InvalidInput
from timewell.wire import EntityTypeAnswer, FeatureAnswer, GroupAnswer, ServiceAnswer

Key = str | Mapping[str, str] | None


class ReadColumn(NamedTuple):
    """What a column of an answer reads, and the fields of a row that say of which entity."""

    feature: FeatureAnswer
    key: Key

    def fields(self, keys: Sequence[str]) -> Sequence[str]:
        """The fields of a row that hold the entity id. `keys`: those of the entity type."""
        if isinstance(self.key, str):
            return [self.key]
        return [(self.key or {}).get(one, one) for one in keys]


class WhatIsRead(Asking):
    """Looks up what is read before it is asked for."""

    def _columns(self, asked: Mapping[str, Any]) -> Talk[dict[str, ReadColumn]]:
        """What each column of the answer reads, in order: those of the service, of the group, then the others."""
        named: dict[str, tuple[str, Key]] = {}
        if asked.get("service") is not None:
            offered = yield from self._ask(get(path("services", asked["service"])), ServiceAnswer)
            named |= {one.name: (one.ref, one.key) for one in offered.features}
        if asked["group"] is not None:
            found = yield from self._ask(get(path("groups", asked["group"])), GroupAnswer)
            ids = found.feature_ids or [one if "." in one else f"{found.entity}.{one}" for one in found.features]
            named |= {one: (id_, None) for one, id_ in zip(found.features, ids, strict=True)}
        for place, entry in enumerate(asked["features"] or ()):
            one: dict[str, Any] = {"ref": entry} if isinstance(entry, str) else entry
            if not isinstance(one, Mapping) or "ref" not in one:
                raise InvalidInput.at(f"features[{place}]", "has no ref")
            named.setdefault(one.get("as", one["ref"]), (one["ref"], one.get("key")))
        features: dict[str, FeatureAnswer] = {}
        for reference, _ in named.values():
            if reference not in features:
                features[reference] = yield from self._ask(get(path("features", reference)), FeatureAnswer)
        return {name: ReadColumn(features[reference], key) for name, (reference, key) in named.items()}

    def _fields(self, columns: Mapping[str, ReadColumn]) -> Talk[list[str]]:
        """The fields of a row that the columns need."""
        keys: dict[str, Sequence[str]] = {}
        for column in columns.values():
            entity = column.feature.entity
            if entity not in keys:
                keys[entity] = (yield from self._ask(get(path("entities", entity)), EntityTypeAnswer)).keys
        fields = (column.fields(keys[column.feature.entity]) for column in columns.values())
        return list(dict.fromkeys(field for needed in fields for field in needed))
