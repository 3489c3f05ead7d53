"""Serving the latest values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, repeat
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec
import numpy as np
import trio
from quart import Response

from actors.derive.computing import Fields, adding_computed, part_of
from actors.derive.on_demand import Computed
from actors.errors import Fault, InvalidInput, TooLarge
from actors.ingest.entity_ids import check_entity_ids
from actors.ingest.request_fields import fields_of_rows
from actors.ingest.row_ids import ids_of_rows
from actors.registry import check_count
from actors.router import Router
from actors.settings import CELLS_PER_QUESTION, Settings
from actors.storage.protocol import Stale
from actors.table.columns import Times
from actors.table.grid import Grid, unfilled
from actors.table.selection import Selection
from actors.timestamps import NEVER, SECOND, format_timestamp, parse_timestamp
from actors.turns import by_turns
from actors.types.type import Nulls
from timewell.wire import Serve, ServedAnswer, ServedEntity, ServedRow, ServedRows, ValueMetadata
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
from web.asking import check_one_type, check_parts, references_of
from web.bodies.items import Array, Items
from web.bodies.outline import CHUNK_BYTES
from web.bodies.requests import decode_bounded, json_bytes, said
from web.chapter import Chapter, Service

chapter = Chapter("Serving")


@chapter.route(
    "POST /features/serve",
    "The latest values as of now, or as of a moment, by entity id or by row.",
    takes=Serve,
    gives={200: (ServedAnswer, ServedRows)},
    fails=(400, 404, 409, 413, 415, 503),
)
async def serve(service: Service) -> Response:
    return said(await serve_latest(service.router, service.settings, await json_bytes()))


async def serve_latest(router: Router, settings: Settings, body: bytes | bytearray) -> bytes:
    """`POST /features/serve`, from the body to the answer."""
    asked = await _decoded(body, settings)
    return await router.settled(lambda judged: _serve(router, settings, asked, judged))


async def _decoded(body: bytes | bytearray, settings: Settings) -> Serve:
    """The request. Many rows are decoded a piece at a time."""
    if len(body) <= CHUNK_BYTES or b'"rows"' not in body:
        return await decode_bounded(body, Serve)
    rows = list[dict[str, Any]]()
    array = Array("rows", Serve, list[dict[str, Any]], settings.max_entities)
    asked: Serve = await by_turns(Items(body, array, rows.extend).reading())
    return asked if asked.rows is None else msgspec.structs.replace(asked, rows=[*asked.rows, *rows])


class _Results(NamedTuple):
    """The struct of a result, and the first field of each: an entity id, or the keys of a row."""

    result: Callable[..., ServedEntity | ServedRow]
    about: Sequence[object]


class _Question(NamedTuple):
    """A request whose references are resolved. `ids`: for each role of the selection, an entity id per result.

    `fields`: of the rows, those from which features are computed. `results`: how many the answer has.
    """

    selected: Selection
    ids: Sequence[Sequence[str]]
    rows: Sequence[Mapping[str, Any]] | None
    fields: Fields
    results: int

    def part(self, cut: slice) -> _Question:
        """The question about a slice of the entities or rows."""
        rows, results = None if self.rows is None else self.rows[cut], len(range(*cut.indices(self.results)))
        return _Question(self.selected, [ids[cut] for ids in self.ids], rows, part_of(self.fields, cut), results)

    def results_of(self, cut: slice) -> _Results:
        """What the results of a slice are made of."""
        if self.rows is None:
            return _Results(ServedEntity, self.ids[0][cut])
        fields, rows = self.selected.fields, self.rows[cut]
        if not fields:  # what is computed from other fields alone is of no entity
            return _Results(ServedRow, [{} for _ in rows])
        keys = map(keyed_by(fields), *(map(itemgetter(field), rows) for field in fields))
        return _Results(ServedRow, list(keys))


async def _question(router: Router, settings: Settings, asked: Serve) -> _Question:
    """Resolve and validate a request. Raises NotFound, Conflict, InvalidInput, TooLarge."""
    entities, rows = asked.entity_ids, asked.rows
    if (entities is None) == (rows is None):
        raise InvalidInput.at("entityIds", "give either entityIds or rows")
    references = None if asked.features is None else references_of(asked.features)
    selected = router.registry.select(references, asked.group, asked.service)
    if entities is not None:
        check_one_type(selected, "entityIds", rows=True)
        check_read(entities, selected.width, 1, settings)
        await check_parts(router.registry, selected.roles[0].entity_type, entities, "entityIds")
        return _Question(selected, [entities], None, {}, len(entities))
    assert rows is not None
    check_size("rows", len(rows), selected.width, 1, settings)
    ids = await by_turns(ids_of_rows(rows, selected.roles))
    fields = await by_turns(fields_of_rows(selected, rows)) if isinstance(selected, Computed) else {}
    return _Question(selected, ids, rows, fields, len(rows))


async def _serve(router: Router, settings: Settings, asked: Serve, judged: int | None) -> bytes:
    question = await _question(router, settings, asked)
    selected, count = question.selected, question.results
    current = asked.as_of is None
    at = router.now() if asked.as_of is None else parse_timestamp(asked.as_of, "asOf")
    aged_at = min(at, router.wall()) if current else at
    if not count:
        await router.registered()
        await _question(router, settings, asked)
        return b'{"results":[]}'
    check_bytes(count * NUMBER_BYTES * sum(len(kind.members) * kind.width for kind in selected.kinds), settings)
    cells = count * len(selected.features) * (3 if asked.include_metadata else 1)
    if asked.rows is not None:
        cells += count * len(selected.fields)
    step, grids = max(1, CELLS_PER_QUESTION // selected.width), list[Grid]()

    async def look_up() -> int:
        size = cells * NAME_BYTES
        for start in range(0, count, step):  # in lots, between which other requests get a turn
            if grids:
                await trio.lowlevel.checkpoint()
            lot = question if step >= count else question.part(slice(start, start + step))
            grids.append(await _grid(router, lot, at, aged_at, current, judged, settings.max_answer_bytes))
            size += sum(map(text_bytes, grids[-1].values))
            check_bytes(size, settings)
        return size

    def rows(cut: slice) -> Iterator[ServedEntity | ServedRow]:
        how = selected, at, aged_at, asked.include_metadata
        if cut is ALL and len(grids) == 1:
            return _served(question.results_of(cut), grids[0], *how)
        parts = _across(slice(*cut.indices(count)), step)
        return chain.from_iterable(
            _served(question.results_of(_moved(part, lot * step)), grids[lot].part(part), *how)
            for lot, part in parts
        )

    async with room().of(cells):
        return await encode_rows(cells, await look_up(), count, rows)


async def _grid(
    router: Router,
    question: _Question,
    at: int,
    aged_at: int,
    current: bool,
    judged: int | None,
    most_bytes: int,
) -> Grid:
    """The values of all features that are asked for, computed ones among them. Raises Stale, TooLarge."""
    selected, stored = question.selected, question.selected.stored
    if stored.features:
        grid = await router.latest_of_rows(question.ids, stored, at, current, judged)
    elif await router.overtaken(judged):
        raise Stale("another process has changed what is registered")
    else:
        grid = unfilled([], question.results)
    if not isinstance(selected, Computed):
        return grid
    hidden = grid.nulls | (grid.times < stored.served_from(aged_at))
    return await by_turns(adding_computed(selected, grid, hidden, question.fields, at, most_bytes))


def _moved(part: slice, by: int) -> slice:
    return slice(part.start + by, part.stop + by)


def _across(cut: slice, step: int) -> Iterator[tuple[int, slice]]:
    """The lots that a slice of all rows overlaps, each with its part; a lot has `step` rows."""
    for lot in range(cut.start // step, -(-cut.stop // step)):
        first = lot * step
        yield lot, slice(max(cut.start - first, 0), min(cut.stop - first, step))


def check_read(entities: Sequence[str], features: int, windows: int, settings: Settings) -> None:
    """Raise TooLarge for a read over the limits, InvalidInput for invalid entity ids."""
    check_size("entityIds", len(entities), features, windows, settings)
    check_ids(entities)


def check_size(what: str, count: int, features: int, windows: int, settings: Settings) -> None:
    """Raise TooLarge for a read over the limits."""
    if count > settings.max_entities:
        named = "ids" if what == "entityIds" else "rows"
        raise TooLarge(f"{what}: {count} {named}, at most {settings.max_entities} are read at once")
    check_count(features)
    cells = max(1, count) * features * windows
    if cells > settings.max_cells:
        raise TooLarge(f"the answer would have {cells} values, at most {settings.max_cells} are read at once")


def check_ids(entities: Sequence[str]) -> None:
    """Raise InvalidInput for invalid entity ids."""
    refused = check_entity_ids(entities)
    if refused:
        faults = [Fault("entityIds", reason, index) for index, reason in refused]
        raise InvalidInput(f"entityIds[{refused[0][0]}]: {refused[0][1]}", faults)


def _served(
    results: _Results,
    grid: Grid,
    selected: Selection,
    at: int,
    aged_at: int,
    metadata: bool,
) -> Iterator[ServedEntity | ServedRow]:
    """One result per column of the grid, in order. `aged_at`: the moment from which ages are counted."""
    result, about = results
    keyed = keyed_by(selected.references)
    moment = format_timestamp(at)
    expired = grid.times < selected.served_from(aged_at)
    rows = map(keyed, *columns(grid, expired | grid.nulls))
    if not metadata:
        return map(result, about, rows, repeat(moment))
    described = map(keyed, *map(_metadata, grid.times, grid.nulls, expired, repeat(aged_at)))
    return map(result, about, rows, repeat(moment), described)


def _metadata(times: Times, nulls: Nulls, expired: Nulls, at: int) -> list[ValueMetadata]:
    status = np.where(expired, "expired", np.where(nulls, "null", "present"))
    return [
        ValueMetadata("missing", None, None)
        if time == NEVER
        else ValueMetadata(word, format_timestamp(time), max(0, at - time) / SECOND)
        for word, time in zip(status.tolist(), times.tolist(), strict=True)
    ]
