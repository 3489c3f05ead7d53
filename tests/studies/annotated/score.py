"""Alarms compared with what human annotators marked.

A change point counts as found when the window that holds it or the next one raises an alarm. A window is at a
change point when its alarm would count so; it is far from any when neither it nor a neighbour holds one. Windows
that annotators saw nothing of count as neither.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from tests.studies.annotated.series import Data
from tests.studies.annotated.stream import Said

Rule = Callable[[Said], bool]
RULES: Mapping[str, Rule] = {
    "drift": lambda said: said.verdict == "drift",
    "medium": lambda said: said.verdict == "drift" and said.severity in ("medium", "high"),
    "KS": lambda said: said.metrics.get("ksPValue", 1.0) < 0.05,
    "PSI": lambda said: said.metrics.get("psi", 0.0) > 0.2,
    "raw PSI": lambda said: said.metrics.get("psiRaw", 0.0) > 0.2,
    "always": lambda said: said.verdict != "insufficient",
}


class Share(NamedTuple):
    """So many of so many."""

    part: int
    whole: int

    def __str__(self) -> str:
        return f"{self.part} of {self.whole}"


class Tally(NamedTuple):
    """`agreed`: windows that more than half of the annotators marked."""

    alarms: Share
    points: Share
    agreed: Share
    near: Share
    far: Share


def tally(data: Data, said: Sequence[Said | None], rule: Rule) -> Tally:
    """What a rule makes of what was said of each window."""
    alarms = {number for number, one in enumerate(said) if one is not None and rule(one)}
    compared = {number for number, one in enumerate(said) if one is not None}
    judged = {number for number in compared if _overlap(data.windows[number], data.seen)}
    holding = [_window_of(data, row) for row in points(data)]
    near = {window + later for window in holding for later in (0, 1)} & judged
    far = judged - near - {window - 1 for window in holding}
    found = [bool({window, window + 1} & alarms) for window in holding]
    together = [bool({window, window + 1} & alarms) for window in agreed(data)]
    return Tally(
        Share(len(alarms), len(compared)),
        Share(sum(found), len(found)),
        Share(sum(together), len(together)),
        Share(len(alarms & near), len(near)),
        Share(len(alarms & far), len(far)),
    )


def total(tallies: Sequence[Tally]) -> Tally:
    """Of several columns."""
    columns = zip(*tallies, strict=True)
    return Tally(*(Share(sum(one.part for one in shares), sum(one.whole for one in shares)) for shares in columns))


def points(data: Data) -> list[int]:
    """The rows that any annotator marked, each once."""
    return sorted({row for rows in data.marks.values() for row in rows})


def marked(data: Data) -> dict[int, int]:
    """How many annotators marked each window."""
    windows = [window for rows in data.marks.values() for window in {_window_of(data, row) for row in rows}]
    return {window: windows.count(window) for window in sorted(set(windows))}


def agreed(data: Data) -> list[int]:
    """The windows that more than half of the annotators marked."""
    return [window for window, count in marked(data).items() if 2 * count > len(data.marks)]


def likeness(data: Data, column: str) -> float:
    """How neighbouring rows of a window correlate: the median over windows."""
    values = np.asarray(data.values[column])
    found = []
    for rows in data.windows:
        off = values[rows.start : rows.stop] - values[rows.start : rows.stop].mean()
        if off.any():
            found.append(float((off[1:] * off[:-1]).sum() / (off * off).sum()))
    return float(np.median(found))


def _window_of(data: Data, row: int) -> int:
    return next(number for number, rows in enumerate(data.windows) if row in rows)


def _overlap(one: range, two: range) -> bool:
    return max(one.start, two.start) < min(one.stop, two.stop)
