"""The bulk lanes of write-batch: NDJSON streams and Arrow tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import aclosing
from functools import partial as partial_of
from itertools import chain

import msgspec
import numpy as np
import pyarrow as pa
import trio
from quart import request

from actors.errors import Fault, InvalidInput
from actors.ingest.arrow_stream import read_table
from actors.ingest.arrow_tables import ingest_table
from actors.ingest.entity_ids import MOST_FAULTS_NAMED
from actors.ingest.overwriting import Overwriting, overwritten
from actors.ingest.sent import Ingested
from actors.ingest.spool import Spool
from actors.registry import FeatureRegistry
from actors.router import Router
from actors.settings import GROUP_COMMIT_VALUES, Settings
from actors.table.batch import Batch, Table, joined, observations
from actors.turns import Steps
from timewell.wire import Observation
from web.bodies.outline import CHUNK_BYTES
from web.bodies.requests import Query
from web.bodies.writing_rows import Judging, refuse, written
from web.hypercorn.streamed_body import lots_of_lines

LOT_BYTES = 1024 * 1024
LONGEST_LINE_BYTES = 8 * 1024 * 1024
MOST_COMMAS_OF_A_LINE = 200_000
"""No value has as many; a line that has more is not decoded, which would hold others up."""
LOTS_PER_COMMIT = 16
"""Bounds the bytes of one commit of a stream; GROUP_COMMIT_VALUES bounds its values."""
OF_TABLES = {
    "partial": "true: write the valid values and name the others",
    "entity": "the entity type of all features of an Arrow table: a column for each of its keys may stand in place"
    " of `entityId`, and a bare name means a feature of it",
    "nulls": "in a wide Arrow table: `skip` (default) writes nothing where a cell is null or NaN, `write` a null",
}
"""The query parameters for an Arrow table."""
_LINES = msgspec.json.Decoder(Observation)


async def write_lines(router: Router, partial: bool, key: str | None) -> bytes:
    """Write an NDJSON stream: all of it is judged and spooled first, then written, then answered."""
    size, count, first, faults, more = 0, 0, 0, list[Fault](), 0
    with Spool() as spool, Overwriting() as overwriting:

        def set_aside(batch: Batch) -> None:
            spool.put(batch)
            overwriting.add(batch)

        async with aclosing(lots_of_lines(LOT_BYTES, LONGEST_LINE_BYTES)) as lots:
            async for lot in lots:
                size += len(lot)
                await router.registered()
                ingested, following = await router.judge.by_turns(
                    partial_of(_judging, router.registry, lot, first), len(lot)
                )
                if not partial:
                    refuse(ingested.faults, "line", ingested.more)
                room = MOST_FAULTS_NAMED - len(faults)
                more += ingested.more + max(0, len(ingested.faults) - room)
                faults += ingested.faults[:room]
                first = following
                if ingested.accepted:
                    await trio.to_thread.run_sync(set_aside, ingested.batch)
                    count += ingested.accepted
        again = await trio.to_thread.run_sync(overwriting.count)
        return await _write(router, spool, written(Ingested([], count, faults, more), again), key, size)


def _judging(registry: FeatureRegistry, lot: bytes, first: int, now: int) -> Steps[tuple[Ingested, int]]:
    """Judge some lines, in steps; returns the rows and the index of the next line.

    The index of a row is that of its line, from 0; blank lines count.
    """
    rows, start = Judging(registry, now, first), 0
    while start < len(lot):
        stop = (lot.find(b"\n", start + CHUNK_BYTES) + 1) or len(lot)
        yield from _reading(rows, lot[start:stop])
        yield
        start = stop
    return (yield from rows.done()), rows.count


def _reading(rows: Judging, lot: bytes) -> Steps[None]:
    first, lines = rows.count, lot.count(b"\n") + (not lot.endswith(b"\n"))
    if len(lot) > 2 * CHUNK_BYTES and lot.count(b",") > MOST_COMMAS_OF_A_LINE:
        raise InvalidInput.at(f"line[{first + lines - 1}]", "has more elements than any value")
    try:
        observations = _LINES.decode_lines(lot)
        places = _places(lot, len(observations))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        places = None
    if places is None:
        yield from rows.reading([line if line.strip() else None for line in lot.split(b"\n")], "body")
    else:
        rows.take(observations, places)
    rows.count = first + lines


def _places(lot: bytes, count: int) -> Sequence[int] | None:
    """The line of each of `count` objects; None if an object spans lines, or lines hold several objects.

    The quick way checks that each line feed stands between `}` and `{`, which never occurs within a JSON object.
    """
    letters = np.frombuffer(lot, np.uint8)
    ends = np.flatnonzero(letters[:-1] == ord("\n"))
    if len(ends) == count - 1 and lot.startswith(b"{"):
        between = (letters[ends - 1] == ord("}")) & (letters[ends + 1] == ord("{"))
        if between.all():
            return range(count)
    lines = [(place, line) for place, text in enumerate(lot.split(b"\n")) if (line := text.strip())]
    if len(lines) == count and all(line[:1] == b"{" and line[-1:] == b"}" for _, line in lines):
        return [place for place, _ in lines]
    return None


async def _write(router: Router, spool: Spool, answer: bytes, key: str | None, size: int) -> bytes:
    """Write the spooled rows in slices; the last one carries the answer that the idempotency key keeps.

    `size`: of the body. One of at most a lot is a single slice in every process, whose commit settles the key.
    """
    waiting = _put_together(spool.take_all())
    held: list[Table] | None = await trio.to_thread.run_sync(next, waiting, None)
    async with router.repeats.alone(key if size > LOT_BYTES else None) as still:
        while held is not None:
            await still()
            following = await trio.to_thread.run_sync(next, waiting, None)
            if following is None:
                break
            await router.write(_ingested(held), b"")
            held = following
        return await router.write(_ingested(held or []), answer, key)


def _put_together(lots: Iterator[list[Table]]) -> Iterator[list[Table]]:
    """The lots of a stream joined into slices: the larger a commit, the less each value costs."""
    held: list[list[Table]] = []
    values = 0
    for lot in lots:
        more = observations(lot)
        if held and (len(held) == LOTS_PER_COMMIT or values + more > GROUP_COMMIT_VALUES):
            yield joined(list(chain.from_iterable(held)))
            held, values = [], 0
        held.append(lot)
        values += more
    if held:
        yield joined(list(chain.from_iterable(held)))


def _ingested(batch: list[Table]) -> Ingested:
    return Ingested(batch, observations(batch), [])


async def write_table(router: Router, settings: Settings, partial: bool, key: str | None) -> bytes:
    """Write an Arrow table: all of it is judged first, then written in slices, then answered."""
    query = Query(OF_TABLES)
    nulls, entity = query.choice("nulls", ("skip", "write"), "skip") == "write", query.text("entity")
    data = await request.get_data(cache=False)
    now, registry = await router.judge.stamp(), router.registry  # stamp() has brought it up to date

    def judge() -> tuple[Ingested, int, list[list[Table]]]:
        try:
            ingested = ingest_table(registry, read_table(data, settings), now, nulls, entity)
            return ingested, overwritten(ingested.batch), _slices(ingested.batch)
        except MemoryError:
            raise
        except pa.ArrowException as error:
            raise InvalidInput(f"the table cannot be taken: {error}") from None

    async with router.judge.tables:
        ingested, again, slices = await router.judge.in_thread(judge, len(data))
    if not partial:
        refuse(ingested.faults, "row", ingested.more)
    answer = written(ingested, again)
    async with router.repeats.alone(key if len(slices) > 1 else None) as still:
        for batch in slices[:-1]:
            await still()
            await router.write(_ingested(batch), b"")
        await still()
        return await router.write(_ingested(slices[-1] if slices else []), answer, key)


def _slices(batch: Batch) -> list[list[Table]]:
    """The tables, cut and regrouped so that each slice has at most GROUP_COMMIT_VALUES, or is one row."""
    slices: list[list[Table]] = []
    room = 0
    for table in batch:
        rows = max(1, GROUP_COMMIT_VALUES // len(table.columns))
        for start in range(0, table.rows, rows):
            part = table if table.rows <= rows else table.cut(start, rows)
            if part.observations > room:
                slices.append([])
                room = GROUP_COMMIT_VALUES
            slices[-1].append(part)
            room -= part.observations
    return slices
