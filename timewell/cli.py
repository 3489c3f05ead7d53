"""The `timewell` command of the client alone. `web/cli.py` has these commands and those of the service."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from timewell.commands import (
    alerts,
    checks,
    delete,
    drift,
    entities,
    erase,
    export,
    features,
    groups,
    health,
    history,
    ids,
    load,
    promote,
    register,
    serve_values,
    services,
    stats,
    training_set,
    training_sets,
    versions,
    write,
)
from timewell.commands.exits import MEANINGS, attempt
from timewell.commands.options import Parser, Subparsers

COMMANDS = (
    *(register, features, versions, promote, entities, groups, services),
    *(write, load, serve_values, history, ids, export, training_set, training_sets),
    *(stats, drift, checks, alerts, health),
    *(delete, erase),
)
"""In the order of `--help`: what is registered, values, watching, taking away."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; `timewell.commands.exits` says what the codes mean."""
    parser, commands = new_parser("Run a command against a service.", "timewell-client")
    for module in COMMANDS:
        module.add(commands)
    parsed = parser.parse_args(arguments)
    return attempt(parsed.run, parsed)


def new_parser(about: str, distribution: str) -> tuple[ArgumentParser, Subparsers]:
    """A parser without commands, and the object to add them to. `distribution`: the one for `--version`."""
    parser: ArgumentParser = Parser(
        prog="timewell",
        description=f"Timewell is a feature store for machine learning. {about}",
        epilog=MEANINGS,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"timewell {version(distribution)}")
    commands: Any = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    return parser, commands


if __name__ == "__main__":
    sys.exit(main())
