"""A real server in a child process, spoken to over a real socket, and a storage as such a process has it."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from actors.opening import make_storage
from actors.settings import Settings
from tests.nursery import Nursery, Process

ROOT = Path(__file__).parent.parent
START_SECONDS = 30.0
_NURSERY = Nursery()


class LiveServer:
    """What `python -m web` runs, on a free port. A context manager; `kill` and `start` crash and restart it."""

    def __init__(self, data_dir: Path, **environment: str) -> None:
        self.data_dir = data_dir
        self.log = ""
        self._environment = environment
        self._process: Process | None = None
        self.http = httpx.Client()

    def start(self) -> None:
        """Start it and wait until it says where it listens. Raises RuntimeError with its words if it dies."""
        environment = {**os.environ, "PORT": "0", "DATA_DIR": str(self.data_dir), **self._environment}
        self._process = _NURSERY.start(ROOT, environment)
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.log += line
            if found := re.search(r"serving on (http://\S+?),? \(", line):
                self.http = httpx.Client(base_url=found[1], timeout=START_SECONDS)
                return
        self._process.communicate()
        raise RuntimeError(self.log)

    @property
    def url(self) -> str:
        """Where it listens."""
        return str(self.http.base_url).rstrip("/")

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it, wait for it, and return its exit code."""
        assert self._process is not None
        self.http.close()
        self._process.send_signal(how)
        _, rest = self._process.communicate(timeout=START_SECONDS)
        self.log += rest
        return int(self._process.returncode)

    def kill(self) -> None:
        """SIGKILL: nothing is said, nothing is finished."""
        self.stop(signal.SIGKILL)

    def __enter__(self) -> LiveServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()

    # The calls that most tests make

    def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        """POST JSON."""
        return self.http.post(path, json=body, headers=headers)

    def get(self, path: str, **query: Any) -> httpx.Response:
        """GET with a query string."""
        return self.http.get(path, params=query)

    def register(self, name: str, value_type: str = "number", **rest: Any) -> dict[str, Any]:
        """Register a feature of `user`, or of the entity given."""
        answer = self.post("/features/register", {"name": name, "entity": "user", "valueType": value_type, **rest})
        assert answer.status_code in (200, 201), answer.text
        return dict(answer.json())

    def feature(self, reference: str) -> dict[str, Any]:
        """A feature as it was registered, without what stands on it."""
        answer = self.get(f"/features/{reference}")
        assert answer.status_code == 200, answer.text
        return {name: value for name, value in answer.json().items() if name != "usedBy"}

    def delete_feature(self, id_: str) -> None:
        """Delete a feature, whatever reads it."""
        answer = self.http.delete(f"/features/{id_}?force=true")
        assert answer.status_code == 204, answer.text

    def write(self, *rows: tuple[str, str, Any, str]) -> None:
        """Write (feature, entity id, value, timestamp) rows."""
        values = [
            {"featureId": feature, "entityId": entity, "value": value, "timestamp": timestamp}
            for feature, entity, value, timestamp in rows
        ]
        answer = self.post("/features/write-batch", {"values": values})
        assert answer.status_code == 200, answer.text

    def serve(self, entities: list[str], features: list[str], **rest: Any) -> list[dict[str, Any]]:
        """The results of a serve request."""
        answer = self.post("/features/serve", {"entityIds": entities, "features": features, **rest})
        assert answer.status_code == 200, answer.text
        return list(answer.json()["results"])


@contextmanager
def storage_over(store: Mapping[str, str]) -> Iterator[Any]:
    """The storage of a process of its own over a shared store."""
    kind: Any = store["STORAGE_TYPE"]
    storage = make_storage(Settings(storage_type=kind, storage_url=store["STORAGE_URL"]))
    storage.open()
    try:
        yield storage
    finally:
        storage.close()
