"""Rows that name a user, a merchant and the pair of both: the observations of the three, and requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from actors.timestamps import SECOND
from loadtest.compare.work import ROWS, Table, Values, View
from loadtest.micro.data import ENTITIES, ENTITY, PERIOD, STARTED, entity_ids, random_times

MERCHANT, BOTH = "merchant", "user_merchant"
MERCHANTS, VISITED = 1_000, 3
"""How many merchants there are, and how many of them each user goes to."""
OBSERVED = 20
"""Most observations of an entity, on average: Feast joins a row with all of its entity's before it picks one."""
TYPES = {ENTITY: (ENTITY,), MERCHANT: (MERCHANT,), BOTH: (ENTITY, MERCHANT)}
_COUNTS = {ENTITY: ENTITIES, MERCHANT: MERCHANTS, BOTH: ENTITIES * VISITED}
Numbers = np.ndarray[Any, np.dtype[np.int64]]


class Part(NamedTuple):
    """The observations of one entity type: its key columns, event times, and a column for each feature."""

    entity: str
    keys: Mapping[str, Sequence[str]]
    times: Numbers
    features: Mapping[str, Values]

    @property
    def ids(self) -> Sequence[str]:
        """The text of each entity's id."""
        first, *others = self.keys.values()
        return [msgspec.json.encode(one).decode() for one in zip(first, *others, strict=True)] if others else first

    @property
    def table(self) -> Table:
        return {**self.keys, "t": self.times, **self.features}


def features_of(view: View) -> dict[str, list[str]]:
    """A view's features by entity type, as many of each."""
    each = view.width // len(TYPES)
    return {entity: view.features[place * each :][:each] for place, entity in enumerate(TYPES)}


def known(view: View, loaded_at: int, observations: int) -> list[Part]:
    """One observation of each entity to serve; for training sets at most `observations` of a type."""
    random, found = np.random.default_rng(17), []
    for entity, features in features_of(view).items():
        count = _COUNTS[entity]
        if view == ROWS:
            numbers, times = np.arange(count), np.full(count, loaded_at)
        else:  # no two observations of an entity have the same time, so that all joins agree
            most = min(observations, count * OBSERVED)
            drawn = random.choice(count * (PERIOD // SECOND), most, replace=False)
            numbers, times = drawn % count, STARTED - drawn // count * SECOND
        values = {name: random.random(len(numbers)) * 1_000 for name in features}
        found.append(Part(entity, _keys(entity, numbers), times, values))
    return found


def _keys(entity: str, numbers: Numbers) -> dict[str, list[str]]:
    if entity == BOTH:
        users, visits = np.divmod(numbers, VISITED)
        return {**_keys(ENTITY, users), **_keys(MERCHANT, (users + visits * 337) % MERCHANTS)}
    ids = entity_ids(numbers.tolist()) if entity == ENTITY else [f"m{one:04}" for one in numbers.tolist()]
    return {entity: ids}


def asked_rows(count: int) -> Table:
    """The rows of a training set: users at merchants that they go to, moments (t), and places (n)."""
    random = np.random.default_rng(19)
    keys = _keys(BOTH, random.integers(0, _COUNTS[BOTH], count))
    return {**keys, "t": random_times(random, count), "n": np.arange(count)}


def keys_of(users: Sequence[str]) -> dict[str, list[str]]:
    """The key columns of rows that serve: each user at the first merchant."""
    return _keys(BOTH, _numbers(users) * VISITED)


def rows_of(users: Sequence[str]) -> list[dict[str, str]]:
    """The same rows as objects."""
    columns = keys_of(users)
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def of_users(parts: Sequence[Part], users: Sequence[str]) -> Part:
    """The values that the rows of these users are answered with, as observations of the users alone."""
    numbers = _numbers(users)
    places = {ENTITY: numbers, MERCHANT: numbers % MERCHANTS, BOTH: numbers * VISITED}
    features = {name: one[places[part.entity]] for part in parts for name, one in part.features.items()}
    return Part(ENTITY, {ENTITY: users}, parts[0].times[numbers], features)


def _numbers(users: Sequence[str]) -> Numbers:
    return np.array([int(user.removeprefix("user")) for user in users])
