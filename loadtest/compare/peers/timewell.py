"""Timewell itself: `python -m web` with default settings, on its own files or over a shared store."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from urllib.parse import urlencode

import msgspec
import pandas as pd
import pyarrow as pa
import trio

from actors.timestamps import format_timestamp
from loadtest.compare.data import LOADED_AT, Data, arrow_of, batch_table, columns_of
from loadtest.compare.driving import Rounds, ask, drive
from loadtest.compare.serving import Launch, Place, Served, over_http, serving
from loadtest.compare.several import BOTH, MERCHANT, Part, features_of, of_users, rows_of
from loadtest.compare.work import (
    ROWS,
    WRITTEN,
    Batch,
    Given,
    Load,
    Read,
    Serve,
    ServeRows,
    Table,
    Timed,
    TrainingSet,
    TrainRows,
    View,
    Work,
    Write,
)
from loadtest.machine import requests
from loadtest.machine.arrow import ARROW, post_table
from loadtest.machine.messages import encoded, get, post
from loadtest.machine.processes import ROOT, processor_time
from loadtest.micro.data import ENTITY

ROWS_A_WRITE = 1_000
HISTORY_ROWS_A_WRITE = 50_000
REGISTERING_CONNECTIONS = 16
LOADED = {"amount": "number", "pieces": "integer"}
READY = encoded("GET", "/health/ready")


class Timewell(Served):
    """Timewell, which peers are compared with."""

    name = "Timewell"
    kinds: tuple[type, ...] = (Serve, Write, TrainingSet, ServeRows, TrainRows, Load)

    def __init__(self, settings: Mapping[str, str], place: Place) -> None:
        super().__init__(place)
        kept = {"STORAGE_TYPE": "embedded"}
        if place.store:
            kept = {"STORAGE_TYPE": place.store.kind, "STORAGE_URL": place.store.url}
        self._environment = {**settings, **kept}
        self._registered: set[View] = set()
        self._prepared: set[View] = set()

    def launch(self, name: str) -> Launch:

        def command(port: int) -> list[str]:
            flags = ["--host", "127.0.0.1", "--port", str(port), "--data-dir", str(self._directory / name)]
            return [sys.executable, "-m", "web", *flags]

        words = self._directory / f"{name}.words"
        return Launch(command, over_http(READY), self._cores.server, words, self._environment)

    async def load(self, data: Data) -> None:
        """Write the widest view, which contains the others."""
        await self._register(data.loaded, *WRITTEN)
        for start in range(0, len(data.entities), ROWS_A_WRITE):
            part = slice(start, start + ROWS_A_WRITE)
            batch = Batch(data.entities[part], LOADED_AT, data.values[part])
            await ask(self.port, write_request(Write(data.loaded, ROWS_A_WRITE), batch))

    async def prepare(self, work: TrainingSet | ServeRows, data: Data) -> None:
        """Write the histories of the view, or the values of rows, as Arrow."""
        if work.view in self._prepared:
            return
        if isinstance(work, ServeRows | TrainRows):
            for part in self.parts(work.view, data):
                await self._register_all(part.entity, list(part.features), list(part.keys))
                await self._write({"e": part.ids, "t": part.times, **part.features})
        else:
            assert isinstance(work, TrainingSet)
            await self._register(work.view)
            for history in data.histories(work.view):
                await self._write(history.table)
        self._prepared.add(work.view)

    def parts(self, view: View, data: Data) -> list[Part]:
        """The observations for rows that name several entities."""
        return data.parts(view)

    async def _write(self, columns: Table) -> None:
        table = arrow_of(columns, "entityId", "timestamp")
        for start in range(0, len(table), HISTORY_ROWS_A_WRITE):
            part = table.slice(start, HISTORY_ROWS_A_WRITE)
            await ask(self.port, post_table(requests.WRITE_BATCH, part))

    async def _register(self, *views: View) -> None:
        new = [view for view in views if view not in self._registered]
        await self._register_all(ENTITY, [feature for view in new for feature in view.features], [ENTITY])
        self._registered |= set(new)

    async def _register_all(self, entity: str, features: Sequence[str], keys: Sequence[str]) -> None:
        """Concurrently, since each is durable when it is answered."""
        if len(keys) > 1:
            await ask(self.port, post("/entities", {"name": entity, "keys": keys}))
        if sent := [requests.register(feature, entity) for feature in features]:
            await drive(self.port, Rounds(sent, again=False), REGISTERING_CONNECTIONS, math.inf)

    async def do(self, work: Work, given: Given) -> Timed:
        if isinstance(work, TrainingSet):
            return await self._training_set(work, given)
        if isinstance(work, Load):
            return await self._loaded(given)
        connections = work.connections if isinstance(work, Serve | Write) else 1
        return await drive(self.port, requests_of(work, given), connections, given.seconds)

    async def _training_set(self, work: TrainingSet, given: Given) -> Timed:
        """From a pandas frame to a pandas frame, both sent as Arrow."""
        frame = arrow_of(given.rows, "entityId", "timestamp").to_pandas()
        began = time.perf_counter()
        found = await self.joined(frame, work.view)
        took = time.perf_counter() - began
        return Timed(1, took, columns=columns_of(found, work.view.features))

    async def joined(self, frame: pd.DataFrame, view: View) -> pd.DataFrame:
        """The rows of a frame with the features of a view."""
        return await self.asked(frame, view.features)

    async def asked(self, frame: pd.DataFrame, features: Sequence[str]) -> pd.DataFrame:
        """The answer to one request for a training set."""
        path = f"/features/training-set?{urlencode({'features': ','.join(features)})}"
        request = post_table(path, pa.Table.from_pandas(frame, preserve_index=False))
        answer = await ask(self.port, _accepting_arrow(request))
        return pa.ipc.open_stream(answer).read_pandas()

    async def _loaded(self, given: Given) -> Timed:
        """`timewell load` in its own process, into an empty server."""
        name = f"load-{time.monotonic_ns()}"
        async with serving(self.launch(name)) as server:
            for column, value_type in LOADED.items():
                await ask(server.port, requests.register(column, ENTITY, value_type))
            kept = {
                "XDG_CACHE_HOME": str(self._directory / name),
                "TIMEWELL_URL": f"http://127.0.0.1:{server.port}",
            }
            command = [sys.executable, "-m", "web.cli", "load", str(given.file), "--entity", ENTITY, "--json"]
            began, spent = time.perf_counter(), processor_time(server.processes())
            environment = {**os.environ, **kept}
            done = await trio.run_process(
                command, env=environment, cwd=ROOT, capture_stdout=True, capture_stderr=True, check=False
            )
            took, spent = time.perf_counter() - began, processor_time(server.processes()) - spent
            if done.returncode:
                raise RuntimeError(f"the load failed: {done.stderr.decode(errors='replace')}")
            said = msgspec.json.decode(done.stdout)["values"]
            stats = [msgspec.json.decode(await ask(server.port, get(f"/features/{one}/stats"))) for one in LOADED]
        if said != sum(one["count"] for one in stats):
            raise RuntimeError(f"{said:,} values were loaded, of which the statistics count {stats}")
        return Timed(said, took, processor_seconds=spent)

    async def read(self, view: View, entities: Sequence[str]) -> Read:
        answer = await ask(self.port, serve_request(view, entities))
        results = msgspec.json.decode(answer)["results"]
        return [[row["features"][feature] for feature in view.features] for row in results]

    async def versions(self) -> dict[str, str]:
        return {name: version(name) for name in ("timewell", "hypercorn", "trio")}


ALONE = ROWS._replace(name="alone")
"""The same features, all of them the user's."""


class OneType(Timewell):
    """Timewell asked about one entity type at a time, as clients without `rows` have to.

    In serving, all features are the user's. A training set takes a request for each type, joined by row.
    """

    name = "Timewell, one type a time"
    kinds = (ServeRows, TrainRows)

    def parts(self, view: View, data: Data) -> list[Part]:
        parts = super().parts(view, data)
        return [of_users(parts, data.entities)] if view == ROWS else parts

    async def do(self, work: Work, given: Given) -> Timed:
        return await super().do(Serve(ALONE, work.entities) if isinstance(work, ServeRows) else work, given)

    async def read(self, view: View, entities: Sequence[str]) -> Read:
        return await super().read(ALONE, entities)

    async def joined(self, frame: pd.DataFrame, view: View) -> pd.DataFrame:
        pairs = '["' + frame[ENTITY] + '","' + frame[MERCHANT] + '"]'
        ids = {ENTITY: frame[ENTITY], MERCHANT: frame[MERCHANT], BOTH: pairs}
        found = frame
        for entity, features in features_of(view).items():
            rows = frame[["timestamp", "n"]].assign(entityId=ids[entity])
            answer = await self.asked(rows, features)
            found = found.merge(answer[["n", *features]], on="n")
        return found


# Requests


def requests_of(work: Work, given: Given) -> Rounds:
    if isinstance(work, Serve):
        return Rounds([serve_request(work.view, entities) for entities in given.asked], again=True)
    assert isinstance(work, Write)
    return Rounds([write_request(work, batch) for batch in given.batches], again=False)


def serve_request(view: View, entities: Sequence[str]) -> bytes:
    if view == ROWS:
        return post("/features/serve", {"rows": rows_of(entities), "features": view.features})
    return requests.serve(entities, view.features)


def write_request(work: Write, batch: Batch) -> bytes:
    """A batch as a request: one value, many as JSON, or a wide Arrow table."""
    if not work.as_json:
        return post_table(requests.WRITE_BATCH, batch_table(work.view, batch, "entityId", "timestamp"))
    values = list(_observations(work.view, batch))
    return requests.write(values[0]) if len(values) == 1 else requests.write_batch(values)


def _observations(view: View, batch: Batch) -> Iterator[requests.Observation]:
    ids = [f"{ENTITY}.{feature}.v1" for feature in view.features]
    moment = format_timestamp(batch.moment)
    for entity, row in zip(batch.entities, batch.values.tolist(), strict=True):
        for feature, value in zip(ids, row, strict=True):
            yield requests.observation(feature, entity, value, moment)


def _accepting_arrow(request: bytes) -> bytes:
    return request.replace(b"\r\n", f"\r\nAccept: {ARROW}\r\n".encode(), 1)
