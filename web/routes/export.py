"""Exports: everything observed of some features, of all entities or of some."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence

import numpy as np
from quart import Response

from actors.amount import in_lots
from actors.derive.on_demand import Computed, selection_of
from actors.errors import InvalidInput
from actors.looking_back import computed_at, entity_type_of
from actors.observed import ObservedLot
from actors.registry import FeatureRegistry
from actors.router import Router
from actors.table.ids import Entities, Ids
from actors.table.selection import Selection
from actors.types.type import Array, Nulls
from actors.types.values import empty
from timewell.rows_wire import Export, ExportAnswer
from web.answers.keyed import ENTITY, TIMESTAMP, entities_by_key, key_columns, moments
from web.answers.lanes import AnswerColumn, accepted_lane, stream
from web.asking import check_parts, references_of
from web.bodies.requests import json_body, range_of
from web.chapter import Chapter, Service
from web.routes.serving import check_ids

chapter = Chapter("History")


@chapter.route(
    "POST /features/export",
    "All observations of some features, of all entities or of some, streamed in the order of ids and event times.",
    takes=Export,
    gives={200: ExportAnswer},
    lanes=True,
    fails=(400, 404, 406, 409, 413, 415, 503),
)
async def export(service: Service) -> Response:
    asked = await json_body(Export)
    registry = await service.router.registered()
    references = None if asked.features is None else references_of(asked.features)
    selected = registry.select(references, asked.group, asked.service)
    if asked.entity is not None:
        selected = _of_type(registry, selected, asked.entity)
    entity_type = entity_type_of(selected)
    keys = _keys(registry, entity_type, selected.references)
    start, end = range_of(asked.start_time, asked.end_time)
    if asked.entity_ids is not None:
        check_ids(asked.entity_ids)
        await check_parts(registry, entity_type, asked.entity_ids, "entityIds")
    entities = None if asked.entity_ids is None else list(dict.fromkeys(asked.entity_ids))
    lots = service.router.observed(selected.stored.features, start, end, entities)
    return await stream(accepted_lane(), _columns(service.router, lots, keys, selected))


def _of_type(registry: FeatureRegistry, selected: Selection, entity_type: str) -> Selection:
    """Those of the features that are of an entity type. Raises InvalidInput if there are none."""
    kept = [one for one in selected.selected if one.feature.entity == entity_type]
    if not kept:
        types = ", ".join(sorted({one.feature.entity for one in selected.selected}))
        raise InvalidInput.at("entity", f"none of the features is of {entity_type!r}; they are of {types}")
    return selection_of(kept, registry.pinned, registry.catalogue.keys)


def _keys(registry: FeatureRegistry, entity_type: str, names: Sequence[str]) -> Sequence[str]:
    """The keys of the entity type of a row. Raises InvalidInput for a feature named like one of its columns."""
    keys = registry.catalogue.keys(entity_type)
    taken = (*keys, TIMESTAMP) if len(keys) > 1 else (ENTITY, TIMESTAMP)
    for name in names:
        if name in taken:
            raise InvalidInput.at("features", f"{name!r} is a column of each row; name the feature by its id")
    return keys


async def _columns(
    router: Router, lots: AsyncIterator[ObservedLot], keys: Sequence[str], selected: Selection
) -> AsyncGenerator[list[AnswerColumn], None]:
    any_lot = False
    async for lot in lots:
        any_lot = True
        about = [*key_columns(entities_by_key(keys, lot.entities, lot.owner)), moments(lot.at)]
        async for cut, found in _found(router, lot, selected):
            values = [
                AnswerColumn(name, feature.value_type, *column)
                for (name, feature), column in zip(selected.by_reference.items(), found, strict=True)
            ]
            yield [*(column.cut(cut) for column in about), *values]
    if not any_lot:
        none = np.zeros(0, np.int64)
        nothing = [
            AnswerColumn(name, one.value_type, empty(one, 0), np.zeros(0, np.bool_))
            for name, one in selected.by_reference.items()
        ]
        yield [*key_columns(entities_by_key(keys, [], none)), moments(none), *nothing]


async def _found(
    router: Router, lot: ObservedLot, selected: Selection
) -> AsyncIterator[tuple[slice, Sequence[tuple[Array, Nulls]]]]:
    """What was observed of the stored features, and the values that the computed ones had at these moments, for
    slices of a lot."""
    count = len(lot.at)
    if not isinstance(selected, Computed):
        yield slice(0, count), lot.columns
        return
    ids = Ids(list(lot.entities))

    async def computed(cut: slice) -> list[tuple[Array, Nulls]]:
        made = await computed_at(selected, Entities(ids, lot.owner[cut]), lot.at[cut], router.fill)
        return [
            (column.values, column.nulls)
            if number < 0
            else (lot.columns[number][0][cut], lot.columns[number][1][cut])
            for number, column in zip(selected.columns, made, strict=True)
        ]

    async for part in in_lots(count, count, computed):
        yield part
