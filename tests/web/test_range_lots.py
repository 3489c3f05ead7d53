"""A range of many windows is answered in lots, as if it had been answered in one go."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from actors.timestamps import format_timestamp
from tests.actors.test_training import NOW
from tests.web.test_lanes import asker
from web.answers import lanes, results
from web.routes import ranges


@pytest.mark.parametrize("lane", list(lanes.LANES))
@pytest.mark.parametrize("window", [None, "7s"])
async def test_windows_in_lots_are_those_of_one_lot(
    monkeypatch: pytest.MonkeyPatch, lane: str, window: str | None
) -> None:
    asked: dict[str, Any] = {
        "entityIds": [f"u{entity}" for entity in range(6)],
        "features": ["string", "number"],
        "startTime": format_timestamp(NOW - 30_000_000),
        "endTime": format_timestamp(NOW + 5_000_000),
        "aggregation": {"number": "count"},
        **({} if window is None else {"window": window}),
    }
    async with asker() as app:
        app.path = "/features/historical"

        async def answered() -> Any:
            answer = await app.call(lane, **asked)
            assert answer.status == 200, answer.data
            data = answer.data
            return pa.ipc.open_stream(data).read_all().to_pylist() if lane == lanes.ARROW_TYPE else data

        whole = await answered()
        monkeypatch.setattr(ranges, "CELLS_PER_QUESTION", 6)
        monkeypatch.setattr(lanes, "CELLS_PER_PIECE", 10)
        monkeypatch.setattr(lanes, "CELLS_RENDERED_AT_ONCE", 5)
        assert await answered() == whole
        monkeypatch.setattr(results, "CELLS_PER_TURN", 1)  # encoded some rows at a time, in a worker thread
        monkeypatch.setattr(results, "CELLS_AT_ONCE", 0)
        monkeypatch.setattr(results, "SLICE_BYTES", 150)
        assert await answered() == whole
