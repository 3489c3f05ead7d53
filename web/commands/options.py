"""What several commands take on their command line."""

from __future__ import annotations

import os
from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from web.commands.exits import MEANINGS

if TYPE_CHECKING:
    from web.client import Client

DEFAULT_URL = "http://localhost:3001"


class Subparsers(Protocol):
    """What argparse makes of `add_subparsers`."""

    def add_parser(self, name: str, **named: object) -> ArgumentParser: ...


def add_command(
    commands: Subparsers, name: str, run: Callable[[Namespace], None], about: str, more: str = ""
) -> ArgumentParser:
    """A command that asks a service: `about` stands in the list of commands, `more` in its own help."""
    parser = commands.add_parser(
        name,
        help=about,
        description=f"{about[0].upper()}{about[1:]}.{more and chr(10) * 2 + more}",
        epilog=MEANINGS,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "--url",
        type=_url,
        default=os.environ.get("TIMEWELL_URL") or DEFAULT_URL,
        help="where the service is (default: TIMEWELL_URL, else %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="answer in JSON, for machines")
    return parser


def _url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise ArgumentTypeError(f"{text!r} does not begin with http:// or https://")
    return text


def names(text: str) -> list[str]:
    """Names with commas between them."""
    found = [one.strip() for one in text.split(",")]
    if not all(found):
        raise ArgumentTypeError(f"{text!r} is not a list of names with commas between them")
    return found


def file_of(*endings: str) -> Callable[[str], Path]:
    """A file with one of the endings, which say its format."""

    def read(text: str) -> Path:
        path = Path(text)
        if not path.name.lower().endswith(endings):
            raise ArgumentTypeError(f"{text!r} does not end in {', '.join(endings)}")
        return path

    return read


def add_wanted(parser: ArgumentParser) -> None:
    """Either `--features` or `--group`."""
    wanted = parser.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--features", type=names, metavar="A,B", help="the features to read")
    wanted.add_argument("--group", help="the group of features to read")


def references_of(client: Client, features: list[str] | None, group: str | None) -> list[str]:
    """What is to be read: the features, or those of the group with the entity type before bare names."""
    if group is None:
        return list(dict.fromkeys(features or []))
    found = client.group(group)
    return [one if "." in one else f"{found.entity}.{one}" for one in found.features]
