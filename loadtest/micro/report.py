"""Results as a table to read and as JSON to keep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from loadtest.machine.facts import environment
from loadtest.machine.measure import Result
from loadtest.machine.tables import aligned, number

_HEADINGS = ("benchmark", "median", "middle half", "target", "met?")


def table(results: Sequence[Result]) -> str:
    """One line a result, columns aligned."""
    return aligned([_HEADINGS, *map(_row, results)])


def _row(result: Result) -> tuple[str, ...]:
    met = {None: "", True: "yes", False: "NO"}[result.met]
    return result.name, f"{number(result.median)} {result.unit}", result.middle_half, _target(result), met


def _target(result: Result) -> str:
    if result.target is None:
        return ""
    return f"{'>=' if result.target.at_least else '<='} {number(result.target.bound)}"


def document(results: Sequence[Result]) -> dict[str, Any]:
    """Everything that was measured, and on what."""
    return {"environment": environment(), "results": [_as_json(result) for result in results]}


def _as_json(result: Result) -> dict[str, Any]:
    low, high = result.quartiles
    return {
        "name": result.name,
        "unit": result.unit,
        "median": result.median,
        "quartiles": [low, high],
        "min": min(result.samples),
        "max": max(result.samples),
        "samples": len(result.samples),
        "target": result.target._asdict() if result.target else None,
        "met": result.met,
    }
