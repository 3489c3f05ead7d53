"""The formats of answers with many rows: JSON, NDJSON, CSV, Arrow. Rows arrive as columns, some thousand at a
time.

The answer is streamed with back pressure: the next columns are asked for once the client has taken those before.
So memory stays bounded whatever the size of the answer, a slow client slows only itself, and the work ends when
its client leaves. The first columns are made before the status is sent, so that a bad request still gets its 4xx.
"""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import starmap
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import trio
from quart import Response, request
from quart.wrappers.response import ResponseBody
from werkzeug.datastructures import MIMEAccept

from actors.settings import CELLS_PER_TURN, SLICE_BYTES
from actors.turns import slices
from actors.types.type import Array, Nulls
from actors.types.values import TYPES, render
from timewell.arrow_objects import objects
from timewell.wire import FIRST_INEXACT
from web.answers.results import in_slices, json_rows, keyed_by, text_bytes
from web.answers.worker import in_worker
from web.bodies.requests import JSON_TYPE
from web.errors import NotAcceptable

NDJSON_TYPE = "application/x-ndjson"
ARROW_TYPE = "application/vnd.apache.arrow.stream"
CSV_TYPE = "text/csv"

MOST_BYTES_AT_ONCE = 4 * SLICE_BYTES
CELLS_PER_PIECE = 100_000
"""Values that are encoded and sent at once: some megabytes, which the loop copies in a few milliseconds."""
CELLS_RENDERED_AT_ONCE = 20_000
"""Values that become Python objects by one call, which holds the interpreter for up to a millisecond."""
_LINES = msgspec.json.Encoder()


class AnswerColumn(NamedTuple):
    """A named column. `value_type`: of a feature; None if `values` is a list of JSON values or an Arrow array."""

    name: str
    value_type: str | None
    values: Any
    nulls: Nulls | None = None

    def cut(self, rows: slice) -> AnswerColumn:
        """The column of some of the rows."""
        return self._replace(values=self.values[rows], nulls=None if self.nulls is None else self.nulls[rows])

    def objects(self) -> list[Any]:
        """The values as objects that msgspec encodes to their JSON."""
        if self.value_type is not None and self.nulls is not None:
            return render(self.value_type, self.values, self.nulls)
        if isinstance(self.values, pa.Array | pa.ChunkedArray):
            return objects(self.values)
        return list(self.values)

    def summed(self) -> AnswerColumn:
        """Integer sums as float64: one may exceed 64 bits, and all lots of an answer must have one Arrow type."""
        return self._replace(value_type="number", values=np.asarray(self.values, np.float64))

    def arrow(self) -> pa.Array:
        """The values as an Arrow array."""
        if self.value_type is not None and self.nulls is not None:
            return TYPES[self.value_type].to_arrow(_bared(self.values, self.nulls), self.nulls)
        if isinstance(self.values, pa.ChunkedArray):
            return self.values.combine_chunks()
        return self.values if isinstance(self.values, pa.Array) else _to_arrow(self.values)


def _bared(values: Array, nulls: Nulls) -> Array:
    """The values with zeros beneath the nulls, where a value from the future of the row may stand."""
    if values.dtype == object or not nulls.any():
        return values
    bared = values.copy()
    bared[nulls] = 0
    return bared


def _to_arrow(values: Sequence[Any]) -> pa.Array:
    """Values of one plain type as that type, others as JSON text: a common type would change some of them."""
    kinds = {type(value) for value in values if value is not None}
    if not kinds:
        return pa.nulls(len(values))
    if kinds in ({str}, {bool}, {float}) or (kinds == {int, float} and all(map(_is_exact, values))):
        return pa.array(values, _PLAIN_KINDS.get(next(iter(kinds)), pa.float64()))
    if kinds == {int} and all(value is None or -(2**63) <= value < 2**63 for value in values):
        return pa.array(values, pa.int64())
    return pa.array([None if value is None else _LINES.encode(value).decode() for value in values], pa.string())


def _is_exact(value: Any) -> bool:
    """Whether a number is unchanged as a float64."""
    return type(value) is not int or abs(value) <= FIRST_INEXACT


_PLAIN_KINDS = {str: pa.string(), bool: pa.bool_()}


AnswerColumns = Sequence[AnswerColumn]
Encode = Callable[[AnswerColumns], bytes]


class Lane(NamedTuple):
    """A format. `encode` makes the bytes of each lot of columns; `opening` and `closing` go around them all."""

    content_type: str
    opening: Encode
    encode: Callable[[AnswerColumns, bool], bytes]
    closing: Callable[[AnswerColumns], bytes]


def _rows(columns: AnswerColumns) -> Iterator[Any]:
    keyed = keyed_by(tuple(column.name for column in columns))
    return starmap(keyed, _tuples(columns))


def _tuples(columns: AnswerColumns) -> Iterator[tuple[Any, ...]]:
    """The values of each row as objects, which are made for some rows at a time: that holds the interpreter."""
    for cut in slices(_length(columns), max(1, CELLS_RENDERED_AT_ONCE // len(columns))):
        yield from zip(*(column.cut(cut).objects() for column in columns), strict=True)


def _json(columns: AnswerColumns, first: bool) -> bytes:
    encoded = json_rows(_rows(columns))
    return encoded if first or not encoded else b"," + encoded


def _ndjson(columns: AnswerColumns, _: bool) -> bytes:
    return b"".join(map(_LINES.encode_lines, in_slices(_rows(columns))))


def _csv(columns: AnswerColumns, _: bool) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(map(_cell, row) for row in _tuples(columns))
    return text.getvalue().encode()


def _cell(value: Any) -> Any:
    if isinstance(value, bool | list | dict | msgspec.Raw):
        return _LINES.encode(value).decode()
    return value


def _csv_header(columns: AnswerColumns) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerow([column.name for column in columns])
    return text.getvalue().encode()


def _batch(columns: AnswerColumns) -> pa.RecordBatch:
    arrays = [column.arrow() for column in columns]
    return pa.RecordBatch.from_arrays(arrays, [column.name for column in columns])


def _arrow_opening(columns: AnswerColumns) -> bytes:
    return bytes(_batch(columns).schema.serialize())


def _arrow(columns: AnswerColumns, _: bool) -> bytes:
    return bytes(_batch(columns).serialize())


_ARROW_END = b"\xff\xff\xff\xff\x00\x00\x00\x00"

LANES: Mapping[str, Lane] = {
    JSON_TYPE: Lane(JSON_TYPE, lambda _: b'{"results":[', _json, lambda _: b"]}"),
    NDJSON_TYPE: Lane(NDJSON_TYPE, lambda _: b"", _ndjson, lambda _: b""),
    ARROW_TYPE: Lane(ARROW_TYPE, _arrow_opening, _arrow, lambda _: _ARROW_END),
    CSV_TYPE: Lane(f"{CSV_TYPE}; charset=utf-8", _csv_header, _csv, lambda _: b""),
}


def accepted_lane() -> Lane:
    """The format that the client asks for. Raises NotAcceptable if it accepts none of ours."""
    # Parameters of a media type, such as a charset, do not matter to the choice.
    accept = MIMEAccept([(kind.partition(";")[0].strip(), quality) for kind, quality in request.accept_mimetypes])
    chosen = JSON_TYPE if not accept else accept.best_match(list(LANES))
    if chosen is None:
        raise NotAcceptable(f"this route answers with {', '.join(LANES)}")
    return LANES[chosen]


async def stream(lane: Lane, lots: AsyncGenerator[AnswerColumns, None]) -> Response:
    """The streamed answer. All lots have the same columns; there is at least one lot, which may have no rows."""
    pieces = _pieces(lots)
    first = await anext(pieces)
    opening = await _made(lambda: lane.opening(first) + lane.encode(first, True), first)

    response = Response(_Streamed(lane, first, opening, pieces, lots), 200, content_type=lane.content_type)
    response.timeout = None
    return response


async def _pieces(lots: AsyncGenerator[AnswerColumns, None]) -> AsyncGenerator[AnswerColumns, None]:
    """The lots in pieces of a bounded number of values and, where these are long, about MOST_BYTES_AT_ONCE."""
    async for columns in lots:
        whole = slice(0, max(1, _length(columns)))
        for cut in slices(whole.stop, max(1, CELLS_PER_PIECE // len(columns))):
            piece = columns if cut == whole else _cut(columns, cut)
            count, size = _length(piece), _size(piece)
            if size <= MOST_BYTES_AT_ONCE:
                yield piece
                continue
            for part in slices(count, max(1, count * MOST_BYTES_AT_ONCE // size)):
                yield _cut(piece, part)


def _cut(columns: AnswerColumns, rows: slice) -> AnswerColumns:
    return [column.cut(rows) for column in columns]


def _size(columns: AnswerColumns) -> int:
    """The approximate bytes of the values that may be long: texts, JSON and vectors."""
    long = [column.values for column in columns if isinstance(column.values, np.ndarray)]
    return sum(text_bytes(values) for values in long if values.dtype == object or values.ndim > 1)


class _Streamed(ResponseBody):
    """The body of an answer; its generators are closed when it has been sent or the client has left."""

    def __init__(
        self,
        lane: Lane,
        first: AnswerColumns,
        opening: bytes,
        lots: AsyncGenerator[AnswerColumns, None],
        behind: AsyncGenerator[AnswerColumns, None],
    ) -> None:
        """`behind`: the generator that the lots come from, which is closed after them."""
        self._lots = lots
        self._behind = behind
        self._parts = self._encode(lane, first, opening)

    async def _encode(self, lane: Lane, first: AnswerColumns, opening: bytes) -> AsyncGenerator[bytes, None]:
        yield opening
        any_rows = _length(first) > 0
        async for columns in self._lots:
            yield await _made(partial(lane.encode, columns, not any_rows), columns)
            any_rows = any_rows or _length(columns) > 0
        yield lane.closing(first)

    async def __aenter__(self) -> _Streamed:
        return self

    async def __aexit__(self, *_: object) -> None:
        with trio.CancelScope(shield=True):
            await self._parts.aclose()
            await self._lots.aclose()
            await self._behind.aclose()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._parts


async def _made(encode: Callable[[], bytes], columns: AnswerColumns) -> bytes:
    """What `encode` makes of the columns, in a worker thread if they are many or long."""
    if _length(columns) * len(columns) <= CELLS_PER_TURN and _size(columns) <= SLICE_BYTES:
        return encode()
    return await in_worker(encode)


def _length(columns: AnswerColumns) -> int:
    return len(columns[0].values)
