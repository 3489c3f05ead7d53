"""What every entity must have, from what became of each request.

A write that was answered with 2xx is there. One that failed otherwise than by a refusal, or was never answered,
may be there: so each figure has a least and a greatest value, which are the same where nothing failed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from loadtest.openloop.recording import Arrays
from loadtest.workloads.soaking import BATCHES, SINGLES, Soaking


class Tally(NamedTuple):
    """int64[entities]: how many observations, their sum, and the latest of them, -1 where there is none."""

    counts: NDArray[np.int64]
    sums: NDArray[np.int64]
    latest: NDArray[np.int64]


class Ledger(NamedTuple):
    """By feature: what must be there at least, and all that may be."""

    least: dict[int, Tally]
    most: dict[int, Tally]


def ledger(work: Soaking, arrays: Arrays) -> Ledger:
    """From the recording of the whole run, warm-up included."""
    good = (arrays.status >= 200) & (arrays.status < 300)
    refused = (arrays.status >= 400) & (arrays.status < 500)
    never_sent = np.isnan(arrays.sent)
    least = _tallied(work, np.flatnonzero(good).tolist())
    return Ledger(least, _tallied(work, np.flatnonzero(~refused & ~never_sent).tolist()))


def _tallied(work: Soaking, rows: Iterable[int]) -> dict[int, Tally]:
    values: dict[int, list[int]] = {SINGLES: [], BATCHES: []}
    entities: dict[int, list[int]] = {SINGLES: [], BATCHES: []}
    for row in rows:
        written = work.written(row)
        if written is not None:
            values[written.feature].extend([row] * len(written.entities))
            entities[written.feature].extend(written.entities)
    return {feature: _tally(work.shape.population, values[feature], entities[feature]) for feature in values}


def _tally(population: int, values: list[int], entities: list[int]) -> Tally:
    whose, numbers = np.array(entities, np.int64), np.array(values, np.int64)
    sums, latest = np.zeros(population, np.int64), np.full(population, -1, np.int64)
    np.add.at(sums, whose, numbers)
    np.maximum.at(latest, whose, numbers)
    return Tally(np.bincount(whose, minlength=population), sums, latest)
