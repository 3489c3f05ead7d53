"""Changes of the registry as Redis commands."""

from __future__ import annotations

from typing import Any

import msgspec

from actors.domain import kind_of
from actors.storage.entries import (
    Catalogued,
    Deleted,
    Entry,
    Grouped,
    Registered,
    Together,
    Uncatalogued,
    Ungrouped,
)
from actors.storage.redis.functions import ROOT, VERSIONS
from actors.storage.redis.link import Command, call


def change_of(entry: Entry, judged: int) -> Command:
    """A command that changes the registry if it is of version `judged`; answered with the new version, else -1."""
    changes = _changes(entry)
    hashes = {name: number for number, name in enumerate(dict.fromkeys(changes[::3]), 1)}
    words = list(changes)
    words[::3] = [hashes[name] for name in changes[::3]]
    return call("change", [VERSIONS, *(ROOT + name.encode() for name in hashes)], judged, *words)


def _changes(entry: Entry) -> list[Any]:
    """Hash, field and record of each change; an empty record deletes."""
    encode = msgspec.msgpack.encode
    changes: list[Any]
    match entry:
        case Registered(feature, groups):
            changes = [":features", feature.id, encode(feature)]
            if feature.kept_age is not None:
                changes += [":aged", feature.entity, b"1"]
        case Deleted(feature, groups):
            changes = [":features", feature.id, b"", ":forgotten", feature.created, encode(feature)]
        case Grouped(group):
            changes, groups = [], [group]
        case Ungrouped(name):
            changes, groups = [":groups", name, b""], []
        case Catalogued(record):
            changes, groups = [":catalogue", f"{kind_of(record)} {record.key}", encode(record)], []
        case Uncatalogued(kind, key):
            changes, groups = [":catalogue", f"{kind} {key}", b""], []
        case Together(several):
            changes, groups = [word for one in several for word in _changes(one)], []
        case _:
            raise TypeError(f"no change of the registry: {entry!r}")
    for group in groups:
        changes += [":groups", group.name, encode(group)]
    return changes
