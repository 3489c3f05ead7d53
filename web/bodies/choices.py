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
    types = []
    for struct in _flat(outer):
        if isinstance(struct, inspect.StructType):
            types += [inner for field in struct.fields if field.encode_name == name for inner in _flat(field.type)]
    return types


def _flat(kind: inspect.Type) -> list[inspect.Type]:
    if isinstance(kind, inspect.Metadata):
        return _flat(kind.type)
    if isinstance(kind, inspect.UnionType):
        return [inner for member in kind.types for inner in _flat(member)]
    if isinstance(kind, inspect.ListType):
        return _flat(kind.item_type)
    return [kind]
