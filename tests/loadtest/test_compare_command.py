"""The command as it is used: against real servers, to its end and interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from loadtest.compare.report import Document
from loadtest.machine.cores import cores
from loadtest.machine.processes import session_of
from tests.live import ROOT

PATIENCE_SECONDS = 120.0


def started(results: Path, workloads: str, rounds: int, before: Sequence[str] = ()) -> subprocess.Popen[str]:
    words = ["--quick", "--peers", "redis", "--workloads", workloads, "--rounds", str(rounds)]
    return subprocess.Popen(
        [*before, sys.executable, "-m", "loadtest", "compare", *words, "--results", str(results)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def children_of(parent: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if int(fields[1]) == parent:
            found.append(int(stat.parent.name))
    return found


def test_the_command_compares_prints_the_table_and_keeps_the_report(tmp_path: Path) -> None:
    workloads = "serve-1x2,write-100-json"
    process = started(tmp_path, workloads, rounds=1)
    printed, progress = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, progress
    (kept,) = tmp_path.glob("compare-quick-*.json")
    document = msgspec.json.decode(kept.read_bytes(), type=Document)
    order = [line.split()[1] for line in printed.splitlines() if "Redis, everysec" in line]
    assert order == [one.workload for one in document.comparisons] == workloads.split(",")
    assert all(len(one.times_better) == 1 and one.times_better[0] > 0 for one in document.comparisons)
    assert "serve-1x2 beside Redis, everysec, round 1" in progress
    assert {"hypercorn", "trio"} <= document.versions["Timewell"].keys()
    assert kept.with_suffix(".md").read_text().startswith("# Comparison with peers")


IN_THE_BACKGROUND = ["sh", "-c", 'trap "" INT; exec "$@"', "sh"]
"""As a script's background job is started: the keyboard does not reach it."""


@pytest.mark.parametrize(("how", "before"), [(signal.SIGINT, []), (signal.SIGTERM, IN_THE_BACKGROUND)])
def test_an_interrupted_command_leaves_no_server_behind(
    how: signal.Signals, before: list[str], tmp_path: Path
) -> None:
    process = started(tmp_path, "serve-1x2", rounds=9, before=before)
    assert process.stderr is not None
    next(line for line in process.stderr if "warming up" in line)
    servers = children_of(process.pid)
    assert {core for server in servers for core in os.sched_getaffinity(server)} == cores().server
    assert os.sched_getaffinity(process.pid) == cores().driver
    process.send_signal(how)
    _, progress = process.communicate(timeout=PATIENCE_SECONDS)
    assert len(servers) >= 2
    assert [member for server in servers for member in session_of(server)] == []
    assert process.returncode == 1 and "the rest: interrupted" in progress
