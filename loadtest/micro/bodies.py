"""Registering features, and values as requests that write them in each form."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import pyarrow as pa

from actors.domain import Feature
from actors.timestamps import format_timestamp
from actors.types.type import no_nulls
from actors.types.values import render
from loadtest.machine import requests
from loadtest.machine.arrow import post_table
from loadtest.machine.connection import Connection
from loadtest.machine.messages import Address, encoded
from loadtest.micro import data

BATCH = 10_000
"""The values of a usual batch."""
Body = Callable[[np.random.Generator, int], bytes]
"""Makes a request of a number of values, their event times spread over a month."""


def register(address: Address, features: Sequence[Feature] = data.MIXED) -> None:
    """Register features, by default the 20 of the benchmarks."""
    with Connection(address) as connection:
        for feature in features:
            connection.ask(requests.register(feature.name, feature.entity, feature.value_type))


def observations(random: np.random.Generator, count: int) -> list[requests.Observation]:
    """Values of the 20 features, as many of each, in no order."""
    each = count // len(data.MIXED)
    rows = []
    for feature in data.MIXED:
        values = render(feature.value_type, data.random_values(random, feature.value_type, each), no_nulls(each))
        moments = map(format_timestamp, data.random_times(random, each).tolist())
        for entity, value, moment in zip(data.random_entities(random, each), values, moments, strict=True):
            rows.append(requests.observation(feature.id, entity, value, moment))
    return [rows[place] for place in random.permutation(len(rows)).tolist()]


def as_json(random: np.random.Generator, values: int) -> bytes:
    return requests.write_batch(observations(random, values))


def as_lines(random: np.random.Generator, values: int) -> bytes:
    body = msgspec.json.Encoder().encode_lines(observations(random, values))
    return encoded("POST", requests.WRITE_BATCH, body, "application/x-ndjson")


def as_long_arrow(random: np.random.Generator, values: int) -> bytes:
    """A value of one of 14 features in each row, in no order."""
    numbers = [feature.id for feature in data.MIXED if feature.value_type == "number"]
    columns = {
        "featureId": [numbers[place] for place in random.integers(0, len(numbers), values).tolist()],
        "entityId": data.random_entities(random, values),
        "value": data.random_values(random, "number", values),
        "timestamp": _moments(random, values),
    }
    return post_table(requests.WRITE_BATCH, pa.table(columns))


def as_wide_arrow(random: np.random.Generator, values: int) -> bytes:
    """A value of each of 20 features in each row."""
    rows = values // len(data.MIXED)
    keys = {"entityId": data.random_entities(random, rows), "timestamp": _moments(random, rows)}
    columns = {feature.id: data.random_values(random, feature.value_type, rows) for feature in data.MIXED}
    return post_table(requests.WRITE_BATCH, pa.table({**keys, **columns}))


def _moments(random: np.random.Generator, count: int) -> pa.Array:
    return pa.array(data.random_times(random, count)).cast(pa.timestamp("us", "UTC"))
