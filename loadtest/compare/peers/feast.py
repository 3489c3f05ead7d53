"""Feast: its feature server over HTTP, its library for training sets from Parquet files.

The online store is SQLite (the default), a Valkey of its own, or the store that it shares with Timewell. A feature
view has exactly the features that are read together, which is the best case, since whole views are read. Worker
restarts and access logs are off.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec
import numpy as np
import pyarrow.parquet as pq
import yaml

from actors.timestamps import format_timestamp
from loadtest.compare.data import LOADED_AT, Data, History, arrow_of, batch_table, columns_of
from loadtest.compare.driving import LOOPBACK, Rounds, ask, call, drive
from loadtest.compare.environments import Environment
from loadtest.compare.serving import (
    Launch,
    Place,
    Served,
    Serving,
    Starting,
    Store,
    over_http,
    over_rpc,
    serving,
    valkey,
)
from loadtest.compare.several import TYPES, Part, features_of, keys_of
from loadtest.compare.work import (
    ROWS,
    SEPARATE,
    SERVED,
    TRAINED,
    WRITTEN,
    Batch,
    Given,
    Read,
    Serve,
    ServeRows,
    Timed,
    TrainingSet,
    TrainRows,
    View,
    Work,
    Write,
)
from loadtest.machine.messages import encoded
from loadtest.micro.data import ENTITY

MOMENT = "event_timestamp"
DRIVER = "loadtest.compare.peers.feast_sdk"
HEALTH = encoded("GET", "/health")


class Kind(NamedTuple):
    """The online store: SQLite, a store given, or one of its own."""

    name: str
    kinds: tuple[type, ...]
    own: Starting | None = None


SQLITE = Kind("Feast, SQLite", (Serve, Write, TrainingSet, ServeRows, TrainRows))
REDIS = Kind("Feast, Redis everysec", (Serve, Write), valkey)
SHARED_REDIS = Kind("Feast, both over Redis", (Serve, Write))
SHARED_POSTGRESQL = Kind("Feast, both over PostgreSQL", (Serve, Write))


def online_store(store: Store) -> dict[str, Any]:
    """A store in Feast's configuration."""
    where = urlsplit(store.url)
    if store.kind == "redis":
        return {"type": "redis", "connection_string": f"{where.hostname}:{where.port}"}
    names = {"database": where.path.removeprefix("/"), "user": where.username, "password": ""}
    address = {"host": where.hostname, "port": where.port, "sslmode": "disable", "conn_type": "pool"}
    return {"type": "postgres", **address, **names}


class Feast(Served):
    """A feature server, its online store, and a driver for the library."""

    def __init__(self, kind: Kind, place: Place) -> None:
        super().__init__(place)
        self._environment = Environment("feast", place.environments)
        self.name, self.kinds, self._own_store = kind
        self._driver: Serving | None = None
        self._prepared: set[View] = set()

    async def start(self) -> None:
        """Start the online store, the driver and the feature server. Raises Unavailable."""
        python = await self._environment.python()
        if self._own_store is not None:
            self._store = self._stack.enter_context(self._own_store(self._cores))
        words = self._directory / "driver.words"
        driver = Launch(lambda port: [python, "-m", DRIVER, str(port)], over_rpc, self._cores.all, words)
        self._driver = await self._stack.enter_async_context(serving(driver))
        self._configure("online")
        self._configure("offline")
        await self._define()
        await super().start()

    async def stop(self) -> None:
        """Stop all of them except a shared store."""
        self._driver = None
        await super().stop()

    def _repository(self, name: str) -> Path:
        return self._directory / name

    def _configure(self, name: str) -> None:
        repository = self._repository(name)
        repository.mkdir(exist_ok=True)
        online = online_store(self._store) if self._store else {"type": "sqlite", "path": "online.db"}
        config = {
            "project": "timewell",
            "provider": "local",
            "registry": "registry.db",
            "online_store": online,
            "offline_store": {"type": "file"},
            "entity_key_serialization_version": 3,
        }
        (repository / "feature_store.yaml").write_text(yaml.safe_dump(config))

    def launch(self, name: str) -> Launch:
        feast = self._environment.directory / "bin" / "feast"
        options = ["--host", LOOPBACK, "--no-access-log", "--max-requests", "0"]

        def command(port: int) -> list[str | Path]:
            return [feast, "-c", self._repository("online"), "serve", "--port", str(port), *options]

        environment = {"HOME": str(self._directory), "FEAST_USAGE": "False"}
        return Launch(
            command, over_http(HEALTH), self._cores.server, self._directory / f"{name}.words", environment
        )

    async def _call(self, name: str, *given: Any) -> Any:
        assert self._driver is not None
        return await call(self._driver.port, name, *given)

    async def _define(self) -> None:
        """Views over files of one row, since no training set reads them."""
        repository = self._repository("online")
        views = {name: features for view in (*SERVED, *WRITTEN, ROWS) for name, features in _views(view).items()}
        keys = dict(zip(_views(ROWS), TYPES.values(), strict=True))
        files = {name: str(repository / f"{name}.parquet") for name in views}
        for name, features in views.items():
            nobody = {key: ["nobody"] for key in keys.get(name, [ENTITY])}
            row = {**nobody, "t": np.array([LOADED_AT]), **{feature: [0.0] for feature in features}}
            pq.write_table(arrow_of(row, ENTITY, MOMENT), files[name])
        await self._call("define", str(repository), views, files, True, keys)

    async def load(self, data: Data) -> None:
        repository = self._repository("online")
        file = str(repository / "loaded.parquet")
        for view in SERVED:
            batch = Batch(data.entities, LOADED_AT, data.values[:, : view.width])
            pq.write_table(batch_table(view, batch, ENTITY, MOMENT), file)
            await self._call("load", str(repository), view.name, file)

    async def prepare(self, work: TrainingSet | ServeRows, data: Data) -> None:
        """A Parquet file for each history, or each entity type of rows; a feature view of it, or its values."""
        if work.view in self._prepared:
            return
        repository = self._repository("online" if isinstance(work, ServeRows) else "offline")
        several = isinstance(work, ServeRows | TrainRows)
        held: list[Part | History] = [*data.parts(work.view)] if several else [*data.histories(work.view)]
        views = {f"{work.view.name}{number}": list(one.features) for number, one in enumerate(held)}
        files = {name: str(repository / f"{name}.parquet") for name in views}
        for one, file in zip(held, files.values(), strict=True):
            pq.write_table(arrow_of(one.table, ENTITY, MOMENT), file)
        if isinstance(work, ServeRows):
            for name, file in files.items():
                await self._call("load", str(repository), name, file)
        else:
            keys = dict(zip(views, TYPES.values(), strict=True)) if several else {}
            await self._call("define", str(repository), views, files, False, keys)
        self._prepared.add(work.view)

    async def do(self, work: Work, given: Given) -> Timed:
        if isinstance(work, TrainingSet):
            return await self._training_set(work, given)
        assert isinstance(work, Serve | Write)
        if isinstance(work, Serve):
            sent = Rounds([_serve_request(work.view, entities) for entities in given.asked], again=True)
        else:
            sent = Rounds([_push_request(work.view, batch) for batch in given.batches], again=False)
        return await drive(self.port, sent, work.connections, given.seconds)

    async def _training_set(self, work: TrainingSet, given: Given) -> Timed:
        repository = self._repository("offline")
        asked, answer = repository / "asked.parquet", repository / "answer.parquet"
        pq.write_table(arrow_of(given.rows, ENTITY, MOMENT), asked)
        each = {SEPARATE: 1, TRAINED: TRAINED.width // len(TYPES)}.get(work.view, work.view.width)
        features = [
            f"{work.view.name}{number // each}:{feature}" for number, feature in enumerate(work.view.features)
        ]
        done = await self._call("training_set", str(repository), str(asked), features, str(answer))
        columns = columns_of(pq.read_table(answer).to_pandas(), work.view.features)
        took = done["seconds"]
        return Timed(1, took, columns=columns, processor_seconds=done["processor_seconds"])

    async def read(self, view: View, entities: Sequence[str]) -> Read:
        """The answer has a list for each feature, in an order of its own."""
        answer = msgspec.json.decode(await ask(self.port, _serve_request(view, entities)))
        names = answer["metadata"]["feature_names"]
        columns = {name: one["values"] for name, one in zip(names, answer["results"], strict=True)}
        return [[columns[feature][row] for feature in view.features] for row in range(len(entities))]

    async def versions(self) -> dict[str, str]:
        installed = await self._environment.versions()
        return {
            name: installed[name] for name in ("feast", "pandas", "dask", "uvicorn", "redis") if name in installed
        }


def _views(view: View) -> dict[str, list[str]]:
    """The feature views of a view that is served, with their features: one for each entity type of rows."""
    if view != ROWS:
        return {view.name: view.features}
    return {f"{view.name}{number}": features for number, features in enumerate(features_of(view).values())}


def _serve_request(view: View, entities: Sequence[str]) -> bytes:
    features = [f"{name}:{feature}" for name, features in _views(view).items() for feature in features]
    body = {"entities": keys_of(entities) if view == ROWS else {ENTITY: entities}, "features": features}
    return encoded("POST", "/get-online-features", msgspec.json.encode(body))


def _push_request(view: View, batch: Batch) -> bytes:
    columns = dict(zip(view.features, batch.values.T.tolist(), strict=True))
    moments = [format_timestamp(batch.moment)] * len(batch.entities)
    frame = {ENTITY: batch.entities, MOMENT: moments, **columns}
    body = {"push_source_name": f"{view.name}_push", "df": frame, "to": "online"}
    return encoded("POST", "/push", msgspec.json.encode(body))
