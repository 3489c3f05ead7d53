"""Loads rows of the history into a partition."""

from __future__ import annotations

from actors.table.batch import Table
from actors.table.columns import Times
from actors.table.index import Index
from actors.table.partition import Partition


class Loading:
    """Loads the rows of one feature after another, which may each come in several parts.

    Consecutive parts of a feature are loaded together, so that features that were written together share their
    index again.
    """

    def __init__(self, partition: Partition) -> None:
        self._partition = partition
        self._feature: tuple[str, int] | None = None
        self._parts: list[Table] = []
        self._arrived: list[Times] = []
        self._last: dict[str, Index] = {}

    def add(self, table: Table, arrived: Times) -> None:
        """Add rows; those of each feature must be later than all added before."""
        for column in table.columns:
            feature = column.feature, column.created
            if feature != self._feature:
                self.end()
                self._feature = feature
            self._parts.append(table.only([column]))
            self._arrived.append(arrived)

    def end(self) -> None:
        """Load what was added since the last feature ended. To be called after the last part."""
        if self._parts:
            entity_type = self._parts[0].entity_type
            last = self._last.get(entity_type)
            self._last[entity_type] = self._partition.load(self._parts, self._arrived, last)
        self._parts, self._arrived = [], []
