"""What the history has, on its way into a partition."""

from __future__ import annotations

from actors.table.batch import Table
from actors.table.columns import Times
from actors.table.index import Index
from actors.table.partition import Partition


class Loading:
    """Takes the rows of one feature after another, each in as many pieces as they happen to come in.

    What comes of a feature without others in between is taken in as one, so that features which were written
    together share their index again.
    """

    def __init__(self, partition: Partition) -> None:
        self._partition = partition
        self._feature: tuple[str, int] | None = None
        self._parts: list[Table] = []
        self._arrived: list[Times] = []
        self._last: dict[str, Index] = {}

    def add(self, table: Table, arrived: Times) -> None:
        """Some rows, of each feature later than all before them."""
        for column in table.columns:
            feature = column.feature, column.created
            if feature != self._feature:
                self.end()
                self._feature = feature
            self._parts.append(table.only([column]))
            self._arrived.append(arrived)

    def end(self) -> None:
        """That was all."""
        if self._parts:
            entity_type = self._parts[0].entity_type
            last = self._last.get(entity_type)
            self._last[entity_type] = self._partition.load(self._parts, self._arrived, last)
        self._parts, self._arrived = [], []
