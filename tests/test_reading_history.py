"""The page on reading the history files is true: its code finds what a running service has written."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from actors.settings import VACUUM_HOURS
from actors.storage.embedded.layout import SCHEMA
from tests.live import ROOT, LiveServer

PAGE = (ROOT / "docs" / "reading-history.md").read_text()
PURCHASES = "user.purchases_7d.v1"
POLLS = 20_000
MERGED_AFTER = 12
"""Checkpoints of a row each, more than are kept without a merge."""


def block(heading: str, place: int) -> str:
    """The Python below a heading of the page, at a place."""
    section = re.split(r"^## ", PAGE.split(f"## {heading}\n")[1], flags=re.MULTILINE)[0]
    return str(re.findall(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL)[place])


def run(code: str, history: Path) -> dict[str, Any]:
    """Run a block over a history directory; its variables."""
    names: dict[str, Any] = {}
    exec(code.replace("data/history", str(history)), names)
    return names


def flush(server: LiveServer) -> None:
    """Wait until nothing is left in the journal alone."""
    for _ in range(POLLS):
        if re.search(r"^timewell_observations_unflushed 0(\.0)?$", server.get("/metrics").text, re.MULTILINE):
            return
    raise AssertionError("the journal was never moved into the history")


def write_in_turn(server: LiveServer, *rows: tuple[str, str, Any, str]) -> None:
    """Write rows in requests of their own, each moved into the history before the next."""
    for row in rows:
        server.write(row)
        flush(server)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A running service with corrections, a null that is the latest, a value dated ahead, and another feature."""
    with LiveServer(tmp_path_factory.mktemp("read") / "data", CHECKPOINT_SECONDS="0.02") as live:
        live.register("purchases_7d")
        live.register("country", "string")
        live.write(*((PURCHASES, "grace", value, "2025-11-05T09:30:00Z") for value in (1, 8, 1.5)))
        write_in_turn(
            live,
            (PURCHASES, "ada", 3, "2025-11-01T10:00:00Z"),
            (PURCHASES, "ada", 5, "2025-11-07T10:00:00Z"),
            (PURCHASES, "ada", 4, "2025-11-01T10:00:00Z"),
            (PURCHASES, "alan", 7, "2025-11-02T00:00:00Z"),
            (PURCHASES, "alan", None, "2025-11-03T00:00:00Z"),
            (PURCHASES, "grace", 99, "2026-01-01T00:00:00.000001Z"),
            ("user.country.v1", "ada", "NO", "2025-11-01T10:00:00Z"),
        )
        yield live


@pytest.fixture
def history(server: LiveServer) -> Path:
    """Its history directory."""
    return server.data_dir / "history"


VERSIONS = [
    ("ada", "2025-11-01T10:00:00.000000", 3),
    ("ada", "2025-11-01T10:00:00.000000", 4),
    ("ada", "2025-11-07T10:00:00.000000", 5),
    ("alan", "2025-11-02T00:00:00.000000", 7),
    ("alan", "2025-11-03T00:00:00.000000", None),
    ("grace", "2025-11-05T09:30:00.000000", 1),
    ("grace", "2025-11-05T09:30:00.000000", 8),
    ("grace", "2025-11-05T09:30:00.000000", 1.5),
    ("grace", "2026-01-01T00:00:00.000001", 99),
]
LATEST = {"ada": 5, "alan": None, "grace": 1.5}


def plain(frame: Any) -> pl.DataFrame:
    """A frame of any library as one of Polars, NaN as null."""
    if isinstance(frame, pl.DataFrame):
        return frame
    return pl.DataFrame(pl.from_arrow(frame)) if isinstance(frame, pa.Table) else pl.from_pandas(frame)


def by_entity(frame: Any) -> dict[str, float | None]:
    """The number of each entity."""
    return dict(plain(frame).select("entity_id", "number").rows())


@pytest.mark.parametrize("library", ["DuckDB", "Polars", "pandas"])
def test_every_version_is_read_with_both_its_times(history: Path, library: str) -> None:
    versions = plain(run(block(library, 0), history)["versions"])
    assert versions.columns == ["entity_id", "event_timestamp", "arrived_at", "number"]
    told = versions.with_columns(pl.col("event_timestamp").dt.strftime("%Y-%m-%dT%H:%M:%S.%6f"))
    assert told.select("entity_id", "event_timestamp", "number").rows() == VERSIONS
    first, corrected = versions["arrived_at"].to_list()[:2]
    assert first < corrected


@pytest.mark.parametrize("library", ["DuckDB", "Polars"])
def test_the_latest_is_what_the_service_serves(server: LiveServer, history: Path, library: str) -> None:
    found = by_entity(run(block(library, 1), history)["latest"])
    served = server.serve(list(LATEST), [PURCHASES], asOf="2025-11-08T00:00:00Z")
    assert found == LATEST == {one["entityId"]: one["features"][PURCHASES] for one in served}


def test_what_was_known_before_anything_arrived_is_nothing(history: Path) -> None:
    code = block("Polars", 1)
    assert run(code, history)["then"].is_empty()
    later = run(code.replace("known_by = datetime(2025, 11, 7", "known_by = datetime(9999, 1, 1"), history)
    assert by_entity(later["then"]) == LATEST


def test_each_row_of_a_frame_gets_the_value_of_its_own_moment(server: LiveServer, history: Path) -> None:
    joined = plain(run(block("pandas", 1), history)["joined"])
    rows = [
        {"entityId": entity, "timestamp": at.isoformat()} for entity, at in joined.select("entity_id", "ts").rows()
    ]
    answer = server.post("/features/training-set", {"rows": rows, "features": [PURCHASES]}).json()
    assert sorted(joined.select("entity_id", "number").rows(), key=str) == [
        ("ada", 4),
        ("ada", 5),
        ("ada", None),
        ("grace", 1.5),
    ]
    assert joined["number"].to_list() == [row[PURCHASES] for row in answer["results"]]


def test_the_table_of_columns_is_that_of_the_files(history: Path) -> None:
    found = run(block("What is in a row", 0), history)["columns"]
    section = PAGE[PAGE.index("| column |") : PAGE.index("A written null")]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(found) == [*SCHEMA.names, "run"]


def test_a_merge_leaves_old_files_beside_it_and_a_reader_of_the_table_counts_no_row_twice(tmp_path: Path) -> None:
    assert VACUUM_HOURS == 1 and "stays for an hour" in PAGE
    with LiveServer(tmp_path / "data", CHECKPOINT_SECONDS="0.02") as live:
        live.register("purchases_7d")
        days = [f"2025-11-{day:02}T00:00:00Z" for day in range(1, MERGED_AFTER + 1)]
        write_in_turn(live, *((PURCHASES, "ada", day, at) for day, at in enumerate(days, start=1)))
        history = live.data_dir / "history"
        found = run(block("DuckDB", 0), history)["versions"]
        assert plain(found)["number"].to_list() == list(range(1, MERGED_AFTER + 1))
        lying = f"{history}/run=*/*.parquet"
        assert duckdb.read_parquet(lying).shape[0] > MERGED_AFTER


def test_a_stop_leaves_the_rest_in_the_journal_for_the_first_checkpoint_after_the_next_start(
    tmp_path: Path,
) -> None:
    with LiveServer(tmp_path / "data", CHECKPOINT_SECONDS="3600") as live:
        live.register("purchases_7d")
        live.write((PURCHASES, "ada", 3, "2025-11-01T10:00:00Z"))
        assert live.stop(signal.SIGTERM) == 0
    assert not (tmp_path / "data" / "history").exists()
    with LiveServer(tmp_path / "data", CHECKPOINT_SECONDS="0.02") as live:
        flush(live)
        assert DeltaTable(tmp_path / "data" / "history").to_pyarrow_table().num_rows == 1
