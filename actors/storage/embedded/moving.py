"""Reads everything from the runs, and writes it through the journal into them, for migrations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from actors.domain import Feature
from actors.storage.carrying import by_arrival, whole
from actors.storage.embedded import layout
from actors.storage.embedded.damages import Damages
from actors.storage.embedded.filed import LocalHistory, doing
from actors.storage.embedded.log import LocalLog
from actors.storage.embedded.runs import Runs
from actors.storage.entries import Noted
from actors.storage.protocol import Lot
from actors.timestamps import FOREVER, NEVER


class LocalMover:
    """See `Mover`."""

    def __init__(self, log: LocalLog, filed: LocalHistory, runs: Runs, damages: Damages) -> None:
        self._log = log
        self._filed = filed
        self._runs = runs
        self._damages = damages

    @doing("read")
    def held(self, after: int) -> int:
        """Count the rows of runs that reach beyond `after`, and of the journal."""
        runs = sum(run.rows for run in self._runs.runs() if run.position > after)
        return runs + self._log.count(max(after, self._filed.position))

    def carried(self, features: Mapping[str, Feature], after: int) -> Iterator[Lot]:
        """Read run by run, after moving the journal into the runs. Raises Damaged if values are lost."""
        for feature in features.values():
            self._damages.need_nothing_lost(feature, NEVER, FOREVER)
        self._flush(features)
        for run in self._runs.runs():
            if run.position > after:
                batches = map(self._filed.not_erased, run.scan(layout.SCHEMA.names, None))
                loaded = (part for batch in batches for part in layout.loaded(batch, features))
                parts = (layout.later(part, after) for part in loaded)
                yield Lot(run.position, whole(part for part in parts if len(part.arrived)))

    def carry(self, lot: Lot, note: Noted) -> None:
        """Commit to the journal, one batch for each arrival, and move it into the runs."""
        self._log.commit([*by_arrival(lot.parts), note])
        self._flush(self._log.features())

    def _flush(self, features: Mapping[str, Feature]) -> None:
        while self._filed.flush(lambda: features, NEVER).observations:
            pass
