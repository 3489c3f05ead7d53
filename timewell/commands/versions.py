"""`timewell versions`: list the versions of a feature."""

from __future__ import annotations

from argparse import Namespace

from timewell.commands.options import Subparsers, add_command, client_of
from timewell.commands.output import NOTHING, show_json, show_table

MORE = """\
Without a version, a feature's name means its highest promoted version, which is marked."""


def add(commands: Subparsers) -> None:
    """Add the command and its arguments."""
    parser = add_command(commands, "versions", run, "list the versions of a feature", MORE)
    parser.add_argument("feature", metavar="FEATURE", help="a feature by entity.name or name")


def run(asked: Namespace) -> None:
    """Print the versions, lowest first."""
    with client_of(asked) as client:
        found = client.versions(asked.feature)
    if asked.json:
        show_json({"versions": found})
        return
    meant = [one.id for one in found if one.promoted][-1:]
    rows = [
        (
            one.id,
            one.value_type,
            "current" if one.id in meant else "yes" if one.promoted else "no",
            one.created_at,
            one.description or NOTHING,
        )
        for one in found
    ]
    show_table(("ID", "TYPE", "PROMOTED", "CREATED", "DESCRIPTION"), rows)
