"""The features that a request reads, resolved and grouped once for all requests that name the same ones."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from actors.domain import Feature
from actors.errors import InvalidInput
from actors.table.grid import Features, Placing, placing
from actors.timestamps import NEVER

Key = str | tuple[tuple[str, str], ...] | None
"""See `ServiceFeature.key`."""


def fields_of(feature: Feature, keys: tuple[str, ...], key: Key) -> tuple[str, ...]:
    """The fields of a row that hold a feature's entity id. Raises InvalidInput for a `key` that does not fit."""
    if key is None:
        return keys
    named = " and ".join(keys)
    if isinstance(key, str):
        if len(keys) > 1:
            example = ", ".join(f'"{one}": ...' for one in keys)
            raise InvalidInput.at("key", f"{feature.id} has the keys {named}: say {{{example}}}")
        return (key,)
    fields = dict(key)
    for one in fields:
        if one not in keys:
            raise InvalidInput.at("key", f"{feature.id} has no key {one!r}; its entity type has {named}")
    return tuple(fields.get(one, one) for one in keys)


class SelectedFeature(NamedTuple):
    """A feature, and the name of its column in the answer.

    `fields`: the fields of a row that hold the entity id, one for each key of the entity type.
    """

    name: str
    feature: Feature
    fields: tuple[str, ...]


class Role(NamedTuple):
    """The features of a selection that are read of the same entity of a row, and their positions in it."""

    fields: tuple[str, ...]
    places: Sequence[int]
    selection: Selection

    @property
    def entity_type(self) -> str:
        """The entity type of all its features."""
        return self.selection.features[0].entity


class Selection:
    """Features in the order asked. Immutable; stores keep what they find out by its `features`."""

    def __init__(self, selected: Sequence[SelectedFeature]) -> None:
        """`selected`: at least one feature, under different names."""
        self.selected = selected
        self.references = tuple(one.name for one in selected)
        self.features = Features([one.feature for one in selected])
        self.by_reference = dict(zip(self.references, self.features, strict=True))
        self.kinds = self.features.kinds
        self.roles = self._roles()
        self.fields = tuple(dict.fromkeys(field for role in self.roles for field in role.fields))
        """The fields that a row needs, in order of first use."""
        self._always = [NEVER] * len(self.features)
        self._ages = [feature.kept_age for feature in self.features]
        self._expiries = [feature.expires_after for feature in self.features]
        self.ageless = not any(age is not None for age in self._ages)
        """Whether no feature has a retention age."""
        self._lasting = not any(self._expiries)

    @property
    def stored(self) -> Selection:
        """The features that are read for it: all, unless some are computed."""
        return self

    @property
    def width(self) -> int:
        """How many values are read or computed for each row."""
        return len(self.features)

    @property
    def read(self) -> Sequence[Feature]:
        """All features that are read or computed for it."""
        return self.features

    @cached_property
    def placings(self) -> Sequence[Placing]:
        """For each role, where its grids have their place in that of all features."""
        return [placing(self.kinds, role.places, role.selection.kinds) for role in self.roles]

    def visible_from(self, now: int) -> Sequence[int]:
        """For each feature, the event time before which values are not visible (retention age)."""
        return self._always if self.ageless else [NEVER if age is None else now - age for age in self._ages]

    def served_from(self, at: int) -> NDArray[np.int64] | int:
        """The event time before which values are served as null: never written, or older than maxAge.

        One moment for all features, or int64[features, 1].
        """
        if self._lasting:
            return NEVER + 1
        return np.array([[NEVER + 1 if age is None else at - age] for age in self._expiries], np.int64)

    def _roles(self) -> list[Role]:
        places: dict[tuple[str, tuple[str, ...]], list[int]] = {}
        for place, one in enumerate(self.selected):
            places.setdefault((one.feature.entity, one.fields), []).append(place)
        if len(places) == 1:
            ((_, fields),) = places
            return [Role(fields, range(len(self.selected)), self)]
        return [
            Role(fields, own, Selection([self.selected[place] for place in own]))
            for (_, fields), own in places.items()
        ]
