"""`python -m tests.studies.drift` measures false alarms and power and writes tests/studies/results/drift.md: about
five minutes on two cores. `--quick` takes a tenth of the trials and prints only.
"""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.studies.drift.measure import Cell, measured, severities
from tests.studies.drift.populations import POPULATIONS, Floats
from tests.studies.drift.rules import COLUMNS

RESULT = Path(__file__).parent.parent / "results" / "drift.md"

TRIALS = {100: 1500, 300: 1500, 1000: 1500, 10_000: 400, 100_000: 60}
SHIFTS = {
    0.0: "False alarms: nothing has drifted",
    0.1: "Found: 0.1 standard deviations",
    0.25: "Found: 0.25 standard deviations",
}
UNEQUAL = [(10_000, 100), (10_000, 1000), (1000, 50)]
UNEQUAL_TRIALS = 500
# NannyML compares chunks of one size by design; with sides of unequal size it would have to be told that size.
UNEQUAL_COLUMNS = ["Timewell", "Evidently", "Hopsworks"]
GRADED = 5000
GRADED_TRIALS = 800

INTRODUCTION = """# Drift: false alarms and power

`python -m tests.studies.drift` made this file{when}.

Each cell is the share of pairs of samples, reference and current, that a rule calls drift; all rules see the same
pairs, drawn from fixed seeds. `tests/studies/drift/populations.py` says what the populations and a shift are.
Pairs per cell: {trials}.
A share of 1% is exact to about 0.5 points (two standard errors) with 1500 pairs, 1 with 400, 2.6 with 60.

- **Timewell**: the default of `actors/stats/drift/verdict.py`, for one feature on its own (a family of features is
  adjusted by Benjamini-Hochberg on top).
- **Evidently** 0.7.23, by its rule of sample size: up to 1000 reference values a p-value against 0.05, above a
  distance against 0.1.
- **NannyML** 0.13.1, by default: Jensen-Shannon distance of ten chunks against the mean plus three standard
  deviations of the reference's ten chunks. It alerts per chunk, so there are two columns: the share of the chunks
  that alert, and the share of pairs in which any of the ten does.
- **Hopsworks** 5.2.1: its distribution comparison, PSI of ten bins against 0.2, counted from the values.

The other rules run as reimplemented in `actors/stats/drift/`; tests hold Evidently's and NannyML's against the
packages themselves (`tests/studies/drift/golden.py`), Hopsworks's is from its published client and not run against
it.

To read it fairly: with up to 1000 values Evidently tests at 0.05 where Timewell tests at 0.01, so it finds more
small shifts there at the price of more false alarms; of categories its test takes the reference for exact. NannyML
is made for a series of chunks, in which one alert is no decision yet.
"""


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """In Markdown."""
    lines = [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
    return "\n".join([f"## {title}", "", *lines, ""])


def percent(share: float) -> str:
    """To a tenth of a per cent."""
    return f"{share:.1%}"


def by_shift(cells: Sequence[Cell], shares: Sequence[Floats]) -> str:
    """A table for each shift."""
    parts = []
    for shift, title in SHIFTS.items():
        shifted = [pair for pair in zip(cells, shares, strict=True) if pair[0].shift == shift]
        shifted.sort(key=lambda pair: ([*POPULATIONS].index(pair[0].population), pair[0].before))
        rows = [[cell.population, f"{cell.before:,}", *map(percent, share)] for cell, share in shifted]
        parts.append(table(title, ["population", "n each", *COLUMNS], rows))
    return "\n".join(parts)


def targets(cells: Sequence[Cell], shares: Sequence[Floats], graded: Sequence[Floats]) -> str:
    """Whether Timewell keeps what was aimed at, with the worst cell."""
    ours = [(cell, float(share[0])) for cell, share in zip(cells, shares, strict=True)]
    false = max((share, cell) for cell, share in ours if cell.shift == 0)
    found = min((share, cell) for cell, share in ours if cell.shift == 0.25 and cell.before == 1000)
    low = min(zip([float(1 - share[0]) for share in graded], POPULATIONS, strict=True))
    rows = [
        [
            "at most 2% false alarms everywhere",
            percent(false[0]),
            f"{false[1].population}, n = {false[1].before:,}",
            _kept(false[0] <= 0.02),
        ],
        [
            "at least 95% of 0.25 std found at n = 1000",
            percent(found[0]),
            found[1].population,
            _kept(found[0] >= 0.95),
        ],
        ["at least 90% of 0.1 std called low or more at n = 5000", percent(low[0]), low[1], _kept(low[0] >= 0.9)],
    ]
    return table("Targets for Timewell", ["target", "worst", "where", ""], rows)


def _kept(kept: bool) -> str:
    return "kept" if kept else "MISSED"


def unequal(scale: float) -> str:
    """False alarms where the reference is larger, as it is when a day is held against a month."""
    trials = round(UNEQUAL_TRIALS * scale)
    cells = [Cell(name, *sizes, 0.0, trials) for name in POPULATIONS for sizes in UNEQUAL]
    chosen = [COLUMNS.index(column) for column in UNEQUAL_COLUMNS]
    rows = [
        [cell.population, f"{cell.before:,}", f"{cell.after:,}", *map(percent, share[chosen])]
        for cell, share in zip(cells, measured(cells), strict=True)
    ]
    title = f"False alarms with samples of unequal size ({trials:,} pairs)"
    return table(title, ["population", "reference", "current", *UNEQUAL_COLUMNS], rows)


def severity(cells: Sequence[Cell], shares: Sequence[Floats]) -> str:
    """Of a small shift."""
    rows = [
        [cell.population, *map(percent, (*share, 1 - share[0]))] for cell, share in zip(cells, shares, strict=True)
    ]
    title = f"What Timewell calls 0.1 standard deviations at n = {GRADED:,} ({cells[0].trials:,} pairs)"
    return table(title, ["population", "stable", "low", "medium", "high", "low or more"], rows)


def report(scale: float) -> str:
    """Everything, as Markdown."""
    start = time.monotonic()
    trials = {n: max(10, round(count * scale)) for n, count in TRIALS.items()}
    # The longest first, so that no process is left with one at the end.
    sizes = sorted(trials, reverse=True)
    cells = [Cell(name, n, n, shift, trials[n]) for n in sizes for shift in SHIFTS for name in POPULATIONS]
    graded = [Cell(name, GRADED, GRADED, 0.1, round(GRADED_TRIALS * scale)) for name in POPULATIONS]
    shares, grades = measured(cells), severities(graded)
    parts = [targets(cells, shares, grades), by_shift(cells, shares), unequal(scale), severity(graded, grades)]
    took = time.monotonic() - start
    when = f" with Python {platform.python_version()} and numpy {np.__version__} in {took:.0f} s"
    counts = ", ".join(f"{count:,} at n = {n:,}" for n, count in trials.items())
    return "\n".join([INTRODUCTION.format(when=when, trials=counts), *parts])


if __name__ == "__main__":
    quick = "--quick" in sys.argv[1:]
    text = report(0.1 if quick else 1.0)
    print(text)
    if not quick:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(text)
