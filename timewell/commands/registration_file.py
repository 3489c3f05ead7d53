"""A file of registrations: its items by kind, and the line of each place in it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from timewell.commands.exits import Failed

KINDS = ("entities", "features", "groups", "services")
Fault = tuple[str, str]
"""A place such as `services[1].features[0]`, and what is wrong there."""


class RegistrationFile:
    """What a file registers. `items`: by kind, in the file's order, checked by themselves but not together."""

    def __init__(self, source: str, content: bytes) -> None:
        """Raises Failed that names all that is wrong, with its place."""
        self._source = source
        self._content = content
        self._places: dict[str, str] = {}
        self.items: dict[str, list[Any]] = {kind: [] for kind in KINDS}
        for kind, place, item in self._found(_parsed(source, content)):
            self._places[f"{kind}[{len(self.items[kind])}]"] = place
            self.items[kind].append(item)
        faults = [
            *_twice(_composed(content), "", set()),
            *(
                fault
                for kind, items in self.items.items()
                for at, item in enumerate(items)
                for fault in _faults(item, _struct(kind), f"{kind}[{at}]")
            ),
        ]
        if faults:
            raise self.refusal(faults)

    def refusal(self, faults: Sequence[Fault]) -> Failed:
        """The exception that tells all faults, each with its place and line."""
        root = _composed(self._content)
        first, *others = [self._told(root, fault) for fault in faults]
        failed = Failed(first)
        for told in others:
            failed.add_note(told)
        if others:
            failed.add_note(f"{self._source}: {len(faults)} errors; nothing was registered")
        return failed

    def _found(self, given: Any) -> Iterator[tuple[str, str, Any]]:
        """Each item with its kind and its place in the file."""
        if isinstance(given, list):
            for at, item in enumerate(given):
                yield _kind_of(item), f"[{at}]", item
        elif isinstance(given, dict):
            for name in given.keys() - {*KINDS}:
                raise Failed(f"{self._source}: {name!r} is none of {', '.join(KINDS)}")
            for kind in KINDS:
                items = [] if given.get(kind) is None else given[kind]
                if not isinstance(items, list):
                    raise Failed(f"{self._source}: {kind} is not a list")
                for at, item in enumerate(items):
                    yield kind, f"{kind}[{at}]", item
        else:
            raise Failed(f"{self._source}: expected {', '.join(KINDS)}, found {type(given).__name__}")

    def _told(self, root: Any, fault: Fault) -> str:
        place, message = fault
        for known, own in self._places.items():
            if place.startswith(known):
                place = own + place.removeprefix(known)
                break
        line = "" if root is None else f"{_line(root, place)}:"
        return f"{self._source}:{line} {place}: {message}"


def _kind_of(item: Any) -> str:
    """The kind of an item without a heading."""
    if not isinstance(item, dict) or "valueType" in item or "expression" in item:
        return "features"
    if "features" in item:
        return "groups" if "entity" in item else "services"
    return "entities" if "keys" in item else "features"


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


def _struct(kind: str) -> Any:
    from timewell import wire

    structs = wire.PutEntityType, wire.RegisterFeature, wire.PutGroup, wire.PutService
    return dict(zip(KINDS, structs, strict=True))[kind]


def _faults(item: Any, struct: Any, place: str) -> Iterator[Fault]:
    """What is wrong with the fields of an item, one by one."""
    import msgspec

    if not isinstance(item, dict):
        yield place, f"expected fields, found {type(item).__name__}"
        return
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    for name in [name for name in item if name not in fields]:
        yield f"{place}.{name}", f"is not a known field; these are: {', '.join(fields)}"
    for name, field in fields.items():
        if name not in item:
            if field.required:
                yield place, f"{name} is missing"
            continue
        try:
            msgspec.convert(item[name], field.type)
        except msgspec.ValidationError as error:
            what, _, within = str(error).partition(" - at `$")
            yield f"{place}.{name}{within.rstrip('`')}", what


def _twice(node: Any, place: str, known: set[int]) -> Iterator[Fault]:
    """The keys that one mapping has twice, of which only the last would count. `known`: nodes looked at before."""
    import yaml

    if id(node) in known:  # an alias
        return
    known.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for at, item in enumerate(node.value):
            yield from _twice(item, f"{place}[{at}]", known)
    elif isinstance(node, yaml.MappingNode):
        seen = set[str]()
        for key, value in node.value:
            within = f"{place}.{key.value}" if place else str(key.value)
            if str(key.value) in seen:
                yield within, f"is given again in line {key.start_mark.line + 1}"
            seen.add(str(key.value))
            yield from _twice(value, within, known)


def _composed(content: bytes) -> Any:
    """The nodes of the text, which know their lines; None if it is JSON that is no YAML."""
    import yaml

    try:
        return yaml.compose(content, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, UnicodeDecodeError):
        return None


def _line(node: Any, place: str) -> int:
    """The line of a place, or of what it is in."""
    import yaml

    line = node.start_mark.line
    for index, name in _STEP.findall(place):
        if index and isinstance(node, yaml.SequenceNode):
            node = node.value[int(index)]
            line = node.start_mark.line
        elif name and isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == name]
            if not found:
                break
            key, node = found[0]
            line = key.start_mark.line
        else:
            break
    return int(line) + 1


_STEP = re.compile(r"\[([0-9]+)\]|([^.\[\]]+)")
