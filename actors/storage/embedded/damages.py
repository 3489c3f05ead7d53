"""What is known to be damaged of a storage, and who must be told so instead of being answered.

Damage is of three kinds. A batch of the journal that is lost: whoever asks for what it held is refused, until a
backup is restored. A history file: whoever needs one of its damaged blocks is refused; it is not loaded, and
neither merged nor written anew, which would make what is left of it look sound. The monitor's database: there are
no statistics of what is damaged.
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
    """See the module."""

    def __init__(self, journal: Journal, monitored: EmbeddedSummaries) -> None:
        self._journal = journal
        self._monitored = monitored
        self._broken: dict[str, int] = {}
        """What was found damaged in the history, with the run that it is in."""

    def look(self) -> None:
        """Look through the journal's batches, and log what is damaged."""
        self._journal.find_lost(self._monitored.position)
        for words in self.words():
            _tell(words)

    def words(self) -> list[str]:
        """All that is known."""
        lost = self.in_journal()
        whole = [self._monitored.damage] if self._monitored.damage else []
        return [*lost, *whole, *self._monitored.unsound.values(), *self._broken]

    # The journal

    def in_journal(self) -> list[str]:
        """What is known of the journal."""
        lost = [_words(one) for one in self._journal.lost if not (one.kept and one.counted)]
        return [*lost, *([self._journal.unsure] if self._journal.unsure else [])]

    def need_nothing_lost(self, feature: Feature, start: int, end: int) -> None:
        """Raises Damaged where values of a closed range of event time are lost."""
        for one in self._journal.lost:
            if not one.kept and (span := one.concerns(feature, start, end)) is not None:
                raise Damaged(f"{told(*span.range)} cannot be read: {_BATCH}")

    def floors(self) -> dict[str, int]:
        """By feature the event time from which on nothing is lost."""
        floors: dict[str, int] = {}
        for one in self._journal.lost:
            for span in () if one.kept else one.spans:
                floors[span.feature] = max(floors.get(span.feature, NEVER), min(span.end, FOREVER - 1) + 1)
        return floors

    # The history

    def note(self, run: Run, words: str) -> None:
        """A run turned out to be damaged."""
        if words not in self._broken and len(self._broken) < MOST_NOTED:
            self._broken[words] = run.position
            _tell(words)

    def told_of(
        self, run: Run, feature: Feature, start: int, end: int, columns: Sequence[str], keep: pc.Expression
    ) -> Iterator[pa.RecordBatch]:
        """The rows of a run in a closed range of event time. Raises Damaged that names what cannot be read."""
        if not run.has(feature.id, start, end):
            return
        try:
            yield from run.scan(columns, keep)
        except Damaged as error:
            self.note(run, error.detail)
            what = told(feature.id, *run.features[feature.id])
            raise Damaged(f"{what} cannot be read: {error.detail}") from error

    def is_sound(self, run: Run) -> bool:
        """Whether a run is as it was written; reads all of it."""
        damage = run.damage()
        for words in damage:
            self.note(run, words)
        return not damage

    def newer(self, runs: Sequence[Run]) -> list[Run]:
        """The runs that are newer than all that are known to be damaged."""
        newest = max(self._broken.values(), default=-1)
        return [run for run in runs if run.position > newest]

    # The statistics

    def need_all_counted(self, feature: Feature, start: int, end: int) -> None:
        """Raises Damaged where the statistics lack something in a closed range of event time."""
        for one in self._journal.lost:
            if not one.counted and (span := one.concerns(feature, start, end)) is not None:
                raise Damaged(f"the statistics lack {told(*span.range)}: {_BATCH}")

    def uncounted(self) -> Mapping[str, str]:
        """By feature why its statistics are not those of all that was accepted."""
        if self._monitored.damage:
            return dict.fromkeys(self._journal.known(), self._monitored.damage)
        lost = [span for one in self._journal.lost if not one.counted for span in one.spans]
        lacking = {span.feature: f"the statistics lack {told(*span.range)}: {_BATCH}" for span in lost}
        return {**lacking, **self._monitored.unsound}


def gone_back(journal: Journal, runs: DeltaRuns) -> str | None:
    """Why the journal must have lost commits, in words: the history has what it does not know."""
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
