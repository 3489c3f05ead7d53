"""Entities that were erased: what is left of them until the files have been written anew.

An erasure is durable and hides everything at once. Removing the rows from journal and history is the work of the
next checkpoint, which may be cut off; until it is done, all that is read goes through here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow.compute as pc

from actors.columns import Block
from actors.storage import history

Erasures = Mapping[tuple[str, str], int]
"""By entity type and id the arrival up to which everything is gone."""


def rows_of(erasures: Erasures) -> pc.Expression:
    """The rows of a history file that are to go. At least one erasure."""
    found = pc.scalar(False)
    for (entity_type, entity_id), until in erasures.items():
        found |= (
            (pc.field("entity_id") == entity_id)
            & pc.starts_with(pc.field("feature"), f"{entity_type}.")
            & (pc.field("arrived_at") <= history.moment(until))
        )
    return found


def kept(erasures: Erasures, keep: pc.Expression | None = None) -> pc.Expression | None:
    """A filter that also leaves out the rows of erased entities."""
    if not erasures:
        return keep
    gone = ~rows_of(erasures)
    return gone if keep is None else keep & gone


def without(erasures: Erasures, arrived: int, blocks: Sequence[Block]) -> list[Block]:
    """A batch of the journal without the rows of erased entities."""
    return [_without(erasures, arrived, block) for block in blocks]


def _without(erasures: Erasures, arrived: int, block: Block) -> Block:
    entity_type = block.feature.partition(".")[0]
    gone = {id_ for (type_, id_), until in erasures.items() if type_ == entity_type and arrived <= until}
    if not gone:
        return block
    keep = np.fromiter((entity not in gone for entity in block.entities), np.bool_, len(block.entities))
    return block if keep.all() else block.take(np.flatnonzero(keep))
