"""`timewell check-data`: whether a data directory is what was written."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path

from web.commands.exits import MEANINGS, Failed
from web.commands.options import Subparsers

MORE = """\
Reads the whole directory of an embedded store, which no service uses meanwhile, and compares all of it with the
checksums that were kept when it was written. Nothing is changed. Prints what is damaged: the file, the feature and
the range of event time that were in it. Exit code 0 where all is as it was written, 1 where something is not.
"""


def add(commands: Subparsers) -> None:
    """What it takes."""
    parser: ArgumentParser = commands.add_parser(
        "check-data",
        help="whether a data directory is what was written",
        description=f"Whether a data directory is what was written.\n\n{MORE}",
        epilog=MEANINGS,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    default = os.environ.get("DATA_DIR") or "./data"
    parser.add_argument(
        "directory", nargs="?", type=Path, default=default, help="the directory (default: DATA_DIR, else ./data)"
    )
    parser.add_argument("--json", action="store_true", help="answer in JSON, for machines")


def run(asked: Namespace) -> None:
    """Check it. Raises Failed where something is damaged."""
    from actors.errors import TimewellError
    from actors.storage.checking import check
    from web.commands.output import show_json

    directory = Path(asked.directory)
    try:
        found = check(directory.absolute())
    except TimewellError as error:
        raise Failed(error.detail) from error
    if asked.json:
        show_json({"damaged": found})
    else:
        for words in found:
            print(words)
    if found:
        raise Failed(f"{directory} is damaged in {len(found)} {'place' if len(found) == 1 else 'places'}")
    if not asked.json:
        print(f"{directory} is as it was written")
