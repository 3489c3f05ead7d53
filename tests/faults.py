"""A storage whose commits and rebuilds can be made to fail or to wait."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from actors.errors import StorageDown
from actors.storage.embedded.local import MemoryStorage
from actors.storage.protocol import Entry, Flush, HistoryPlan, Known

PATIENCE_SECONDS = 20.0


class FaultyStorage(MemoryStorage):
    """Counts what it is asked. `failing` holds the names of methods that raise; `stalled` makes one wait."""

    def __init__(self) -> None:
        super().__init__()
        self.commits: list[int] = []
        self.failing: set[str] = set()
        self._gates: dict[str, threading.Event] = {}

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

    def commit(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        self._pass("commit")
        recorded = super().commit(entries)
        self.commits.append(len(entries))
        return recorded

    def plan(self, budget: int) -> HistoryPlan:
        self._pass("plan")
        return super().plan(budget)

    def flush(self, known: Known, now: int) -> Flush:
        self._pass("flush")
        return super().flush(known, now)
