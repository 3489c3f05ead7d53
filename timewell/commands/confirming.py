"""What cannot be undone is confirmed: by `--yes`, or at the terminal."""

from __future__ import annotations

import sys
from argparse import ArgumentParser

from timewell.commands.exits import Failed, Misused


def add_yes(parser: ArgumentParser) -> None:
    """Add `--yes`."""
    parser.add_argument("--yes", action="store_true", help="do not ask whether you mean it")


def confirm(what: str, yes: bool) -> None:
    """Return if the user means it. `what`: what will be done, as a sentence.

    Raises Misused if there is no terminal to ask at, Failed if the answer is no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise Misused(f"{what}; give --yes, as there is no terminal to ask whether you mean it")
    print(f"{what}. Go on? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Failed("nothing was done")
