"""A storage whose commits and rebuilds can be made to fail or to wait."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from actors.errors import StorageDown
from actors.storage.embedded.local import MemoryStorage
from actors.storage.entries import Entry
from actors.storage.protocol import Flush, HistoryPlan

PATIENCE_SECONDS = 20.0
Commit = Callable[[Sequence[Entry]], Sequence[Any]]


class FaultyStorage(MemoryStorage):
    """Counts what it is asked. `failing` holds the names of methods that raise; `stalled` makes one wait."""

    def __init__(self) -> None:
        super().__init__()
        self.commits: list[int] = []
        self.failing: set[str] = set()
        self._gates: dict[str, threading.Event] = {}
        instead(self.log, "commit", self.commit)
        instead(self.history, "flush", self.flush)
        instead(self.history, "plan", self.plan)

    @contextmanager
    def stalled(self, method: str) -> Iterator[None]:
        """Calls of the method wait until the block is left."""
        gate = self._gates[method] = threading.Event()
        try:
            yield
        finally:
            del self._gates[method]
            gate.set()

    def _pass(self, method: str) -> None:
        gate = self._gates.get(method)
        if gate is not None and not gate.wait(PATIENCE_SECONDS):
            raise AssertionError(f"{method} was stalled and never released")
        if method in self.failing:
            raise StorageDown(f"{method} fails: injected")

    def commit(self, sane: Commit, entries: Sequence[Entry]) -> Sequence[Any]:
        """In place of the log's, which is `sane`."""
        self._pass("commit")
        recorded = sane(entries)
        self.commits.append(len(entries))
        return recorded

    def flush(self, sane: Callable[..., Flush], *about: Any) -> Flush:
        """In place of the history's."""
        self._pass("flush")
        return sane(*about)

    def plan(self, sane: Callable[..., HistoryPlan], *about: Any) -> HistoryPlan:
        """In place of the history's."""
        self._pass("plan")
        return sane(*about)


def instead(part: object, method: str, called: Callable[..., Any]) -> None:
    """Have something else called in place of a method: with what the method was, and its arguments."""
    setattr(part, method, partial(called, getattr(part, method)))
