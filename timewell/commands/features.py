"""`timewell features`: list the registered features."""

from __future__ import annotations

from argparse import Namespace

from timewell.commands.options import Subparsers, add_command, client_of, names
from timewell.commands.output import NOTHING, show_json, show_table


def add(commands: Subparsers) -> None:
    """Add the command and its arguments."""
    parser = add_command(commands, "features", run, "list the registered features")
    parser.add_argument("--entity", help="only features of this entity type")
    parser.add_argument("--tags", type=names, metavar="A,B", help="only features with any of these tags")
    parser.add_argument("--q", metavar="TEXT", help="only features with this text in id, description or tags")


def run(asked: Namespace) -> None:
    """Print the features."""
    with client_of(asked) as client:
        found = client.features(entity=asked.entity, tags=asked.tags, q=asked.q)
    if asked.json:
        show_json({"features": found})
        return
    rows = [
        (one.id, one.value_type, ",".join(one.tags) or NOTHING, one.owner or NOTHING, one.description or NOTHING)
        for one in found
    ]
    show_table(("ID", "TYPE", "TAGS", "OWNER", "DESCRIPTION"), rows)
