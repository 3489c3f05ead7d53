"""What the history has, on its way into a partition."""

from __future__ import annotations

from actors.table.columns import Block, Times
from actors.table.index import Index
from actors.table.partition import Partition


class Loading:
    """Takes the rows of one feature after another, each in as many pieces as they happen to come in.

    What comes of a feature without others in between is taken in as one, so that features which were written
    together share their index again.
    """

    def __init__(self, partition: Partition) -> None:
        self._partition = partition
        self._blocks: list[Block] = []
        self._arrived: list[Times] = []
        self._last: dict[str, Index] = {}

    def add(self, block: Block, arrived: Times) -> None:
        """Some rows, later than all of the feature before them."""
        if self._blocks and block[:2] != self._blocks[0][:2]:
            self.end()
        self._blocks.append(block)
        self._arrived.append(arrived)

    def end(self) -> None:
        """That was all."""
        if self._blocks:
            entity_type = self._blocks[0].entity_type
            last = self._last.get(entity_type)
            self._last[entity_type] = self._partition.load(self._blocks, self._arrived, last)
        self._blocks, self._arrived = [], []
