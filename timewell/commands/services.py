"""`timewell services`: list the feature services, or show one."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from timewell.commands.options import Subparsers, add_command, client_of
from timewell.commands.output import NOTHING, show_json, show_table

if TYPE_CHECKING:
    from timewell.wire import ServiceAnswer


def add(commands: Subparsers) -> None:
    """Add the command and its arguments."""
    parser = add_command(commands, "services", run, "list the feature services, or show what one reads")
    parser.add_argument("service", metavar="SERVICE", nargs="?", help="show this one: name.vN, or name")


def run(asked: Namespace) -> None:
    """Print all services, or the features of one."""
    with client_of(asked) as client:
        if asked.service is not None:
            _show(client.service(asked.service), asked.json)
            return
        found = client.services()
    if asked.json:
        show_json({"services": found})
        return
    rows = [
        (
            one.id,
            len(one.features),
            ",".join(one.tags) or NOTHING,
            one.owner or NOTHING,
            one.description or NOTHING,
        )
        for one in found
    ]
    show_table(("ID", "FEATURES", "TAGS", "OWNER", "DESCRIPTION"), rows)


def _show(service: ServiceAnswer, as_json: bool) -> None:
    if as_json:
        show_json(service)
    else:
        rows = [(one.name, one.ref, NOTHING if one.key is None else one.key) for one in service.features]
        show_table(("COLUMN", "FEATURE", "KEY"), rows)
