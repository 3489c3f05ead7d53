"""The values that every entity must have, from the result of each request, and whether a service has them.

A write answered with 2xx is there. One that failed without a refusal, or was never answered, may be there: so each
figure has a least and a greatest value, which are equal if nothing failed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from loadtest.machine.connection import Connection
from loadtest.machine.messages import get, post
from loadtest.openloop.recording import Recording
from loadtest.workloads.shape import feature_id
from loadtest.workloads.soaking import BATCHES, SINGLES, Soaking

ENTITIES_AT_ONCE = 500
MONITOR_SECONDS = 60.0
"""How long the monitor may be behind the writes."""
_GLANCE_SECONDS = 0.1
FEATURES = (SINGLES, BATCHES)


class Tally(NamedTuple):
    """int64[entities]: how many observations, their sum, and the latest of them, -1 if there is none."""

    counts: NDArray[np.int64]
    sums: NDArray[np.int64]
    latest: NDArray[np.int64]


class Ledger(NamedTuple):
    """By feature: what must be there, and what may be there at most."""

    least: dict[int, Tally]
    most: dict[int, Tally]


def ledger(work: Soaking, recording: Recording) -> Ledger:
    """From the recording of the whole run, warm-up included."""
    good = (recording.status >= 200) & (recording.status < 300)
    refused = (recording.status >= 400) & (recording.status < 500)
    never_sent = np.isnan(recording.sent)
    least = _tallied(work, np.flatnonzero(good).tolist())
    return Ledger(least, _tallied(work, np.flatnonzero(~refused & ~never_sent).tolist()))


def _tallied(work: Soaking, rows: Iterable[int]) -> dict[int, Tally]:
    values: dict[int, list[int]] = {SINGLES: [], BATCHES: []}
    entities: dict[int, list[int]] = {SINGLES: [], BATCHES: []}
    for row in rows:
        written = work.written(row)
        if written is not None:
            values[written.feature].extend([row] * len(written.entities))
            entities[written.feature].extend(written.entities)
    return {feature: _tally(work.shape.population, values[feature], entities[feature]) for feature in values}


def _tally(population: int, values: list[int], entities: list[int]) -> Tally:
    whose, numbers = np.array(entities, np.int64), np.array(values, np.int64)
    sums, latest = np.zeros(population, np.int64), np.full(population, -1, np.int64)
    np.add.at(sums, whose, numbers)
    np.maximum.at(latest, whose, numbers)
    return Tally(np.bincount(whose, minlength=population), sums, latest)


# Reading back


class Book(NamedTuple):
    """A run's requests, and the ledger of them."""

    work: Soaking
    ledger: Ledger


def counted(connection: Connection) -> dict[int, int]:
    """Observations that the statistics of each feature count, once the monitor has seen every commit."""
    deadline = time.monotonic() + MONITOR_SECONDS
    while msgspec.json.decode(connection.ask(get("/monitor/status")))["lagSeconds"] > 0:
        if time.monotonic() > deadline:
            raise RuntimeError(f"the monitor is behind for more than {MONITOR_SECONDS:g} s")
        time.sleep(_GLANCE_SECONDS)
    answers = {feature: connection.ask(get(f"/features/{feature_id(feature)}/stats")) for feature in FEATURES}
    return {feature: int(msgspec.json.decode(answer)["count"]) for feature, answer in answers.items()}


def discrepancies(connection: Connection, before: Mapping[int, int], books: Sequence[Book]) -> list[str]:
    """Differences as text; none if every acknowledged value is there, once.

    `before`: the counts of the statistics before the runs of the books.
    """
    found: list[str] = []
    for book in books:
        for feature in FEATURES:
            there = read_back(connection, book.work, feature)
            found.extend(_differing(book, feature, there))
    return [*found, *_statistics(before, counted(connection), books)]


def read_back(connection: Connection, work: Soaking, feature: int) -> Tally:
    """The values of a feature in the service, by three routes: counts and sums of the history, and serving."""
    name, entities = feature_id(feature), [work.shape.entity_id(number) for number in range(work.shape.population)]

    def asked(path: str, row: Callable[[Any], Any], **rest: Any) -> NDArray[np.int64]:
        found: list[int] = []
        for start in range(0, len(entities), ENTITIES_AT_ONCE):
            ids = entities[start : start + ENTITIES_AT_ONCE]
            body = connection.ask(post(path, {"entityIds": ids, "features": [name], **rest}))
            found.extend(row(result) for result in msgspec.json.decode(body)["results"])
        return np.array(found, np.int64)

    span = {"startTime": work.moment(0), "endTime": work.moment(work.count)}
    counts = asked("/features/historical", lambda result: result[name], aggregation="count", **span)
    sums = asked("/features/historical", lambda result: result[name], aggregation="sum", **span)
    latest = asked("/features/serve", lambda result: result["features"][name])
    return Tally(counts, sums, np.where(counts == 0, -1, latest))


def _differing(book: Book, feature: int, there: Tally) -> Iterator[str]:
    """The entities with less than must be there, or more than may be."""
    name, entity_id = feature_id(feature), book.work.shape.entity_id
    for field, least, found, most in zip(
        Tally._fields, book.ledger.least[feature], there, book.ledger.most[feature], strict=True
    ):
        for entity in np.flatnonzero((found < least) | (found > most)).tolist():
            yield (
                f"{name} of {entity_id(entity)}: {field} {found[entity]},"
                f" acknowledged {least[entity]}, possible {most[entity]}"
            )


def _statistics(before: Mapping[int, int], after: Mapping[int, int], books: Sequence[Book]) -> Iterator[str]:
    """The monitor counts every accepted observation once."""
    for feature in FEATURES:
        least, most = (
            before[feature] + sum(int(tallies[feature].counts.sum()) for tallies in side)
            for side in zip(*(book.ledger for book in books), strict=True)
        )
        if not least <= after[feature] <= most:
            yield (
                f"{feature_id(feature)}: statistics count {after[feature]}, acknowledged {least}, possible {most}"
            )
