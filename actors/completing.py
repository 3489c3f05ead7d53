"""Questions that memory alone cannot answer: ask, read from disk what is missing, ask again with that at hand.

Stores never wait for a disk. An answer of theirs says what is missing; it is read in a worker thread, and the
question is asked again with the rows. A checkpoint may overtake the read, other rows may leave memory meanwhile.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import trio

from actors.amount import Amount, bytes_of
from actors.domain import Feature
from actors.errors import Unavailable
from actors.settings import HISTORY_READERS, MAX_ROWS_FROM_DISK
from actors.storage import protocol
from actors.table.partition import DiskRows

_ATTEMPTS = 5
"""A question is asked again when a checkpoint overtakes its disk read; more often than this is not to be.

Where other pairs have left memory meanwhile, what was read of the first is still good, and that does not count.
"""

Answered = TypeVar("Answered")
AtHand = Mapping[str, DiskRows]
"""What was read from disk for a question, by feature id."""


class Missing(NamedTuple):
    """Entities whose rows of a feature in a closed range of event time are not in memory."""

    feature: Feature
    entities: Sequence[str]
    start: int
    end: int


class HistoryReader:
    """Reads the history files in worker threads, a few questions at once."""

    def __init__(self, history: protocol.History, most_bytes: int) -> None:
        """`most_bytes`: what may be at hand for one question."""
        self.readers = trio.CapacityLimiter(HISTORY_READERS)
        self.most_bytes = most_bytes
        self._history = history

    async def complete(
        self,
        ask: Callable[[AtHand], Awaitable[Answered]],
        missing: Callable[[Answered], Sequence[Missing]],
    ) -> Answered:
        """The first answer in which nothing is missing.

        Raises TooMuchAtOnce where too much would have to be read, Unavailable where that keeps going out of date.
        """
        at_hand: dict[str, DiskRows] = {}
        sizes: dict[str, int] = {}
        attempts = 0
        while attempts < _ATTEMPTS:
            answer = await ask(at_hand)
            lacking = missing(answer)
            if not lacking:
                return answer
            attempts += 1
            for one in lacking:
                before = at_hand.pop(one.feature.id, None)
                # With those before: whatever leaves memory while the others are read is at hand then.
                entities = list(dict.fromkeys([*one.entities, *(before.entities if before is not None else ())]))
                if before is None or len(entities) > len(before.entities):
                    attempts = 0
                whole = one._replace(entities=entities)
                at_hand[one.feature.id], sizes[one.feature.id] = await trio.to_thread.run_sync(
                    self._read, whole, limiter=self.readers, abandon_on_cancel=True
                )
                amount = Amount(f"{len(sizes)} features", MAX_ROWS_FROM_DISK, self.most_bytes)
                amount.add(sum(disk.rows.size for disk in at_hand.values()), sum(sizes.values()))
        raise Unavailable("the history kept changing while it was read")

    def _read(self, missing: Missing) -> tuple[DiskRows, int]:
        """The rows by (entity, event time), and how many bytes their values have."""
        disk = self._history.read(*missing).merged()
        return disk, bytes_of(disk.rows.values)
