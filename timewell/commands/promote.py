"""`timewell promote`: let the name of a feature mean one of its versions."""

from __future__ import annotations

from argparse import Namespace

from timewell.commands.options import Subparsers, add_command, client_of
from timewell.commands.output import show_json, show_pairs

MORE = """\
A version that was registered with promoted: false is not what its name means until it is promoted. Then the name
means the highest promoted version, in whatever is asked from now on; groups and services keep the versions that
they have."""


def add(commands: Subparsers) -> None:
    """Add the command and its arguments."""
    parser = add_command(commands, "promote", run, "let a feature's name mean a version of it", MORE)
    parser.add_argument("feature", metavar="FEATURE", help="a version of a feature by its id, entity.name.vN")


def run(asked: Namespace) -> None:
    """Promote the version, and print what the name means now."""
    with client_of(asked) as client:
        promoted = client.promote(asked.feature)
        name = f"{promoted.entity}.{promoted.name}"
        meant = client.feature(name)
    if asked.json:
        show_json(promoted)
    else:
        show_pairs([("promoted", promoted.id), (f"{name} means", meant.id)])
