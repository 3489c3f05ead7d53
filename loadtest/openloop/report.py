"""A run as it is told: a summary to print, and JSON, Markdown and a chart to keep."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from loadtest.machine.cores import Cores
from loadtest.machine.facts import as_json, facts, save, where
from loadtest.machine.service import Footprint, crowded_share
from loadtest.machine.tables import piped
from loadtest.openloop.charts import Chart, Series, svg
from loadtest.openloop.load import BESIDE, WITHOUT, Load
from loadtest.openloop.outcome import BUSY, Outcome
from loadtest.openloop.percentiles import NAMED, Latency

MEGABYTE = 1024 * 1024
LATE_MS, LATE_SHARE = 0.5, 0.2
"""A driver that is later than this at p99, and than this share of the latency there, is worth a warning."""
SUFFERED_RATIO, SUFFERED_MS = 1.5, 1.0
"""Slow readers disturb the others where these have a p99 over so many times, and so much, more than without."""


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """A run and its surroundings. Footprints are the service's, before and after, where it is ours."""

    load: Load
    outcome: Outcome
    cores: Cores
    before: Footprint | None
    after: Footprint | None


class Kept(NamedTuple):
    """A report before it is written: what its files begin with, what is said as JSON, and what is drawn."""

    name: str
    document: dict[str, Any]
    charts: Sequence[Chart]
    markdown: Callable[[dict[str, Any], str], str]
    """The report, of the facts and of the file with the chart."""

    def write(self, results: Path, also: Path | None) -> Path:
        """Write the report, the chart and the JSON, this there too; the path of the report."""
        known = facts()
        document = as_json({**known, **self.document})
        if also is not None:
            also.write_bytes(document)
        path = save(results, self.name, {".json": document, ".svg": svg(self.charts).encode()}, known)
        path.write_text(self.markdown(known, path.with_suffix(".svg").name))
        return path


def kept(told: Told) -> Kept:
    """What is kept of a run."""
    document = {"kind": "run", "load": told.load, **_service(told), "outcome": told.outcome}
    return Kept(told.load.scenario, document, charts(told.outcome), partial(markdown, told))


def _service(told: Told) -> dict[str, Any]:
    if told.before is None or told.after is None:
        return {"service": None}
    return {
        "service": {
            "core": told.cores.server,
            "processorSeconds": told.after.processor_seconds - told.before.processor_seconds,
            "crowdedShare": crowded_share(told.before, told.after),
            "residentBytes": [told.before.resident_bytes, told.after.resident_bytes],
        }
    }


def summary(told: Told) -> str:
    """A few lines for a terminal."""
    found = told.outcome
    lines = [_headline(told), "", *_table("latency", found.latency), *_told_of_errors(found)]
    for name, one in {**(found.kinds if len(found.kinds) > 1 else {}), **found.phases}.items():
        lines.append(f"{name}: {_short(one)}")
    return "\n".join([*lines, *_slow_readers(found), _driver(found), *_doubts(found), *_footprint(told)])


def markdown(told: Told, known: dict[str, Any], chart: str) -> str:
    """The report."""
    found = told.outcome
    rows = [(name, f"{a:.3f}", f"{b:.3f}", f"{left:,}") for name, a, b, left in _percentiles(found)]
    lines = [
        f"# {told.load.scenario}: {found.asked:,.0f} requests a second",
        "",
        f"{_headline(told)} {where(known)}.",
        "",
        f"![latencies]({chart})",
        "",
        piped([("", "from the schedule, ms", "from the sending, ms", "slower"), *rows]),
        "",
        "Latency counts from the instant that the schedule gives a request, whether or not it could leave then.",
        "",
        *_parts(found),
        *_told_of_errors(found),
        *_slow_readers(found),
        _driver(found),
        *_doubts(found),
        *_footprint(told),
        "",
        f"    {' '.join(known['command'])}",
        "",
    ]
    return "\n".join(lines)


def _headline(told: Told) -> str:
    load, found = told.load, told.outcome
    shape = load.shape
    return (
        f"{load.scenario}: {found.asked:,.0f}/s asked for {load.seconds:g} s over {load.connections} connections,"
        f" {found.achieved:,.0f}/s answered in time; {shape.entities} entities x {shape.features} features a read,"
        f" {shape.population:,} entities, {shape.observations} observations each."
    )


def _percentiles(found: Outcome) -> Iterator[tuple[str, float, float, int]]:
    """Name, the two latencies in ms, and how many requests were slower."""
    ours, theirs = (msgspec.to_builtins(one) for one in (found.latency, found.service_time))
    for name, fraction in {**NAMED, "max": 1.0}.items():
        yield name, ours[name], theirs[name], math.floor(found.latency.count * (1 - fraction) + 1e-6)


def _table(name: str, one: Latency) -> list[str]:
    columns = msgspec.to_builtins(one)
    names = [*NAMED, "max"]
    return [
        f"{name + ', ms':12}" + "".join(f"{column:>10}" for column in names),
        " " * 12 + "".join(f"{columns[column]:10.3f}" for column in names),
        "",
    ]


def _short(one: Latency) -> str:
    return f"p50 {one.p50:.3f} ms, p99 {one.p99:.3f} ms, max {one.max:.3f} ms of {one.count:,}"


def _parts(found: Outcome) -> list[str]:
    """What requests of a kind, or in a phase, met."""
    parts = {**(found.kinds if len(found.kinds) > 1 else {}), **found.phases}
    return [by_part(parts), ""] if parts else []


def by_part(parts: Mapping[str, Latency]) -> str:
    """A line for each part of a run."""
    rows = [
        (name, f"{one.count:,}", f"{one.p50:.3f}", f"{one.p99:.3f}", f"{one.max:.3f}")
        for name, one in parts.items()
    ]
    return piped([("", "requests", "p50, ms", "p99, ms", "max, ms"), *rows])


def _told_of_errors(found: Outcome) -> list[str]:
    statuses = ", ".join(f"{count:,} x {status}" for status, count in found.statuses.items())
    content = found.content
    wrong = f"{content.wrong} wrong" if content.wrong else "all right"
    return [f"Answers: {statuses}; the content of {content.sampled:,} was looked into: {wrong}."]


def _slow_readers(found: Outcome) -> list[str]:
    if not found.phases:
        return []
    without, beside = found.phases[WITHOUT].p99, found.phases[BESIDE].p99
    suffered = beside > SUFFERED_RATIO * without + SUFFERED_MS
    verdict = "the others suffered" if suffered else "the others did not suffer"
    had = found.slow_readers
    return [
        f"Slow readers: p99 {without:.3f} ms without, {beside:.3f} ms beside them: {verdict}. They took"
        f" {had.bytes / MEGABYTE:.1f} MB in {had.answers} whole answers and the beginnings of others,"
        f" {had.failures} were cut off."
    ]


def _driver(found: Outcome) -> str:
    driver = found.driver
    return (
        f"Driver: busy {driver.busy:.0%}, late itself by {driver.lag.p99:.3f} ms at p99, {driver.lag.max:.1f} ms"
        f" at most; held up for {driver.held_up_seconds:.2f} s, {driver.longest_seconds * 1e3:.1f} ms at once."
    )


def _doubts(found: Outcome) -> list[str]:
    """Where latencies may be the driver's own."""
    doubts = []
    if found.driver.busy > BUSY:
        doubts.append("The driver had hardly any slack: these latencies may be its own. Try more --processes.")
    if found.driver.lag.p99 > max(LATE_MS, found.latency.p99 * LATE_SHARE):
        doubts.append("The driver was often late itself: other work on this machine is in these latencies.")
    return doubts


def _footprint(told: Told) -> list[str]:
    if told.before is None or told.after is None:
        return []
    spent = (told.after.processor_seconds - told.before.processor_seconds) / (told.after.at - told.before.at)
    crowded = crowded_share(told.before, told.after)
    memory = [one.resident_bytes / MEGABYTE for one in (told.before, told.after)]
    others = "" if crowded is None else f"; other work on this machine had {crowded:.0%} of that core"
    return [f"Service: {spent:.0%} of a core{others}; {memory[0]:.0f} MB before and {memory[1]:.0f} MB after."]


def charts(found: Outcome) -> list[Chart]:
    """Latency by percentile, further to the right the rarer; and over time."""
    nines = [(-math.log10(1 - fraction), ms) for fraction, ms in found.curve]
    last = max([2.0, *(x for x, _ in nines)])
    ticks = [(-math.log10(0.5), "50%")] + [
        (float(n), f"{100 - 10.0 ** (2 - n):g}%") for n in range(1, int(last) + 1)
    ]
    over_time = [
        Series(name, [(one.start, getattr(one, name)) for one in found.timeline]) for name in ("p50", "p99", "max")
    ]
    return [
        Chart("Latency by percentile", "share of requests", "ms", ticks, [Series("latency", nines)]),
        Chart(
            "Latency over time",
            "seconds since the start",
            "ms",
            in_ten([one.start for one in found.timeline]),
            over_time,
        ),
    ]


def in_ten(places: Sequence[float]) -> list[tuple[float, str]]:
    """About ten of ascending places as ticks."""
    return [(place, f"{place:.4g}") for place in places[:: max(1, len(places) // 10)]]
