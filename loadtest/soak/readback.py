"""Asks a service for all that a soak has written, and compares it with the ledger."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from loadtest.machine.connection import Connection
from loadtest.machine.messages import get, post
from loadtest.soak.ledger import Ledger, Tally
from loadtest.workloads.shape import feature_id
from loadtest.workloads.soaking import BATCHES, SINGLES, Soaking

ENTITIES_AT_ONCE = 500
MONITOR_SECONDS = 60.0
"""The monitor may be behind the writes for so long."""
_GLANCE_SECONDS = 0.1
FEATURES = (SINGLES, BATCHES)


class Book(NamedTuple):
    """A run's requests, and the ledger of them."""

    work: Soaking
    ledger: Ledger


def counted(connection: Connection) -> dict[int, int]:
    """Observations that the statistics of each feature count, once the monitor has seen all that is committed."""
    deadline = time.monotonic() + MONITOR_SECONDS
    while msgspec.json.decode(connection.ask(get("/monitor/status")))["lagSeconds"] > 0:
        if time.monotonic() > deadline:
            raise RuntimeError(f"the monitor is behind for more than {MONITOR_SECONDS:g} s")
        time.sleep(_GLANCE_SECONDS)
    answers = {feature: connection.ask(get(f"/features/{feature_id(feature)}/stats")) for feature in FEATURES}
    return {feature: int(msgspec.json.decode(answer)["count"]) for feature, answer in answers.items()}


def discrepancies(connection: Connection, before: Mapping[int, int], books: Sequence[Book]) -> list[str]:
    """What differs, in words: nothing where all that was acknowledged is there, once.

    `before`: what the statistics counted before the runs of the books.
    """
    found: list[str] = []
    for book in books:
        for feature in FEATURES:
            there = read_back(connection, book.work, feature)
            found.extend(_differing(book, feature, there))
    return [*found, *_statistics(before, counted(connection), books)]


def read_back(connection: Connection, work: Soaking, feature: int) -> Tally:
    """What the service has of a feature, by three routes: counts and sums of the history, and serving."""
    name = feature_id(feature)

    def asked(path: str, row: Callable[[Any], Any], **rest: Any) -> NDArray[np.int64]:
        found: list[int] = []
        for ids in _slices([work.shape.entity_id(entity) for entity in range(work.shape.population)]):
            body = connection.ask(post(path, {"entityIds": ids, "features": [name], **rest}))
            found.extend(row(result) for result in msgspec.json.decode(body)["results"])
        return np.array(found, np.int64)

    span = {"startTime": work.moment(0), "endTime": work.moment(len(work))}
    counts = asked("/features/historical", lambda result: result[name], aggregation="count", **span)
    sums = asked("/features/historical", lambda result: result[name], aggregation="sum", **span)
    latest = asked("/features/serve", lambda result: result["features"][name])
    return Tally(counts, sums, np.where(counts == 0, -1, latest))


def _slices(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), ENTITIES_AT_ONCE):
        yield ids[start : start + ENTITIES_AT_ONCE]


def _differing(book: Book, feature: int, there: Tally) -> Iterator[str]:
    """The entities of which there is less than must be, or more than may."""
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
