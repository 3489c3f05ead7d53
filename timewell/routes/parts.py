"""Requests that go out in parts: what they ask for, and their errors as errors of the whole."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from timewell.errors import TimewellError
from timewell.plain import listed
from timewell.wire import FaultAnswer, FeatureEntry

_INDEX = re.compile(r"^(row|rows|entityIds|)\[([0-9]+)\]")
"""How the detail of an error names the item at fault."""
Entry = str | FeatureEntry | Mapping[str, Any]
"""A reference, or one with options: {"ref", "key", "as"}. `key` names the field that holds the entity id."""


def entries(features: Sequence[Entry] | None, name: str = "features") -> list[Any] | None:
    """The features that are asked for, as JSON. Raises InvalidInput for a single text."""
    found = listed(features, name)
    return None if found is None else [_options(one) for one in found]


def _options(entry: Any) -> Any:
    """An entry as JSON; anything else is left as it is, to be refused where it is sent."""
    given = msgspec.to_builtins(entry) if isinstance(entry, FeatureEntry) else entry
    if not isinstance(given, Mapping):
        return given
    return {name: value for name, value in given.items() if value is not None}


def shifted(faults: Sequence[FaultAnswer], start: int) -> list[FaultAnswer]:
    """Faults of a part, with their index in the whole."""
    return [
        fault if fault.index is None else FaultAnswer(fault.field, fault.message, fault.index + start)
        for fault in faults
    ]


def moved(error: TimewellError, start: int, told: str = "") -> TimewellError:
    """An error of a part as an error of the whole. `told`: a note for its detail."""
    error.errors = shifted(error.errors, start)
    error.detail = _INDEX.sub(lambda found: f"{found[1]}[{int(found[2]) + start}]", error.detail)
    error.args = (error.detail,)
    if told:
        error.detail = f"{error.detail} ({told})"
        error.args = (error.detail,)
    return error
