"""`timewell training-sets`: list the kept training sets, or show one."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from timewell.commands.options import Subparsers, add_command, client_of
from timewell.commands.output import NOTHING, show_json, show_pairs, show_table

if TYPE_CHECKING:
    from timewell.rows_wire import TrainingSetRecord

MORE = """\
`training-set --save` keeps one, `training-set --from` makes its rows again, `delete --training-set` forgets it."""


def add(commands: Subparsers) -> None:
    """Add the command and its arguments."""
    about = "list the kept training sets, or show what one is made of"
    parser = add_command(commands, "training-sets", run, about, MORE)
    parser.add_argument("name", metavar="NAME", nargs="?", help="show this one")


def run(asked: Namespace) -> None:
    """Print all kept training sets, or what is known of one."""
    with client_of(asked) as client:
        if asked.name is not None:
            _show(client.kept_training_set(asked.name), asked.json)
            return
        found = client.training_sets()
    if asked.json:
        show_json({"trainingSets": found})
        return
    rows = [(one.name, one.rows, one.known_at, one.owner or NOTHING, one.description or NOTHING) for one in found]
    show_table(("NAME", "ROWS", "KNOWN AT", "OWNER", "DESCRIPTION"), rows)


def _show(kept: TrainingSetRecord, as_json: bool) -> None:
    if as_json:
        show_json(kept)
        return
    spine = kept.definition.get("spine")
    made = [("spine", NOTHING if spine is None else spine["feature"])]
    told = [("known at", kept.known_at), ("rows", kept.rows), ("content hash", kept.content_hash)]
    features = [("feature", one["ref"]) for one in kept.definition["features"]]
    show_pairs([("name", kept.name), *told, *made, *features])
