"""The machine, the versions and the commit of a measurement; result files, named by command and time."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from loadtest.machine.processes import ROOT

_LIBRARIES = ("trio", "hypercorn", "quart", "quart-trio", "numpy", "msgspec", "pyarrow")
_DIRTY = "-dirty"
MEGABYTE = 1024 * 1024


def environment() -> dict[str, Any]:
    """What the figures depend on: the machine, Python, numpy, the commit."""
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
    """The commit of this checkout, with `-dirty` if files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return found.stdout.strip()


def facts() -> dict[str, Any]:
    """The machine, the code, the libraries, the command."""
    machine = environment()
    commit = str(machine.pop("commit"))
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit.removesuffix(_DIRTY),
        "dirty": commit.endswith(_DIRTY),
        "machine": machine,
        "libraries": {name: version(name) for name in _LIBRARIES},
        "command": ["python", "-m", "loadtest", *sys.argv[1:]],
    }


def where(facts: Mapping[str, Any]) -> str:
    """The same as a line of a report."""
    machine, state = facts["machine"], " with changes" if facts["dirty"] else ""
    return (
        f"{facts['at']}, commit `{facts['commit']}`{state}; {machine['cpu']}, {machine['cores']} cores,"
        f" {machine['system']}, Python {machine['python']}"
    )


def ending(facts: Mapping[str, Any]) -> list[str]:
    """The last lines of a report: the command that made it."""
    return ["", f"    {' '.join(facts['command'])}", ""]


def keep(results: Path, name: str, document: Any, report: str) -> Path:
    """Write JSON and Markdown under a name that ends with the time; the path of the Markdown."""
    results.mkdir(parents=True, exist_ok=True)
    path = results / f"{name}-{datetime.now(UTC):%Y%m%dT%H%M%S}.md"
    path.write_text(report)
    path.with_suffix(".json").write_bytes(msgspec.json.format(msgspec.json.encode(document)) + b"\n")
    return path
