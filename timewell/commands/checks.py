"""`timewell checks`: list the quality checks with their results."""

from __future__ import annotations

from argparse import Namespace

from timewell.commands.options import Subparsers, add_command, client_of
from timewell.commands.output import NOTHING, show_json, show_table


def add(commands: Subparsers) -> None:
    """Add the command and its arguments."""
    parser = add_command(commands, "checks", run, "list the quality checks with their results")
    parser.add_argument("feature", metavar="FEATURE", nargs="?", help="only those of this feature")


def run(asked: Namespace) -> None:
    """Print the checks."""
    with client_of(asked) as client:
        found = client.checks(asked.feature)
    if asked.json:
        show_json({"checks": found})
        return
    rows = [
        (
            one.feature_id,
            one.id,
            one.check_type,
            one.status,
            NOTHING if one.observed is None else one.observed,
            one.message or NOTHING,
        )
        for one in found
    ]
    show_table(("FEATURE", "ID", "TYPE", "STATUS", "OBSERVED", "MESSAGE"), rows)
