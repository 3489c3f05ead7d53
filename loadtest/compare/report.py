"""The table, and the report."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from loadtest.compare.comparison import Comparison, Side
from loadtest.machine.facts import facts, where
from loadtest.machine.tables import number, table

_HEADINGS = ("workload", "peer", "Timewell", "the peer", "times better", "middle half", "CPU", "checked")
_HOW = """\
Rounds in turns (ours, theirs, ours, theirs), after one to warm up; medians, and the median and the middle half of
the ratios of paired rounds. *Times better*: how many times as fast Timewell is; below 1 the peer is better.
*CPU*: processor time of the peer's servers for the same work, as a multiple of ours.
*Checked*: how many values were read from both and found equal.

Servers run on one core, drivers on another; training sets of Feast, DuckDB and Polars, and those of Timewell
*in process*, are made in the driver, on both. Drivers send ready-made requests and do not decode the answers, but
Redis includes the time of redis-py, as in an application. An acknowledged write is on stable storage with
Timewell, PostgreSQL and *Feast, SQLite*; with *everysec* the last second may be lost. Redis keeps only the latest
values: no event times, no history, no statistics.
*One type a time*: Timewell without rows; serving, all features are the user's, and a training set takes a request
for each entity type, joined by row in pandas.
*Both over*: Timewell and the peer keep their values in the same server, which runs on their core (Redis:
appendfsync everysec; PostgreSQL with its defaults)."""


class Document(Struct, rename="camel"):
    """The report as JSON."""

    facts: dict[str, Any]
    quick: bool
    scale: dict[str, Any]
    settings: dict[str, str]
    versions: dict[str, dict[str, str]]
    missing: dict[str, str]
    """Peers that could not run, and why."""
    comparisons: list[Comparison]


def facts_here() -> dict[str, Any]:
    """`loadtest.machine.facts`, and the load average of the last minute."""
    return {**facts(), "loadAverage": os.getloadavg()[0]}


def rows(comparisons: Sequence[Comparison]) -> list[tuple[str, ...]]:
    return [_HEADINGS, *(_row(one) for one in comparisons)]


def _row(one: Comparison) -> tuple[str, ...]:
    processor = ""
    if one.ours.processor_ms and one.theirs.processor_ms:
        processor = f"{number(one.theirs.processor_ms / one.ours.processor_ms)} x"
    spread = one.spread
    half = spread.middle_half if spread else ""
    checked = f"{one.checked_values:,}" if one.checked_values else ""
    theirs = _amount(one, one.theirs)
    if one.limit_seconds is not None:
        theirs = f"not in {one.limit_seconds:g} s"
    elif one.failure is not None:
        theirs, checked = theirs or "none", "FAILED, see below"
    return one.workload, one.peer, _amount(one, one.ours), theirs, _ratio(one), half, processor, checked


def _ratio(one: Comparison) -> str:
    if one.at_least is not None:
        return f">= {number(one.at_least)} x"
    return f"{number(one.spread.median)} x" if one.spread else ""


def _amount(one: Comparison, side: Side) -> str:
    return "" if side.median is None else f"{number(side.median)} {one.unit}"


def markdown(document: Document) -> str:
    versions = "\n".join(
        f"- {name}: {', '.join(f'{part} {version}' for part, version in found.items())}"
        for name, found in document.versions.items()
    )
    missing = "\n".join(f"- {name} could not run: {why}" for name, why in document.missing.items())
    failures = "\n".join(
        f"- {one.workload}, {one.peer}: {one.failure}" for one in document.comparisons if one.failure is not None
    )
    settings = ", ".join(f"{name}={value}" for name, value in document.settings.items()) or "defaults"
    about = {one.workload: one.about for one in document.comparisons}
    left_out = "\n".join(
        f"- {one.workload}: {one.peer} left out {one.left_out:,} rows, for which some feature had no value yet."
        for one in document.comparisons
        if one.left_out
    )
    meanings = "\n".join(f"- `{name}`: {text}" for name, text in about.items())
    busy = f"Load average before the run: {document.facts['loadAverage']:.1f}."
    quick = "\n\n**A quick run: small counts, to see that it works.**" if document.quick else ""
    parts = [
        f"# Comparison with peers\n\n{where(document.facts)}. {busy} Timewell's settings: {settings}.{quick}",
        table(rows(document.comparisons), 2),
        _HOW,
        f"## Workloads\n\n{meanings}\n\n{left_out}".rstrip(),
        f"## Versions\n\n{versions}",
        *([f"## What went wrong\n\n{missing}\n{failures}".rstrip()] if missing or failures else []),
    ]
    return "\n\n".join(parts) + "\n"
