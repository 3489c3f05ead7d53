"""The features that a request reads, resolved and grouped once for all requests that name the same ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from actors.domain import Feature
from actors.table.grid import Kind, kinds_of
from actors.timestamps import NEVER


class Selection:
    """Features in the order asked. Immutable; stores cache by the identity of its lists."""

    def __init__(self, by_reference: Mapping[str, Feature]) -> None:
        """`by_reference`: at least one feature, by the reference that the request used."""
        self.by_reference = by_reference
        self.references = tuple(by_reference)
        self.features: Sequence[Feature] = list(by_reference.values())
        self.kinds: Sequence[Kind] = kinds_of(self.features)
        self.by_entity_type = _by_entity_type(by_reference)
        self._always = [NEVER] * len(self.features)
        self._ages = [feature.kept_age for feature in self.features]
        self._expiries = [feature.expires_after for feature in self.features]
        self._ageless = not any(age is not None for age in self._ages)
        self._lasting = not any(self._expiries)

    def visible_from(self, now: int) -> Sequence[int]:
        """For each feature, the event time before which values are not visible (retention age)."""
        return self._always if self._ageless else [NEVER if age is None else now - age for age in self._ages]

    def served_from(self, at: int) -> NDArray[np.int64] | int:
        """The event time before which values are served as null: never written, or older than maxAge.

        One moment for all features, or int64[features, 1].
        """
        if self._lasting:
            return NEVER + 1
        return np.array([[NEVER + 1 if age is None else at - age] for age in self._expiries], np.int64)


def _by_entity_type(by_reference: Mapping[str, Feature]) -> list[tuple[list[int], Selection]]:
    """The features of each entity type with their positions; empty if there is only one type."""
    types: dict[str, list[int]] = {}
    for position, feature in enumerate(by_reference.values()):
        types.setdefault(feature.entity, []).append(position)
    if len(types) == 1:
        return []
    named = list(by_reference.items())
    return [(places, Selection(dict(named[place] for place in places))) for places in types.values()]
