"""`timewell serve-values`: show the latest values of some entities."""

from __future__ import annotations

from argparse import Namespace

from timewell.commands.options import Subparsers, add_command, add_wanted, client_of
from timewell.commands.output import show_json, show_table


def add(commands: Subparsers) -> None:
    """Add the command and its arguments."""
    parser = add_command(commands, "serve-values", run, "show the latest values of some entities")
    parser.add_argument("ids", nargs="+", metavar="ID", help="an entity id")
    add_wanted(parser)
    parser.add_argument("--as-of", metavar="MOMENT", help="the values as of this moment (default: now)")


def run(asked: Namespace) -> None:
    """Print the values, in the order of the ids."""
    with client_of(asked) as client:
        results = client.serve(asked.ids, asked.features, group=asked.group, as_of=asked.as_of)
    if asked.json:
        show_json({"results": results})
        return
    references = list(results[0].features)
    rows = [(result.entity_id, *(result.features[name] for name in references)) for result in results]
    show_table(("ENTITY", *references), rows)
