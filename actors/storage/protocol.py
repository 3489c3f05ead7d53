"""What the actors ask of a storage. Every method blocks and is called from a worker thread.

A storage holds a journal (everything accepted, in order of arrival), a history (the journal's observations,
sorted, in files), the registry and the positions that consumers have reached. `arrived` is the one clock of
all of them: int64 microseconds, strictly increasing, so that it is a sequence number as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from actors.columns import Block
from actors.domain import Feature, Group
from actors.errors import Unavailable
from actors.partition import DiskRows


class Written(NamedTuple):
    """A batch of observations, with the answer to give again should its idempotency key come back."""

    arrived: int
    blocks: Sequence[Block]
    key: str | None
    answer: bytes

    @property
    def observations(self) -> int:
        """How many there are."""
        return sum(len(block.entities) for block in self.blocks)


class Registered(NamedTuple):
    """A feature as it is from now on, and the groups that changed with it."""

    feature: Feature
    groups: Sequence[Group] = ()


class Deleted(NamedTuple):
    """A feature that is no more, and the groups that lost it."""

    feature: Feature
    groups: Sequence[Group] = ()


class Grouped(NamedTuple):
    """A group as it is from now on."""

    group: Group


class Ungrouped(NamedTuple):
    """A group that is no more."""

    name: str


Entry = Written | Registered | Deleted | Grouped | Ungrouped


class Recovered(NamedTuple):
    """What a storage knew when it was opened."""

    features: Sequence[Feature]
    groups: Sequence[Group]
    last_arrived: int
    unflushed: int


class LoadedRows(NamedTuple):
    """Rows of one feature from the history, in order of arrival within each entity and time."""

    block: Block
    arrived: NDArray[np.int64]


class HistoryPlan(NamedTuple):
    """Which part of the history a rebuild loads: all rows, or those of the newest runs.

    `base_floor`: rows with event times below it may have been left on disk.
    """

    position: int
    base_floor: int
    runs: Sequence[Any]


class Flush(NamedTuple):
    """The position that the history reaches now, and how many of the journal's observations that took."""

    position: int
    observations: int


class Trimmed(Unavailable):
    """The journal no longer has what was asked for: read the history again, which has it."""


class Storage(Protocol):
    """See the module."""

    def open(self) -> Recovered:
        """Open or create. Raises StartupError where that cannot be done."""

    def close(self) -> None:
        """Give back what was opened. Nothing is waiting to be written."""

    def commit(self, entries: Sequence[Entry]) -> None:
        """Make all entries durable, or none. Raises StorageDown where the medium refuses."""

    def answers(self, keys: Sequence[str], given_after: int) -> Mapping[str, bytes]:
        """The answers kept for those of the idempotency keys that are known."""

    def replay(self, after: int) -> Iterator[tuple[int, list[Block]]]:
        """The journal's batches that arrived later than `after`, in order.

        Raises Trimmed where some of them have been trimmed away.
        """

    def flush(self, features: Mapping[str, Feature], now: int) -> Flush:
        """Move the oldest part of the journal that the history does not have into it.

        Called again until nothing is left to move. Rows of features that `features` does not have,
        and rows past their retention age at `now`, are left behind.
        """

    def trim(self, monitored: int, now: int) -> None:
        """Delete from the journal what both the history and a monitor at `monitored` have.

        Idempotency answers are deleted when they are too old at `now`.
        """

    def forget(self, features: Mapping[str, Feature]) -> None:
        """Remove deleted features' observations from the history files."""

    def compact(self, features: Mapping[str, Feature], now: int) -> None:
        """Merge small history files, where it pays."""

    def trimmed(self) -> int:
        """The arrival up to which the journal no longer has its batches."""

    def plan(self, budget: int) -> HistoryPlan:
        """What to load into a memory of `budget` observations."""

    def load(self, plan: HistoryPlan, features: Mapping[str, Feature]) -> Iterator[LoadedRows]:
        """The planned rows of registered features."""

    def read(self, feature: Feature, entities: Sequence[str], start: int, end: int) -> DiskRows:
        """The observations of some entities with start <= event time <= end."""

    def save_monitor(self, position: int, state: bytes) -> None:
        """Keep the monitor's state, which covers everything that arrived by `position`."""

    def load_monitor(self) -> tuple[int, bytes] | None:
        """The state saved last."""
