"""The columns of everyone's questions as Arrow tables, and a training set as columns again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from loadtest.compare.work import Batch, Table, Values, View


def arrow_of(columns: Table, entity: str, moment: str) -> pa.Table:
    """Columns e and t under these names, all others under their own."""
    names = {"e": entity, "t": moment}
    found = {names.get(name, name): column for name, column in columns.items()}
    found[moment] = pa.array(found[moment], pa.timestamp("us", "UTC"))
    return pa.table(found)


def batch_table(view: View, batch: Batch, entity: str, moment: str) -> pa.Table:
    """A batch as one wide table."""
    columns = dict(zip(view.features, np.ascontiguousarray(batch.values.T), strict=True))
    moments = np.full(len(batch.entities), batch.moment)
    return arrow_of({"e": batch.entities, "t": moments, **columns}, entity, moment)


def columns_of(frame: Any, features: list[str]) -> dict[str, Values]:
    """n and the features of a pandas frame, in the order of n; NaN where there is no value."""
    order = np.argsort(frame["n"].to_numpy(), kind="stable")
    return {name: frame[name].to_numpy(np.float64)[order] for name in ("n", *features)}
