"""The statistics of one feature over a stretch of its write stream.

Every accepted observation counts each time it is accepted: a correction counts beside what it corrects, a
repeat counts again. Two summaries of one feature can be merged, whatever stretches, shards or servers they
come from.

What is kept beside the counts depends on the type (`observed` of each): numbers, integers and timestamps their
distribution; strings and JSON the most frequent texts and the distribution of lengths (characters); booleans both
counts; vectors the distribution of norms and the mean and variance of each component.
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
"""So many observations take no more room as they are (25 bytes each) than in sketches, and far less time."""


class Accepted(NamedTuple):
    """Observations of one feature as parallel columns: event times, arrivals (microseconds), values, nulls."""

    times: Times
    arrived: Times
    values: Array
    nulls: Nulls

    @property
    def plain(self) -> bool:
        """Whether each value takes a few bytes, which texts and vectors may not."""
        return self.values.dtype.kind in "fib" and self.values.ndim == 1

    def take(self, rows: Indices) -> Accepted:
        """Some of them."""
        return Accepted(self.times[rows], self.arrived[rows], self.values[rows], self.nulls[rows])

    def cut(self, rows: slice) -> Accepted:
        """Those from one to another, which share their memory."""
        return Accepted(self.times[rows], self.arrived[rows], self.values[rows], self.nulls[rows])


class Raw(msgspec.Struct, gc=False):
    """A few observations as they came, columns as bytes: a window with a handful of values needs no sketch."""

    dtype: str = ""
    count: int = 0
    times: bytes = b""
    arrived: bytes = b""
    values: bytes = b""
    nulls: bytes = b""

    @classmethod
    def of(cls, accepted: Accepted) -> Raw:
        """Any number of them. Texts and vectors are not kept like this: they may be large."""
        times, arrived, values, nulls = accepted
        columns = times.tobytes(), arrived.tobytes(), values.tobytes(), nulls.tobytes()
        return cls(values.dtype.str, len(times), *columns)

    def cut(self, begin: int, end: int) -> Raw:
        """Those from one to another."""
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
        """Those of both, of which the other has some."""
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
        """Those with start <= event time <= end."""
        if self.count == 0:
            return self
        accepted = self.accepted()
        inside = (accepted.times >= start) & (accepted.times <= end)
        return Raw.of(accepted.take(np.flatnonzero(inside)))

    def accepted(self) -> Accepted:
        """All that are kept."""
        return Accepted(
            np.frombuffer(self.times, np.int64),
            np.frombuffer(self.arrived, np.int64),
            np.frombuffer(self.values, np.dtype(self.dtype)),
            np.frombuffer(self.nulls, np.bool_),
        )


class Summary(msgspec.Struct, gc=False):
    """`created` is that of the feature; `oldest` and `newest` are event times, `last_updated` an arrival.

    `newest_due` is the newest event time that was not in the future when it arrived: a clock that is wrong once
    does not make a feature look fresh for ever.

    `raw` observations are not in the figures yet: `settle` takes them in.

    `numbers`: of the values, or of lengths (texts) or norms (vectors). `lateness`: arrival minus event time
    in seconds. None where nothing of the kind was seen.
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
        """Take in some observations, at least one."""
        if self.raw is not None and accepted.plain and len(accepted.times) <= MOST_RAW:
            self.add_raw(Raw.of(accepted))
        else:
            self.settle()
            self._digest(accepted)

    def add_raw(self, raw: Raw) -> None:
        """Take in some observations, at least one, kept as they are where there is room."""
        if self.raw is not None and self.raw.count + raw.count <= MOST_RAW:
            self.raw = self.raw.joined(raw)
        else:
            self.settle()
            self._digest(raw.accepted())

    def settle(self) -> None:
        """Take the raw observations into the figures."""
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
        """Take in what the other has seen."""
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
    """The newest of the event times that are not after their arrival."""
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
    """An empty summary of a stretch that is put together to be looked at, not to be kept."""
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
    """A summary as it is kept. Those of windows are compressed: they are many, and hardly touched again."""
    return packed(encode(summary)) if summary.distinct.limit == EXACT_LIMIT_OF_A_WINDOW else encode(summary)


def merge_states(states: Iterable[bytes]) -> bytes:
    """One saved summary of several."""
    first, *others = (decode(state, Summary) for state in states)
    for other in others:
        first.merge(other)
    return saved(first)
