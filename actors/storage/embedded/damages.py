"""The known damage to a storage, and which requests have to be refused because of it.

There are three kinds of damage. A batch of the journal is lost: requests for what it held are refused until a
backup is restored. A history file is damaged: requests that need one of its damaged blocks are refused; the file
is not loaded, and neither compacted nor rewritten, which would make the rest of it look sound. The monitor's
database is damaged: there are no statistics of what is affected.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from actors.domain import Feature
from actors.errors import Damaged
from actors.storage.embedded.journal_file import Journal
from actors.storage.embedded.runs import DeltaRuns, Run
from actors.storage.embedded.sealed import Lost, counted, told
from actors.storage.embedded.summaries import EmbeddedSummaries
from actors.timestamps import FOREVER, NEVER, format_timestamp

log = logging.getLogger("timewell.storage")
MOST_NOTED = 1_000
MOST_SPANS_TOLD = 20
_BATCH = "a batch in the journal is damaged"


class Damages:
    """The damage to journal, history and statistics. See the module docstring."""

    def __init__(self, journal: Journal, monitored: EmbeddedSummaries) -> None:
        self._journal = journal
        self._monitored = monitored
        self._broken: dict[str, int] = {}
        """The descriptions of damage found in the history, each with the position of its run."""

    def look(self) -> None:
        """Check the journal's batches, and log all known damage."""
        self._journal.find_lost(self._monitored.position)
        for words in self.words():
            _tell(words)

    def words(self) -> list[str]:
        """Descriptions of all known damage."""
        lost = self.in_journal()
        whole = [self._monitored.damage] if self._monitored.damage else []
        return [*lost, *whole, *self._monitored.unsound.values(), *self._broken]

    # The journal

    def in_journal(self) -> list[str]:
        """Descriptions of the known damage to the journal."""
        lost = [_words(one) for one in self._journal.lost if not (one.kept and one.counted)]
        return [*lost, *([self._journal.unsure] if self._journal.unsure else [])]

    def need_nothing_lost(self, feature: Feature, start: int, end: int) -> None:
        """Raise Damaged if values of a feature with event times in [start, end] are lost."""
        for one in self._journal.lost:
            if not one.kept and (span := one.concerns(feature, start, end)) is not None:
                raise Damaged(f"{told(*span.range)} cannot be read: {_BATCH}")

    def floors(self) -> dict[str, int]:
        """For each feature with lost values, the event time from which on nothing is lost."""
        floors: dict[str, int] = {}
        for one in self._journal.lost:
            for span in () if one.kept else one.spans:
                floors[span.feature] = max(floors.get(span.feature, NEVER), min(span.end, FOREVER - 1) + 1)
        return floors

    # The history

    def note(self, run: Run, words: str) -> None:
        """Note that a run has turned out to be damaged."""
        if words not in self._broken and len(self._broken) < MOST_NOTED:
            self._broken[words] = run.position
            _tell(words)

    def scan(
        self, run: Run, feature: Feature, start: int, end: int, columns: Sequence[str], keep: pc.Expression
    ) -> Iterator[pa.RecordBatch]:
        """Scan a run for event times in [start, end]. Raises Damaged, naming the values that cannot be read."""
        if not run.has(feature.id, start, end):
            return
        try:
            yield from run.scan(columns, keep)
        except Damaged as error:
            self.note(run, error.detail)
            what = told(feature.id, *run.features[feature.id])
            raise Damaged(f"{what} cannot be read: {error.detail}") from error

    def is_sound(self, run: Run) -> bool:
        """Read all of a run, and return whether it is undamaged."""
        damage = run.damage()
        for words in damage:
            self.note(run, words)
        return not damage

    def newer(self, runs: Sequence[Run]) -> list[Run]:
        """The runs that are newer than any run known to be damaged."""
        newest = max(self._broken.values(), default=-1)
        return [run for run in runs if run.position > newest]

    # The statistics

    def need_all_counted(self, feature: Feature, start: int, end: int) -> None:
        """Raise Damaged if the statistics of a feature lack observations with event times in [start, end]."""
        for one in self._journal.lost:
            if not one.counted and (span := one.concerns(feature, start, end)) is not None:
                raise Damaged(f"the statistics lack {told(*span.range)}: {_BATCH}")

    def uncounted(self) -> Mapping[str, str]:
        """The features whose statistics do not cover all that was accepted, by id, and why."""
        if self._monitored.damage:
            return dict.fromkeys(self._journal.known(), self._monitored.damage)
        lost = [span for one in self._journal.lost if not one.counted for span in one.spans]
        lacking = {span.feature: f"the statistics lack {told(*span.range)}: {_BATCH}" for span in lost}
        return {**lacking, **self._monitored.unsound}


def gone_back(journal: Journal, runs: DeltaRuns) -> str | None:
    """Why the journal must have lost commits: the history has runs that it does not know. None if it has not."""
    unknown = runs.beyond(int(journal.meta("history_version", -1)), journal.newest)
    if not unknown:
        return None
    end = f"it ends at {format_timestamp(journal.newest)}" if journal.newest else "it has no values"
    return f"{journal.path} has lost commits: {end}, and {unknown[-1]} came after that"


def _words(lost: Lost) -> str:
    spans = [told(*span.range) for span in lost.spans[:MOST_SPANS_TOLD]]
    return f"{_BATCH}: {', '.join(spans)} ({counted(lost.count)})"


def _tell(words: str) -> None:
    log.error("%s (`timewell check-data` says more)", words)
