"""`timewell health`: whether a service is ready."""

from __future__ import annotations

from argparse import Namespace

from timewell.commands.exits import Failed
from timewell.commands.options import Subparsers, add_command, client_of
from timewell.commands.output import show_json, show_pairs

MORE = """\
The exit code is 0 if the service is ready, 1 if it is not yet, and 3 if it does not answer."""


def add(commands: Subparsers) -> None:
    """Add the command and its arguments."""
    add_command(commands, "health", run, "tell whether the service is ready", MORE)


def run(asked: Namespace) -> None:
    """Print what the service says. It is asked once."""
    with client_of(asked) as client:
        found = client.ready()
    if asked.json:
        show_json(found)
    else:
        show_pairs([("status", found.status)])
    if found.status != "ready":
        raise Failed(f"the service is not ready: {found.status}")
