"""Observations in JSON: collected into columns, judged, and reported with their faults."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import msgspec

from actors.errors import Fault, InvalidInput, TooLarge
from actors.ingest.entity_ids import MOST_FAULTS_NAMED
from actors.ingest.sent import SLOW_ROWS_PER_TURN, Ingested, Sent, judging
from actors.registry import FeatureRegistry
from actors.router import Router
from actors.settings import ROWS_JUDGED_TOGETHER
from actors.table.batch import Table, joining, observations
from actors.turns import Steps
from timewell.wire import Observation, Observations, Written
from web.bodies.items import Array, Items
from web.bodies.outline import CHUNK_BYTES
from web.bodies.requests import decode
from web.errors import fault_answers


class RowColumns(NamedTuple):
    """Rows as columns that grow."""

    references: list[str]
    entities: list[str]
    values: list[Any]
    timestamps: list[str | None]
    versions: list[int | None]


def to_sent(observations: Sequence[Observation]) -> Sent:
    """Observations as columns."""
    return Sent(
        [observation.feature_id for observation in observations],
        [observation.entity_id for observation in observations],
        [observation.value for observation in observations],
        [observation.timestamp for observation in observations],
        [observation.version for observation in observations],
    )


PIECES_JUDGED_TOGETHER = 32
"""Of CHUNK_BYTES each, or one long value: 10,000 rows are half as many."""


def _no_rows() -> RowColumns:
    return RowColumns([], [], [], [], [])


class Judging:
    """The rows of one request, judged in steps of some thousands."""

    def __init__(self, registry: FeatureRegistry, now: int, first: int = 0) -> None:
        """`first`: the index of the first row."""
        self._registry = registry
        self._now = now
        self._waiting = _no_rows()
        self._indices: list[int] = []
        self._pieces = 0
        self._batches: list[list[Table]] = []
        self._faults: list[Fault] = []
        self._more = 0
        self.count = first
        """The index of the next row."""

    def take(self, observations: Sequence[Observation], places: Sequence[int] | None = None) -> None:
        """Take the next rows. `places`: their offsets from the next index, if rows in between are left out."""
        columns: tuple[list[Any], ...] = self._waiting
        for column, more in zip(columns, to_sent(observations), strict=True):
            column.extend(more)
        places = range(len(observations)) if places is None else places
        self._indices.extend(place + self.count for place in places)
        self.count += places[-1] + 1 if places else 0

    def reading(self, items: Sequence[msgspec.Raw | bytes | None], about: str = "value") -> Steps[None]:
        """Decode the next rows one by one, as some are at fault; None stands for a blank line, which counts.

        `about`: the field to blame for an item that is not JSON.
        """
        for place, item in enumerate(items, 1):
            try:
                if item is None:
                    self.count += 1
                else:
                    self.take([decode(item, Observation)])
            except InvalidInput as error:
                message = error.faults[0] if error.faults else Fault(about, error.detail)
                self._found([Fault(message.field, message.message, self.count)])
                self.count += 1
            if place % SLOW_ROWS_PER_TURN == 0:
                yield
        yield from self.judging()

    def judging(self) -> Steps[None]:
        """Judge the waiting rows, if they are many or long; to be called after each piece of the body.

        Else values of thousands of numbers would wait as millions of objects, which garbage collection visits.
        """
        self._pieces += 1
        if len(self._indices) >= ROWS_JUDGED_TOGETHER or self._pieces >= PIECES_JUDGED_TOGETHER:
            yield from self._judged()

    def done(self) -> Steps[Ingested]:
        """Judge the rest; returns what may be written and the faults of the other rows."""
        if self._indices or not self._batches:
            yield from self._judged()
        batch = self._batches[0]
        if len(self._batches) > 1:
            batch = yield from joining(list(chain.from_iterable(self._batches)))
        self._faults.sort(key=lambda fault: fault.index or 0)
        self._cut()
        return Ingested(batch, observations(batch), self._faults, self._more)

    def _judged(self) -> Steps[None]:
        sent, indices = self._waiting, self._indices
        self._waiting, self._indices, self._pieces = _no_rows(), [], 0
        yield
        ingested = yield from judging(self._registry, Sent(*sent), self._now)
        self._batches.append(ingested.batch)
        self._more += ingested.more
        self._found([Fault(one.field, one.message, indices[one.index or 0]) for one in ingested.faults])

    def _found(self, faults: list[Fault]) -> None:
        self._faults += faults
        if len(self._faults) > 2 * MOST_FAULTS_NAMED + ROWS_JUDGED_TOGETHER:
            self._faults.sort(key=lambda fault: fault.index or 0)
            self._cut()

    def _cut(self) -> None:
        self._more += max(0, len(self._faults) - MOST_FAULTS_NAMED)
        del self._faults[MOST_FAULTS_NAMED:]


def judging_batch(registry: FeatureRegistry, data: bytes | bytearray, most: int, now: int) -> Steps[Ingested]:
    """Judge a JSON batch in steps. Raises InvalidInput if it is malformed, TooLarge for more than `most` items."""
    rows = Judging(registry, now)
    items = Items(data, Array("values", Observations, list[Observation], most), rows.take, rows.reading)
    yield from items.reading(rows.judging)
    return (yield from rows.done())


async def judge_batch(router: Router, data: bytes | bytearray, most: int) -> Ingested:
    """Judge a JSON batch: in one go if it is small and has no malformed item, else in steps."""
    if len(data) <= CHUNK_BYTES:
        try:
            observations = decode(data, Observations).values
        except InvalidInput as error:
            if not error.faults or not error.faults[0].field.startswith("values["):
                raise
        else:
            if len(observations) > most:
                raise TooLarge(f"a batch takes at most {most} values")
            return await router.judge.rows(to_sent(observations), len(data))
    return await router.judge.by_turns(partial(judging_batch, router.registry, data, most), len(data))


def refuse(faults: Sequence[Fault], rows: str | None = None, more: int = 0) -> None:
    """Raise InvalidInput if there are faults; its detail states the first one.

    `rows`: what an index counts, such as "line"; `more`: how many faults there are beyond those given.
    """
    if not faults:
        return
    first, others = faults[0], len(faults) - 1 + more
    where = first.field if rows is None else f"{rows}[{first.index}].{first.field}"
    also = f", and {others} more" if others else ""
    named = faults if rows is not None else [Fault(fault.field, fault.message) for fault in faults]
    raise InvalidInput(f"{where}: {first.message}{also}; nothing was written", named)


def written(ingested: Ingested, overwritten: int) -> bytes:
    """The answer to a batch."""
    faults = fault_answers(ingested.faults) or None
    answer = Written(faults is None, ingested.accepted, faults, overwritten or None, ingested.more or None)
    return msgspec.json.encode(answer)
