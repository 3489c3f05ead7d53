"""SharedStoreActor: answers what a StoreActor answers, for a shard whose values are in a shared store.

It keeps no values, so that a read sees what any process has written. Reads of latest values that wait together are
sent to the shared store in one visit, from the event loop if the engine supports that. For any other query the
rows of the entities concerned are fetched, and answered from by the same code that a store uses for its memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import trio

from actors.amount import bytes_of, check_answer
from actors.domain import Feature
from actors.errors import TimewellError, TooMuchAtOnce, shortage
from actors.mailbox import Envelope, Mailbox
from actors.messages import (
    About,
    Agreement,
    Between,
    CountRows,
    EntitySlots,
    Latest,
    Past,
    PastWindow,
    Scan,
    Whereabouts,
)
from actors.nearest import Enough, nearest
from actors.settings import SHARED_STORE_WORKERS, TEXTS_PER_VISIT
from actors.storage.protocol import LatestAnswers, LatestQuestion, Quick, Stale, Values
from actors.store import FeatureStore
from actors.table.grid import Grid, join
from actors.table.partition import DiskRows, Partition
from actors.timestamps import FOREVER
from actors.types.values import dtype_of

_UNBOUNDED = 2**62


class SharedStoreActor:
    """Answers queries from a shared store, with at most SHARED_STORE_WORKERS visits to it at once."""

    def __init__(self, shard: int, values: Values, most_bytes: int) -> None:
        """`most_bytes`: the limit for the texts in one answer, checked before all of them are in memory."""
        self.mailbox = Mailbox(f"store {shard}")
        self._values = values
        self._most_bytes = most_bytes
        self._quick: Quick
        self._under_way: list[Envelope[Any]] = []
        self._visitors = trio.CapacityLimiter(SHARED_STORE_WORKERS)

    async def load(self) -> None:
        """Nothing to load: all values are in the shared store."""

    async def run(self) -> None:
        """Handle messages until cancelled."""
        self._under_way = []
        async with self._values.quick() as self._quick, trio.open_nursery() as nursery:
            for _ in range(SHARED_STORE_WORKERS):
                nursery.start_soon(self._work)

    async def _work(self) -> None:
        while True:
            batch = await self.mailbox.drain()
            self._under_way += batch
            self.mailbox.take(self._under_way)
            await self._answer(batch)  # if this raises, the batch stays taken, and the supervisor answers it
            self._under_way = [one for one in self._under_way if one not in batch]
            self.mailbox.take(self._under_way)

    async def _answer(self, batch: Sequence[Envelope[Any]]) -> None:
        together = [one for one in batch if isinstance(one.message, Latest) and not _many_texts(one.message)]
        if together:
            await self._answer_newest(together)
        for envelope in batch:
            if envelope not in together:
                await self._answer_one(envelope)

    async def _answer_newest(self, envelopes: Sequence[Envelope[list[Grid]]]) -> None:
        messages = [envelope.message for envelope in envelopes if isinstance(envelope.message, Latest)]
        questions = [_question(about, message) for message in messages for about in message.asked]
        try:
            found: LatestAnswers | None = await self._quick(questions)
            if found is None:
                found = await self._visit(self._values.latest, questions)
        except Exception as error:
            refusal = _refusal(error)
            for envelope in envelopes:
                envelope.fail(refusal)
            return
        grids = iter(found.grids)
        for envelope, message in zip(envelopes, messages, strict=True):
            own = list(islice(grids, len(message.asked)))
            try:
                envelope.answer(_checked(message, own, found.registry))
            except Stale as stale:
                envelope.fail(stale)

    async def _answer_one(self, envelope: Envelope[Any]) -> None:
        message = envelope.message
        try:
            if isinstance(message, Latest):
                envelope.answer(await self._newest_in_parts(message))
            else:
                envelope.answer(await self._visit(answered, self._values, message, self._most_bytes))
        except Exception as error:
            envelope.fail(_refusal(error))

    async def _newest_in_parts(self, message: Latest) -> list[Grid]:
        """The latest values, read for some distinct entities at a time: texts are of unknown length until read.

        Raises Stale, TooLarge.
        """
        answer, size = list[Grid](), 0
        for about in message.asked:
            distinct, grids = list(dict.fromkeys(about.entities)), list[Grid]()
            step = max(1, TEXTS_PER_VISIT // max(1, _texts_each(about)))
            for start in range(0, len(distinct), step):
                question = _question(about, message)._replace(entities=distinct[start : start + step])
                found: LatestAnswers = await self._visit(self._values.latest, [question])
                grids += _checked(message, found.grids, found.registry)
                size += sum(bytes_of(values) for values in grids[-1].values if values.dtype == object)
                check_answer(size, self._most_bytes)
            places = {entity: place for place, entity in enumerate(distinct)}
            answer.append(join(grids, np.array([places[entity] for entity in about.entities])))
        return answer

    async def _visit(self, ask: Any, *about: Any) -> Any:
        # A cancelled caller abandons the thread, which the storage's timeout ends.
        return await trio.to_thread.run_sync(ask, *about, limiter=self._visitors, abandon_on_cancel=True)


def _many_texts(message: Latest) -> bool:
    """Whether a message asks for more texts than one visit reads."""
    return sum(_texts_each(about) * len(about.entities) for about in message.asked) > TEXTS_PER_VISIT


def _texts_each(about: About) -> int:
    """How many text values are asked for per entity."""
    return sum(len(kind.members) for kind in about.features.kinds if dtype_of(kind.value_type).kind == "O")


def _checked(message: Latest, grids: Sequence[Grid], registry: int) -> list[Grid]:
    """Return the grids. Raises Stale if the message was made with another version of the registry."""
    if message.judged not in (None, registry):
        raise Stale("another process has changed what is registered")
    return list(grids)


def _refusal(error: Exception) -> TimewellError:
    """The error to answer with. Re-raises an unexpected error, which then fails this actor."""
    refusal = error if isinstance(error, TimewellError) else shortage(error)
    if refusal is None:
        raise error
    return refusal


def _question(about: About, message: Latest) -> LatestQuestion:
    return LatestQuestion(*about[:3], message.at, message.current)


def answered(values: Values, message: Any, most_bytes: int) -> Any:
    """Answer a message other than `Latest`. Blocks; for a worker thread."""
    match message:
        case Past(_, entities, _, at, features, visible):
            span = min(int(np.min(one)) for one in visible), int(at.max(initial=0))
            enough = Enough(*span) if len(at) == 1 else None
            found = _ranges(values, features, entities, span, enough, most_bytes)
            message = _with(message, {one.id: disk for one, disk in zip(features, found, strict=True)})
        case PastWindow(entities, _, begin, at, feature):
            (rows,) = values.ranges([feature], entities, int(begin.min()) + 1, int(at.max()))
            message = _with(message, rows.merged())
        case Between(entities, feature, begin, end, visible_from):
            (rows,) = values.ranges([feature], entities, max(begin, visible_from), end)
            message = _with(message, rows.merged())
        case Scan(entity, feature, begin, end, limit, descending):
            enough = Enough(begin, end, limit + 1, descending)
            (rows,) = _ranges(values, [feature], [entity], (begin, end), enough, most_bytes)
            message = _with(message, rows)
        case Whereabouts(_, entities):
            return EntitySlots(None, np.arange(len(entities)))
        case CountRows():
            return 0
        case Agreement():
            return {}
        case _:
            return None
    # The partition is empty and its floor is at the end of time, so the rows just read answer everything.
    return FeatureStore(Partition(base_floor=FOREVER), _UNBOUNDED).handle(message)


def _ranges(
    values: Values,
    features: Sequence[Feature],
    entities: Sequence[str],
    span: tuple[int, int],
    enough: Enough | None,
    most_bytes: int,
) -> list[DiskRows]:
    """The observations of each feature in a range; of a single entity with too many, those that suffice."""
    try:
        return [disk.merged() for disk in values.ranges(features, entities, *span)]
    except TooMuchAtOnce:
        if enough is None or len(entities) > 1:
            raise

    def read(feature: Feature, start: int, end: int) -> DiskRows:
        return values.ranges([feature], entities, start, end)[0]

    return [nearest(partial(read, feature), feature, enough, most_bytes) for feature in features]


def _with(message: Any, disk: Any) -> Any:
    fields = {name: getattr(message, name) for name in message.__struct_fields__}
    return type(message)(**{**fields, "disk": disk})
