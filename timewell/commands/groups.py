"""`timewell groups`: list the groups of features."""

from __future__ import annotations

from argparse import Namespace

from timewell.commands.options import Subparsers, add_command, client_of
from timewell.commands.output import NOTHING, show_json, show_table


def add(commands: Subparsers) -> None:
    """Add the command and its arguments."""
    parser = add_command(commands, "groups", run, "list the groups of features")
    parser.add_argument("group", metavar="GROUP", nargs="?", help="only this group")


def run(asked: Namespace) -> None:
    """Print the groups."""
    with client_of(asked) as client:
        found = client.groups() if asked.group is None else [client.group(asked.group)]
    if asked.json:
        show_json({"groups": found})
        return
    rows = [
        (one.name, one.entity, ",".join(one.features), ",".join(one.tags) or NOTHING, one.description or NOTHING)
        for one in found
    ]
    show_table(("NAME", "ENTITY", "FEATURES", "TAGS", "DESCRIPTION"), rows)
