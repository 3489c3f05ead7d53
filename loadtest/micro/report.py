"""Results as a table to read and as JSON to keep."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from loadtest.micro.measure import Result

_HEADINGS = ("benchmark", "median", "middle half", "target", "met?")
_ROOT = Path(__file__).parents[2]


def table(results: Sequence[Result]) -> str:
    """One line a result, columns aligned."""
    rows = [_HEADINGS, *map(_row, results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    lines = [_line(row, widths) for row in rows]
    lines.insert(1, "-" * len(lines[0]))
    return "\n".join(lines)


def _row(result: Result) -> tuple[str, ...]:
    low, high = result.quartiles
    spread = f"{_number(low)} .. {_number(high)}" if len(result.samples) > 1 else ""
    met = {None: "", True: "yes", False: "NO"}[result.met]
    return result.name, f"{_number(result.median)} {result.unit}", spread, _target(result), met


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    name, *rest = row
    cells = [name.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))]
    return "  ".join(cells)


def _target(result: Result) -> str:
    if result.target is None:
        return ""
    return f"{'>=' if result.target.at_least else '<='} {_number(result.target.bound)}"


def _number(value: float) -> str:
    """Three digits that count, all of those before the point."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


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


def environment() -> dict[str, Any]:
    """What the figures depend on besides the code."""
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "commit": _commit(),
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or "unknown")


def _commit() -> str:
    """The commit of this checkout, `-dirty` where files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        found = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return found.stdout.strip()
