"""The words that an enumerated field of a request takes, for the message when another is given."""

from __future__ import annotations

import re
from collections.abc import Hashable
from functools import cache
from typing import cast

from msgspec import inspect


def choices(kind: type[object], path: str) -> list[str]:
    """The words that a field of a struct takes; empty if it is not enumerated. `path`: such as `columns[0].as`."""
    types = [_told(cast(Hashable, kind))]
    for name in re.sub(r"\[[^\]]*\]", "", path).split("."):
        types = [inner for one in types for inner in _within(one, name)]
    return [str(value) for one in types if isinstance(one, inspect.LiteralType) for value in one.values]


@cache
def _told(kind: Hashable) -> inspect.Type:
    return inspect.type_info(kind)


def _within(outer: inspect.Type, name: str) -> list[inspect.Type]:
    """The types of the field `name`, looked up through lists and in each member of a union."""
    found = []
    for one in _flat(outer):
        if isinstance(one, inspect.StructType):
            found += [inner for field in one.fields if field.encode_name == name for inner in _flat(field.type)]
    return found


def _flat(one: inspect.Type) -> list[inspect.Type]:
    if isinstance(one, inspect.Metadata):
        return _flat(one.type)
    if isinstance(one, inspect.UnionType):
        return [inner for member in one.types for inner in _flat(member)]
    if isinstance(one, inspect.ListType):
        return _flat(one.item_type)
    return [one]
