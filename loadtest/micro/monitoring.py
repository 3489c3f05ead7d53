"""Group `monitor`: the cost of monitoring, and the size of summaries."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from actors.monitoring.monitor import FeatureMonitor
from actors.stats.state import encode
from actors.stats.summary import Accepted, of_a_window
from actors.table.batch import Batch, Table
from actors.table.columns import Times
from actors.timestamps import SECOND
from actors.types.type import Array
from loadtest.machine.connection import Connection
from loadtest.machine.measure import Result, at_least, at_most, seconds
from loadtest.machine.service import temporary
from loadtest.micro import data
from loadtest.micro.bodies import BATCH, as_json, register

BATCHES = 100
RUNS = 5
ROUNDS = 9
REQUESTS_A_ROUND = 12
WINDOW_VALUES = 100_000
LATE_SHARE = 0.05


def run() -> Iterator[Result]:
    """Folding batches, sizes of windows, writing with monitoring and without."""
    random = np.random.default_rng(4)

    def live(count: int) -> Times:
        return data.STARTED - random.integers(0, 60 * SECOND, count)

    def late(count: int) -> Times:
        return data.random_times(random, count)

    def some_late(count: int) -> Times:
        return np.where(random.random(count) < LATE_SHARE, late(count), live(count))

    yield from _cost("event times of the last minute", random, live)
    yield from _cost("of these one in twenty up to a month late", random, some_late)
    yield from _cost("event times of a month", random, late)
    for name, make in _KINDS.items():
        yield Result(f"monitor: a window of 100,000 {name}", "bytes", [_window(make(random))], at_most(32_768))
    yield from _on_and_off(random)


def _cost(name: str, random: np.random.Generator, times: Callable[[int], Times]) -> Iterator[Result]:
    """A million observations between two checkpoints, folded when the monitor finds it due and at the end.

    In processor time, so that other work on the machine does not count. Nothing else runs during a step.
    """
    micros, longest = [], []
    for _ in range(RUNS):
        batches = [_batch(random, times) for _ in range(BATCHES)]
        steps = list(_timed(_taking(FeatureMonitor(), batches)))
        micros.append(sum(steps) / (BATCHES * BATCH) * 1e6)
        longest.append(max(steps) * 1e3)
    yield Result(f"monitor: a value, {name}", "us", micros, at_most(1))
    yield Result(f"monitor: the longest step, {name}", "ms", longest)


def _taking(monitor: FeatureMonitor, batches: Sequence[Batch]) -> Iterator[None]:
    for number, batch in enumerate(batches):
        monitor.apply(data.STARTED + number, batch)
        yield
        yield from monitor.overdue()
    yield from monitor.folding()


def _timed(steps: Iterator[None]) -> Iterator[float]:
    """The processor seconds of each step, and from the last step to the end."""
    began = time.process_time()
    for _ in steps:
        ended = time.process_time()
        yield ended - began
        began = time.process_time()
    yield time.process_time() - began


def _batch(random: np.random.Generator, times: Callable[[int], Times]) -> Batch:
    batch = data.random_batch(random, data.MIXED, BATCH)
    return [Table(table.entity_type, table.entities, times(table.rows), table.columns) for table in batch]


def _texts(texts: list[str]) -> Array:
    column = np.empty(len(texts), object)
    column[:] = texts
    return column


_KINDS: dict[str, Callable[[np.random.Generator], Array]] = {
    "numbers": lambda random: random.random(WINDOW_VALUES),
    "integers": lambda random: random.integers(0, 10**9, WINDOW_VALUES),
    "distinct texts of 60 characters": lambda random: _texts(
        [f"text{number:056}" for number in random.permutation(WINDOW_VALUES).tolist()]
    ),
    "vectors of 768 components": lambda random: random.random((WINDOW_VALUES, 768), np.float32),
}


def _window(values: Array) -> int:
    summary = of_a_window(1)
    for part in np.array_split(values, 20):
        times = np.full(len(part), data.STARTED)
        summary.add(Accepted(times, times + SECOND, part, np.zeros(len(part), np.bool_)))
    return len(encode(summary))


def _on_and_off(random: np.random.Generator) -> Iterator[Result]:
    """The same batches to a service with monitoring and to one without, in turns."""
    requests = [as_json(random, BATCH) for _ in range(REQUESTS_A_ROUND)]
    with temporary(ENABLE_MONITORING="true") as on, temporary(ENABLE_MONITORING="false") as off:
        for service in (on, off):
            register(service.address)
        with Connection(on.address) as with_it, Connection(off.address) as without:
            pairs = [(_round(with_it, requests), _round(without, requests)) for _ in range(ROUNDS + 1)][1:]
    values = REQUESTS_A_ROUND * BATCH
    yield Result("monitor: write-batch of 10,000 with it", "values/s", [values / one for one, _ in pairs])
    yield Result("monitor: the same without it", "values/s", [values / one for _, one in pairs])
    yield Result("monitor: with it beside without", "x", [off / on for on, off in pairs], at_least(0.8))


def _round(connection: Connection, requests: list[bytes]) -> float:
    return seconds(lambda: [connection.ask(request) for request in requests])
