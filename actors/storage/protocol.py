"""The interface of a storage, in parts. Every method blocks, and is called from a worker thread.

Every storage has a log (what is committed, in order of arrival), a history (reads what was accepted), a list of
known ids, summaries, notes and a mover (for migrations). An `OwnStorage` belongs to one process: its log is a
journal that checkpoints move into a history of files, so both have more methods, and files may be damaged. A
`SharedStorage` is in a server that several processes use: it is asked for values at every read, and for what
others change in the registry.

Arrivals are int64 microseconds and strictly increasing, so an arrival is also a sequence number and a position.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from actors.domain import Feature, Group, Record
from actors.errors import TimewellError, Unavailable
from actors.stats.summary import Accepted
from actors.stats.windows import Merge, Window
from actors.storage.entries import Entry, Erased, Noted
from actors.storage.listed import KeptIds, KnownIds
from actors.table.batch import Batch, Table
from actors.table.grid import Features, Grid
from actors.table.partition import DiskRows
from actors.table.rows import Rows

Known = Callable[[], Mapping[str, Feature]]
"""Returns the registered features by id. A storage calls this after it has listed its rows: otherwise rows of a
feature that was registered meanwhile would be taken for rows of a deleted feature, and be lost."""


class SummaryKey(NamedTuple):
    """Identifies a summary: a feature, when that was created, and a window of its stream (`width`, `start`)."""

    feature: str
    created: int
    width: int
    start: int


class SavedSummaries(NamedTuple):
    """The summaries of one feature by window, which cover everything up to a position in the log."""

    position: int
    states: Mapping[Window, bytes]


class Recovered(NamedTuple):
    """The state of a storage when it was opened. `unflushed`: observations that the history files do not have."""

    features: Sequence[Feature]
    groups: Sequence[Group]
    last_arrived: int
    unflushed: int
    moment: int | None = None
    """A moment that has passed, while arrivals may be of a clock that was ahead: the last `now` given to `trim`;
    of a shared store, its server's present or the last arrival, whichever is earlier. None if unknown."""
    catalogue: Sequence[Record] = ()


class LoadedRows(NamedTuple):
    """Rows from the history, in order of arrival within each entity and event time. `arrived`: int64[n]."""

    table: Table
    arrived: NDArray[np.int64]


class Lot(NamedTuple):
    """A part of a migration: everything that arrived after the `mark` of the previous lot and up to its own.

    Rows in several parts with the same entity, event time and arrival were written together.
    """

    mark: int
    parts: Sequence[LoadedRows]


class HistoryPlan(NamedTuple):
    """Which part of the history to load into memory: all rows, or those of the newest runs.

    `base_floor`: rows with earlier event times may be on disk only. `floors`: the same for single features, whose
    batches in the journal are lost.
    """

    position: int
    base_floor: int
    runs: Sequence[Any]
    floors: Mapping[str, int] = MappingProxyType({})


class Flush(NamedTuple):
    """The result of a flush: the last arrival in the history, and how many observations left the journal."""

    position: int
    observations: int


class LatestQuestion(NamedTuple):
    """A query to a shared store: the latest value with event time <= at of each feature and entity.

    The features are of one entity type.
    """

    entity_type: str
    entities: Sequence[str]
    features: Features
    at: int
    current: bool = False
    """Whether `at` is the present of this process; what another process has acknowledged may be later."""


class LatestAnswers(NamedTuple):
    """The answers to several `LatestQuestion`, and the version of the registry at that moment."""

    registry: int
    grids: Sequence[Grid]


class Versions(NamedTuple):
    """The versions of registry and notes in a shared store (the count of changes), and the last arrival of all
    processes."""

    registry: int
    notes: int
    arrived: int


class Stale(Unavailable):
    """The registry was changed by another process since the request was validated: validate it again."""


class Trimmed(Unavailable):
    """The journal no longer has the batches asked for; they have been moved to the history, or counted."""


class Log(Protocol):
    """Commits entries in a total order."""

    def commit(self, entries: Sequence[Entry]) -> Sequence[Entry | TimewellError]:
        """Make all entries durable, or none. Raises StorageDown if the storage cannot be written.

        Returns each entry as recorded, or the error for which it alone was refused: a shared store may assign
        another arrival, and knows of changes by other processes.
        """

    def answers(self, keys: Sequence[str], given_after: int) -> Mapping[str, bytes]:
        """The answers to those of the idempotency keys that were used after `given_after`."""

    def replay(self, after: int) -> Iterator[tuple[int, Batch]]:
        """The batches that arrived later than `after`, in order; from a shared store, only those of this process.

        Raises Trimmed if some of them have been deleted.
        """

    def trimmed(self) -> int:
        """The arrival up to which batches may have been deleted."""

    def trim(self, monitored: int, now: int) -> None:
        """Delete batches that the monitor, at position `monitored`, and a separate history both have.

        Also deletes idempotency answers that are too old at `now`, and keeps `now` for the next start.
        """


class SharedLog(Log, Protocol):
    """What is committed to a shared store."""

    def last_erasure(self, entity_type: str, entity_id: str) -> bytes:
        """What identifies the last erasure of an entity, for a minute after it; else empty."""


class OwnLog(Log, Protocol):
    """The journal of a storage that belongs to one process."""

    def erased(self) -> Sequence[Erased]:
        """The erasures that may still have rows in the files, which reads hide."""


class History(Protocol):
    """Reads what was accepted."""

    def read(self, feature: Feature, entities: Sequence[str], start: int, end: int) -> DiskRows:
        """The observations of some entities with start <= event time <= end. Raises TooLarge."""

    def versions(self, feature: Feature, entities: Sequence[str], start: int, end: int) -> Rows:
        """Every version of the observations of some entities with start <= event time <= end, also corrected ones.

        Slots are positions in `entities`; rows are sorted by (slot, event time, arrival).
        """

    def observations(self, feature: Feature, start: int, end: int) -> Iterator[Accepted]:
        """Everything accepted of a feature with start <= event time <= end, corrected values included.

        Raises TooLarge beyond MAX_ROWS_FROM_DISK.
        """

    def forget(self, known: Known) -> None:
        """Remove the observations and summaries of deleted features."""


class OwnHistory(History, Protocol):
    """History files, which checkpoints move the journal into and memory is filled from."""

    def flush(self, known: Known, now: int) -> Flush:
        """Move the oldest part of the journal that the history does not have yet into it.

        Called repeatedly until nothing is left to move. Rows of features that are not registered, and rows past
        their retention age at `now`, are dropped.
        """

    def erase(self) -> Mapping[Erased, Mapping[str, int]]:
        """Remove the rows of erased entities from the files, unless the journal still has some of theirs.

        Returns the number of rows removed by feature, for the latest erasure of each entity that is now complete.
        """

    def compact(self, known: Known, now: int) -> None:
        """Merge small files if it is worth the effort."""

    def plan(self, budget: int) -> HistoryPlan:
        """Choose what to load into a memory of `budget` observations."""

    def load(self, plan: HistoryPlan, features: Mapping[str, Feature]) -> Iterator[LoadedRows]:
        """Load the planned rows of registered features."""


class Summaries(Protocol):
    """The saved statistics of each stream. Summaries are bytes here; `merge` merges several into one."""

    @property
    def position(self) -> int:
        """The position in the log up to which the saved summaries cover everything."""

    def save(self, position: int, parts: Mapping[SummaryKey, bytes], merge: Merge) -> None:
        """Merge what arrived since the last save into the saved summaries, which then reach `position`."""

    def read(self, feature: Feature, start: int, end: int) -> SavedSummaries:
        """The summaries of a feature's windows that overlap the event times [start, end]."""

    def read_whole(self, feature: Feature) -> SavedSummaries:
        """The summary of a feature's whole stream."""

    def totals(self) -> tuple[int, Mapping[SummaryKey, bytes]]:
        """The summaries of the whole streams of all features, and the position that they cover."""

    def coarsen(self, now: int, merge: Merge) -> None:
        """Merge windows that have grown old into wider ones, if that is due."""

    def all(self) -> Iterator[tuple[SummaryKey, bytes]]:
        """Every saved summary."""


ReadNotes = Callable[[str], Mapping[str, bytes]]
"""Reads the records of a kind, by key. They are written by committing Noted to the log."""


class Mover(Protocol):
    """Reads everything from a storage and writes it into another. Nobody else may use either meanwhile."""

    def held(self, after: int) -> int:
        """The approximate number of observations that arrived later than `after`."""

    def carried(self, features: Mapping[str, Feature], after: int) -> Iterator[Lot]:
        """Every version of the features' observations that arrived later than `after`, oldest arrivals first."""

    def carry(self, lot: Lot, note: Noted) -> None:
        """Write observations with the arrivals that they have, together with a note, in one transaction."""


class Damage(Protocol):
    """The known damage to files. Reading what is damaged raises Damaged."""

    def words(self) -> Sequence[str]:
        """A description of each damage."""

    def uncounted(self) -> Mapping[str, str]:
        """The features whose statistics do not cover all that was accepted, by id, and why."""


class Storage(Protocol):
    """The parts that every storage has. See the module docstring."""

    def there(self) -> bool:
        """Whether the storage exists. Called before `open`, and creates nothing. Raises StartupError."""

    def open(self) -> Recovered:
        """Open the storage, or create it. Raises StartupError."""

    def close(self) -> None:
        """Release what `open` has acquired. Nothing is waiting to be written."""

    @property
    def log(self) -> Log:
        """Commits entries."""

    @property
    def history(self) -> History:
        """Reads what was accepted."""

    @property
    def ids(self) -> KnownIds:
        """Lists the ids of entities."""

    @property
    def summaries(self) -> Summaries:
        """The saved statistics."""

    @property
    def notes(self) -> ReadNotes:
        """Reads the notes."""

    @property
    def mover(self) -> Mover:
        """Reads and writes everything, for migrations."""


class OwnStorage(Storage, Protocol):
    """A storage that belongs to one process."""

    @property
    def log(self) -> OwnLog:
        """The journal."""

    @property
    def history(self) -> OwnHistory:
        """The history files."""

    @property
    def ids(self) -> KeptIds:
        """Lists the ids of entities."""

    @property
    def damage(self) -> Damage:
        """The known damage to journal and history files."""


Quick = Callable[[Sequence[LatestQuestion]], Awaitable[LatestAnswers | None]]
"""Answers queries on the event loop; None if they have to be put to `Values.latest`, in a worker thread."""


class Values(Protocol):
    """The values in a shared store, which is asked at every read."""

    def latest(self, questions: Sequence[LatestQuestion]) -> LatestAnswers:
        """Answer several queries in one visit."""

    def quick(self) -> AbstractAsyncContextManager[Quick]:
        """A function that answers such queries on the event loop, usable within the context."""

    def ranges(self, features: Sequence[Feature], entities: Sequence[str], start: int, end: int) -> list[DiskRows]:
        """For each feature the observations of some entities with start <= event time <= end. Raises TooLarge."""


class SharedRegistry(Protocol):
    """The registry in a shared store, and the election of a leader among processes."""

    @property
    def versions_seen(self) -> int:
        """The version of the registry that this process last read or wrote."""

    def versions_now(self) -> Versions:
        """The current versions in the store, to compare with `versions_seen`."""

    def registered(self) -> Recovered:
        """Read the registry. Further changes by this process are based on this version."""

    def leads(self) -> bool:
        """Whether this is the one process that runs checks and raises alerts."""


class Claims(Protocol):
    """Claims of a process on idempotency keys, under which it alone may then write in several commits."""

    def claim(self, key: str) -> bool:
        """Claim a key, or renew the claim; returns whether this process has it. A claim ends after a minute."""

    def disclaim(self, key: str) -> None:
        """Give up the claim on a key."""


class SharedStorage(Storage, Protocol):
    """A shared store, which any number of processes use. Nothing is kept in this process."""

    @property
    def log(self) -> SharedLog:
        """The log of all processes."""

    @property
    def values(self) -> Values:
        """The values of all processes."""

    @property
    def registry(self) -> SharedRegistry:
        """The registry of all processes."""

    @property
    def claims(self) -> Claims:
        """The claims of this process on idempotency keys."""
