"""Writes, batches, reads of the latest values and of history, and statistics together, for any length of time.

Each row of a run has its own request. The values of a row are its number, and its event time is that many
microseconds after the start. So the acknowledged rows determine what every entity must have.

The amount that is read does not grow: the newest observations, which are in memory, and sometimes the oldest,
which after a while are on disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import msgspec

from actors.timestamps import format_timestamp, parse_timestamp
from loadtest.machine import requests
from loadtest.machine.messages import encoded, post
from loadtest.workloads.asks import Ask
from loadtest.workloads.reading import serve
from loadtest.workloads.shape import Shape, feature_id

SINGLES, BATCHES = 0, 1
"""The features that single values and batches go to."""
_HOT = ("write", "serve") * 8 + ("write-batch", "aggregate", "history", "statistics")
PATTERN = (*_HOT, *_HOT[:-1], "oldest")
PAGE = 50
RECENT_ROWS = 2_000
"""How many rows back an aggregate begins."""
_STRIDE = 7_919


class Written(msgspec.Struct, frozen=True):
    """The write of a row: its number as value of one feature, for these entities."""

    feature: int
    entities: Sequence[int]


class Soaking:
    """The requests of a run of `count` rows, each made when it is sent."""

    kinds = PATTERN

    def __init__(self, shape: Shape, count: int) -> None:
        self.shape, self.count = shape, count

    def written(self, row: int) -> Written | None:
        """The write of a row; None if it reads."""
        first = row * _STRIDE % self.shape.population
        match PATTERN[row % len(PATTERN)]:
            case "write":
                return Written(SINGLES, [first])
            case "write-batch":
                count = min(self.shape.batch_values, self.shape.population)
                return Written(BATCHES, [(first + one) % self.shape.population for one in range(count)])
        return None

    def moment(self, row: int) -> str:
        """The event time of the write of a row: after the values filled in, before it is sent."""
        return format_timestamp(self.shape.filled_at + 1 + row)

    def ask(self, row: int) -> Ask:
        kind = PATTERN[row % len(PATTERN)]
        written = self.written(row)
        entity = row * _STRIDE % self.shape.population
        if written is not None:
            return self._write(row, kind, written)
        if kind == "serve":
            return serve(self.shape, [entity], exact=False)
        if kind == "aggregate":
            return self._aggregate(row, entity)
        path = f"/features/{feature_id(row // len(PATTERN) % 2)}"
        if kind == "statistics":
            return Ask(kind, encoded("GET", f"{path}/stats"), lambda body: msgspec.json.decode(body)["count"] > 0)
        order, check = ("asc", _ascending) if kind == "oldest" else ("desc", _descending)
        query = f"?entityId={self.shape.entity_id(entity)}&order={order}&limit={PAGE}"
        return Ask(kind, encoded("GET", f"{path}/history{query}"), check)

    def _write(self, row: int, kind: str, written: Written) -> Ask:
        entities = map(self.shape.entity_id, written.entities)
        feature, moment = feature_id(written.feature), self.moment(row)
        values = [requests.observation(feature, entity, row, moment) for entity in entities]
        request = requests.write(values[0]) if kind == "write" else requests.write_batch(values)
        return Ask(kind, request, _successful)

    def _aggregate(self, row: int, entity: int) -> Ask:
        body = {
            "entityIds": [self.shape.entity_id(entity)],
            "features": [feature_id(SINGLES), feature_id(BATCHES)],
            "startTime": self.moment(max(0, row - RECENT_ROWS)),
            "endTime": self.moment(row),
            "aggregation": "count",
        }
        return Ask("aggregate", post("/features/historical", body), _counted)


def _successful(body: bytes) -> bool:
    return msgspec.json.decode(body)["success"] is True


def _descending(body: bytes) -> bool:
    times = _times(body)
    return bool(times) and all(later > earlier for later, earlier in pairwise(times))


def _ascending(body: bytes) -> bool:
    times = _times(body)
    return bool(times) and all(earlier < later for earlier, later in pairwise(times))


def _times(body: bytes) -> list[int]:
    return [parse_timestamp(one["timestamp"]) for one in msgspec.json.decode(body)["observations"]]


def _counted(body: bytes) -> bool:
    (row,) = msgspec.json.decode(body)["results"]
    return bool(row[feature_id(SINGLES)] >= 0 and row[feature_id(BATCHES)] >= 0)
