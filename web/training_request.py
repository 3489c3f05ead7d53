"""What a training set is asked for: its columns and options, in JSON or in the query string of an Arrow body."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from actors.derive.on_demand import Computed, Taking
from actors.domain import Feature
from actors.errors import InvalidInput
from actors.registry import FeatureRegistry, check_count
from actors.table.aggregates import AGGREGATIONS, allowed
from actors.table.selection import SelectedFeature, Selection
from actors.timestamps import Duration, parse_duration
from actors.training import Wanted
from timewell.rows_wire import TrainingEntry, TrainingSet
from timewell.wire import Reference
from web.answers.keyed import ENTITY, TIMESTAMP
from web.asking import service_feature
from web.bodies.requests import Query

KEYS = (ENTITY, TIMESTAMP)


class Options(NamedTuple):
    """Everything that a request asks for but its rows."""

    features: Sequence[str | TrainingEntry] | None
    group: str | None
    service: str | None
    lookback: Duration | None
    aggregation: str | None
    window: Duration | None
    known_at: str | None


def options_of(asked: TrainingSet) -> Options:
    """The options of a request in JSON."""
    named = asked.features, asked.group, asked.service
    return Options(*named, asked.lookback, asked.aggregation, asked.window, asked.known_at)


def options_of_query(query: Query) -> Options:
    """The options of a request whose body is only the rows."""
    duration = [query.text(name) for name in ("lookback", "window")]
    seconds: list[Duration | None] = [_number(text) for text in duration]
    return Options(
        _entries(query.text("features")),
        query.text("group"),
        query.text("service"),
        seconds[0],
        query.text("aggregation"),
        seconds[1],
        query.text("knownAt"),
    )


def _entries(text: str | None) -> Sequence[str | TrainingEntry] | None:
    """References separated by commas, or the JSON list that a request in JSON has."""
    if not text:
        return None
    if text.startswith("["):
        try:
            return msgspec.json.decode(text, type=list[Reference | TrainingEntry])
        except msgspec.MsgspecError as error:
            raise InvalidInput.at("features", f"is not a JSON list of features: {error}") from None
    return [reference for reference in text.split(",") if reference]


def _number(text: str | None) -> Duration | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


# What is wanted


class WantedColumns(NamedTuple):
    """What is asked for, and the columns to fill for it: one for each feature of `selection.stored`."""

    selection: Selection
    wanted: Sequence[Wanted]

    def keys(self, registry: FeatureRegistry) -> Sequence[str]:
        """The keys of the entity type, if one `entityId` says which entity all of them are read of; else none."""
        roles = self.selection.roles
        if len(roles) != 1:
            return ()
        keys = registry.catalogue.keys(roles[0].entity_type)
        return keys if roles[0].fields == keys else ()


def columns_of(registry: FeatureRegistry, options: Options) -> WantedColumns:
    """What a request asks for, in order. Raises InvalidInput, NotFound, Conflict, TooLarge."""
    given = options.features or ()
    pinned: Sequence[SelectedFeature] = ()
    if options.group is not None or options.service is not None:
        pinned = registry.select(None, options.group, options.service).selected
    check_count(len(pinned) + len(given))
    known = {one.name: one for one in pinned}
    asked = [(one, TrainingEntry(ref=one.name)) for one in pinned]
    entries = [TrainingEntry(ref=one) if isinstance(one, str) else one for one in given]
    for place, entry in enumerate(entries):
        plain = entry.name is None and entry.key is None
        found = known.get(entry.ref) if plain else None
        if found is not None and not registry.pins(found, entry.ref):
            found = None
        asked.append((found or registry.selected(service_feature(entry, f"features[{place}]")), entry))
    reading = _Reading(registry, options)
    for place, (selected, entry) in enumerate(asked):
        reading.add(selected, entry, f"features[{place - len(pinned)}]")
    return reading.columns()


class _Reading:
    """Collects what is asked for, and what is read for it."""

    def __init__(self, registry: FeatureRegistry, options: Options) -> None:
        self._options = options
        self._asked: dict[str, tuple[SelectedFeature, Wanted | None]] = {}
        self._numbers = list[int]()
        self._stored = list[tuple[SelectedFeature, Wanted]]()
        self._inputs: dict[tuple[str, tuple[str, ...]], int] = {}
        self._taking = Taking(registry.pinned, registry.catalogue.keys, self._input)

    def add(self, selected: SelectedFeature, entry: TrainingEntry, field: str) -> None:
        """Add a feature and its options. Raises InvalidInput."""
        column, name = _wanted(entry, selected, self._options, field), selected.name
        if name in KEYS:
            raise InvalidInput.at("features", f"{name!r} is a key of every row; name the column with `as`")
        if name in self._asked:
            if self._asked[name] != (selected, column):
                reason = f"two columns are named {name!r}; tell them apart with `as`"
                raise InvalidInput.at("features", reason)
            return
        self._asked[name] = selected, column
        self._numbers.append(self._taking.column(selected) if column is None else self._read(selected, column))

    def columns(self) -> WantedColumns:
        """All that was added. Raises InvalidInput if that is nothing."""
        if not self._asked:
            raise InvalidInput.at("features", "name at least one feature, or a group or service that has some")
        check_count(len(self._stored) + len(self._taking.formulas))
        selection = stored = Selection([selected for selected, _ in self._stored])
        if self._taking.formulas:
            asked = [selected for selected, _ in self._asked.values()]
            selection = Computed(asked, stored, self._taking.formulas, self._numbers)
        roles = {place: number for number, role in enumerate(stored.roles) for place in role.places}
        return WantedColumns(
            selection, [column._replace(role=roles[at]) for at, (_, column) in enumerate(self._stored)]
        )

    def _read(self, selected: SelectedFeature, column: Wanted) -> int:
        self._stored.append((selected, column))
        return len(self._stored) - 1

    def _input(self, selected: SelectedFeature) -> int:
        """The column of a stored feature that others are computed from."""
        key = selected.feature.id, selected.fields
        if key not in self._inputs:
            reach = _reach(selected.feature, self._options.lookback, "lookback")
            self._inputs[key] = self._read(selected, Wanted(selected.name, selected.feature, reach))
        return self._inputs[key]


def _reach(feature: Feature, lookback: Duration | None, field: str) -> int | None:
    """How old a value may be at the moment of its row, in microseconds; None: as old as it likes."""
    return feature.expires_after if lookback is None else parse_duration(lookback, field)


def _wanted(entry: TrainingEntry, selected: SelectedFeature, options: Options, field: str) -> Wanted | None:
    """The column of a stored feature; None for a computed one."""
    feature = selected.feature
    aggregation = entry.aggregation if entry.aggregation is not None else options.aggregation
    window = entry.window
    if window is None and entry.lookback is None:
        window = options.window
    if aggregation is not None and aggregation not in AGGREGATIONS:
        raise InvalidInput.at("aggregation", f"{aggregation!r} is not one of {', '.join(AGGREGATIONS)}")
    if feature.definition is not None:
        for name, given in (("aggregation", aggregation), ("window", window), ("lookback", entry.lookback)):
            if given is not None:
                raise InvalidInput.at(name, f"makes no sense for {entry.ref}, which is computed for each row")
        return None
    if aggregation is not None and not allowed(aggregation, feature.value_type):
        reason = f"{aggregation} makes no sense for {entry.ref}, which is of type {feature.value_type}"
        raise InvalidInput.at("aggregation", reason)
    if window is None and aggregation not in (None, "latest"):
        raise InvalidInput.at("window", f"{aggregation} of {entry.ref} needs a window to look back over")
    if window is not None:
        micros = parse_duration(window, "window" if entry.window is None else f"{field}.window")
        return Wanted(selected.name, feature, None, aggregation or "latest", micros)
    if entry.lookback is not None:
        return Wanted(selected.name, feature, parse_duration(entry.lookback, f"{field}.lookback"))
    return Wanted(selected.name, feature, _reach(feature, options.lookback, "lookback"))
