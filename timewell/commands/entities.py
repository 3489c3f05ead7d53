"""`timewell entities`: list the entity types."""

from __future__ import annotations

from argparse import Namespace

from timewell.commands.options import Subparsers, add_command, client_of
from timewell.commands.output import NOTHING, show_json, show_table


def add(commands: Subparsers) -> None:
    """Add the command and its arguments."""
    parser = add_command(commands, "entities", run, "list the entity types and their keys")
    parser.add_argument("entity", metavar="ENTITY", nargs="?", help="only this entity type")


def run(asked: Namespace) -> None:
    """Print the entity types."""
    with client_of(asked) as client:
        found = client.entity_types() if asked.entity is None else [client.entity_type(asked.entity)]
    if asked.json:
        show_json({"entities": found})
        return
    rows = [
        (one.name, ",".join(one.keys), one.features, one.owner or NOTHING, one.description or NOTHING)
        for one in found
    ]
    show_table(("NAME", "KEYS", "FEATURES", "OWNER", "DESCRIPTION"), rows)
