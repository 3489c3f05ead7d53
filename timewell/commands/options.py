"""Arguments that several commands share, and the client that they ask."""

from __future__ import annotations

import os
import re
from argparse import (
    Action,
    ArgumentError,
    ArgumentParser,
    ArgumentTypeError,
    Namespace,
    RawDescriptionHelpFormatter,
)
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar

from timewell.commands.exits import MEANINGS, say

if TYPE_CHECKING:
    from timewell.client import Client

DEFAULT_URL = "http://localhost:3001"
RETRY_SECONDS = 30.0
QUIET_SECONDS = 1.0
C = TypeVar("C", bound="Client")


class Parser(ArgumentParser):
    """Refuses options given twice, where argparse would keep the last, and removes passwords from its errors."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        for kind in (None, "store"):
            self.register("action", kind, _Once)

    def error(self, message: str) -> NoReturn:
        """See ArgumentParser."""
        message = re.sub(r"\S*:\S.*@", "...@", message)
        if not message.startswith("argument -"):  # a word in the wrong place may be an address
            message = re.sub(r"\S*(:\S|@)\S*", "...", message)
        super().error(message)


class _Once(Action):
    """Stores the value of an option that may be given once."""

    given = False

    def __call__(self, parser: ArgumentParser, space: Namespace, value: Any, option: str | None = None) -> None:
        if option is not None and self.given:
            words = f", as {self.metavar}" if isinstance(self.metavar, str) and "," in self.metavar else ""
            raise ArgumentError(self, f"is given twice; give it once{words}")
        self.given = option is not None
        setattr(space, self.dest, value)


class Subparsers(Protocol):
    """What argparse's `add_subparsers` returns."""

    def add_parser(self, name: str, **named: object) -> ArgumentParser: ...


def client_of(asked: Namespace) -> Client:
    """The client of a command."""
    from timewell.client import Client

    return telling(Client(asked.url, retry_seconds=asked.retry_seconds))


def telling(client: C) -> C:
    """Have a client say once that it is retrying, if that takes longer than a moment."""
    from timewell.errors import shown_address

    sleep, waited = client._sleep, 0.0

    def tell(seconds: float) -> None:
        nonlocal waited
        if waited < QUIET_SECONDS <= waited + seconds:
            say(f"{shown_address(str(client._http.base_url))}: away or busy, asking again")
        waited += seconds
        sleep(seconds)

    client._sleep = tell
    return client


def add_command(
    commands: Subparsers, name: str, run: Callable[[Namespace], None], about: str, more: str = ""
) -> ArgumentParser:
    """Add a command that asks a service. `about`: for the list of commands; `more`: for the command's own help."""
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
        metavar="URL",
        default=os.environ.get("TIMEWELL_URL") or DEFAULT_URL,
        help=f"the address of the service (default: TIMEWELL_URL, else {DEFAULT_URL})",
    )
    parser.add_argument(
        "--retry-seconds",
        type=_seconds,
        metavar="SECONDS",
        default=RETRY_SECONDS,
        help="how long to retry while the service is away or busy (default: %(default)g)",
    )
    parser.add_argument("--json", action="store_true", help="answer in JSON, for machines")
    return parser


def _url(text: str) -> str:
    """The address of a service. Raises ArgumentTypeError, whose message contains no password."""
    from timewell.client import checked_url

    try:
        return checked_url(text, "the address")
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ArgumentTypeError(f"{text!r} is not a number of seconds")
    return seconds


def names(text: str) -> list[str]:
    """Names separated by commas."""
    found = [name.strip() for name in text.split(",")]
    if not all(found):
        raise ArgumentTypeError(f"{text!r} is not a list of names with commas between them")
    return found


def pair(text: str) -> tuple[str, str]:
    """`user=user_id` as a name and what stands for it; `user` stands for itself."""
    name, _, other = (part.strip() for part in text.partition("="))
    if not name or ("=" in text and not other):
        raise ArgumentTypeError(f"{text!r} is not of the form user=user_id")
    return name, other or name


def pairs(text: str) -> dict[str, str]:
    """`user=ada,shop=7` by name."""
    found: dict[str, str] = {}
    for item in text.split(","):
        name, _, value = item.partition("=")
        if not name.strip() or not value or name.strip() in found:
            raise ArgumentTypeError(f"{text!r} is not a list such as user=ada,shop=7")
        found[name.strip()] = value
    return found


def file_of(*endings: str) -> Callable[[str], Path]:
    """An argument type: a file with one of these endings, which tell its format."""

    def read(text: str) -> Path:
        path = Path(text)
        if not path.name.lower().endswith(endings):
            raise ArgumentTypeError(f"{text!r} does not end in {', '.join(endings)}")
        return path

    return read


def add_wanted(parser: ArgumentParser, required: bool = True) -> None:
    """Add `--features`, `--group` and `--service`, of which one must be given if that is required."""
    wanted = parser.add_mutually_exclusive_group(required=required)
    wanted.add_argument("--features", type=names, metavar="A,B", help="the features to read")
    wanted.add_argument("--group", help="the group of features to read")
    wanted.add_argument("--service", help="the service whose features to read")


def columns_of(client: Client, asked: Namespace) -> dict[str, str]:
    """The columns of the features that are asked for, each with its feature."""
    if asked.service is not None:
        return {one.name: one.ref for one in client.service(asked.service).features}
    return {reference: reference for reference in references_of(client, asked.features, asked.group)}


def fields_of(client: Client, references: Iterable[str]) -> dict[str, str]:
    """The fields of a row that these features are computed from, by way of others as well: types by name."""
    fields: dict[str, str] = {}
    waiting, known = list(references), set[str]()
    while waiting:
        reference = waiting.pop()
        if reference not in known:
            known.add(reference)
            feature = client.feature(reference)
            fields |= feature.request or {}
            waiting += (feature.features or {}).values()
    return fields


def references_of(client: Client, features: list[str] | None, group: str | None) -> list[str]:
    """The references to read: the features, or those of the group; its ids where a name means another by now."""
    if group is None:
        return list(dict.fromkeys(features or []))
    found = client.group(group)
    names = [reference if "." in reference else f"{found.entity}.{reference}" for reference in found.features]
    pairs = zip(names, found.feature_ids or names, strict=True)
    return [name if name == id_ or _means(client, name) == id_ else id_ for name, id_ in pairs]


def _means(client: Client, reference: str) -> str | None:
    """The id of the feature that a reference means now, which may be another than a group has pinned."""
    from timewell.errors import NotFound

    try:
        return client.feature(reference).id
    except NotFound:
        return None
