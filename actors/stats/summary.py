"""The statistics of one feature over a part of its write stream.

Every accepted observation counts each time it is accepted: a correction counts in addition to what it corrects,
and a repeat counts again. Any two summaries of one feature can be merged, whichever periods or processes they come
from.

What is kept besides the counts depends on the value type (see its `observed`). Numbers, integers, timestamps: the
distribution. Strings, JSON: the most frequent texts, and the distribution of lengths in characters. Booleans: both
counts. Vectors: the distribution of norms, and the mean and variance of each component.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec
import numpy as np

from actors.stats.components import Components
from actors.stats.distinct import EXACT_LIMIT, Distinct, digests, keys_of
from actors.stats.distribution import Distribution
from actors.stats.quantiles import LARGE_K, SMALL_K, K, Quantiles
from actors.stats.state import decode, encode, packed
from actors.stats.top_values import LOG2_ENTRIES, LOG2_ENTRIES_OF_A_WINDOW, TopValues, cut
from actors.table.columns import Indices, Times
from actors.timestamps import SECOND
from actors.types.type import Array, Nulls
from actors.types.values import observed

EXACT_LIMIT_OF_A_WINDOW = 512
MOST_RAW = 512
"""Up to this many raw observations (25 bytes each) take no more space than sketches of them, and far less time."""


class Accepted(NamedTuple):
    """Observations of one feature as parallel columns: event times, arrivals (microseconds), values, nulls."""

    times: Times
    arrived: Times
    values: Array
    nulls: Nulls

    @property
    def plain(self) -> bool:
        """Whether values are of fixed, small size; texts and vectors are not."""
        return self.values.dtype.kind in "fib" and self.values.ndim == 1

    def take(self, rows: Indices) -> Accepted:
        """The rows at these positions."""
        return Accepted(self.times[rows], self.arrived[rows], self.values[rows], self.nulls[rows])

    def cut(self, rows: slice) -> Accepted:
        """A slice of the rows, as views."""
        return Accepted(self.times[rows], self.arrived[rows], self.values[rows], self.nulls[rows])


class Raw(msgspec.Struct, gc=False):
    """Raw observations, each column as bytes: a window with a handful of values needs no sketch."""

    dtype: str = ""
    count: int = 0
    times: bytes = b""
    arrived: bytes = b""
    values: bytes = b""
    nulls: bytes = b""

    @classmethod
    def of(cls, accepted: Accepted) -> Raw:
        """Convert observations of a `plain` type; texts and vectors, which may be large, are not kept raw."""
        times, arrived, values, nulls = accepted
        columns = times.tobytes(), arrived.tobytes(), values.tobytes(), nulls.tobytes()
        return cls(values.dtype.str, len(times), *columns)

    def cut(self, begin: int, end: int) -> Raw:
        """The observations from position `begin` up to `end`."""
        size = len(self.values) // self.count
        return Raw(
            self.dtype,
            end - begin,
            self.times[8 * begin : 8 * end],
            self.arrived[8 * begin : 8 * end],
            self.values[size * begin : size * end],
            self.nulls[begin:end],
        )

    def joined(self, other: Raw) -> Raw:
        """The observations of both. `other` has at least one."""
        if self.count == 0:
            return other
        return Raw(
            self.dtype,
            self.count + other.count,
            self.times + other.times,
            self.arrived + other.arrived,
            self.values + other.values,
            self.nulls + other.nulls,
        )

    def between(self, start: int, end: int) -> Raw:
        """The observations with start <= event time <= end."""
        if self.count == 0:
            return self
        accepted = self.accepted()
        inside = (accepted.times >= start) & (accepted.times <= end)
        return Raw.of(accepted.take(np.flatnonzero(inside)))

    def accepted(self) -> Accepted:
        """The observations as columns."""
        return Accepted(
            np.frombuffer(self.times, np.int64),
            np.frombuffer(self.arrived, np.int64),
            np.frombuffer(self.values, np.dtype(self.dtype)),
            np.frombuffer(self.nulls, np.bool_),
        )


class Summary(msgspec.Struct, gc=False):
    """The statistics of a part of a feature's stream.

    `created`: that of the feature. `oldest`, `newest`: event times; `last_updated`: an arrival; each None if
    nothing was seen. `newest_due`: the newest event time that was not in the future when it arrived, so that a
    writer's clock that was wrong once does not make the feature look fresh for ever. `lateness`: arrival minus
    event time, in seconds. `numbers`: the distribution of values, of lengths (texts) or of norms (vectors). `raw`:
    observations that are not yet in the other fields; `settle` adds them.
    """

    created: int
    count: int = 0
    null_count: int = 0
    last_updated: int | None = None
    oldest: int | None = None
    newest: int | None = None
    newest_due: int | None = None
    distinct: Distinct = msgspec.field(default_factory=Distinct)
    lateness: Distribution = msgspec.field(default_factory=Distribution)
    numbers: Distribution = msgspec.field(default_factory=Distribution)
    top: TopValues = msgspec.field(default_factory=TopValues)
    components: Components = msgspec.field(default_factory=Components)
    raw: Raw | None = None

    def add(self, accepted: Accepted) -> None:
        """Add observations, at least one."""
        if self.raw is not None and accepted.plain and len(accepted.times) <= MOST_RAW:
            self.add_raw(Raw.of(accepted))
        else:
            self.settle()
            self._digest(accepted)

    def add_raw(self, raw: Raw) -> None:
        """Add observations, at least one, and keep them raw if there is room."""
        if self.raw is not None and self.raw.count + raw.count <= MOST_RAW:
            self.raw = self.raw.joined(raw)
        else:
            self.settle()
            self._digest(raw.accepted())

    def settle(self) -> None:
        """Add the raw observations to the other fields."""
        raw, self.raw = self.raw, None
        if raw is not None and raw.count:
            self._digest(raw.accepted())

    def _digest(self, accepted: Accepted) -> None:
        times, arrived, values, nulls = accepted
        null_count = int(np.count_nonzero(nulls))
        self._note(len(times), null_count, int(arrived.max()), int(times.min()), int(times.max()))
        self.newest_due = _outer(max, self.newest_due, newest_due(times, arrived))
        self.lateness.add((arrived - times) / SECOND)
        if null_count:
            values = values[~nulls]
        if len(values):
            self._take(values)

    def _take(self, values: Array) -> None:
        seen = observed(values)
        if isinstance(seen.distinct, np.ndarray):
            self.distinct.add(keys_of(seen.distinct))
        else:
            self.distinct.add(digests([text.encode() for text in seen.distinct]))
        if seen.counts is not None:
            self.top.add(Counter({cut(text): count for text, count in seen.counts.items()}))
        if seen.amounts is not None:
            self.numbers.add(seen.amounts)
        if seen.components is not None:
            self.components.add(seen.components)

    def _note(self, count: int, nulls: int, arrived: int | None, oldest: int | None, newest: int | None) -> None:
        self.count += count
        self.null_count += nulls
        self.last_updated = _outer(max, self.last_updated, arrived)
        self.oldest = _outer(min, self.oldest, oldest)
        self.newest = _outer(max, self.newest, newest)

    def merge(self, other: Summary) -> None:
        """Merge another summary of the same feature into this."""
        if other.raw is not None and other.raw.count:
            self.add_raw(other.raw)
        if other.count == 0:
            return
        self.settle()
        self._note(other.count, other.null_count, other.last_updated, other.oldest, other.newest)
        self.newest_due = _outer(max, self.newest_due, other.newest_due)
        self.distinct.merge(other.distinct)
        self.lateness.merge(other.lateness)
        self.numbers.merge(other.numbers)
        self.top.merge(other.top)
        self.components.merge(other.components)


def newest_due(times: Times, arrived: Times | int) -> int | None:
    """The newest event time that is not after its arrival; None if there is none."""
    due = times <= arrived
    if not due.all():
        times = times[due]
    return int(times.max()) if len(times) else None


def _outer(pick: Any, one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return int(pick(one, other))


def of_all(created: int) -> Summary:
    """An empty summary of a whole stream."""
    return _sized(created, EXACT_LIMIT, LOG2_ENTRIES, K)


def of_a_period(created: int) -> Summary:
    """An empty summary of a period, to be computed for one query and not kept."""
    return _sized(created, EXACT_LIMIT, LOG2_ENTRIES, LARGE_K)


def of_a_piece(created: int, count: int) -> Summary:
    """An empty summary of at most `count` observations, to be merged into others."""
    return _sized(created, count, LOG2_ENTRIES, K)


def of_a_window(created: int) -> Summary:
    """An empty summary that stays within 32 KB: there is one per feature and window."""
    summary = _sized(created, EXACT_LIMIT_OF_A_WINDOW, LOG2_ENTRIES_OF_A_WINDOW, K)
    summary.raw = Raw()
    return summary


def _sized(created: int, distinct_limit: int, log2_entries: int, k: int) -> Summary:
    return Summary(
        created,
        distinct=Distinct(distinct_limit),
        lateness=Distribution(quantiles=Quantiles(SMALL_K)),
        numbers=Distribution(quantiles=Quantiles(k)),
        top=TopValues(log2_entries),
    )


def saved(summary: Summary) -> bytes:
    """Serialize a summary for storage. Those of windows, which are many and rarely read again, are compressed."""
    return packed(encode(summary)) if summary.distinct.limit == EXACT_LIMIT_OF_A_WINDOW else encode(summary)


def merge_states(states: Iterable[bytes]) -> bytes:
    """Merge saved summaries into one."""
    first, *others = (decode(state, Summary) for state in states)
    for other in others:
        first.merge(other)
    return saved(first)
