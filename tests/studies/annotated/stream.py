"""Write a series as a stream would come, and ask for its drift after each window."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import httpx

from tests.studies.annotated.series import Data

Row = tuple[str, float]
BATCH = 100


class Said(NamedTuple):
    """What a question about two windows was answered. The metrics are empty when there was too little to judge."""

    verdict: str
    severity: str
    score: float | None
    metrics: dict[str, float]


class Judged(NamedTuple):
    """By window; the first is compared with nothing. `shuffled`: the same values in random order, with the one
    before."""

    before: list[Said | None]
    first: list[Said | None]
    shuffled: list[Said | None]


def judge(service: httpx.Client, data: Data, column: str) -> Judged:
    """Stream one column, and once more in random order."""
    values = data.values[column]
    mixed = random.Random(0).sample(values, len(values))
    name = f"{column}_{data.series.window}"
    before, first = _stream(service, data, f"{data.series.file}.{name}", values)
    shuffled, _ = _stream(service, data, f"{data.series.file}.{name}_shuffled", mixed)
    return Judged(before, first, shuffled)


def _stream(
    service: httpx.Client, data: Data, name: str, values: Sequence[float]
) -> tuple[list[Said | None], list[Said | None]]:
    """What each window was judged against the one before, and against the first."""
    feature = register(service, name)
    before: list[Said | None] = []
    first: list[Said | None] = []
    windows = data.windows
    for number, rows in enumerate(windows):
        write(service, feature, [(data.times[row], values[row]) for row in rows])
        if number == 0:
            before.append(None)
            first.append(None)
            continue
        before.append(_drift(service, feature, data, windows[number - 1], rows))
        first.append(_drift(service, feature, data, windows[0], rows))
    return before, first


def register(service: httpx.Client, name: str) -> str:
    """A number by `entity.name`; its id."""
    entity, _, name = name.partition(".")
    body = {"name": name, "entity": entity, "valueType": "number"}
    return str(service.post("/features/register", json=body).raise_for_status().json()["id"])


def write(service: httpx.Client, feature: str, rows: Sequence[Row]) -> None:
    """(timestamp, value) of the one entity that a series is about, in order, in batches."""
    for start in range(0, len(rows), BATCH):
        values = [
            {"featureId": feature, "entityId": "the-one", "value": value, "timestamp": time}
            for time, value in rows[start : start + BATCH]
        ]
        service.post("/features/write-batch", json={"values": values}).raise_for_status()


def _drift(service: httpx.Client, feature: str, data: Data, reference: range, current: range) -> Said:
    """Raises RuntimeError when the answer is not about the rows that were asked for."""
    periods = [f"{data.times[rows[0]]}/{data.times[rows[-1]]}" for rows in (reference, current)]
    path = f"/features/{feature}/drift?reference={periods[0]}&current={periods[1]}"
    answer: dict[str, Any] = service.get(path).raise_for_status().json()
    counts = [answer[side]["count"] for side in ("reference", "current")]
    if counts != [len(reference), len(current)]:
        raise RuntimeError(f"{path}: {counts} observations were compared, not {len(reference)}, {len(current)}")
    return Said(answer["verdict"], answer["severity"], answer["score"], answer["metrics"])
