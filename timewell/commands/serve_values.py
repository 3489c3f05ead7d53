"""`timewell serve-values`: show the latest values of some entities, or of rows that name several each."""

from __future__ import annotations

from argparse import Namespace

from timewell.commands.exits import Misused
from timewell.commands.options import Subparsers, add_command, add_wanted, client_of, pairs
from timewell.commands.output import show_json, show_table


def add(commands: Subparsers) -> None:
    """Add the command and its arguments."""
    parser = add_command(commands, "serve-values", run, "show the latest values of some entities")
    parser.add_argument("ids", nargs="*", metavar="ID", help="an entity id")
    parser.add_argument(
        "--row",
        type=pairs,
        action="append",
        default=[],
        metavar="KEY=ID,KEY=ID",
        help="a row in place of ids, for features of several entity types, such as user=ada,shop=7; repeatable",
    )
    add_wanted(parser)
    parser.add_argument("--as-of", metavar="MOMENT", help="the values as of this moment (default: now)")


def run(asked: Namespace) -> None:
    """Print the values, in the order of the ids or rows."""
    if bool(asked.ids) == bool(asked.row):
        raise Misused("give either ids or --row")
    wanted = {"group": asked.group, "service": asked.service, "as_of": asked.as_of}
    with client_of(asked) as client:
        if asked.row:
            results = client.serve_rows(asked.row, asked.features, **wanted)
        else:
            results = client.serve(asked.ids, asked.features, **wanted)
    if asked.json:
        show_json({"results": results})
        return
    references = list(results[0].features)
    keys = list(results[0].keys) if asked.row else ["ENTITY"]
    named = [result.keys.values() if asked.row else (result.entity_id,) for result in results]
    rows = [
        (*ids, *(result.features[name] for name in references)) for ids, result in zip(named, results, strict=True)
    ]
    show_table((*keys, *references), rows)
