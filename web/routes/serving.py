"""Serving the latest values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from quart import Blueprint, Response

from actors.domain import Feature
from actors.errors import Fault, InvalidInput, TooLarge
from actors.ingest import check_entity_ids
from actors.router import Router, Served
from actors.settings import MAX_FEATURES_PER_READ, Settings
from actors.timestamps import NEVER, SECOND, format_timestamp, parse_timestamp
from actors.values import render_all
from web.requests import encode, encode_rows, json_body
from web.schema import Serve, ServedAnswer, ServedEntity, ValueMetadata


def blueprint(router: Router, settings: Settings) -> Blueprint:
    """The chapter "Serving"."""
    routes = Blueprint("serving", __name__)

    @routes.post("/features/serve")
    async def serve() -> Response:
        asked = await json_body(Serve)
        features = router.features_of(asked.features, asked.group)
        check_read(asked.entity_ids, features, 1, settings)
        current = asked.as_of is None
        at = router.now() if asked.as_of is None else parse_timestamp(asked.as_of, "asOf")
        if not asked.entity_ids:
            return encode(ServedAnswer([]))
        columns = await router.latest(asked.entity_ids, list(features.values()), at, current)
        served = dict(zip(features, columns, strict=True))
        cells = len(asked.entity_ids) * len(served) * (3 if asked.include_metadata else 1)
        return await encode_rows(cells, lambda: served_rows(asked.entity_ids, served, at, asked.include_metadata))

    return routes


def check_read(entities: Sequence[str], features: Mapping[str, Feature], windows: int, settings: Settings) -> None:
    """Raise TooLarge or InvalidInput for a read over the limits or of ids that cannot be."""
    if len(entities) > settings.max_entities:
        raise TooLarge(f"entityIds: {len(entities)} ids, at most {settings.max_entities} are read at once")
    if len(features) > MAX_FEATURES_PER_READ:
        raise TooLarge(f"features: {len(features)} features, at most {MAX_FEATURES_PER_READ} are read at once")
    cells = len(entities) * len(features) * windows
    if cells > settings.max_cells:
        raise TooLarge(f"the answer would have {cells} values, at most {settings.max_cells} are read at once")
    refused = check_entity_ids(entities)
    if refused:
        faults = [Fault("entityIds", reason, index) for index, reason in refused]
        raise InvalidInput(f"entityIds[{refused[0][0]}]: {refused[0][1]}", faults)


def served_rows(
    entities: Sequence[str], served: Mapping[str, Served], at: int, metadata: bool
) -> Iterator[ServedEntity]:
    """One result per entity id in the order asked."""
    moment = format_timestamp(at)
    references = list(served)
    rows = zip(*(_values(one, at) for one in served.values()), strict=True)
    described = zip(*(_metadata(one, at) for one in served.values()), strict=True) if metadata else None
    for entity, row in zip(entities, rows, strict=True):
        result = ServedEntity(entity, dict(zip(references, row, strict=True)), moment)
        if described is not None:
            result.metadata = dict(zip(references, next(described), strict=True))
        yield result


def _oldest_served(feature: Feature, at: int) -> int:
    """Values with event times before this serve as null: never written, or older than maxAge."""
    return NEVER + 1 if feature.expires_after is None else at - feature.expires_after


def _values(served: Served, at: int) -> list[Any]:
    """The values of one feature; null for what is missing, null or expired."""
    cells = served.cells
    oldest = _oldest_served(served.feature, at)
    values = render_all(served.feature.value_type, cells.values)
    nulls, times = cells.nulls.tolist(), cells.times.tolist()
    return [
        None if null or time < oldest else value for value, null, time in zip(values, nulls, times, strict=True)
    ]


def _metadata(served: Served, at: int) -> list[ValueMetadata]:
    cells = served.cells
    oldest = _oldest_served(served.feature, at)
    status = np.where(cells.times < oldest, "expired", np.where(cells.nulls, "null", "present"))
    return [
        ValueMetadata("missing", None, None)
        if time == NEVER
        else ValueMetadata(word, format_timestamp(time), (at - time) / SECOND)
        for word, time in zip(status.tolist(), cells.times.tolist(), strict=True)
    ]
