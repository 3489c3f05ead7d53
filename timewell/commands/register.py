"""`timewell register`: register or update the features and groups of a file."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from timewell.commands.exits import Failed
from timewell.commands.options import Subparsers, add_command, client_of
from timewell.commands.output import show_json, show_table

if TYPE_CHECKING:
    from timewell.client import Client
    from timewell.wire import PutGroup, RegisterFeature

MORE = """\
The file is YAML or JSON, with the fields of the routes for registering:

  features:
    - {name: purchases_7d, entity: user, valueType: number, schema: {min: 0}, tags: [shop]}
    - {name: country, entity: user, valueType: string, maxAge: 90d}
  groups:
    - {name: checkout, entity: user, features: [purchases_7d, country]}

A list of both kinds without these headings is accepted too. The whole file is checked before anything is
registered. Running the command again changes nothing. What the file leaves out of a feature stays as it is."""


class Wanted(NamedTuple):
    """The features and groups of a file, each with its place there."""

    features: list[tuple[str, RegisterFeature]]
    groups: list[tuple[str, PutGroup]]


def add(commands: Subparsers) -> None:
    """Add the command and its arguments."""
    parser = add_command(commands, "register", run, "register the features and groups of a file", MORE)
    parser.add_argument("-f", "--file", required=True, metavar="FILE", help="YAML or JSON; - is stdin")


def run(asked: Namespace) -> None:
    """Register the features and groups, and print the outcome of each."""
    content = sys.stdin.buffer.read() if asked.file == "-" else Path(asked.file).read_bytes()
    source = "stdin" if asked.file == "-" else asked.file
    wanted = _wanted(source, content)
    with client_of(asked) as client:
        features = [_feature(client, f"{source}: {place}", feature) for place, feature in wanted.features]
        groups = [_group(client, f"{source}: {place}", group) for place, group in wanted.groups]
    if asked.json:
        answer = {"features": features, "groups": groups}
        show_json({kind: [{"id": name, "outcome": what} for name, what in got] for kind, got in answer.items()})
        return
    rows = [("feature", *one) for one in features] + [("group", *one) for one in groups]
    show_table(("KIND", "ID", "OUTCOME"), rows)


# The file


def _wanted(source: str, content: bytes) -> Wanted:
    """The features and groups of a file. Raises Failed, naming what is invalid."""
    from timewell.wire import PutGroup, RegisterFeature

    given = _parsed(source, content)
    if isinstance(given, list):
        is_group = [isinstance(item, dict) and "features" in item for item in given]
        labels = [f"[{place}]" for place in range(len(given))]
        items = list(zip(labels, given, is_group, strict=True))
    elif isinstance(given, dict):
        for name in given.keys() - {"features", "groups"}:
            raise Failed(f"{source}: {name!r} is neither features nor groups")
        items = [
            (f"{kind}[{place}]", item, kind == "groups")
            for kind in ("features", "groups")
            for place, item in enumerate(_listed(source, kind, given.get(kind)))
        ]
    else:
        raise Failed(f"{source}: expected features and groups, found {type(given).__name__}")
    features = [(at, _struct(source, at, item, RegisterFeature)) for at, item, group in items if not group]
    return Wanted(features, [(at, _struct(source, at, item, PutGroup)) for at, item, group in items if group])


def _listed(source: str, kind: str, given: Any) -> list[Any]:
    if not isinstance(given, list | None):
        raise Failed(f"{source}: {kind} is not a list")
    return given or []


def _parsed(source: str, content: bytes) -> Any:
    """The content as JSON, else as YAML. JSON goes first: YAML 1.1 reads some of its numbers as text."""
    import msgspec
    import yaml

    try:
        return msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    try:
        return yaml.load(content, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Failed(f"{source}: this is neither YAML nor JSON: {' '.join(str(error).split())}") from None


def _struct(source: str, label: str, given: Any, kind: Any) -> Any:
    import msgspec

    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        what, _, place = str(error).partition(" - at `$")
        raise Failed(f"{source}: {label}{place.rstrip('`')}: {what}") from None


# The service


def _feature(client: Client, place: str, wanted: RegisterFeature) -> tuple[str, str]:
    """Register a feature; returns its id and the outcome."""
    import msgspec

    from timewell.errors import InvalidInput, NotFound, TimewellError, Unavailable

    given: dict[str, Any] = msgspec.structs.asdict(wanted)
    name, entity, value_type = given.pop("name"), given.pop("entity"), given.pop("value_type")
    try:
        before = client.feature(f"{entity}.{name}.v{wanted.version}")
    except (NotFound, InvalidInput):
        before = None
    try:
        after = client.register(name, entity, value_type, **given)
    except Unavailable:
        raise
    except TimewellError as error:
        raise Failed(f"{place} ({entity}.{name}): {error.detail}") from None
    return after.id, _outcome(before, after)


def _group(client: Client, place: str, wanted: PutGroup) -> tuple[str, str]:
    """Put a group; returns its name and the outcome."""
    import msgspec

    from timewell.errors import InvalidInput, NotFound, TimewellError, Unavailable

    given: dict[str, Any] = msgspec.structs.asdict(wanted)
    try:
        before = client.group(wanted.name)
    except (NotFound, InvalidInput):
        before = None
    try:
        after = client.put_group(given.pop("name"), given.pop("entity"), given.pop("features"), **given)
    except Unavailable:
        raise
    except TimewellError as error:
        raise Failed(f"{place} ({wanted.name}): {error.detail}") from None
    return after.name, _outcome(before, after)


def _outcome(before: Any, after: Any) -> str:
    import msgspec

    if before is None:
        return "created"
    return "unchanged" if msgspec.structs.replace(before, updated_at=after.updated_at) == after else "updated"
