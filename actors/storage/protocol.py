"""What the actors ask of a storage, in parts. Every method blocks and is called from a worker thread.

Every storage has a log (what is committed, in order of arrival), a history (what was accepted, to be read),
summaries, notes and a mover. `OwnStorage` is one process's own: its log is a journal that moves into a history of
files, so there is more to ask of both, and there may be damage. `SharedStorage` is in a server that several
processes use: it is asked for values at every read, and for what others have registered.

`arrived` is the one clock of all: int64 microseconds, strictly increasing, so that it is a sequence number too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from actors.domain import Feature, Group
from actors.errors import TimewellError, Unavailable
from actors.stats.summary import Accepted
from actors.stats.windows import Merge, Window
from actors.table.batch import Batch, Table, observations
from actors.table.grid import Grid, Kind
from actors.table.partition import DiskRows
from actors.table.rows import Rows

Known = Callable[[], Mapping[str, Feature]]
"""Asks what is registered. A storage asks after it has looked for rows: what was registered and written meanwhile
would otherwise be taken for rows of a feature that is gone, and be lost."""


class Noted(NamedTuple):
    """A record (a check, a pinned reference, an alert, how far a stream is) as it is from now on; None: no more.

    `new`: a shared store answers Conflict where there is one of this key.
    """

    kind: str
    key: str
    record: bytes | None
    new: bool = False


class Written(NamedTuple):
    """A batch of observations, with the answer to give again should its idempotency key come back.

    `judged`: the version of the registry by which it was found good. A shared store with another one refuses it as
    `Stale`; where this is None, only if a feature of it is not registered any more. `repeated`: it has not been
    recorded, and the answer is that to the first write with its key, which another process took.

    `notes` become durable in the same transaction: what came in and how far that is are never apart. A Redis
    Cluster has none, so there they come last: a crash in between leaves the batch without them, never them without
    it. No process is told of them, and whether they are `new` is not looked at. In Redis a batch with notes that
    is not `judged` may be refused as `Stale`, too, where the registry is changed at that very moment.
    """

    arrived: int
    batch: Batch
    key: str | None
    answer: bytes
    judged: int | None = None
    repeated: bool = False
    notes: Sequence[Noted] = ()

    @property
    def observations(self) -> int:
        """How many there are."""
        return observations(self.batch)


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


class Removed(NamedTuple):
    """How many observations of an erased entity are gone, and of how many features."""

    observations: int
    features: int


class Erased(NamedTuple):
    """Everything that arrived of an entity by `arrived` is no more.

    `removed` is what a shared store took away within the commit; None where files are still to be written anew.
    """

    entity_type: str
    entity_id: str
    arrived: int
    removed: Removed | None = None


Entry = Written | Registered | Deleted | Grouped | Ungrouped | Noted | Erased


class SummaryKey(NamedTuple):
    """Which summary: of a feature (with its creation) and a window of its stream."""

    feature: str
    created: int
    width: int
    start: int


class SavedSummaries(NamedTuple):
    """The summaries of one feature by window, as of a position in the journal."""

    position: int
    states: Mapping[Window, bytes]


class Recovered(NamedTuple):
    """What a storage knew when it was opened."""

    features: Sequence[Feature]
    groups: Sequence[Group]
    last_arrived: int
    unflushed: int
    moment: int | None = None
    """One that has been, though arrivals may be of a clock that was ahead: the last that `trim` was told, or the
    present of a server if no arrival is earlier. None where the last arrival is all that is known.
    """


class LoadedRows(NamedTuple):
    """Rows from the history, in order of arrival within each entity and time."""

    table: Table
    arrived: NDArray[np.int64]


class Lot(NamedTuple):
    """Some of everything that a storage has: all that arrived by `mark` and after the mark of the lot before.

    Rows of one entity and event time with the same arrival, in several parts, were written together.
    """

    mark: int
    parts: Sequence[LoadedRows]


class HistoryPlan(NamedTuple):
    """Which part of the history a rebuild loads: all rows, or those of the newest runs.

    `base_floor`: rows with event times below it may have been left on disk. `floors`: the same by feature, where
    batches of the journal are lost.
    """

    position: int
    base_floor: int
    runs: Sequence[Any]
    floors: Mapping[str, int] = MappingProxyType({})


class Flush(NamedTuple):
    """The position that the history reaches now, and how many of the journal's observations that took."""

    position: int
    observations: int


class LatestQuestion(NamedTuple):
    """What is asked of a shared store: the newest value with event time <= at of each feature and entity.

    The features are of one entity type; `kinds` are those of the features.
    """

    entity_type: str
    entities: Sequence[str]
    features: Sequence[Feature]
    kinds: Sequence[Kind]
    at: int
    current: bool = False
    """Whether `at` is the present of this process: what another one has acknowledged may be later."""


class LatestAnswers(NamedTuple):
    """The answers to some `LatestQuestion`, and the version that the registry was of when they were given."""

    registry: int
    grids: Sequence[Grid]


class Versions(NamedTuple):
    """How often the registry and the monitor's notes have been changed, and the last arrival, of all processes."""

    registry: int
    notes: int
    arrived: int


class Stale(Unavailable):
    """Something was judged by a registry that another process has changed since: look at it again."""


class Trimmed(Unavailable):
    """The journal no longer has what was asked for: read the history again, which has it."""


class Log(Protocol):
    """What is committed, in one order."""

    def commit(self, entries: Sequence[Entry]) -> Sequence[Entry | TimewellError]:
        """Make all entries durable, or none. Raises StorageDown where the medium refuses.

        Returns each as it has been recorded, or why it alone was refused: a shared store gives arrivals of its
        own, and knows what other processes have done meanwhile.
        """

    def answers(self, keys: Sequence[str], given_after: int) -> Mapping[str, bytes]:
        """The answers kept for those of the idempotency keys that are known."""

    def replay(self, after: int) -> Iterator[tuple[int, Batch]]:
        """The batches that arrived later than `after`, in order; of a shared store, those of this process.

        Raises Trimmed where some of them have been trimmed away.
        """

    def trimmed(self) -> int:
        """The arrival up to which it may no longer have its batches."""

    def trim(self, monitored: int, now: int) -> None:
        """Delete batches that a monitor at `monitored`, and the history where that is apart, have.

        Idempotency answers are deleted when they are too old at `now`, which is kept for the next start.
        """


class OwnLog(Log, Protocol):
    """The journal of one process."""

    def erased(self) -> Sequence[Erased]:
        """The erasures of which something may be left in the files; what is read does not show it."""


class History(Protocol):
    """What was accepted, to be read."""

    def read(self, feature: Feature, entities: Sequence[str], start: int, end: int) -> DiskRows:
        """The observations of some entities with start <= event time <= end. Raises TooLarge."""

    def versions(self, feature: Feature, entities: Sequence[str], start: int, end: int) -> Rows:
        """Every version of the observations of some entities with start <= event time <= end.

        Slots are positions in `entities`; rows are sorted by (slot, event time, arrival), and corrected values
        are among them.
        """

    def observations(self, feature: Feature, start: int, end: int) -> Iterator[Accepted]:
        """Everything accepted of a feature with start <= event time <= end, corrected values included.

        Raises TooLarge beyond MAX_ROWS_FROM_DISK.
        """

    def forget(self, known: Known) -> None:
        """Remove deleted features' observations, and their summaries."""


class OwnHistory(History, Protocol):
    """Files that the journal moves into, and that memory is filled from."""

    def flush(self, known: Known, now: int) -> Flush:
        """Move the oldest part of the journal that the history does not have into it.

        Called again until nothing is left to move. Rows of features that are not registered,
        and rows past their retention age at `now`, are left behind.
        """

    def erase(self) -> Mapping[Erased, Mapping[str, int]]:
        """Remove the rows of erased entities from the files, as far as the journal has none of them.

        Returns how many went of each feature, by the latest erasure of each entity that is done with.
        """

    def compact(self, known: Known, now: int) -> None:
        """Merge small files, where it pays."""

    def plan(self, budget: int) -> HistoryPlan:
        """What to load into a memory of `budget` observations."""

    def load(self, plan: HistoryPlan, features: Mapping[str, Feature]) -> Iterator[LoadedRows]:
        """The planned rows of registered features."""


class Summaries(Protocol):
    """What the monitor keeps of each stream. A summary is bytes here; `merge` makes one of several."""

    @property
    def position(self) -> int:
        """How far in the log they reach."""

    def save(self, position: int, parts: Mapping[SummaryKey, bytes], merge: Merge) -> None:
        """Merge what came since the last save into what is kept, which then covers all up to `position`."""

    def read(self, feature: Feature, start: int, end: int) -> SavedSummaries:
        """Those of the windows that meet a closed range of event time."""

    def read_whole(self, feature: Feature) -> SavedSummaries:
        """That of the whole stream."""

    def totals(self) -> tuple[int, Mapping[SummaryKey, bytes]]:
        """Those of the whole streams of all features, and the position that they cover."""

    def coarsen(self, now: int, merge: Merge) -> None:
        """Merge windows that have grown old into wider ones, where that is due."""

    def all(self) -> Iterator[tuple[SummaryKey, bytes]]:
        """Every one."""


ReadNotes = Callable[[str], Mapping[str, bytes]]
"""The records of a kind by key. They are committed to the log."""


class Mover(Protocol):
    """Everything out of a storage and into another. Nobody else uses either meanwhile."""

    def held(self, after: int) -> int:
        """About how many observations arrived later than `after`."""

    def carried(self, features: Mapping[str, Feature], after: int) -> Iterator[Lot]:
        """Every version of the features' observations that arrived later than `after`, oldest arrivals first."""

    def carry(self, lot: Lot, note: Noted) -> None:
        """Take observations in with the arrivals that they have, and a note, in one transaction."""


class Damage(Protocol):
    """What is known to be damaged on a disk. Who reads it is told by Damaged."""

    def words(self) -> Sequence[str]:
        """All of it."""

    def uncounted(self) -> Mapping[str, str]:
        """By feature why its statistics are not those of all that was accepted."""


class Storage(Protocol):
    """What every storage has. See the module."""

    def there(self) -> bool:
        """Whether something has been kept here. Asked before `open`; creates nothing. Raises StartupError."""

    def open(self) -> Recovered:
        """Open or create. Raises StartupError where that cannot be done."""

    def close(self) -> None:
        """Give back what was opened. Nothing is waiting to be written."""

    @property
    def log(self) -> Log:
        """What is committed."""

    @property
    def history(self) -> History:
        """What was accepted."""

    @property
    def summaries(self) -> Summaries:
        """What the monitor keeps."""

    @property
    def notes(self) -> ReadNotes:
        """What was noted."""

    @property
    def mover(self) -> Mover:
        """Everything out and in."""


class OwnStorage(Storage, Protocol):
    """A storage that one process has to itself."""

    @property
    def log(self) -> OwnLog:
        """The journal."""

    @property
    def history(self) -> OwnHistory:
        """The files."""

    @property
    def damage(self) -> Damage:
        """Of both."""


Quick = Callable[[Sequence[LatestQuestion]], Awaitable[LatestAnswers | None]]
"""None where the questions have to be put to `latest`, in a worker thread."""


class Values(Protocol):
    """The values in a server, asked for at every read."""

    def latest(self, questions: Sequence[LatestQuestion]) -> LatestAnswers:
        """The answers to several questions in one visit."""

    def quick(self) -> AbstractAsyncContextManager[Quick]:
        """What answers such questions from the event loop, while the context lasts."""

    def ranges(self, features: Sequence[Feature], entities: Sequence[str], start: int, end: int) -> list[DiskRows]:
        """By feature the observations of some entities with start <= event time <= end. Raises TooLarge."""


class SharedRegistry(Protocol):
    """What is registered in a server, and which of its processes leads."""

    @property
    def versions_seen(self) -> int:
        """The version of the registry that this process goes by."""

    def versions_now(self) -> Versions:
        """What the server has; compare it with `versions_seen`."""

    def registered(self) -> Recovered:
        """The registry anew. Changes of it are judged by this from now on."""

    def leads(self) -> bool:
        """Whether this is the one process that runs checks and raises alerts."""


class Claims(Protocol):
    """Which process alone may write under an idempotency key, in several commits."""

    def claim(self, key: str) -> bool:
        """Whether this process may from now on, or may still. Over at the latest a minute after it is gone."""

    def disclaim(self, key: str) -> None:
        """Let others."""


class SharedStorage(Storage, Protocol):
    """A storage in a server that any number of processes use. Nothing is kept here."""

    @property
    def values(self) -> Values:
        """Of all processes."""

    @property
    def registry(self) -> SharedRegistry:
        """Of all processes."""

    @property
    def claims(self) -> Claims:
        """Of this process among all."""
