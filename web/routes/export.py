"""Exports: everything observed of some features, of all entities or of some."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence

import numpy as np
from quart import Response

from actors.domain import Feature
from actors.errors import InvalidInput
from actors.observed import Observed
from actors.registry import FeatureRegistry
from actors.timestamps import FOREVER, NEVER, parse_timestamp
from actors.types.values import empty
from timewell.rows_wire import Export, ExportAnswer
from web.answers.keyed import ENTITY, TIMESTAMP, entities_by_key, key_columns, moments
from web.answers.lanes import Column, accepted_lane, stream
from web.asking import check_parts, references_of
from web.bodies.requests import json_body
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
    features = registry.select(references, asked.group, asked.service).by_reference
    keys = _keys(registry, features)
    start = NEVER if asked.start_time is None else parse_timestamp(asked.start_time, "startTime")
    end = FOREVER if asked.end_time is None else parse_timestamp(asked.end_time, "endTime")
    if start > end:
        raise InvalidInput.at("startTime", "is after endTime")
    if asked.entity_ids is not None:
        check_ids(asked.entity_ids)
        await check_parts(registry, next(iter(features.values())).entity, asked.entity_ids, "entityIds")
    entities = None if asked.entity_ids is None else list(dict.fromkeys(asked.entity_ids))
    lots = service.router.observed(list(features.values()), start, end, entities)
    return await stream(accepted_lane(), _columns(lots, keys, features))


def _keys(registry: FeatureRegistry, features: Mapping[str, Feature]) -> Sequence[str]:
    """The keys of the entity type of a row. Raises InvalidInput for features that have no rows in common."""
    types = sorted({feature.entity for feature in features.values()})
    if len(types) > 1:
        reason = f"are of the entity types {', '.join(types)}: export those of one entity type at a time"
        raise InvalidInput.at("features", reason)
    keys = registry.catalogue.keys(types[0])
    taken = (*keys, TIMESTAMP) if len(keys) > 1 else (ENTITY, TIMESTAMP)
    for name in features:
        if name in taken:
            raise InvalidInput.at("features", f"{name!r} is a column of each row; name the feature by its id")
    return keys


async def _columns(
    lots: AsyncIterator[Observed], keys: Sequence[str], features: Mapping[str, Feature]
) -> AsyncGenerator[list[Column], None]:
    any_lot = False
    async for lot in lots:
        any_lot = True
        values = [
            Column(name, feature.value_type, *column)
            for (name, feature), column in zip(features.items(), lot.columns, strict=True)
        ]
        yield [*key_columns(entities_by_key(keys, lot.entities, lot.owner)), moments(lot.at), *values]
    if not any_lot:
        none = np.zeros(0, np.int64)
        nothing = [
            Column(name, one.value_type, empty(one, 0), np.zeros(0, np.bool_)) for name, one in features.items()
        ]
        yield [*key_columns(entities_by_key(keys, [], none)), moments(none), *nothing]
