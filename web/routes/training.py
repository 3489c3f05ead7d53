"""Training sets: a point-in-time join of features to the rows of a request."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import trio
from quart import Response, request

from actors.amount import in_lots
from actors.derive.computing import computing
from actors.derive.expressions.node import Operand
from actors.derive.on_demand import Computed
from actors.errors import InvalidInput
from actors.ingest.arrow_stream import read_table
from actors.registry import FeatureRegistry
from actors.router import Router
from actors.settings import CELLS_PER_LOT, COMPUTED_BYTES, Settings
from actors.timestamps import FOREVER
from actors.training import Filled, Wanted
from actors.turns import by_turns
from actors.types.values import width_of
from timewell.rows_wire import SpineRequest, TrainingSet
from timewell.wire import TrainingSetAnswer
from web.answers.keyed import entities_by_key
from web.answers.lanes import ARROW_TYPE, NDJSON_TYPE, AnswerColumn, Lane, accepted_lane, stream
from web.answers.worker import in_worker
from web.bodies.items import Array, Items
from web.bodies.requests import Query, body_bytes, json_bytes, range_of
from web.bodies.row_lines import reading_lines
from web.chapter import Chapter, Service
from web.training_request import Options, WantedColumns, columns_of, options_of, options_of_query
from web.training_rows import KnownAt, Naming, TrainingRows, known_of, rows_observed, rows_of_arrow, rows_of_json

SHORTEST_ROW_BYTES = len('{"entityId":"","timestamp":"20250101"},')
"""Bounds the rows of a body by its length: more items cannot be rows, and `{}` takes 370 bytes once decoded."""
_OF_ROWS = {
    "features": "with a body of Arrow or NDJSON: references, separated by commas or as the list of a JSON body",
    "group": "with a body of Arrow or NDJSON: the features of this group",
    "service": "with a body of Arrow or NDJSON: the features of this service",
    "lookback": "with a body of Arrow or NDJSON: how old a value may be at its row's timestamp",
    "aggregation": "with a body of Arrow or NDJSON: aggregate over the window before each row",
    "window": "with a body of Arrow or NDJSON: the length of that window",
    "knownAt": "with a body of Arrow or NDJSON: what had arrived by then, or by each row's timestamp (`row`)",
}

chapter = Chapter("History")


@chapter.route(
    "POST /features/training-set",
    "The value of each feature as of the timestamp of each row, with nothing from its future.",
    takes=TrainingSet,
    takes_also=(ARROW_TYPE, NDJSON_TYPE),
    query=_OF_ROWS,
    gives={200: TrainingSetAnswer},
    lanes=True,
    fails=(400, 404, 406, 409, 413, 415, 503),
)
async def training_set(service: Service) -> Response:
    lane = accepted_lane()
    given, options = await _asked(service.router, service.settings)
    asked, known = columns_of(await service.router.registered(), options), known_of(options.known_at)
    return await stream(lane, await lots_of(service.router, asked, given, known, lane))


async def lots_of(
    router: Router, asked: WantedColumns, given: Any, known: KnownAt, lane: Lane
) -> AsyncGenerator[list[AnswerColumn], None]:
    """The rows with their features, in lots, for an answer in a format. Raises InvalidInput, NotFound.

    `given`: rows that are still to be judged, as objects or an Arrow table, or a spine.
    """
    arrow, registry = lane.content_type == ARROW_TYPE, router.registry
    if type(given) is SpineRequest:
        return _filled(router, _observed(router, registry, given, known, asked), asked, arrow)
    naming = Naming(asked.selection, asked.keys(registry))
    rows = await _judged(router, given, naming, known, lane.content_type.partition(";")[0])
    check_names(rows.columns, asked)
    if arrow:  # all lots need one type per column, which only the whole column tells
        rows = await in_worker(_in_arrow, rows)
    return _filled(router, _cut(rows, asked), asked, arrow)


async def _asked(router: Router, settings: Settings) -> tuple[Any, Options]:
    """The rows, which are still to be judged, or the spine; and all else that is asked for."""
    if request.mimetype == ARROW_TYPE:
        options = options_of_query(Query(_OF_ROWS))
        data: Any = await request.get_data(cache=False)
        async with router.judge.tables:
            return await trio.to_thread.run_sync(_table, data, settings), options
    most = settings.max_body_bytes // SHORTEST_ROW_BYTES
    if request.mimetype == NDJSON_TYPE:
        options = options_of_query(Query(_OF_ROWS))
        return await by_turns(reading_lines(await body_bytes(), most)), options
    data = await json_bytes((ARROW_TYPE, NDJSON_TYPE))
    Query((), "this route, with a JSON body, which has the options itself,")
    rows = list[Mapping[str, Any]]()
    array = Array("rows", TrainingSet, list[dict[str, Any]], most)
    items = Items(data, array, rows.extend)
    asked: TrainingSet = await by_turns(items.reading())
    check_rows(asked)
    return asked.spine or rows, options_of(asked)


def check_rows(asked: TrainingSet) -> None:
    """Raise InvalidInput unless there are either rows or a spine."""
    if (asked.rows is None) == (asked.spine is None):
        raise InvalidInput.at("rows", "give either rows or a spine")


def _table(data: bytes, settings: Settings) -> pa.Table:
    with _refusing_arrow():
        return read_table(data, settings)


async def _judged(
    router: Router,
    given: Sequence[Mapping[str, Any]] | pa.Table,
    naming: Naming,
    known: KnownAt,
    answer: str,
) -> TrainingRows:
    if not isinstance(given, pa.Table):
        return await in_worker(rows_of_json, given, naming, known)

    def judge() -> TrainingRows:
        with _refusing_arrow():
            return rows_of_arrow(given, naming, known, answer)

    async with router.judge.tables:
        return await trio.to_thread.run_sync(judge)


@contextmanager
def _refusing_arrow() -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise
    except pa.ArrowException as error:
        raise InvalidInput(f"the table cannot be taken: {error}") from None


def _in_arrow(rows: TrainingRows) -> TrainingRows:
    return rows._replace(columns=[AnswerColumn(one.name, None, one.arrow()) for one in rows.columns])


def check_names(columns: Sequence[AnswerColumn], asked: WantedColumns) -> None:
    """Raise InvalidInput if a feature's column is named like one of the rows."""
    taken = {column.name for column in columns}
    for name in asked.selection.references:
        if name in taken:
            reason = f"{name!r} is a column of the rows as well; name the feature's with `as`"
            raise InvalidInput.at("features", reason)


# The rows, so many at a time that each lot has a bounded number of values


async def _cut(rows: TrainingRows, asked: WantedColumns) -> AsyncGenerator[TrainingRows, None]:
    step, count = _step(asked, len(rows.columns)), len(rows.spine.at)
    for start in range(0, max(1, count), step):
        yield rows.part(slice(start, start + step))


async def _observed(
    router: Router, registry: FeatureRegistry, given: SpineRequest, known: KnownAt, asked: WantedColumns
) -> AsyncGenerator[TrainingRows, None]:
    """The rows of a spine."""
    feature = registry.stored(given.feature)
    keys = registry.catalogue.keys(feature.entity)
    for field, name in (
        (field, role.selection.references[0]) for role in asked.selection.roles for field in role.fields
    ):
        if field not in keys:
            reason = f"its rows have {' and '.join(keys)}, and no {field!r}, which {name} needs"
            raise InvalidInput.at("spine.feature", reason)
    if isinstance(asked.selection, Computed):
        for (field, _), name in asked.selection.request.items():
            raise InvalidInput.at("spine.feature", f"its rows have no {field!r}, which {name} needs")
    start, end = range_of(given.start_time, given.end_time, "spine.")
    none = np.zeros(0, np.int64)
    nothing = rows_observed(entities_by_key(keys, [], none), none, asked.selection, known)
    check_names(nothing.columns, asked)
    step, any_row = _step(asked, len(nothing.columns)), False
    async for lot in router.observed([feature], start, end, known=FOREVER if known.until is None else known.until):
        by_key = entities_by_key(keys, lot.entities, lot.owner)
        for begin in range(0, len(lot.at), step):
            cut, any_row = slice(begin, begin + step), True
            named = {key: entities[cut] for key, entities in by_key.items()}
            yield rows_observed(named, lot.at[cut], asked.selection, known)
    if not any_row:
        yield nothing


def _step(asked: WantedColumns, columns: int) -> int:
    computed = asked.selection.width - len(asked.wanted)
    return max(1, CELLS_PER_LOT // (sum(1 + width_of(one.feature) for one in asked.wanted) + computed + columns))


async def _filled(
    router: Router, lots: AsyncGenerator[TrainingRows, None], asked: WantedColumns, arrow: bool
) -> AsyncGenerator[list[AnswerColumn], None]:
    """The rows with their features."""
    async with aclosing(lots):
        async for rows in lots:
            count = len(rows.spine.at)

            async def fill(cut: slice, rows: TrainingRows = rows) -> list[AnswerColumn]:
                filled = await router.fill(rows.spine.rows(cut), asked.wanted)
                columns = [_column(one, of, arrow) for one, of in zip(filled, asked.wanted, strict=True)]
                if not isinstance(asked.selection, Computed):
                    return columns
                return await _completed(asked.selection, columns, filled, rows.part(cut))

            async for cut, columns in in_lots(max(1, count), max(1, count), fill):
                yield [*(column.cut(cut) for column in rows.columns), *columns]


def _column(filled: Filled, wanted: Wanted, arrow: bool) -> AnswerColumn:
    column = AnswerColumn(filled.name, filled.value_type, filled.values, filled.nulls)
    is_sum = wanted.aggregation == "sum" and wanted.feature.value_type == "integer"
    return column.summed() if arrow and is_sum else column


async def _completed(
    selected: Computed, columns: Sequence[AnswerColumn], filled: Sequence[Filled], rows: TrainingRows
) -> list[AnswerColumn]:
    """The columns of all features, from those of the stored ones. Raises TooMuchAtOnce."""
    read = [Operand(one.values, one.nulls) for one in filled]
    found = await by_turns(computing(selected, read, rows.fields, len(rows.spine.at), COMPUTED_BYTES))
    return [
        AnswerColumn(one.name, one.feature.value_type, column.values, column.nulls)
        if number < 0
        else columns[number]
        for one, number, column in zip(selected.selected, selected.columns, found, strict=True)
    ]
