"""The client of the commands that move tables: it sends and receives Arrow tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import pyarrow as pa

from timewell.arrow import from_stream, to_stream
from timewell.calls import ARROW, Request, Retry, Talk, is_repeat, query, read, route
from timewell.client import Client
from timewell.commands.options import RETRY_SECONDS, telling
from timewell.routes.exports import Pages
from timewell.wire import Written

TIMEOUT_SECONDS = 300.0
PATIENT = Retry(seconds=120.0)
"""Retries for long work, which is to survive a restart of the service."""


class TableClient(Client):
    """A client with methods for tables. Its timeout is longer, as answers take longer."""

    def __init__(self, url: str, retry_seconds: float) -> None:
        super().__init__(url, timeout=TIMEOUT_SECONDS, retry_seconds=retry_seconds)
        telling(self)

    def be_patient(self) -> None:
        """Retry for longer from now on, unless --retry-seconds was given: the service has answered before."""
        if self._retry.seconds == RETRY_SECONDS:
            self._retry = PATIENT

    def __enter__(self) -> Self:
        return self

    @route
    def write_table(
        self, table: pa.Table, key: str, nulls: str, entity: str | None = None
    ) -> Talk[tuple[Written, bool]]:
        """Write a wide table, whole or not at all. Returns the answer and whether an earlier write got it.

        `entity`: its entity type, if columns are named like the keys of that.
        """
        headers = {"Content-Type": ARROW, "Idempotency-Key": key}
        request = Request(
            "POST", "/features/write-batch", query(nulls=nulls, entity=entity), to_stream(table), headers
        )
        answer = yield from self._retry.ask(request)
        return read(answer, Written), is_repeat(answer)

    @route
    def begin_export(
        self,
        features: Sequence[str] | None,
        service: str | None,
        entity: str | None,
        entity_ids: Sequence[str] | None,
        start: str | None,
        end: str | None,
    ) -> Talk[Pages]:
        """Begin an export; None as `entity_ids` means all entities."""
        return (yield from self._exporting(features, None, service, entity, entity_ids, start, end))

    @route
    def export_page(self, pages: Pages) -> Talk[pa.Table]:
        """The next page of an export."""
        return (yield from self._export_page(pages))

    @route
    def fill(self, keys: pa.Table, asked: Mapping[str, Any]) -> Talk[pa.Table]:
        """The feature columns of a training set for the rows of `keys` (ids and `timestamp`)."""
        headers = {"Content-Type": ARROW, "Accept": ARROW}
        request = Request("POST", "/features/training-set", query(**asked), to_stream(keys), headers)
        table = from_stream((yield from self._retry.ask(request)).content)
        return table.drop_columns(keys.column_names)

    @route
    def rows_of_spine(self, asked: Mapping[str, Any]) -> Talk[pa.Table]:
        """The rows of a training set that is made of observations, with the options of `keep_training_set`."""
        return (yield from self._spine_rows(asked))

    @route
    def kept_rows(self, name: str) -> Talk[pa.Table]:
        """The rows of a kept training set."""
        return (yield from self._kept_rows(name))
