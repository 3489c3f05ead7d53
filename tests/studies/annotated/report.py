"""What was found, in Markdown."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

from tests.studies.annotated.alerts import Alert, Past
from tests.studies.annotated.score import (
    RULES,
    Share,
    Tally,
    agreed,
    likeness,
    marked,
    points,
    tally,
    total,
)
from tests.studies.annotated.series import LEAST, Data
from tests.studies.annotated.stream import Judged, Said
from tests.studies.annotated.words import ALERTS, INTRODUCTION, RATES, RULES_NOTE, VERDICTS_NOTE, WINDOWS_NOTE

ALERTED = "apple"
"""The series whose alerts are shown."""
BASELINES = ("drift", "KS", "PSI", "raw PSI", "always")
WIDTH = 115
Case = tuple[Data, str, Judged]


class Run(NamedTuple):
    """All that the command learnt. `alerts` are those of the series ALERTED."""

    cases: Sequence[Case]
    past: Past
    alerts: Sequence[Alert]
    versions: str
    seconds: float


def document(run: Run) -> str:
    """The results file."""
    parts = [
        INTRODUCTION.format(versions=run.versions, seconds=run.seconds, least=LEAST),
        _verdicts(run.cases),
        VERDICTS_NOTE,
        _rules(run.cases),
        RULES_NOTE,
        _rates(run.cases),
        *_remarks(run.cases),
        _alerts(run),
        WINDOWS_NOTE,
        *_windows(run.cases),
    ]
    return "\n".join(part.rstrip() + "\n" for part in parts)


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """In Markdown."""
    texts = [[*map(str, row)] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *texts)) + "\n"


# The tables over series


def _verdicts(cases: Sequence[Case]) -> str:
    head = [
        *("series", "column", "rows", "window", "drift against the first", "drift against the one before"),
        *("change points found", "marked by most found", "alarms at a point", "alarms far from any", "shuffled"),
    ]
    rows = [
        [data.series.title, column, len(data.times), *_verdict(data, judged)] for data, column, judged in cases
    ]
    return "## Where the monitor said drift\n\n" + table(head, rows)


def _verdict(data: Data, judged: Judged) -> list[str]:
    window = str(data.series.window)
    if not any(said and said.verdict != "insufficient" for said in judged.before):
        return [window, *["insufficient"] * 2, *["-"] * 4, "insufficient"]
    sides = (judged.first, judged.before, judged.shuffled)
    first, before, shuffled = ([tally(data, said, RULES[rule]) for rule in ("drift", "medium")] for said in sides)
    alarms = [_pair(*(one.alarms for one in side)) for side in (first, before, shuffled)]
    shown = [_pair(*(getattr(one, name) for one in before)) for name in ("points", "agreed", "near", "far")]
    return [window, *alarms[:2], *shown, alarms[2]]


def _pair(any_: Share, medium: Share) -> str:
    return str(any_) if any_ == medium else f"{any_} ({medium.part})"


def _rules(cases: Sequence[Case]) -> str:
    rows = [[data.series.title, column, *_by_rule(data, judged)] for data, column, judged in _judgeable(cases)]
    sums = []
    for rule in BASELINES:
        real = total([tally(data, judged.before, RULES[rule]) for data, _, judged in _judgeable(cases)])
        mixed = total([tally(data, judged.shuffled, RULES[rule]) for data, _, judged in _judgeable(cases)])
        sums.append(_cell(real, mixed))
    head = ["series", "column", "Timewell", "KS p < 0.05", "PSI > 0.2", "raw PSI > 0.2", "always"]
    return "## Against simpler rules\n\n" + table(head, [*rows, ["all", "", *sums]])


def _by_rule(data: Data, judged: Judged) -> list[str]:
    pairs = [[tally(data, said, RULES[rule]) for said in (judged.before, judged.shuffled)] for rule in BASELINES]
    return [_cell(*pair) for pair in pairs]


def _cell(real: Tally, mixed: Tally) -> str:
    numbers = (real.points, real.far, mixed.alarms)
    return " · ".join(f"{share.part}/{share.whole}" for share in numbers)


def _rates(cases: Sequence[Case]) -> str:
    """How often windows at and far from change points are judged drift; and how severe."""
    before = [tally(data, judged.before, RULES["drift"]) for data, _, judged in _judgeable(cases)]
    both = total([one for one in before if one.near.whole and one.far.whole])
    drifts = [said for _, _, judged in cases for said in judged.before if said and RULES["drift"](said)]
    high, low = (Share(sum(said.severity == how for said in drifts), len(drifts)) for how in ("high", "low"))
    rates = {"near_rate": both.near.part / both.near.whole, "far_rate": both.far.part / both.far.whole}
    return RATES.format(near=both.near, far=both.far, **rates, high=high, low=low)


def _judgeable(cases: Sequence[Case]) -> list[Case]:
    return [
        case
        for case in cases
        if any(said is not None and said.verdict != "insufficient" for said in case[2].before)
    ]


# Series by series


def _remarks(cases: Sequence[Case]) -> list[str]:
    parts = ["## Series by series\n"]
    for data in _each(cases):
        series = data.series
        count = f"{len(data.windows)} windows of {series.window} rows ({series.why})"
        marks = f"{len(data.marks)} annotators marked {len(points(data))} different rows"
        about = textwrap.fill(f"{series.about.format(least=LEAST)} {count}; {marks}.", WIDTH)
        parts.append(f"### {series.title}\n\n{about}\n")
        parts.append("\n".join(_remark(*case) for case in cases if case[0] is data))
    return parts


def _remark(data: Data, column: str, judged: Judged) -> str:
    if all(said is None or said.verdict == "insufficient" for said in judged.before):
        return f"- **{column}**: the monitor answered `insufficient` to every question."
    drift = tally(data, judged.before, RULES["drift"])
    like, size = likeness(data, column), data.series.window
    worth = max(1, round(size * (1 - like) / (1 + like)))
    said = [f"window {number} ({_then(judged, number)})" for number in agreed(data)]
    together = f"Marked by most: {', '.join(said)}." if said else "Annotators do not agree on any window."
    text = (
        f"- **{column}**: neighbouring rows of a window correlate by {like:.2f}; if that were all, {size} of them "
        f"say as much about a mean as about {worth} independent of each other. Drift was said of {drift.near} "
        f"windows at a change point and of {drift.far} far from any. {together}"
    )
    return textwrap.fill(text, WIDTH, subsequent_indent="  ")


def _then(judged: Judged, number: int) -> str:
    """What was said of a window and the next, against the one before each."""
    said = [_short(one) for one in judged.before[number : number + 2] if one is not None]
    return ", then ".join(said)


def _short(said: Said | None) -> str:
    if said is None or said.score is None:
        return "-" if said is None else said.verdict
    return f"{said.severity if said.verdict == 'drift' else said.verdict} {said.score:.2f}"


def _each(cases: Sequence[Case]) -> list[Data]:
    found: list[Data] = []
    for data, _, _ in cases:
        if all(data is not one for one in found):
            found.append(data)
    return found


# Alerts


def _alerts(run: Run) -> str:
    data = next(data for data in _each(run.cases) if data.series.file == ALERTED)
    lines = [f"- {_alert(data, alert)}" for alert in run.alerts] or ["- none fired"]
    return ALERTS.format(past=run.past, series=ALERTED, window=data.series.window, fired="\n".join(lines))


def _alert(data: Data, alert: Alert) -> str:
    def at(row: int) -> str:
        return f"row {row} ({data.times[row][:10]})"

    since = [row for row in points(data) if row <= alert.fired]
    lag = f"{alert.fired - since[-1]} rows after the change point at {since[-1]}" if since else "before any"
    end = "was firing until the end" if alert.resolved is None else f"resolved at {at(alert.resolved)}"
    return f"**{alert.column}** fired at {at(alert.fired)}, {lag}; {end}"


# Window by window


def _windows(cases: Sequence[Case]) -> list[str]:
    parts = []
    for data in _each(cases):
        mine = [(column, judged) for one, column, judged in cases if one is data]
        marks = marked(data)
        sides = [f"{column}, {side}" for column, _ in mine for side in ("before", "first")]
        rows = [
            [number, data.times[rows.start].removesuffix("T00:00:00Z"), marks.get(number, ""), *_row(mine, number)]
            for number, rows in enumerate(data.windows)
        ]
        parts.append(f"### {data.series.title}\n\n" + table(["window", "from", "marks", *sides], rows))
    return parts


def _row(columns: Sequence[tuple[str, Judged]], number: int) -> list[str]:
    return [_short(side[number]) for _, judged in columns for side in (judged.before, judged.first)]
