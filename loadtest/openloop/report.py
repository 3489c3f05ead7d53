"""The report of a run: Markdown that is printed and kept, and the same as JSON."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from loadtest.machine.cores import Cores
from loadtest.machine.facts import MEGABYTE, ending, keep, where
from loadtest.machine.service import Footprint, crowded_share
from loadtest.machine.tables import table
from loadtest.openloop.load import BESIDE, WITHOUT, Load
from loadtest.openloop.outcome import BUSY, NAMED, Bin, Latency, Outcome

LATE_MS, LATE_SHARE = 0.5, 0.2
"""A driver later than this at p99, and later than this share of the p99 latency, gets a warning."""
SUFFERED_RATIO, SUFFERED_MS = 1.5, 1.0
"""Slow readers disturb others if p99 grows by more than this factor and this many ms."""


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """A run and its machine. Footprints are the service's, before and after; None if we did not start it."""

    load: Load
    outcome: Outcome
    cores: Cores
    before: Footprint | None
    after: Footprint | None


def document(told: Told, known: Mapping[str, Any]) -> dict[str, Any]:
    """The report as JSON."""
    service = None
    if told.before is not None and told.after is not None:
        service = {
            "core": told.cores.server,
            "processorSeconds": told.after.processor_seconds - told.before.processor_seconds,
            "crowdedShare": crowded_share(told.before, told.after),
            "residentBytes": [told.before.resident_bytes, told.after.resident_bytes],
        }
    return {**known, "kind": "run", "load": told.load, "service": service, "outcome": told.outcome}


def report(told: Told, known: Mapping[str, Any]) -> str:
    """The report as Markdown, the latencies first."""
    load, found = told.load, told.outcome
    shape = load.shape
    parts = {**(found.kinds if len(found.kinds) > 1 else {}), **found.phases}
    return "\n".join(
        [
            f"# {load.scenario}: {found.asked:,.0f} requests a second",
            "",
            f"{load.seconds:g} s over {load.connections} connections, {found.achieved:,.0f}/s answered in time;"
            f" {shape.entities} entities x {shape.features} features a read, {shape.population:,} entities,"
            f" {shape.observations} observations each. {where(known)}.",
            "",
            _percentiles(found),
            "",
            "Latency counts from the instant of a request in the schedule, whether or not it could be sent then.",
            "",
            *([by_part(parts), ""] if parts else []),
            by_time(found.timeline),
            "",
            *_answers(found),
            *_slow_readers(found),
            _driver(found),
            *_doubts(found),
            *_footprint(told),
            *ending(known),
        ]
    )


def _percentiles(found: Outcome) -> str:
    ours, theirs = (msgspec.to_builtins(one) for one in (found.latency, found.service_time))
    rows = [("", "from the schedule, ms", "from the sending, ms", "slower")]
    for name, fraction in {**NAMED, "max": 1.0}.items():
        slower = math.floor(found.latency.count * (1 - fraction) + 1e-6)
        rows.append((name, f"{ours[name]:.3f}", f"{theirs[name]:.3f}", f"{slower:,}"))
    return table(rows)


def by_part(parts: Mapping[str, Latency]) -> str:
    """A line for the requests of each kind or phase."""
    rows = [("", "requests", "p50, ms", "p99, ms", "max, ms")]
    for name, one in parts.items():
        rows.append((name, f"{one.count:,}", f"{one.p50:.3f}", f"{one.p99:.3f}", f"{one.max:.3f}"))
    return table(rows)


def by_time(timeline: Sequence[Bin], memory: Sequence[tuple[float, int]] = ()) -> str:
    """A line for each stretch of time. `memory`: (seconds, resident bytes), whose median is shown too."""
    rows = [["from second", "requests", "errors", "p50, ms", "p99, ms", "max, ms", *(["MB"] if memory else [])]]
    samples = np.array(memory, np.float64).reshape(-1, 2)
    ends = [*(one.start for one in timeline[1:]), math.inf]
    for one, end in zip(timeline, ends, strict=True):
        times = (f"{ms:.3f}" for ms in (one.p50, one.p99, one.max))
        there = samples[(samples[:, 0] >= one.start) & (samples[:, 0] < end), 1]
        size = [f"{np.median(there) / MEGABYTE:.0f}" if len(there) else ""] if memory else []
        rows.append([f"{one.start:.2f}", f"{one.requests:,}", f"{one.errors:,}", *times, *size])
    return table(rows, 0)


def _answers(found: Outcome) -> list[str]:
    statuses = ", ".join(f"{count:,} x {status}" for status, count in found.statuses.items())
    content = found.content
    wrong = f"{content.wrong} wrong" if content.wrong else "all right"
    return [f"Answers: {statuses}; the content of {content.sampled:,} was checked: {wrong}."]


def _slow_readers(found: Outcome) -> list[str]:
    if not found.phases:
        return []
    without, beside = found.phases[WITHOUT].p99, found.phases[BESIDE].p99
    suffered = beside > SUFFERED_RATIO * without + SUFFERED_MS
    verdict = "the others suffered" if suffered else "the others did not suffer"
    received = found.slow_readers
    return [
        f"Slow readers: p99 {without:.3f} ms without, {beside:.3f} ms with them: {verdict}. They received"
        f" {received.bytes / MEGABYTE:.1f} MB in {received.answers} whole answers and parts of others;"
        f" {received.failures} were disconnected."
    ]


def _driver(found: Outcome) -> str:
    driver = found.driver
    return (
        f"Driver: busy {driver.busy:.0%}, started requests late by {driver.lag.p99:.3f} ms at p99,"
        f" {driver.lag.max:.1f} ms at most; held up for {driver.held_up_seconds:.2f} s,"
        f" {driver.longest_seconds * 1e3:.1f} ms at once."
    )


def _doubts(found: Outcome) -> list[str]:
    """Warnings that latencies may be the driver's own."""
    doubts = []
    if found.driver.busy > BUSY:
        doubts.append("The driver had hardly any slack: these latencies may be its own. Try more --processes.")
    if found.driver.lag.p99 > max(LATE_MS, found.latency.p99 * LATE_SHARE):
        doubts.append("The driver often started requests late: other work on this machine is in these latencies.")
    return doubts


def _footprint(told: Told) -> list[str]:
    if told.before is None or told.after is None:
        return []
    spent = (told.after.processor_seconds - told.before.processor_seconds) / (told.after.at - told.before.at)
    crowded = crowded_share(told.before, told.after)
    memory = [one.resident_bytes / MEGABYTE for one in (told.before, told.after)]
    others = "" if crowded is None else f"; other work on this machine used {crowded:.0%} of that core"
    return [f"Service: {spent:.0%} of a core{others}; {memory[0]:.0f} MB before and {memory[1]:.0f} MB after."]


def conclude(arguments: argparse.Namespace, name: str, found: Mapping[str, Any], text: str) -> None:
    """Print a report and keep it, with its JSON beside it and in the file that the options name."""
    print(text)
    kept = keep(arguments.results, name, found, text)
    if arguments.json is not None:
        arguments.json.write_bytes(kept.with_suffix(".json").read_bytes())
    print(kept)
