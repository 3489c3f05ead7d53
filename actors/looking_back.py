"""The history of computed features.

They have a value at each moment at which one of their inputs was observed: that of a training set at that moment.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import numpy as np

from actors.amount import in_lots
from actors.derive.computing import computing
from actors.derive.expressions.node import Operand
from actors.derive.on_demand import Computed
from actors.domain import Feature
from actors.errors import InvalidInput
from actors.messages import Scanned
from actors.settings import COMPUTED_BYTES
from actors.table.columns import Indices, Times
from actors.table.ids import Entities, numbered
from actors.table.selection import Selection
from actors.training import Filled, Spine, Wanted
from actors.turns import by_turns

Fill = Callable[[Spine, Sequence[Wanted]], Awaitable[list[Filled]]]
"""See `Router.fill`."""


def entity_type_of(selected: Selection) -> str:
    """The entity type of which features have a past.

    Raises InvalidInput if they need fields of a request, or entities of several types.
    """
    if isinstance(selected, Computed):
        for (field, _), name in selected.request.items():
            raise InvalidInput.at("features", f"{name} is computed from {field!r} of a request, and has no past")
    types = sorted({role.entity_type for role in selected.roles})
    if len(types) != 1:
        about = f"of the entity types {', '.join(types)}" if types else "of no entity"
        raise InvalidInput.at("features", f"are {about}: ask for those of one entity type at a time")
    return types[0]


async def computed_at(selected: Computed, entities: Entities, at: Times, fill: Fill) -> list[Operand]:
    """The columns of all features, at moments (int64[n], microseconds) of entities. Raises TooMuchAtOnce."""
    wanted = [Wanted(one.id, one, one.expires_after) for one in selected.stored.features]
    filled = await fill(Spine([entities], at), wanted)
    read = [Operand(one.values, one.nulls) for one in filled]
    return await by_turns(computing(selected, read, {}, len(at), COMPUTED_BYTES))


async def scanned(
    selected: Computed,
    entity: str,
    limit: int,
    descending: bool,
    scan: Callable[[Feature], Awaitable[Scanned]],
    fill: Fill,
) -> Scanned:
    """The past of one computed feature for one entity, up to `limit` moments in time order.

    `scan`: up to `limit` observations of a stored feature, in that order.
    """
    found = [await scan(feature) for feature in selected.stored.features]
    times, more = _moments(found, limit, descending)

    async def computed(cut: slice) -> Operand:
        (column,) = await computed_at(selected, numbered([entity] * len(times[cut])), times[cut], fill)
        return column

    async for cut, column in in_lots(max(1, len(times)), max(1, len(times)), computed):
        return Scanned(times[cut], column.values, column.nulls, more or cut.stop < len(times))
    raise AssertionError("there is a first lot")


def _moments(found: Sequence[Scanned], limit: int, descending: bool) -> tuple[Indices, bool]:
    """The first `limit` moments of any, and whether there are more."""
    times = np.unique(np.concatenate([np.asarray(one.times, np.int64) for one in found]))
    if descending:
        times = times[::-1]
    # Beyond the last moment of a scan that was cut off, there may be further ones of that feature.
    known = [int(one.times[-1]) for one in found if one.more]
    if known:
        within = times >= max(known) if descending else times <= min(known)
        times = times[within]
    return np.ascontiguousarray(times[:limit]), bool(known) or len(times) > limit
