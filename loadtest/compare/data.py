"""The values, questions and batches that everyone is given, from seeded random numbers."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np

from actors.timestamps import SECOND
from loadtest import training
from loadtest.compare.work import SEPARATE, WIDE, Batch, Serve, Table, Values, View, Write
from loadtest.micro import data as micro

DAY = 86_400 * SECOND
LOADED_AT = micro.STARTED - 20 * DAY
"""The event time of what is loaded."""
WRITTEN_FROM = micro.STARTED - 10 * DAY
"""The event time of the first batch. Each next one is a second later: some stores look at whole seconds only."""
QUESTIONS = 64


class Scale(NamedTuple):
    """How much of everything."""

    rounds: int
    round_seconds: float
    entities: int
    batches: int
    """Most batches that are made for a round,"""
    rows: int
    """and most rows of these together, but always one batch."""
    share: float
    """Of the rows and histories of training sets."""


FULL = Scale(rounds=9, round_seconds=1.0, entities=10_000, batches=5_000, rows=40_000, share=1.0)
QUICK = Scale(rounds=2, round_seconds=0.2, entities=1_000, batches=500, rows=10_000, share=0.05)


class History(NamedTuple):
    """Observations of features that are timed together."""

    features: list[str]
    table: Table
    """Columns e (entity), t (int64 microseconds), and one for each feature."""


class Data:
    """All of it. Questions and batches depend on what is asked for and on the number of the round alone."""

    def __init__(self, scale: Scale) -> None:
        self.scale = scale
        self.entities = micro.entity_ids(range(scale.entities))
        self.values: Values = np.random.default_rng(11).random((scale.entities, WIDE.width)) * 1_000
        self._moment = WRITTEN_FROM

    def asked(self, work: Serve, number: int) -> list[list[str]]:
        """The entities of so many different questions."""
        random = np.random.default_rng([number, work.entities, work.view.width, work.connections])
        picked = random.integers(0, len(self.entities), (QUESTIONS, work.entities))
        return [[self.entities[entity] for entity in one] for one in picked.tolist()]

    def batches(self, work: Write) -> list[Batch]:
        """A round's batches, none of which was written before."""
        count = max(1, min(self.scale.batches, self.scale.rows // work.rows))
        return [self.batch(work) for _ in range(count)]

    def batch(self, work: Write) -> Batch:
        """One that is later than all before it."""
        self._moment += SECOND
        random = np.random.default_rng(self._moment)
        first = int(random.integers(0, micro.ENTITIES - work.rows + 1))
        entities = micro.entity_ids(range(first, first + work.rows))
        return Batch(entities, self._moment, random.random((work.rows, work.view.width)) * 1_000)

    def histories(self, view: View) -> list[History]:
        """What the training sets of a view are made of: one history, or one for each feature."""
        made, observations = self._made, self._share(training.HISTORY)
        if view != SEPARATE:
            named = {name: made.wide[theirs] for name, theirs in zip(view.features, training.NAMES, strict=True)}
            wide = {"e": made.wide["e"], "t": made.wide["t"], **named}
            return [History(view.features, _head(wide, observations))]
        return [
            History([name], _head({"e": one["e"], "t": one["t"], name: one["v"]}, observations))
            for name, one in zip(view.features, made.separate, strict=True)
        ]

    def rows(self, count: int) -> Table:
        """What training sets are asked about: columns e, t and n, the scale's share of so many rows."""
        return _head(self._made.rows, self._share(count))

    @cached_property
    def _made(self) -> training.Data:
        return training.made()

    def _share(self, count: int) -> int:
        return max(1, round(self.scale.share * count))


def _head(table: Table, count: int) -> Table:
    return {name: column[:count] for name, column in table.items()}
