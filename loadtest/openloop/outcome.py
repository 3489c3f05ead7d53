"""Evaluates a recording: latencies from the schedule, errors, delays of the driver.

Percentiles are of all latencies recorded, none estimated (nearest rank: each is a measured latency).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from loadtest.openloop.drive import DRAIN_SECONDS
from loadtest.openloop.recording import PartDone, Recording
from loadtest.openloop.slow_reader import Sipped

MOST_BINS = 30
MOST_FAULTS = 5
"""Most wrong answers that are shown; the rest are counted."""
NAMED = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "p99.99": 0.9999}
BUSY = 0.9
"""A driver busier than this may itself be the bottleneck."""
UNANSWERED, FAILED = "unanswered", "connection failed"


class Latency(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Milliseconds. NaN if nothing was counted."""

    count: int
    mean: float
    p50: float
    p90: float
    p99: float
    p999: float = msgspec.field(name="p99.9")
    p9999: float = msgspec.field(name="p99.99")
    max: float


def latency(seconds: NDArray[np.float64]) -> Latency:
    ordered = np.sort(seconds) * 1e3
    p50, p90, p99, p999, p9999, highest = at(ordered, [*NAMED.values(), 1.0])
    mean = float(ordered.mean()) if len(ordered) else math.nan
    return Latency(count=len(ordered), mean=mean, p50=p50, p90=p90, p99=p99, p999=p999, p9999=p9999, max=highest)


def at(ordered: NDArray[np.float64], fractions: Sequence[float]) -> list[float]:
    """The quantiles of ascending values by nearest rank: the smallest that at least a fraction do not exceed.

    >>> at(np.array([1.0, 2.0, 3.0, 4.0]), [0.5, 0.51, 1.0])
    [2.0, 3.0, 4.0]
    """
    count = len(ordered)
    if not count:
        return [math.nan] * len(fractions)
    ranks = [max(1, math.ceil(round(fraction * count, 6))) for fraction in fractions]
    return [float(ordered[rank - 1]) for rank in ranks]


class Bin(msgspec.Struct, frozen=True, rename="camel"):
    """The requests scheduled in one stretch of time; `start` in seconds, latencies in milliseconds."""

    start: float
    requests: int
    errors: int
    p50: float
    p99: float
    max: float


class Driver(msgspec.Struct, frozen=True, rename="camel"):
    """Delays of the driver. `busy`: the busiest one's share; `lag`: between when it could send and when it did.

    `held_up_seconds`: time in turns of its loop over two milliseconds; `longest_seconds`: the longest.
    """

    processes: int
    busy: float
    lag: Latency
    held_up_seconds: float
    longest_seconds: float


class Content(msgspec.Struct, frozen=True, rename="camel"):
    """How many answers were checked, how many were wrong, and a few of these."""

    sampled: int
    wrong: int
    faults: list[str]


class Outcome(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The result of a run without its warm-up.

    `latency` counts from the schedule, `service_time` from the sending, for 2xx answers and for requests never
    answered, which count with the time they were awaited. `achieved`: 2xx answers a second, by the end of the
    schedule. `statuses` counts everything.
    """

    asked: float
    achieved: float
    requests: int
    errors: int
    statuses: dict[str, int]
    latency: Latency
    service_time: Latency
    kinds: dict[str, Latency]
    phases: dict[str, Latency]
    timeline: list[Bin]
    driver: Driver
    content: Content
    slow_readers: Sipped


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """The measured part of the recording, seconds from the start; `kinds`: of the ring of requests, in its order.

    `phases`: stretches that are reported on their own too.
    """

    start: float
    end: float
    kinds: Sequence[str]
    phases: Mapping[str, tuple[float, float]] = {}


def outcome(everything: Recording, frame: Frame, parts: Sequence[PartDone]) -> Outcome:
    rows = np.arange(len(everything.scheduled))
    chosen = everything.scheduled >= frame.start
    measured, ring_rows = everything[chosen], rows[chosen] % len(frame.kinds)
    seconds, counted = latencies(measured)
    good = _good(measured)
    length = frame.end - frame.start
    kinds, numbers = np.unique(np.array(frame.kinds), return_inverse=True)
    whose = numbers[ring_rows]
    return Outcome(
        asked=len(good) / length,
        achieved=float((good & (measured.done <= frame.end)).sum()) / length,
        requests=len(good),
        errors=int((~good).sum()),
        statuses=_statuses(measured),
        latency=latency(seconds[counted]),
        service_time=latency((seconds - (measured.sent - measured.scheduled))[counted & ~np.isnan(measured.sent)]),
        kinds={str(kind): latency(seconds[counted & (whose == number)]) for number, kind in enumerate(kinds)},
        phases=_phases(frame, measured, seconds, counted),
        timeline=_timeline(frame, measured, seconds, counted, good),
        driver=_driver(measured, parts),
        content=_content(parts),
        slow_readers=_sipped(parts),
    )


def latencies(rows: Recording) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Seconds from the schedule of every row, and which of them count as latencies.

    Unanswered requests count until the driver gave up; refusals and failures do not count.
    """
    if not len(rows.scheduled):
        return np.zeros(0), np.zeros(0, np.bool_)
    unanswered = np.isnan(rows.done)
    given_up = rows.scheduled[-1] + DRAIN_SECONDS
    seconds = np.where(unanswered, given_up, rows.done) - rows.scheduled
    return seconds, unanswered | _good(rows)


def _good(rows: Recording) -> NDArray[np.bool_]:
    status: NDArray[np.uint16] = rows.status
    return (status >= 200) & (status < 300)


def _statuses(rows: Recording) -> dict[str, int]:
    numbers, counts = np.unique(rows.status, return_counts=True)
    found = {str(number): int(count) for number, count in zip(numbers, counts, strict=True) if number}
    unanswered = int(np.isnan(rows.done).sum())
    failed = int((rows.status == 0).sum()) - unanswered
    return {**found, **({UNANSWERED: unanswered} if unanswered else {}), **({FAILED: failed} if failed else {})}


def _phases(
    frame: Frame, rows: Recording, seconds: NDArray[np.float64], counted: NDArray[np.bool_]
) -> dict[str, Latency]:
    return {
        name: latency(seconds[counted & (rows.scheduled >= start) & (rows.scheduled < end)])
        for name, (start, end) in frame.phases.items()
    }


def _timeline(
    frame: Frame,
    rows: Recording,
    seconds: NDArray[np.float64],
    counted: NDArray[np.bool_],
    good: NDArray[np.bool_],
) -> list[Bin]:
    length = frame.end - frame.start
    edges = np.linspace(frame.start, frame.end, min(MOST_BINS, max(10, round(2 * length))) + 1)
    ends = np.searchsorted(rows.scheduled, edges)
    ends[-1] = len(rows.scheduled)
    found = []
    for start, first, last in zip(edges, ends, ends[1:], strict=False):
        part = slice(first, last)
        p50, p99, most = at(np.sort(seconds[part][counted[part]]) * 1e3, [0.5, 0.99, 1.0])
        found.append(Bin(float(start), int(last - first), int((~good[part]).sum()), p50, p99, most))
    return found


def _driver(rows: Recording, parts: Sequence[PartDone]) -> Driver:
    turned_to = ~np.isnan(rows.sent)
    return Driver(
        processes=len(parts),
        busy=max(part.busy for part in parts),
        lag=latency((rows.sent - rows.ready)[turned_to]),
        held_up_seconds=sum(part.held_up for part in parts),
        longest_seconds=max(part.longest for part in parts),
    )


def _content(parts: Sequence[PartDone]) -> Content:
    faults = [one for part in parts for one in part.faults]
    return Content(sum(part.sampled for part in parts), sum(part.wrong for part in parts), faults[:MOST_FAULTS])


def _sipped(parts: Sequence[PartDone]) -> Sipped:
    all_ = [part.sipped for part in parts]
    return Sipped(
        sum(one.bytes for one in all_), sum(one.answers for one in all_), sum(one.failures for one in all_)
    )
