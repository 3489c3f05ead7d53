"""Training sets: a point-in-time join of features to the rows of a request."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import trio
from quart import Response, request

from actors.amount import in_lots
from actors.errors import InvalidInput
from actors.ingest.arrow_stream import read_table
from actors.router import Router
from actors.settings import CELLS_PER_LOT, Settings
from actors.training import Filled, Wanted
from actors.turns import by_turns
from actors.types.values import width_of
from timewell.wire import TrainingSetAnswer
from web.answers.lanes import ARROW_TYPE, Column, accepted_lane, stream
from web.answers.worker import in_worker
from web.bodies.items import Array, Items
from web.bodies.requests import Query, json_bytes
from web.chapter import Chapter, Service
from web.training_request import (
    Options,
    TrainingRows,
    TrainingSet,
    options_of_query,
    rows_of_arrow,
    rows_of_json,
    wanted_columns,
)

SHORTEST_ROW_BYTES = len('{"entityId":"","timestamp":"20250101"},')
"""Bounds the rows of a body by its length: more items cannot be rows, and `{}` takes 370 bytes once decoded."""
_OF_ROWS = {
    "features": "with an Arrow body: comma-separated references",
    "group": "with an Arrow body: the features of this group",
    "lookback": "with an Arrow body: how old a value may be at its row's timestamp",
    "aggregation": "with an Arrow body: aggregate over the window before each row",
    "window": "with an Arrow body: the length of that window",
    "knownAt": "with an Arrow body: use only what had arrived by this timestamp, or by each row's own (`row`)",
}

chapter = Chapter("History")


@chapter.route(
    "POST /features/training-set",
    "The value of each feature as of the timestamp of each row, with nothing from its future.",
    takes=TrainingSet,
    takes_also=(ARROW_TYPE,),
    query=_OF_ROWS,
    gives={200: TrainingSetAnswer},
    lanes=True,
    fails=(400, 404, 406, 409, 413, 415, 503),
)
async def training_set(service: Service) -> Response:
    lane = accepted_lane()
    arrow = lane.content_type == ARROW_TYPE
    rows, options = await _asked(service.router, service.settings, lane.content_type.partition(";")[0])
    registry = await service.router.registered()
    group = {} if options.group is None else registry.select(None, options.group).by_reference
    wanted = wanted_columns(registry, group, options)
    taken = {column.name for column in rows.columns}
    for column in wanted:
        if column.name in taken:
            reason = f"{column.name!r} is a column of the rows as well; name the feature's with `as`"
            raise InvalidInput.at("features", reason)
    if arrow:  # all lots need one type per column, which only the whole column tells
        rows = await in_worker(_in_arrow, rows)
    return await stream(lane, _lots(service.router, rows, wanted, arrow))


async def _asked(router: Router, settings: Settings, answer: str) -> tuple[TrainingRows, Options]:
    if request.mimetype != ARROW_TYPE:
        Query(())
        rows, most = list[Mapping[str, Any]](), settings.max_body_bytes // SHORTEST_ROW_BYTES
        array = Array("rows", TrainingSet, list[dict[str, Any]], most)
        items = Items(await json_bytes((ARROW_TYPE,)), array, rows.extend)
        asked: TrainingSet = await by_turns(items.reading())
        options = Options(
            asked.features, asked.group, asked.lookback, asked.aggregation, asked.window, asked.known_at
        )
        return await in_worker(rows_of_json, rows, asked.known_at), options
    options = options_of_query(Query(_OF_ROWS))
    data = await request.get_data(cache=False)

    def read() -> TrainingRows:
        try:
            return rows_of_arrow(read_table(data, settings), options.known_at, answer)
        except MemoryError:
            raise
        except pa.ArrowException as error:
            raise InvalidInput(f"the table cannot be taken: {error}") from None

    async with router.judge.tables:
        return await trio.to_thread.run_sync(read), options


def _in_arrow(rows: TrainingRows) -> TrainingRows:
    return rows._replace(columns=[Column(one.name, None, one.arrow()) for one in rows.columns])


async def _lots(
    router: Router, rows: TrainingRows, wanted: Sequence[Wanted], arrow: bool
) -> AsyncGenerator[list[Column], None]:
    """The rows with their features, so many at a time that each lot has a bounded number of values."""
    count = len(rows.spine.at)
    step = max(1, CELLS_PER_LOT // (sum(1 + width_of(one.feature) for one in wanted) + len(rows.columns)))

    def fill(cut: slice) -> Awaitable[list[Filled]]:
        return router.fill(rows.spine.rows(cut), wanted)

    async for cut, filled in in_lots(max(1, count), step, fill):
        given = [column.cut(cut) for column in rows.columns]
        columns = [Column(one.name, one.value_type, one.values, one.nulls) for one in filled]
        if arrow:
            sums = [one.aggregation == "sum" and one.feature.value_type == "integer" for one in wanted]
            columns = [column.summed() if is_sum else column for column, is_sum in zip(columns, sums, strict=True)]
        yield [*given, *columns]
