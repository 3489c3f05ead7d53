"""`python -m loadtest run|find-limit|soak|compare`: a command's module is imported when it is run."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import NamedTuple


class Command(NamedTuple):
    """A module with `add_arguments(parser)` and `run(arguments) -> exit code`."""

    module: str
    about: str


COMMANDS = {
    "run": Command("loadtest.openloop.command", "drive a service at a fixed rate and report its latencies"),
    "find-limit": Command("loadtest.limit.command", "find the highest rate at which a latency bound holds"),
    "soak": Command(
        "loadtest.soak.command", "load for minutes: memory, latency, and that nothing acknowledged is lost"
    ),
    "compare": Command("loadtest.compare.command", "the same work on Timewell and its peers"),
}
_LINES = [f"  {name:12}{one.about}" for name, one in COMMANDS.items()]
USAGE = "\n".join(["python -m loadtest COMMAND [...]", "", *_LINES])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command to its exit code; 1 if it fails, 2 for bad arguments, 130 when interrupted."""
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or [""]
    if name in ("-h", "--help"):
        print(USAGE)
        return 0
    command = COMMANDS.get(name)
    if command is None:
        print(USAGE, file=sys.stderr)
        return 2
    module = importlib.import_module(command.module)
    parser = argparse.ArgumentParser(prog=f"python -m loadtest {name}", description=command.about)
    module.add_arguments(parser)
    try:
        return int(module.run(parser.parse_args(rest)))
    except KeyboardInterrupt:
        return 130
    except (argparse.ArgumentTypeError, RuntimeError, OSError) as error:
        print(f"loadtest: {error}", file=sys.stderr)
        return 2 if isinstance(error, argparse.ArgumentTypeError) else 1


if __name__ == "__main__":
    sys.exit(main())
