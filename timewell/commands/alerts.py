"""`timewell alerts`: list the alerts."""

from __future__ import annotations

from argparse import Namespace

from timewell.commands.options import Subparsers, add_command, client_of
from timewell.commands.output import NOTHING, show_json, show_table


def add(commands: Subparsers) -> None:
    """Add the command and its arguments."""
    parser = add_command(commands, "alerts", run, "list the alerts, newest first")
    parser.add_argument("--state", choices=("pending", "firing", "resolved"), help="only alerts in this state")


def run(asked: Namespace) -> None:
    """Print the alerts."""
    with client_of(asked) as client:
        found = client.alerts(asked.state)
    if asked.json:
        show_json({"alerts": found})
        return
    rows = [
        (one["featureId"], one["checkId"], one["state"], one["since"], one["message"] or NOTHING) for one in found
    ]
    show_table(("FEATURE", "CHECK", "STATE", "SINCE", "MESSAGE"), rows)
