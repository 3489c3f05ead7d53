"""The stages of a soak: load and read back; load and kill; read back again."""

from __future__ import annotations

import msgspec

from loadtest.machine.connection import Connection
from loadtest.machine.cores import Cores
from loadtest.machine.service import Service, crowded_share
from loadtest.openloop.load import Load
from loadtest.openloop.parent import Driven, Watch, drive, prepare
from loadtest.openloop.recording import Recording
from loadtest.soak.ledger import Book, counted, discrepancies, ledger
from loadtest.workloads.soaking import Soaking

CRASH_SECONDS, KILL_AFTER_SECONDS = 2.0, 0.8
CRASH = "crash-"
"""The prefix of entity ids in the stage that ends in a kill."""


class Stage:
    """The results so far. `looks`: what was verified, and what differed; `memory`: (seconds, resident bytes)."""

    driven: Driven

    def __init__(self, load: Load, cores: Cores) -> None:
        self._load, self._cores = load, cores
        self._before: dict[int, int] = {}
        self.books: list[Book] = []
        self.memory: list[tuple[float, int]] = []
        self.crowded: float | None = None
        self.looks: list[tuple[str, list[str]]] = []

    def soak(self, server: Service) -> None:
        """The load itself, then verify every acknowledged value."""
        prepare(server, self._load.shape)
        if server.alive:
            prepare(server, self._crash().shape)
        with Connection(server.address) as connection:
            self._before = counted(connection)

        def sample(_recording: Recording, since: float) -> None:
            if (footprint := server.footprint()) is not None:
                self.memory.append((since, footprint.resident_bytes))

        footprint = server.footprint()
        self.driven = self._drive(server, self._load, sample)
        self.crowded = crowded_share(footprint, server.footprint())
        self._look("nothing lost", server)

    def kill_under_load(self, server: Service) -> None:
        """Load it again and kill it during that."""

        def kill(_recording: Recording, since: float) -> None:
            if since > KILL_AFTER_SECONDS and server.alive:
                server.kill()

        self._drive(server, self._crash(), kill)

    def look_again(self, server: Service) -> None:
        """Verify again after a restart."""
        self._look("nothing lost after SIGKILL under load and restart", server)

    def _crash(self) -> Load:
        shape = msgspec.structs.replace(self._load.shape, prefix=CRASH + self._load.shape.prefix)
        return msgspec.structs.replace(self._load, shape=shape, seconds=CRASH_SECONDS, warm_up=0.0)

    def _drive(self, server: Service, load: Load, watch: Watch) -> Driven:
        driven = drive(server, load, self._cores, watch)
        work = Soaking(load.shape, len(driven.recording))
        self.books.append(Book(work, ledger(work, driven.recording)))
        return driven

    def _look(self, name: str, server: Service) -> None:
        with Connection(server.address) as connection:
            self.looks.append((name, discrepancies(connection, self._before, self.books)))
