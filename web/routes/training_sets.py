"""Training sets that are kept: asked for again, they have the same rows, whatever has arrived since."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from hashlib import sha256
from typing import Any

import msgspec
from quart import Response

from actors.derive.on_demand import Computed
from actors.domain import KeptTrainingSet
from actors.errors import Conflict, Gone, InvalidInput, TooLarge
from actors.registry import FeatureRegistry
from actors.router import Router
from actors.settings import MAX_RECORD_BYTES
from actors.table.selection import SelectedFeature, Selection
from actors.timestamps import LAST_MOMENT, SECOND, YEAR_ONE, format_timestamp, parse_timestamp
from actors.training import Wanted
from timewell.rows_wire import (
    KeepTrainingSet,
    TrainingEntry,
    TrainingSet,
    TrainingSetRecord,
    TrainingSetsAnswer,
)
from timewell.wire import TrainingSetAnswer
from web.answers.lanes import ARROW_TYPE, LANES, NDJSON_TYPE, AnswerColumn, Lane, accepted_lane, stream
from web.answers.listing import listed
from web.answers.worker import in_worker
from web.bodies.requests import Query, encode, json_body, no_content
from web.chapter import Chapter, Service
from web.routes.training import check_rows, lots_of
from web.training_request import WantedColumns, columns_of, options_of
from web.training_rows import ROW, KnownAt

chapter = Chapter("Training sets")


@chapter.route(
    "POST /training-sets",
    "Keep a training set under a name: what is asked for, with its features pinned by id, the moment at which it"
    " was known, how many rows it has and a hash of them.",
    takes=KeepTrainingSet,
    gives={201: TrainingSetRecord},
    fails=(400, 404, 409, 413, 415, 503),
)
async def keep(service: Service) -> Response:
    asked = await json_body(KeepTrainingSet)
    check_rows(asked)
    registry = await service.router.registered()
    if asked.name in registry.catalogue.training_sets:
        raise Conflict(f"there is a training set {asked.name!r}; delete it first, or choose another name")
    columns = columns_of(registry, options_of(asked))
    definition = _pinned(registry, asked, columns)
    text = msgspec.json.encode(definition).decode()
    if asked.rows is not None and len(text) > MAX_RECORD_BYTES:
        reason = (
            f"these take {len(text)} bytes, of which at most {MAX_RECORD_BYTES} are kept: have a spine make them"
        )
        raise TooLarge(f"rows: {reason}")
    known, erasures = service.router.known_by_now(), service.router.erasures
    if asked.known_at not in (None, ROW):
        known = min(known, parse_timestamp(str(asked.known_at), "knownAt"))
    read = _read(registry, definition, columns)
    content, _ = await _looked_through(service.router, definition, known)
    record = KeptTrainingSet(
        name=asked.name,
        definition=text,
        reads=tuple(sorted(read)),
        pins=tuple(read[id_] for id_ in sorted(read)),
        known=known,
        rows=content.rows,
        content=content.hash,
        description=asked.description,
        tags=asked.tags,
        owner=asked.owner,
    )
    return encode(_shown(await service.router.keep(record, erasures)), 201)


@chapter.route(
    "GET /training-sets",
    "The kept training sets, sorted by name, without the rows that some were given.",
    gives={200: TrainingSetsAnswer},
    fails=(400,),
)
async def list_all(service: Service) -> Response:
    Query(())
    kept = (await service.router.registered()).catalogue.training_sets
    return await listed({"trainingSets": (_listed(kept[name]) for name in sorted(kept))})


@chapter.route("GET /training-sets/<name>", "One kept training set.", gives={200: TrainingSetRecord}, fails=(404,))
async def get(service: Service, name: str) -> Response:
    return encode(_shown((await service.router.registered()).catalogue.training_set(name)))


@chapter.route(
    "GET /training-sets/<name>/rows",
    "The rows of a kept training set: the same as when it was made, as long as the history is kept.",
    gives={200: TrainingSetAnswer},
    lanes=True,
    fails=(404, 406, 410, 503),
)
async def rows(service: Service, name: str) -> Response:
    lane = accepted_lane()
    registry = await service.router.registered()
    kept = registry.catalogue.training_set(name)
    for id_, created in kept.pinned:
        registry.pinned(id_, created, f"training set {name!r}")
    definition = msgspec.json.decode(kept.definition, type=TrainingSet)
    content, only = await _looked_through(service.router, definition, kept.known)
    content.check(kept)
    if only is not None and lane.content_type != ARROW_TYPE:
        return await stream(lane, _once(only))
    lots = await _lots(service.router, definition, kept.known, lane)
    return await stream(lane, lots if lane.content_type == ARROW_TYPE else _checked(lots, kept))


@chapter.route("DELETE /training-sets/<name>", "Forget a kept training set.", gives={204: None}, fails=(404, 503))
async def discard(service: Service, name: str) -> Response:
    await service.router.discard(name)
    return no_content()


def _read(registry: FeatureRegistry, definition: TrainingSet, columns: WantedColumns) -> dict[str, int]:
    """The id of each feature that it reads, with its `created`."""
    features = [*columns.selection.read]
    if definition.spine is not None:
        features.append(registry.resolve(definition.spine.feature))
    return {one.id: one.created for one in features}


def _pinned(registry: FeatureRegistry, asked: KeepTrainingSet, columns: WantedColumns) -> TrainingSet:
    """What is asked for, with ids and durations in place of references, groups, services and defaults."""
    selection, entries = columns.selection, list[str | TrainingEntry]()
    numbers = selection.columns if isinstance(selection, Computed) else range(len(columns.wanted))
    for selected, number in zip(selection.selected, numbers, strict=True):
        column = None if number < 0 else columns.wanted[number]
        entries.append(_entry(selected, registry.catalogue.keys(selected.feature.entity), column))
    spine = asked.spine
    if spine is not None:
        spine = msgspec.structs.replace(spine, feature=registry.stored(spine.feature).id)
    by_row = ROW if asked.known_at == ROW else None
    lookback = _duration(_lookback_of_inputs(selection, columns.wanted))
    return TrainingSet(rows=asked.rows, spine=spine, features=entries, known_at=by_row, lookback=lookback)


def _entry(selected: SelectedFeature, keys: Sequence[str], column: Wanted | None) -> TrainingEntry:
    """A feature with its options; `column`: None if it is computed."""
    key: Any = None
    if column is not None or selected.fields != keys:
        key = dict(zip(keys, selected.fields, strict=True)) if len(keys) > 1 else selected.fields[0]
    if column is None:
        return TrainingEntry(ref=selected.feature.id, key=key, name=selected.name)
    lookback = ALL_TIME if column.aggregation is None and column.lookback is None else column.lookback
    return TrainingEntry(
        ref=selected.feature.id,
        key=key,
        name=column.name,
        aggregation=column.aggregation,
        window=_duration(column.window or None),
        lookback=_duration(lookback),
    )


def _lookback_of_inputs(selection: Selection, wanted: Sequence[Wanted]) -> int | None:
    """How far the features look back that others are computed from; None if none is.

    Raises InvalidInput if they do not all look back alike, as a definition tells it once.
    """
    if not isinstance(selection, Computed):
        return None
    inputs = {at for formula in selection.formulas for at in formula.features.values() if at >= 0}
    reaches = {wanted[at].lookback for at in inputs}
    if len(reaches) > 1:
        reason = "the features that others are computed from have different maxAges: say how far to look back"
        raise InvalidInput.at("lookback", reason)
    return ALL_TIME if None in reaches or not reaches else reaches.pop()


ALL_TIME = LAST_MOMENT - YEAR_ONE
"""The lookback that is pinned where there was none, so that a `maxAge` that comes later changes nothing."""


def _duration(micros: int | None) -> str | None:
    return None if micros is None else f"{micros // SECOND}.{micros % SECOND:06}s"


async def _lots(
    router: Router, definition: TrainingSet, known: int, lane: Lane
) -> AsyncGenerator[list[AnswerColumn], None]:
    columns = columns_of(router.registry, options_of(definition))
    given = definition.rows if definition.spine is None else definition.spine
    return await lots_of(router, columns, given, KnownAt(known, definition.known_at == ROW), lane)


# Whether they are the rows that were kept


class _Content:
    """How many rows there are, and the SHA-256 of their NDJSON."""

    def __init__(self) -> None:
        self.rows = 0
        self._digest = sha256()

    @property
    def hash(self) -> str:
        """The digest of all rows so far."""
        return self._digest.hexdigest()

    async def take(self, columns: list[AnswerColumn]) -> None:
        """Count more rows."""
        self.rows += len(columns[0].values)
        await in_worker(lambda: self._digest.update(LANES[NDJSON_TYPE].encode(columns, False)))

    def check(self, kept: KeptTrainingSet) -> None:
        """Raise Gone unless these are the rows that were kept."""
        if (self.rows, self.hash) != (kept.rows, kept.content):
            raise Gone(
                f"training set {kept.name!r} cannot be made again: of what it read, something has been erased, is"
                " past the retention.age of its feature, or was lost. What is left is a training set of its"
                " definition with its knownAt, asked for anew"
            )


async def _looked_through(
    router: Router, definition: TrainingSet, known: int
) -> tuple[_Content, list[AnswerColumn] | None]:
    """What the rows are, and the rows themselves if they are a single lot."""
    content, held = _Content(), list[list[AnswerColumn]]()
    async with aclosing(await _lots(router, definition, known, LANES[NDJSON_TYPE])) as lots:
        async for columns in lots:
            held = [] if content.rows else [columns]
            await content.take(columns)
    return content, held[0] if held else None


async def _once(columns: list[AnswerColumn]) -> AsyncGenerator[list[AnswerColumn], None]:
    yield columns


async def _checked(
    lots: AsyncGenerator[list[AnswerColumn], None], kept: KeptTrainingSet
) -> AsyncGenerator[list[AnswerColumn], None]:
    """The lots, cut off if they have changed since they were looked through."""
    content = _Content()
    async with aclosing(lots):
        async for columns in lots:
            await content.take(columns)
            yield columns
    content.check(kept)


def _listed(kept: KeptTrainingSet) -> TrainingSetRecord:
    """A kept training set without the rows that it was given, which may be many."""
    shown = _shown(kept)
    shown.definition.pop("rows", None)
    return shown


def _shown(kept: KeptTrainingSet) -> TrainingSetRecord:
    """A kept training set in the contract's form."""
    return TrainingSetRecord(
        name=kept.name,
        definition=msgspec.json.decode(kept.definition),
        known_at=format_timestamp(kept.known),
        rows=kept.rows,
        content_hash=kept.content,
        description=kept.description,
        tags=kept.tags,
        created_at=format_timestamp(kept.created),
        owner=kept.owner,
    )
