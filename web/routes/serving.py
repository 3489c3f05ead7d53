"""Serving the latest values."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import chain, repeat

import numpy as np
import trio
from quart import Response

from actors.errors import Fault, InvalidInput, TooLarge
from actors.ingest.sent import check_entity_ids
from actors.registry import check_count
from actors.router import Router
from actors.settings import CELLS_PER_QUESTION, Settings
from actors.table.columns import Times
from actors.table.grid import Grid
from actors.table.selection import Selection
from actors.timestamps import NEVER, SECOND, format_timestamp, parse_timestamp
from actors.types.type import Nulls
from timewell.wire import Serve, ServedAnswer, ServedEntity, ValueMetadata
from web.answers.results import (
    ALL,
    NAME_BYTES,
    NUMBER_BYTES,
    check_bytes,
    columns,
    encode_rows,
    keyed_by,
    text_bytes,
)
from web.answers.worker import room
from web.bodies.requests import decode_bounded, json_bytes, said
from web.chapter import Chapter, Service

chapter = Chapter("Serving")


@chapter.route(
    "POST /features/serve",
    "The latest values as of now, or as of a moment.",
    takes=Serve,
    gives={200: ServedAnswer},
    fails=(400, 404, 409, 413, 415, 503),
)
async def serve(service: Service) -> Response:
    return said(await serve_latest(service.router, service.settings, await json_bytes()))


async def serve_latest(router: Router, settings: Settings, body: bytes | bytearray) -> bytes:
    """`POST /features/serve`, from the body to the answer."""
    asked = await decode_bounded(body, Serve)
    return await router.settled(lambda judged: _serve(router, settings, asked, judged))


async def _serve(router: Router, settings: Settings, asked: Serve, judged: int | None) -> bytes:
    selected = router.registry.select(asked.features, asked.group)
    check_read(asked.entity_ids, selected.features, 1, settings)
    current = asked.as_of is None
    at = router.now() if asked.as_of is None else parse_timestamp(asked.as_of, "asOf")
    aged_at = min(at, router.wall()) if current else at
    if not asked.entity_ids:
        (await router.registered()).select(asked.features, asked.group)
        return b'{"results":[]}'
    count, features = len(asked.entity_ids), len(selected.features)
    check_bytes(count * NUMBER_BYTES * sum(len(kind.members) * kind.width for kind in selected.kinds), settings)
    cells = count * features * (3 if asked.include_metadata else 1)
    step, grids = max(1, CELLS_PER_QUESTION // features), list[Grid]()

    async def look_up() -> int:
        size = cells * NAME_BYTES
        for lot in _lots(asked.entity_ids, step):  # in lots, between which other requests get a turn
            if grids:
                await trio.lowlevel.checkpoint()
            grids.append(await router.latest(lot, selected, at, current, judged))
            size += sum(map(text_bytes, grids[-1].values))
            check_bytes(size, settings)
        return size

    def rows(cut: slice) -> Iterator[ServedEntity]:
        about = selected, at, aged_at, asked.include_metadata
        if cut is ALL and len(grids) == 1:
            return _served(asked.entity_ids, grids[0], *about)
        parts = _across(slice(*cut.indices(count)), step)
        return chain.from_iterable(
            _served(asked.entity_ids[lot * step : (lot + 1) * step][part], grids[lot].part(part), *about)
            for lot, part in parts
        )

    async with room().of(cells):
        return await encode_rows(cells, await look_up(), count, rows)


def _lots(entities: Sequence[str], step: int) -> list[Sequence[str]]:
    return [entities[start : start + step] for start in range(0, len(entities), step)]


def _across(cut: slice, step: int) -> Iterator[tuple[int, slice]]:
    """The lots that a slice of all rows overlaps, each with its part; a lot has `step` rows."""
    for lot in range(cut.start // step, -(-cut.stop // step)):
        first = lot * step
        yield lot, slice(max(cut.start - first, 0), min(cut.stop - first, step))


def check_read(entities: Sequence[str], features: Collection[object], windows: int, settings: Settings) -> None:
    """Raise TooLarge for a read over the limits, InvalidInput for invalid entity ids."""
    if len(entities) > settings.max_entities:
        raise TooLarge(f"entityIds: {len(entities)} ids, at most {settings.max_entities} are read at once")
    check_count(len(features))
    cells = max(1, len(entities)) * len(features) * windows
    if cells > settings.max_cells:
        raise TooLarge(f"the answer would have {cells} values, at most {settings.max_cells} are read at once")
    check_ids(entities)


def check_ids(entities: Sequence[str]) -> None:
    """Raise InvalidInput for invalid entity ids."""
    refused = check_entity_ids(entities)
    if refused:
        faults = [Fault("entityIds", reason, index) for index, reason in refused]
        raise InvalidInput(f"entityIds[{refused[0][0]}]: {refused[0][1]}", faults)


def _served(
    entities: Sequence[str], grid: Grid, selected: Selection, at: int, aged_at: int, metadata: bool
) -> Iterator[ServedEntity]:
    """One result per entity id, in the order asked. `aged_at`: the moment from which ages are counted."""
    keyed = keyed_by(selected.references)
    moment = format_timestamp(at)
    expired = grid.times < selected.served_from(aged_at)
    rows = map(keyed, *columns(grid, expired | grid.nulls))
    if not metadata:
        return map(ServedEntity, entities, rows, repeat(moment))
    described = map(keyed, *map(_metadata, grid.times, grid.nulls, expired, repeat(aged_at)))
    return map(ServedEntity, entities, rows, repeat(moment), described)


def _metadata(times: Times, nulls: Nulls, expired: Nulls, at: int) -> list[ValueMetadata]:
    status = np.where(expired, "expired", np.where(nulls, "null", "present"))
    return [
        ValueMetadata("missing", None, None)
        if time == NEVER
        else ValueMetadata(word, format_timestamp(time), max(0, at - time) / SECOND)
        for word, time in zip(status.tolist(), times.tolist(), strict=True)
    ]
