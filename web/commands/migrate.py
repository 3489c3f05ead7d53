"""`timewell migrate`: copy everything from one storage to another. No service may run over either meanwhile."""

from __future__ import annotations

import re
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from timewell.commands.exits import MEANINGS, Failed, Misused
from timewell.commands.options import Subparsers

if TYPE_CHECKING:
    from actors.storage.protocol import Storage

MORE = """\
A storage is embedded:DIRECTORY (embedded alone means ./data), postgresql://user:password@host/database or
redis://host. Entity types, features, groups, services, kept training sets, checks, alerts, every version of every
observation with its arrival, and the statistics are copied; idempotency keys are not. The target has to be empty.
Stop the services over both first.

An interrupted migration goes on where it stopped when it is started again. At the end both storages are read and
compared. The source stays as it is, except that its journal is moved into its history.
"""
TIMEOUT_SECONDS = 3_600.0


def add(commands: Subparsers) -> None:
    """Add the command and its arguments."""
    parser: ArgumentParser = commands.add_parser(
        "migrate",
        help="copy everything from one storage to another",
        description=f"Copy everything from one storage to another.\n\n{MORE}",
        epilog=MEANINGS,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("--from", dest="source", required=True, metavar="STORAGE", help="the storage to copy from")
    parser.add_argument(
        "--to", dest="target", required=True, metavar="STORAGE", help="the empty storage to copy to"
    )
    parser.add_argument("--json", action="store_true", help="answer in JSON, for machines")


def run(asked: Namespace) -> None:
    """Copy everything, and print how much there was."""
    from actors.errors import TimewellError
    from actors.migration import migrate
    from actors.storage.embedded.directory import create_privately
    from timewell.commands.output import show_json, show_pairs
    from timewell.commands.progress import progress

    if asked.source == asked.target:
        raise Misused("--from and --to name the same storage")
    create_privately()
    try:
        source, target = storage_of(asked.source), storage_of(asked.target)
        with progress("migrating") as bar:
            done = migrate(source, target, _name(asked.source), bar)
    except TimewellError as error:
        raise Failed(_without_secrets(error.detail, asked)) from None
    if asked.json:
        show_json(done._asdict())
    else:
        show_pairs(list(done._asdict().items()))


def _without_secrets(message: str, asked: Namespace) -> str:
    """The message without passwords: a library's error may repeat parts of the address."""
    for words in (asked.source, asked.target):
        kind, _, rest = words.partition(":")
        secrets = re.split(r"[:/@]", rest.rpartition("@")[0]) if kind != "embedded" else []
        secrets += re.findall(r"password=([^&\s]+)", words)
        for secret in sorted(filter(None, secrets), key=len, reverse=True):
            message = message.replace(secret, "...")
    return message


def _name(words: str) -> str:
    """The name under which an interrupted migration knows its source: no password, and the absolute directory."""
    kind, _, where = words.partition(":")
    return f"embedded:{Path(where or './data').resolve()}" if kind == "embedded" else _nameless(words)


def _nameless(words: str) -> str:
    return re.sub(r"\bpassword=[^&\s]*&?", "", words.rpartition("@")[2])


def storage_of(words: str) -> Storage:
    """The storage that an argument names. Raises Misused if it names none."""
    from actors.opening import make_storage
    from actors.settings import Settings
    from timewell.errors import shown_address

    kind, _, where = words.partition(":")
    if kind == "embedded":
        return make_storage(Settings(data_dir=where or "./data"))
    engines: dict[str, Literal["postgresql", "redis"]] = {
        "postgresql": "postgresql",
        "postgres": "postgresql",
        "redis": "redis",
        "rediss": "redis",
    }
    if kind in engines and where.startswith("//"):
        chosen = engines[kind]
        return make_storage(
            Settings(storage_type=chosen, storage_url=words, storage_timeout_seconds=TIMEOUT_SECONDS)
        )
    raise Misused(f"{shown_address(words)!r} is none of embedded:DIRECTORY, postgresql://... and redis://...")
