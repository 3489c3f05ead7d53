"""A file of registrations: its items by kind, and the line of each place in it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from timewell.commands.exits import Failed

KINDS = ("entities", "features", "groups", "services")


class FileFault(NamedTuple):
    """A place such as `services[1].features[0]`, and what is wrong there."""

    place: str
    message: str


class RegistrationFile:
    """What a file registers: `items` by kind, in the order of the file, and `faults` of each by itself."""

    def __init__(self, source: str, content: bytes) -> None:
        """Raises Failed if the content is neither YAML nor JSON, or has nothing to register."""
        self._source = source
        self._root = _composed(content)
        self._places: dict[str, str] = {}
        self.items: dict[str, list[Any]] = {kind: [] for kind in KINDS}
        self.faults = [] if self._root is None else [*_twice(self._root, "", set())]
        for kind, place, item in self._found(_parsed(source, content)):
            self._places[f"{kind}[{len(self.items[kind])}]"] = place
            self.items[kind].append(item)
        self._read_whole = not self.faults
        self.faults += [
            fault
            for kind, items in self.items.items()
            for at, item in enumerate(items)
            for fault in _faults(item, _struct(kind), f"{kind}[{at}]")
        ]
        if not self.faults and not any(self.items.values()):
            raise Failed(f"{source}: there is nothing to register in it")

    def sound(self) -> dict[str, dict[int, Any]]:
        """The items by kind and index that can be judged together, without fields that are wrong.

        An item that lacks a field that it needs is not among them, nor one that refers to it.
        """
        found: dict[str, dict[int, Any]] = {kind: {} for kind in KINDS}
        missing = set[object]()
        for kind, at, item in self._all():
            kept = _without_faults(item, _struct(kind))
            if kept is None:
                missing.add(item.get("name") if isinstance(item, dict) else None)
            else:
                found[kind][at] = kept
        if None in missing or not self._read_whole:
            return {kind: {} for kind in KINDS}  # whatever refers to something may mean what is not known
        while lacking := [
            (kind, at) for kind, items in found.items() for at, item in items.items() if _names_in(item) & missing
        ]:
            missing |= {found[kind].pop(at)["name"] for kind, at in lacking}
        return found

    def _all(self) -> Iterator[tuple[str, int, Any]]:
        yield from ((kind, at, item) for kind, items in self.items.items() for at, item in enumerate(items))

    def refusal(self, faults: Sequence[FileFault]) -> Failed:
        """The exception that tells all faults in the order of their lines, each with its place."""
        first, *others = [told for _, told in sorted(map(self._told, faults), key=lambda one: one[0])]
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
            self.faults += [
                FileFault(f"{name}", f"is none of {', '.join(KINDS)}") for name in given if name not in KINDS
            ]
            for kind in KINDS:
                items = [] if given.get(kind) is None else given[kind]
                if not isinstance(items, list):
                    self.faults.append(FileFault(kind, "is not a list"))
                    continue
                for at, item in enumerate(items):
                    yield kind, f"{kind}[{at}]", item
        elif given is not None:
            raise Failed(f"{self._source}: expected {', '.join(KINDS)}, found {type(given).__name__}")

    def _told(self, fault: FileFault) -> tuple[int, str]:
        """The line of a fault, and what to say of it."""
        place, message = fault
        for known, own in self._places.items():
            if place.startswith(known):
                place = own + place.removeprefix(known)
                break
        if self._root is None:
            return 0, f"{self._source}: {place}: {message}"
        line = _line(self._root, place)
        return line, f"{self._source}:{line}: {place}: {message}"


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


def _faults(item: Any, struct: Any, place: str) -> Iterator[FileFault]:
    """What is wrong with the fields of an item, one by one."""
    import msgspec

    if not isinstance(item, dict):
        yield FileFault(place, f"expected fields, found {type(item).__name__}")
        return
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    for name in [name for name in item if name not in fields]:
        yield FileFault(f"{place}.{name}", f"is not a known field; these are: {', '.join(fields)}")
    for name, field in fields.items():
        if name not in item:
            if field.required:
                yield FileFault(place, f"{name} is missing")
            continue
        try:
            msgspec.convert(item[name], field.type)
        except msgspec.ValidationError as error:
            what, _, within = str(error).partition(" - at `$")
            yield FileFault(f"{place}.{name}{within.rstrip('`')}", what)


def _without_faults(item: Any, struct: Any) -> dict[str, Any] | None:
    """The fields of an item that are right; None if one is wrong or missing that says what it is."""
    if not isinstance(item, dict):
        return None
    wrong = {fault.place[1:].partition(".")[0].partition("[")[0] for fault in _faults(item, struct, "")}
    kept = {name: value for name, value in item.items() if name not in wrong}
    return None if wrong & _DEFINING or any(_faults(kept, struct, "")) else kept


_DEFINING = {"name", "entity", "version", "valueType", "expression", "features", "keys"}


def _names_in(item: Mapping[str, Any]) -> set[object]:
    """The names of what an item refers to, and their parts: `user.spend.v1` may be the feature `spend`."""
    read = item.get("features") or ()
    listed = read.values() if isinstance(read, Mapping) else read
    texts = [one["ref"] if isinstance(one, Mapping) else one for one in listed] + [item.get("entity", "")]
    return {part for text in [*texts, item.get("expression", "")] for part in re.findall(r"\w+", str(text))}


def _twice(node: Any, place: str, known: set[int]) -> Iterator[FileFault]:
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
                yield FileFault(within, f"is given again in line {key.start_mark.line + 1}")
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
