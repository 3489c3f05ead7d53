"""Lists the ids of entities in journal and history.

The ids of a type that is listed are kept as a few sorted arrays, so that a page takes some binary searches. They
are made at the first page: from the runs, which are only scanned once, and from the journal beyond them, which is
then read on from where the page before ended. Nothing of this is done in the stores, and most of it is done by
Arrow, without the GIL. What is not listed for a while is freed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from actors.errors import Damaged, Unavailable
from actors.settings import IDS_AT_ONCE
from actors.storage.embedded import layout
from actors.storage.embedded.damages import Damages
from actors.storage.embedded.erasure import Erasures
from actors.storage.embedded.filed import LocalHistory, doing
from actors.storage.embedded.log import LocalLog
from actors.storage.embedded.runs import Run, Runs
from actors.storage.listed import IDS, IdsPage, IdsQuestion, end_of
from actors.storage.protocol import Trimmed
from actors.table.batch import Table
from actors.timestamps import FOREVER, NEVER

T = TypeVar("T")
TYPES_KEPT = 4
"""Entity types whose ids are kept at once. An id takes its length and eight bytes, up to twice that."""
_ATTEMPTS = 5


class SortedIds:
    """Distinct ids in a few sorted arrays, of which each is less than half as long as the one before."""

    def __init__(self) -> None:
        self._parts: list[pa.Array] = []

    def add(self, ids: pa.Array) -> None:
        """Add ids, which may be known already."""
        for part in self._parts:
            if len(ids):
                ids = ids.filter(pc.invert(pc.is_in(ids, value_set=part)))
        if len(ids) == 0:
            return
        ids = pc.unique(ids)
        while self._parts and len(self._parts[-1]) < 2 * len(ids):
            ids = pa.concat_arrays([self._parts.pop(), ids])
        self._parts.append(ids.take(pc.sort_indices(ids)))

    def slices(self, after: str, prefix: str, limit: int) -> list[pa.Array]:
        """Of each array the first `limit` ids that are later than `after` and begin with `prefix`."""
        end = end_of(prefix)
        found = []
        for part in self._parts:
            start = _place(part, lambda text: text <= after or text < prefix)
            stop = len(part) if end is None else _place(part, lambda text: text < end)
            found.append(part.slice(start, max(0, min(limit, stop - start))))
        return found


def _place(ids: pa.Array, before: Callable[[str], bool]) -> int:
    """How many of sorted ids come before a place, which `before` recognises."""
    low, high = 0, len(ids)
    while low < high:
        middle = (low + high) // 2
        if before(ids[middle].as_py()):
            low = middle + 1
        else:
            high = middle
    return low


class _OfType:
    """The ids of one entity type, as they were at the last page."""

    def __init__(self, entity_type: str, created: Mapping[str, int], removals: int) -> None:
        self.created = created
        self.removals = removals
        """How often rows had been removed from the runs when `filed` was begun."""
        self.entity_type = entity_type
        self.used = time.monotonic()
        self.filed = SortedIds()
        self._runs: dict[object, Run] = {}
        """The runs whose ids `filed` has, by identity."""
        self._waiting = SortedIds()
        """The ids in the journal later than the arrival `_base`, up to `_reached`."""
        self._base = self._reached = -1
        self._erasures: Erasures | None = None
        self._gone: tuple[object, pa.Array | None] = None, None

    def add_runs(self, runs: Sequence[Run], scan: Callable[[Run], Iterator[pa.Array]]) -> None:
        """Add the ids of runs that are not in `filed` yet."""
        for run in runs:
            if run.identity not in self._runs:
                if parts := list(scan(run)):
                    self.filed.add(pc.unique(pa.concat_arrays(parts)))
                self._runs[run.identity] = run
        now = {run.identity for run in runs}
        self._runs = {identity: run for identity, run in self._runs.items() if identity in now}

    def add_batches(self, log: LocalLog, position: int) -> SortedIds:
        """The ids in the journal beyond the history's position. Raises Trimmed."""
        erasures = log.erasures
        if position != self._base or erasures is not self._erasures:
            self._waiting, self._base, self._reached = SortedIds(), position, position
            self._erasures = erasures
        found, reached = list[pa.Array](), self._reached
        for reached, batch in log.replay(self._reached):  # noqa: B007
            found += [ids for table in batch for ids in self._ids_in(table)]
        if found:
            self._waiting.add(pa.concat_arrays(found))
        self._reached = reached
        return self._waiting

    def _ids_in(self, table: Table) -> Iterator[pa.Array]:
        if table.rows == 0 or table.entity_type != self.entity_type:
            return
        if any(self.created.get(column.feature) == column.created for column in table.columns):
            texts = table.entities.compact().ids.texts
            for start in range(0, len(texts), IDS_AT_ONCE):
                yield pa.array(texts[start : start + IDS_AT_ONCE], IDS)

    def gone(self, erasures: Erasures, runs: Sequence[Run], left: Callable[[], set[str]]) -> pa.Array | None:
        """The erased ids of which the runs still have rows, but only erased ones; None if there are none.

        `left`: finds the erased ids of which something was written later.
        """
        about = erasures, tuple(run.identity for run in runs)
        if self._gone[0] != about:
            erased = erasures.ids_of(self.entity_type)
            ids = None if erased is None else pa.array(set(erased.to_pylist()) - left(), IDS)
            self._gone = about, ids
        return self._gone[1]


class LocalIds:
    """See `KnownIds`."""

    def __init__(self, log: LocalLog, runs: Runs, filed: LocalHistory, damages: Damages) -> None:
        self._log = log
        self._runs = runs
        self._history = filed
        self._damages = damages
        self._types: dict[str, _OfType] = {}
        self._lock = threading.Lock()

    @doing("read")
    def page(self, asked: IdsQuestion) -> IdsPage:
        """The next ids."""
        for feature in asked.features:
            self._damages.need_nothing_lost(feature, NEVER, FOREVER)
        with self._lock:
            for _ in range(_ATTEMPTS):
                # A compaction may replace a run, and a checkpoint trim the journal, while they are read.
                with suppress(FileNotFoundError, Trimmed):
                    return self._page(asked)
        raise Unavailable("the history files changed while they were read")

    def let_go(self, unused_seconds: float) -> None:
        """Free the ids of types that were not listed for so long."""
        with self._lock:
            since = time.monotonic() - unused_seconds
            self._types = {name: known for name, known in self._types.items() if known.used > since}

    def _page(self, asked: IdsQuestion) -> IdsPage:
        # In this order: what is removed, or moved from the journal into a run, is then noticed or found twice.
        known, position, runs = self._of_type(asked), self._history.position, self._runs.runs()
        runs = [run for run in runs if asked.entity_type in run.entity_types]
        known.add_runs(runs, lambda run: self._scanned(run, known.created, None))
        waiting = known.add_batches(self._log, position)
        gone = known.gone(erasures := self._log.erasures, runs, lambda: self._left(known, erasures, runs))
        most = asked.limit + 1
        filed = known.filed.slices(asked.after, asked.prefix, most + (0 if gone is None else len(gone)))
        if gone is not None:
            filed = [part.filter(pc.invert(pc.is_in(part, value_set=gone))) for part in filed]
        parts = filed + waiting.slices(asked.after, asked.prefix, most)
        ids = _first(parts, most)
        return IdsPage(ids[: asked.limit], ids[asked.limit - 1].as_py() if len(ids) == most else None)

    def _of_type(self, asked: IdsQuestion) -> _OfType:
        """What is kept of a type; nothing yet if rows were removed, or features registered or deleted since."""
        name, removals = asked.entity_type, self._history.removals
        known = self._types.pop(name, None)
        if known is None or known.created != asked.created or known.removals != removals:
            known = _OfType(name, asked.created, removals)
        known.used = time.monotonic()
        self._types[name] = known
        while len(self._types) > TYPES_KEPT:
            del self._types[next(iter(self._types))]
        return known

    def _left(self, known: _OfType, erasures: Erasures, runs: Sequence[Run]) -> set[str]:
        """The erased ids of a type of which runs have rows that were written after the erasure."""
        found = set[str]()
        for run in runs:
            for ids in self._scanned(run, known.created, erasures):
                found.update(ids.to_pylist())
        return found

    def _scanned(self, run: Run, created: Mapping[str, int], erasures: Erasures | None) -> Iterator[pa.Array]:
        """The distinct ids in parts of a run; with `erasures` only erased ids, of which more was written."""
        keep = pc.field("feature").isin(pa.array(list(created), pa.string()))
        if erasures is not None:
            keep &= erasures.any_erased()
        try:
            for batch in run.scan(layout.KEYS.names, keep):
                kept = batch if erasures is None else layout.only(batch, erasures.kept)
                for feature, own in layout.stretches(kept):
                    yield _distinct(kept.slice(own.start, own.stop - own.start), created[feature])
        except Damaged as error:
            self._damages.note(run, error.detail)
            raise


def _distinct(rows: pa.RecordBatch, created: int) -> pa.Array:
    """The distinct ids in rows of one feature, without those of a deleted feature of its id."""
    if len(rows) and pc.min(rows["arrived_at"]).value < created:
        rows = rows.filter(pc.greater_equal(rows["arrived_at"], layout.moment(created)))
    return pc.unique(rows["entity_id"]).cast(IDS)


def _first(parts: Sequence[pa.Array], limit: int) -> pa.Array:
    """The first `limit` distinct ids of several arrays, in order."""
    parts = [part for part in parts if len(part)]
    if len(parts) == 1:
        return parts[0][:limit]
    ids = pc.unique(pa.concat_arrays(parts)) if parts else pa.array([], IDS)
    return ids.take(pc.sort_indices(ids)[:limit])
