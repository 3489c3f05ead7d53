"""What was acknowledged survives whatever happens to the process and its files."""

from __future__ import annotations

import os
import random
import resource
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.live import LiveServer

FEATURE = "user.clicks.v1"
ROWS = 20
ROUNDS = 8


def test_a_value_written_before_a_sigkill_is_served_after_the_restart(server: LiveServer) -> None:
    server.register("clicks")
    server.write((FEATURE, "u1", 5, "2025-11-07T10:00:00Z"))
    server.kill()
    server.start()
    assert server.serve(["u1"], [FEATURE])[0]["features"] == {FEATURE: 5}


class Writer(threading.Thread):
    """Sends batches one after the other until the server is gone. A batch writes one number to ROWS entities."""

    def __init__(self, url: str, name: str) -> None:
        super().__init__(name=name)
        self.url = url
        self.acknowledged: list[int] = []
        self.sent = 0

    def entities(self) -> list[str]:
        return [f"{self.name}-{row}" for row in range(ROWS)]

    def run(self) -> None:
        with httpx.Client(base_url=self.url) as http:
            try:
                while True:
                    self.sent += 1
                    answer = http.post("/features/write-batch", json=self.batch(self.sent))
                    if answer.status_code == 200:
                        self.acknowledged.append(self.sent)
            except httpx.TransportError:
                return

    def batch(self, number: int) -> dict[str, Any]:
        moment = f"2025-11-07T10:00:00.{number:06}Z"
        return {
            "values": [
                {"featureId": FEATURE, "entityId": entity, "value": number, "timestamp": moment}
                for entity in self.entities()
            ]
        }


def numbers_kept(server: LiveServer, entity: str) -> list[int]:
    """All numbers that an entity's history holds."""
    answer = server.get(f"/features/{FEATURE}/history", entityId=entity, limit=10_000).json()
    return [item["value"] for item in answer["observations"]]


def test_a_server_killed_again_and_again_amid_writes_and_checkpoints_loses_nothing_and_halves_no_batch(
    tmp_path: Path,
) -> None:
    moments = random.Random(7)
    server = LiveServer(tmp_path / "data", CHECKPOINT_SECONDS="0.05", CACHE_SIZE="2000")
    writers: list[Writer] = []
    with server:
        server.register("clicks", retention={"values": 3})
        for round_ in range(ROUNDS):
            mine = [Writer(server.url, f"round{round_}-writer{number}") for number in range(3)]
            killer = threading.Timer(moments.uniform(0.05, 0.6), os.kill, (server.pid, signal.SIGKILL))
            for thread in (*mine, killer):
                thread.start()
            for thread in mine:
                thread.join()
            server.kill()
            writers += mine
            server.start()
        accepted = 0
        for writer in writers:
            kept = [numbers_kept(server, entity) for entity in writer.entities()]
            assert all(numbers == kept[0] for numbers in kept), "a batch is half there"
            assert kept[0] == sorted(kept[0])
            assert set(writer.acknowledged) <= set(kept[0]) <= set(range(1, writer.sent + 1))
            accepted += len(kept[0]) * ROWS
        figures = server.get(f"/features/{FEATURE}/stats").json()
        assert figures["count"] == accepted, "the statistics counted something twice or not at all"
        assert sum(len(writer.acknowledged) for writer in writers) > ROUNDS


def test_sigterm_ends_the_process_cleanly_and_keeps_what_was_acknowledged(server: LiveServer) -> None:
    server.register("clicks")
    writer = Writer(server.url, "writer")
    writer.start()
    while not writer.acknowledged:
        writer.join(0.01)
    assert server.stop(signal.SIGTERM) == 0
    writer.join()
    assert "Traceback" not in server.log
    server.start()
    assert set(writer.acknowledged) <= set(numbers_kept(server, "writer-0"))


def test_sigint_ends_the_process_cleanly(server: LiveServer) -> None:
    assert server.stop(signal.SIGINT) == 0
    assert "Traceback" not in server.log


# The medium


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[LiveServer]:
    """A server none of whose files may grow beyond 200 kB, as on a disk that is full."""
    with LiveServer(tmp_path / "data", CHECKPOINT_SECONDS="0.2") as live:
        live.register("clicks")
        live.write((FEATURE, "before", 1, "2025-11-07T10:00:00Z"))
        resource.prlimit(live.pid, resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
        yield live


def fill(server: LiveServer) -> tuple[int, httpx.Response]:
    """Write until it is refused: how many values were taken, and the refusal."""
    for number in range(1_000):
        values = [{"featureId": FEATURE, "entityId": f"full-{number}-{row}", "value": row} for row in range(1_000)]
        answer = server.post("/features/write-batch", {"values": values})
        if answer.status_code != 200:
            return number, answer
    raise AssertionError("the disk never filled up")


def test_a_full_disk_turns_writes_into_503_while_reads_go_on_and_ends_with_the_shortage(
    filled: LiveServer,
) -> None:
    taken, refusal = fill(filled)
    assert refusal.status_code == 503
    assert int(refusal.headers["Retry-After"]) > 0
    assert "journal cannot be written" in refusal.json()["detail"]
    assert filled.serve(["before"], [FEATURE])[0]["features"] == {FEATURE: 1}
    assert filled.serve([f"full-{taken}-0"], [FEATURE])[0]["features"] == {FEATURE: None}
    resource.prlimit(filled.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    filled.write((FEATURE, "after", 2, "2025-11-07T10:00:00Z"))
    filled.kill()
    filled.start()
    entities = ["before", "after", *(f"full-{number}-999" for number in range(taken)), f"full-{taken}-0"]
    values = [result["features"][FEATURE] for result in filled.serve(entities, [FEATURE])]
    assert values == [1, 2, *([999] * taken), None]


def test_an_erasure_that_cannot_be_finished_now_is_refused_and_ends_nothing(tmp_path: Path) -> None:
    with LiveServer(tmp_path / "data", CHECKPOINT_SECONDS="0.1") as server:
        server.register("clicks")
        server.write((FEATURE, "ada", 1, "2025-11-07T10:00:00Z"), (FEATURE, "bob", 2, "2025-11-07T10:00:00Z"))

        def erase() -> int:
            return server.http.delete("/entities/user/ada").status_code

        # No descriptor is left, as with very many connections.
        before = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (3, before[1]))
        assert erase() == 503
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, before)
        assert erase() == 200
        # A file has gone, and something else stands in the place of the folder.
        (file,) = (tmp_path / "data" / "history").glob("run=*/*.parquet")
        file.rename(tmp_path / "away")
        server.write((FEATURE, "ada", 1, "2025-11-07T10:00:00Z"))
        assert erase() == 503
        (tmp_path / "away").rename(file)
        (tmp_path / "data" / "history").rename(tmp_path / "away")
        (tmp_path / "data" / "history").write_bytes(b"")
        assert erase() == 503
        (tmp_path / "data" / "history").unlink()
        (tmp_path / "away").rename(tmp_path / "data" / "history")
        assert erase() == 200
        assert server.serve(["ada", "bob"], [FEATURE])[1]["features"] == {FEATURE: 2}


def test_a_start_on_a_full_disk_reads_and_takes_writes_as_soon_as_there_is_room(
    server: LiveServer, tmp_path: Path
) -> None:
    server.register("clicks")
    server.write((FEATURE, "before", 1, "2025-11-07T10:00:00Z"))
    server.kill()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    full = LiveServer(tmp_path / "data", PYTHONNODEBUGRANGES="1")  # a process of its own: it has its limits
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        full.start()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    try:
        assert full.serve(["before"], [FEATURE])[0]["features"] == {FEATURE: 1}
        refused = full.post("/features/write", {"featureId": FEATURE, "entityId": "after", "value": 2})
        assert (refused.status_code, "Retry-After" in refused.headers) == (503, True)
        resource.prlimit(full.pid, resource.RLIMIT_FSIZE, before)
        full.write((FEATURE, "after", 2, "2025-11-07T10:00:00Z"))
        assert full.serve(["after"], [FEATURE])[0]["features"] == {FEATURE: 2}
    finally:
        full.kill()


def test_a_second_process_on_the_same_data_directory_is_refused_by_name_whatever_was_removed(
    server: LiveServer, tmp_path: Path
) -> None:
    assert f"is in use by process {server.pid}" in refusal_to_start(tmp_path / "data")
    for path in (tmp_path / "data").iterdir():
        path.unlink()
    assert f"is in use by process {server.pid}" in refusal_to_start(tmp_path / "data")


def test_what_the_service_makes_is_its_users_alone_to_read(server: LiveServer, tmp_path: Path) -> None:
    server.register("clicks")
    server.write((FEATURE, "ada", 1, "2025-11-07T10:00:00Z"), (FEATURE, "bob", 1, "2025-11-07T10:00:00Z"))
    assert server.http.delete("/entities/user/ada").status_code == 200  # which writes the history
    paths = [tmp_path / "data", *(tmp_path / "data").rglob("*")]
    assert any(path.suffix == ".parquet" for path in paths)
    assert [path for path in paths if path.stat().st_mode & 0o077] == []


def test_a_port_that_is_taken_is_named(server: LiveServer, tmp_path: Path) -> None:
    words = refusal_to_start(tmp_path / "other", PORT=str(server.http.base_url.port))
    assert f"cannot listen on 127.0.0.1:{server.http.base_url.port}: " in words
    assert "in use" in words


def test_a_file_in_the_place_of_the_directory_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    assert f"{tmp_path / 'data'} is a file" in refusal_to_start(tmp_path / "data")


def test_a_directory_that_cannot_be_written_is_refused_by_name(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        directory = Path("/proc/timewell")  # nobody may make a directory there, not even root
    else:
        directory = tmp_path / "read-only"
        directory.mkdir(mode=0o555)
    words = refusal_to_start(directory)
    assert str(directory) in words and "cannot be written" in words


def test_a_damaged_journal_is_refused_by_name(server: LiveServer, tmp_path: Path) -> None:
    server.kill()
    for name in ("journal.db-wal", "journal.db-shm"):
        (tmp_path / "data" / name).unlink(missing_ok=True)
    (tmp_path / "data" / "journal.db").write_bytes(b"this is no database" * 1_000)
    assert "journal.db" in refusal_to_start(tmp_path / "data")


def test_a_history_file_that_is_gone_is_named_and_the_rest_is_served(tmp_path: Path) -> None:
    server = LiveServer(tmp_path / "data", CHECKPOINT_SECONDS="0.05")
    with server:
        server.register("clicks")
        server.write((FEATURE, "u1", 5, "2025-11-07T10:00:00Z"))
        while not (files := list((tmp_path / "data" / "history").glob("run=*/*.parquet"))):
            server.get("/health/live")
        server.stop()
    files[0].unlink()
    with server:
        lacking = server.post("/features/serve", {"entityIds": ["u1"], "features": [FEATURE]})
        assert lacking.status_code == 503 and files[0].name in lacking.text
        server.write((FEATURE, "u2", 6, "2025-11-08T10:00:00Z"))
        assert server.serve(["u2"], [FEATURE])[0]["features"][FEATURE] == 6


def refusal_to_start(directory: Path, **environment: str) -> str:
    """What a server says that does not start, which is one line."""
    server = LiveServer(directory, **environment)
    with pytest.raises(RuntimeError) as refusal:
        server.start()
    (line,) = str(refusal.value).splitlines()
    return line


def test_bytes_after_the_last_commit_of_the_log_are_not_there(server: LiveServer, tmp_path: Path) -> None:
    server.register("clicks")
    server.write((FEATURE, "u1", 5, "2025-11-07T10:00:00Z"))
    server.kill()
    with (tmp_path / "data" / "journal.db-wal").open("ab") as log:
        log.write(os.urandom(5_000))
    server.start()
    assert server.serve(["u1"], [FEATURE])[0]["features"] == {FEATURE: 5}
