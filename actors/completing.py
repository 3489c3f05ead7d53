"""Queries that memory alone cannot answer: ask, read from disk what is missing, ask again with those rows.

Stores never wait for a disk. A store's answer says what is missing; that is read in a worker thread, and the store
is asked again with the rows. This may repeat: a checkpoint can overtake the read, and other rows can leave memory
meanwhile.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

import trio

from actors.amount import Amount, bytes_of
from actors.domain import Feature
from actors.errors import TooMuchAtOnce, Unavailable
from actors.nearest import Enough, nearest
from actors.settings import HISTORY_READERS, MAX_ROWS_FROM_DISK
from actors.storage import protocol
from actors.table.partition import DiskRows

_ATTEMPTS = 5
"""How often a query is asked again because a checkpoint has overtaken its disk read.

If further (entity, feature) pairs have left memory meanwhile, the rows already read stay valid, and that does not
count.
"""

Answered = TypeVar("Answered")
AtHand = Mapping[str, DiskRows]
"""The rows read from disk for a query, by feature id."""


class Missing(NamedTuple):
    """Entities whose rows of a feature in the closed range of event time [start, end] are not in memory.

    `enough`: which rows suffice for a single entity if it has too many to read them all.
    """

    feature: Feature
    entities: Sequence[str]
    start: int
    end: int
    enough: Enough | None = None


class HistoryReader:
    """Reads the history files in worker threads, at most HISTORY_READERS at once."""

    def __init__(self, history: protocol.History, most_bytes: int) -> None:
        """`most_bytes`: how much may be read for one query."""
        self.readers = trio.CapacityLimiter(HISTORY_READERS)
        self.most_bytes = most_bytes
        self._history = history

    async def complete(
        self,
        ask: Callable[[AtHand], Awaitable[Answered]],
        missing: Callable[[Answered], Sequence[Missing]],
    ) -> Answered:
        """Repeat `ask` with the rows that `missing` finds its answer to lack, until it lacks none.

        Raises TooMuchAtOnce if too much would have to be read, Unavailable if the rows keep going out of date.
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
            for gap in lacking:
                before = at_hand.pop(gap.feature.id, None)
                # Includes the entities read before: their rows may leave memory while the others are read.
                entities = list(dict.fromkeys([*gap.entities, *(before.entities if before is not None else ())]))
                if before is None or len(entities) > len(before.entities):
                    attempts = 0
                whole = gap._replace(entities=entities)
                at_hand[gap.feature.id], sizes[gap.feature.id] = await trio.to_thread.run_sync(
                    self._read, whole, limiter=self.readers, abandon_on_cancel=True
                )
                amount = Amount(f"{len(sizes)} features", MAX_ROWS_FROM_DISK, self.most_bytes)
                amount.add(sum(disk.rows.size for disk in at_hand.values()), sum(sizes.values()))
        raise Unavailable("the history kept changing while it was read")

    def _read(self, missing: Missing) -> tuple[DiskRows, int]:
        """The rows sorted by (entity, event time), and the size of their values in bytes."""
        try:
            disk = self._history.read(*missing[:4]).merged()
        except TooMuchAtOnce:
            if missing.enough is None or len(missing.entities) > 1:
                raise
            about = missing[:2]
            disk = nearest(partial(self._history.read, *about), missing.feature, missing.enough, self.most_bytes)
        return disk, bytes_of(disk.rows.values)
