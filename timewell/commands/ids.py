"""`timewell ids`: list the entities of a type that anything is known of."""

from __future__ import annotations

from argparse import Namespace

from timewell.commands.options import Subparsers, add_command, client_of

MORE = """\
An id a line, in the order of their code points. With --json each is a JSON string, also on a line of its
own. The id of a type with several keys is the JSON array of its parts."""


def add(commands: Subparsers) -> None:
    """Add the command and its arguments."""
    parser = add_command(commands, "ids", run, "list the ids of an entity type", MORE)
    parser.add_argument("entity", metavar="ENTITY", help="the entity type")
    parser.add_argument("--prefix", metavar="TEXT", help="only ids that begin with this")


def run(asked: Namespace) -> None:
    """Print the ids as they come, page by page."""
    from timewell.commands.output import cell, show_json

    with client_of(asked) as client:
        for id_ in client.ids(asked.entity, prefix=asked.prefix):
            show_json(id_) if asked.json else print(cell(id_))
