"""`timewell write`: write one value."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from timewell.commands.exits import Misused
from timewell.commands.options import Subparsers, add_command, client_of
from timewell.commands.output import show_json, show_pairs

MORE = """\
For features of type string and timestamp, VALUE is taken as it is. For others it is JSON: 5, true, [0.5,1],
{"a":1}, null. Put two dashes before a VALUE that begins with a minus and is no plain number:
timewell write f ada -- -1e3"""


def add(commands: Subparsers) -> None:
    """Add the command and its arguments."""
    parser = add_command(commands, "write", run, "write one value", MORE)
    parser.add_argument("feature", metavar="FEATURE", help="a feature by its id, entity.name or name")
    parser.add_argument("entity_id", metavar="ENTITY_ID")
    value = parser.add_mutually_exclusive_group(required=True)
    value.add_argument("value", metavar="VALUE", nargs="?")
    value.add_argument("--null", action="store_true", help="write a null")
    parser.add_argument(
        "--timestamp", metavar="MOMENT", help="RFC 3339, such as 2025-11-07T10:00:00Z (default: now)"
    )


def run(asked: Namespace) -> None:
    """Write the value."""
    with client_of(asked) as client:
        feature = client.feature(asked.feature)
        value = None if asked.null else _value(feature.value_type, asked.value, feature.id)
        client.write(feature.id, asked.entity_id, value, asked.timestamp)
    if asked.json:
        show_json({"success": True, "featureId": feature.id, "entityId": asked.entity_id, "value": value})
    else:
        show_pairs([("feature", feature.id), ("entity", asked.entity_id), ("value", value)])


def _value(value_type: str, text: str, feature_id: str) -> Any:
    """The value that an argument means for a feature."""
    import msgspec

    if value_type in ("string", "timestamp"):
        return text
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        raise Misused(f"VALUE: {text!r} is no {value_type} for {feature_id}; give it as JSON") from None
