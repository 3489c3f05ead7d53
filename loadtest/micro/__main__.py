"""The command: run groups, print the table, write it as JSON on request."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from loadtest.machine.facts import environment
from loadtest.machine.measure import Result
from loadtest.machine.tables import number, table
from loadtest.micro import beside, expressions, http, lanes, memory, monitoring, partition

GROUPS: dict[str, Callable[[], Iterator[Result]]] = {
    "partition": partition.run,
    "expressions": expressions.run,
    "http": http.run,
    "lanes": lanes.run,
    "beside-writes": beside.beside_writes,
    "ids": beside.ids,
    "monitor": monitoring.run,
    "memory": memory.run,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0: all was measured, whether or not targets are met."""
    parser = _parser()
    parsed = parser.parse_args(arguments)
    if unknown := set(parsed.groups) - set(GROUPS):
        parser.error(f"no group {', '.join(sorted(unknown))}; there are {', '.join(GROUPS)}")
    print(", ".join(f"{name} {value}" for name, value in environment().items()), flush=True)
    results: list[Result] = []
    try:
        results.extend(_measured(parsed.groups or list(GROUPS)))
    finally:  # also if a group failed
        print(_table(results))
    if parsed.json is not None:
        parsed.json.write_bytes(msgspec.json.format(msgspec.json.encode(_document(results))))
    return 0


def _measured(groups: Sequence[str]) -> Iterator[Result]:
    for group in groups:
        for result in GROUPS[group]():
            print(f"  measured {result.name}", file=sys.stderr, flush=True)
            yield result


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m loadtest.micro", description="Micro benchmarks of Timewell.")
    parser.add_argument("groups", nargs="*", metavar="group", help=f"{', '.join(GROUPS)} (default: all)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results as JSON")
    return parser


# The table

_HEADINGS = ("benchmark", "median", "middle half", "target", "met?")


def _table(results: Sequence[Result]) -> str:
    return table([_HEADINGS, *map(_row, results)])


def _row(result: Result) -> tuple[str, ...]:
    met = {None: "", True: "yes", False: "NO"}[result.met]
    return result.name, f"{number(result.median)} {result.unit}", result.middle_half, _target(result), met


def _target(result: Result) -> str:
    if result.target is None:
        return ""
    return f"{'>=' if result.target.at_least else '<='} {number(result.target.bound)}"


def _document(results: Sequence[Result]) -> dict[str, Any]:
    """The results and the machine."""
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


if __name__ == "__main__":
    sys.exit(main())
