"""How often each rule alarms, cell by cell, in two processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np

from tests.studies.drift.populations import CATEGORICAL, POPULATIONS, Floats
from tests.studies.drift.rules import alarms, judged

SEED = 20240229
PROCESSES = 2


class Cell(NamedTuple):
    """`before` and `after` are the sizes of the samples; the second is `shift` standard deviations off."""

    population: str
    before: int
    after: int
    shift: float
    trials: int


def measured(cells: Sequence[Cell]) -> list[Floats]:
    """Per cell the share of alarms of every rule."""
    return _spread(_alarms, cells)


def severities(cells: Sequence[Cell]) -> list[Floats]:
    """Per cell the shares of trials that Timewell calls stable, low, medium and high."""
    return _spread(_severities, cells)


def _alarms(cell: Cell) -> Floats:
    trials = [alarms(*pair, cell.population in CATEGORICAL) for pair in _pairs(cell)]
    return np.asarray(np.array(trials).mean(0), np.float64)


def _severities(cell: Cell) -> Floats:
    seen = [judged(*pair, cell.population in CATEGORICAL).severity for pair in _pairs(cell)]
    return np.array([seen.count(name) / len(seen) for name in ("none", "low", "medium", "high")])


def _pairs(cell: Cell) -> Iterator[tuple[Floats, Floats]]:
    """The same in every run, and others in every cell."""
    draw = POPULATIONS[cell.population]
    key = [SEED, [*POPULATIONS].index(cell.population), cell.before, cell.after, round(cell.shift * 1000)]
    rng = np.random.default_rng(key)
    for _ in range(cell.trials):
        yield draw(rng, cell.before, 0.0), draw(rng, cell.after, cell.shift)


def _spread(task: Callable[[Cell], Floats], cells: Sequence[Cell]) -> list[Floats]:
    with get_context("spawn").Pool(PROCESSES) as pool:
        return pool.map(task, cells, chunksize=1)
