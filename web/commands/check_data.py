"""`timewell check-data`: verify a data directory against its checksums, and go on without what is damaged."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path

from timewell.commands.exits import MEANINGS, Failed, Misused, say
from timewell.commands.options import Subparsers

MORE = """\
Reads the whole data directory of an embedded store and compares it with the checksums that were kept when it was
written. Stop the service first. Nothing is changed. Prints what is damaged: the file, the feature, the range of
event time and the number of observations that were in it. The exit code is 0 if nothing is damaged and 1 if
something is.

The service answers requests for damaged data with 503. If you have a backup, restore it. If you have none and want
to go on without that data:

    timewell check-data DIR --forget-damaged          says what will be lost, and changes nothing
    timewell check-data DIR --forget-damaged --yes    does it

The service then answers as if the damaged data had never been written; everything else is served as before. The
damaged files are not deleted but moved to DIR/damaged, each time into a new folder with a lost.txt that says what
was in them. The service logs the loss at each start until you move that folder away. If the command was
interrupted, run it again.
"""
NEXT = "; nothing has been changed: with --yes what is named above is lost, and the rest is served"


def add(commands: Subparsers) -> None:
    """Add the command and its arguments."""
    parser: ArgumentParser = commands.add_parser(
        "check-data",
        help="verify a data directory against its checksums",
        description=f"Verify a data directory against its checksums.\n\n{MORE}",
        epilog=MEANINGS,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    default = os.environ.get("DATA_DIR") or "./data"
    parser.add_argument(
        "directory", nargs="?", type=Path, default=default, help="the directory (default: DATA_DIR, else ./data)"
    )
    parser.add_argument(
        "--forget-damaged", action="store_true", help="say what would be lost by going on without it"
    )
    parser.add_argument("--yes", action="store_true", help="with --forget-damaged: lose it, and go on")
    parser.add_argument("--json", action="store_true", help="answer in JSON, for machines")


def run(asked: Namespace) -> None:
    """Verify the directory, or forget what is damaged if asked to. Raises Failed if it is damaged and stays so."""
    from actors.errors import TimewellError
    from actors.storage.embedded.checking import check
    from actors.storage.embedded.directory import create_privately
    from actors.storage.embedded.forgetting import forget
    from timewell.commands.output import show_json

    if asked.yes and not asked.forget_damaged:
        raise Misused("--yes belongs to --forget-damaged")
    directory, aside = Path(asked.directory), None
    create_privately()
    try:
        if asked.yes:
            damages, aside = forget(directory.absolute())
        else:
            damages = check(directory.absolute())
    except TimewellError as error:
        raise Failed(error.detail) from error
    if asked.json:
        show_json({"damaged": damages, **({"movedTo": str(aside)} if aside else {})})
    else:
        for damage in damages:
            print(damage)
    places = f"{len(damages)} {'place' if len(damages) == 1 else 'places'}"
    if aside is not None:
        say(f"what was damaged, in {places}, is forgotten: {aside} has it; {directory} can be served again")
    elif damages:
        raise Failed(f"{directory} is damaged in {places}{NEXT if asked.forget_damaged else ''}")
    elif not asked.json:
        print(f"{directory} is as it was written")
