"""What is told of a soak."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from loadtest.machine.facts import where
from loadtest.openloop.charts import Chart, Series
from loadtest.openloop.load import Load
from loadtest.openloop.outcome import Outcome
from loadtest.openloop.report import Kept, by_part, charts, in_ten
from loadtest.soak.trend import MEGABYTE, Verdict


class Soaked(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A soak. `memory`: (seconds, bytes in RAM); `settings`: what the service of our own was started with.

    `crowded`: the share of its core that other work had.
    """

    load: Load
    outcome: Outcome
    settings: Mapping[str, str]
    memory: Sequence[tuple[float, int]]
    crowded: float | None
    written: int
    verdicts: Sequence[Verdict]
    discrepancies: Sequence[str]


def told(soaked: Soaked) -> str:
    """A few lines for a terminal."""
    found = soaked.outcome
    statuses = ", ".join(f"{count:,} x {status}" for status, count in found.statuses.items())
    return "\n".join(
        [
            f"soak: {found.asked:,.0f}/s for {soaked.load.seconds / 60:g} minutes: {statuses};"
            f" {soaked.written:,} values acknowledged",
            *map(str, soaked.verdicts),
            *_crowded(soaked),
        ]
    )


def _crowded(soaked: Soaked) -> list[str]:
    if soaked.crowded is None:
        return []
    return [f"other work on this machine had {soaked.crowded:.0%} of the service's core"]


def kept(soaked: Soaked) -> Kept:
    """What is kept of it."""
    document = {"kind": "soak", **msgspec.to_builtins(soaked)}
    return Kept("soak", document, [*charts(soaked.outcome)[1:], _memory(soaked)], partial(_markdown, soaked))


def _markdown(soaked: Soaked, known: dict[str, Any], chart: str) -> str:
    first, *verdicts = told(soaked).split("\n")
    lines = [
        "# Soak",
        "",
        f"{first}. {where(known)}.",
        "",
        *(f"- {one}" for one in verdicts),
        "",
        f"![latency and memory]({chart})",
        "",
        by_part(soaked.outcome.kinds),
        "",
        f"The service ran with {', '.join(f'{name}={value}' for name, value in soaked.settings.items())}."
        if soaked.settings
        else "The service was running already.",
        "",
        f"    {' '.join(known['command'])}",
        "",
    ]
    return "\n".join(lines)


def _memory(soaked: Soaked) -> Chart:
    points = [(second, size / MEGABYTE) for second, size in soaked.memory]
    ticks = in_ten([second for second, _ in points])
    line = Series("in RAM", points)
    return Chart("Memory of the service", "seconds since the start", "MB", ticks, [line], logarithmic=False)
