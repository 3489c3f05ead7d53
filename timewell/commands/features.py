"""`timewell features`: what is registered."""

from __future__ import annotations

from argparse import Namespace

from timewell.commands.options import Subparsers, add_command, client_of, names
from timewell.commands.output import NOTHING, show_json, show_table


def add(commands: Subparsers) -> None:
    """What it takes."""
    parser = add_command(commands, "features", run, "list the registered features")
    parser.add_argument("--entity", help="only those of an entity type")
    parser.add_argument("--tags", type=names, metavar="A,B", help="only those with any of the tags")
    parser.add_argument("--q", metavar="TEXT", help="only those with a text in their id, description or tags")


def run(asked: Namespace) -> None:
    """List them."""
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
