"""`timewell history`: show the observations of one entity."""

from __future__ import annotations

from argparse import ArgumentTypeError, Namespace

from timewell.commands.exits import say
from timewell.commands.options import Subparsers, add_command, client_of
from timewell.commands.output import show_json, show_table

DEFAULT_LIMIT = 100
MORE = """\
The id of an entity of a type with several keys is the JSON array of its parts: '["u1","m9"]'."""


def add(commands: Subparsers) -> None:
    """Add the command and its arguments."""
    parser = add_command(commands, "history", run, "show the observations of one entity", MORE)
    parser.add_argument("feature", metavar="FEATURE", help="a feature by its id, entity.name or name")
    parser.add_argument("entity_id", metavar="ENTITY_ID")
    parser.add_argument("--start", metavar="MOMENT", help="only from this event time on")
    parser.add_argument("--end", metavar="MOMENT", help="only up to this event time")
    parser.add_argument("--order", choices=("asc", "desc"), default="asc", help="oldest (default) or newest first")
    parser.add_argument(
        "--limit", type=_count, metavar="N", default=DEFAULT_LIMIT, help="at most so many (default: %(default)s)"
    )


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text)):
        raise ArgumentTypeError(f"{text!r} is not a number of observations")
    return int(text)


def run(asked: Namespace) -> None:
    """Print the observations, and say so if there are more."""
    with client_of(asked) as client:
        found = client.history(
            asked.feature,
            asked.entity_id,
            start=asked.start,
            end=asked.end,
            order=asked.order,
            limit=asked.limit + 1,
        )
    shown = found[: asked.limit]
    if asked.json:
        show_json({"feature": asked.feature, "entityId": asked.entity_id, "observations": shown})
    else:
        show_table(("TIMESTAMP", "VALUE"), [(one.timestamp, one.value) for one in shown])
    if len(found) > len(shown):
        say(f"there are more than these {len(shown)}; --limit asks for more")
