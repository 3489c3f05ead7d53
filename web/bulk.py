"""The bulk lanes of write-batch: a stream of lines, a table."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from weakref import WeakValueDictionary

import msgspec
import pyarrow as pa
import trio
from quart import request

from actors.columns import Block
from actors.errors import Fault, InvalidInput
from actors.ingest import MOST_FAULTS_NAMED, Ingested
from actors.ingest_arrow import ingest_table
from actors.router import Router
from actors.settings import GROUP_COMMIT_VALUES
from actors.spool import Spool
from web.errors import fault_answers
from web.requests import decode, read_table
from web.schema import Observation, Written
from web.streamed_body import lots_of_lines
from web.writing_rows import merge_faults, refuse, to_sent

LOT_BYTES = 1024 * 1024
LONGEST_LINE_BYTES = 8 * 1024 * 1024
_LINES = msgspec.json.Decoder(Observation)


class UnderWay:
    """The idempotency keys of bulk writes that go on: a repeat waits for the first."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, trio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def one(self, key: str | None) -> AsyncIterator[None]:
        """One at a time of a key."""
        if key is None:
            yield
            return
        lock = self._locks.setdefault(key, trio.Lock())
        async with lock:
            yield


async def write_lines(router: Router, partial: bool, key: str | None) -> bytes:
    """NDJSON: everything is judged and set aside first, then written, then answered."""
    count, first, faults, faulty = 0, 0, list[Fault](), False
    with Spool() as spool:
        async with aclosing(lots_of_lines(LOT_BYTES, LONGEST_LINE_BYTES)) as lots:
            async for lot in lots:
                observations, indices, unread, lines = _read(lot, first)
                ingested = router.ingest(to_sent(observations))
                found = merge_faults(unread, ingested, indices)
                if not partial:
                    refuse(found, "line")
                faulty = faulty or bool(found)
                faults += found[: MOST_FAULTS_NAMED - len(faults)]
                first += lines
                if ingested.accepted:
                    await trio.to_thread.run_sync(spool.put, ingested.blocks)
                    count += ingested.accepted
        answer = msgspec.json.encode(Written(not faulty, count, fault_answers(faults) or None))
        return await _write(router, spool, answer, key)


def _read(lot: bytes, first: int) -> tuple[list[Observation], Sequence[int], list[Fault], int]:
    """The observations of a lot of lines, their line numbers from 0, what is wrong with others, and all lines."""
    lines = [line for line in lot.split(b"\n") if line.strip()]
    try:
        observations = _LINES.decode_lines(lot)
        if len(observations) == len(lines) and all(map(_is_object, lines)):
            return observations, range(first, first + len(lines)), [], len(lines)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    observations, indices, faults = [], [], []
    for index, line in enumerate(lines, first):
        try:
            observations.append(decode(line, Observation))
            indices.append(index)
        except InvalidInput as error:
            fault = error.faults[0] if error.faults else Fault("body", error.detail)
            faults.append(Fault(fault.field, fault.message, index))
    return observations, indices, faults, len(lines)


def _is_object(line: bytes) -> bool:
    """A value may neither begin on one line and end on another, nor share its line."""
    line = line.strip()
    return line[:1] == b"{" and line[-1:] == b"}"


async def _write(router: Router, spool: Spool, answer: bytes, key: str | None) -> bytes:
    """In slices; the last one carries the answer that belongs to the idempotency key."""
    waiting = spool.take_all()
    held: list[Block] | None = await trio.to_thread.run_sync(next, waiting, None)
    while held is not None:
        following = await trio.to_thread.run_sync(next, waiting, None)
        if following is None:
            break
        await router.write(_ingested(held), b"")
        held = following
    return await router.write(_ingested(held or []), answer, key)


def _ingested(blocks: Sequence[Block]) -> Ingested:
    return Ingested(list(blocks), sum(len(block.entities) for block in blocks), [])


async def write_table(router: Router, partial: bool, key: str | None) -> bytes:
    """Arrow: everything is judged, then written in slices, then answered."""
    data = await request.get_data(cache=False)
    now = router.now()

    def judge() -> Ingested:
        try:
            return ingest_table(router.registry, read_table(data), now)
        except pa.ArrowException as error:
            raise InvalidInput(f"the table cannot be taken: {error}") from None

    ingested = await trio.to_thread.run_sync(judge)
    if not partial:
        refuse(ingested.faults, "row")
    faults = fault_answers(ingested.faults) or None
    answer = msgspec.json.encode(Written(faults is None, ingested.accepted, faults))
    slices = list(_slices(ingested.blocks))
    for blocks in slices[:-1]:
        await router.write(_ingested(blocks), b"")
    return await router.write(_ingested(slices[-1] if slices else []), answer, key)


def _slices(blocks: Sequence[Block]) -> list[list[Block]]:
    """The blocks, cut and put together so that each slice has at most GROUP_COMMIT_VALUES."""
    slices: list[list[Block]] = []
    room = 0
    for block in blocks:
        for start in range(0, len(block.entities), GROUP_COMMIT_VALUES):
            part = block if len(block.times) <= GROUP_COMMIT_VALUES else block.cut(start, GROUP_COMMIT_VALUES)
            if len(part.times) > room:
                slices.append([])
                room = GROUP_COMMIT_VALUES
            slices[-1].append(part)
            room -= len(part.times)
    return slices
