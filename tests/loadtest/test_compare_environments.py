"""How the environments of peers are built, and how their servers and drivers start and end."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from loadtest.compare.driving import call
from loadtest.compare.environments import REQUIREMENTS, Environment, cache_directory
from loadtest.compare.serving import Launch, over_rpc, serving
from loadtest.compare.work import Unavailable
from loadtest.machine.cores import cores, placed
from loadtest.machine.processes import child, processor_time, resident_bytes, session_of


class Scripted(Environment):
    """An environment whose commands are these snippets of Python."""

    def __init__(self, below: Path, *snippets: str) -> None:
        super().__init__("feast", below)
        self.snippets = snippets

    def commands(self) -> list[list[str]]:
        return [[sys.executable, "-c", snippet, str(self.directory)] for snippet in self.snippets]


MAKES = "import pathlib, sys; pathlib.Path(sys.argv[1]).mkdir(); open(sys.argv[1] + '/made', 'x')"
FAILS = "import sys; sys.exit('no such package')"


def test_an_environment_is_a_venv_with_exactly_the_versions_wanted(tmp_path: Path) -> None:
    create, install = Environment("feast", tmp_path).commands()
    assert create == [sys.executable, "-m", "venv", "--clear", str(tmp_path / "feast")]
    assert install[:4] == [str(tmp_path / "feast/bin/python"), "-m", "pip", "install"]
    assert install[-1] == "feast[postgres,redis]==0.67.0"


def test_every_requirement_is_of_one_version() -> None:
    assert all("==" in requirement for wanted in REQUIREMENTS.values() for requirement in wanted)


async def test_an_environment_is_built_once_and_again_when_other_versions_are_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = Scripted(tmp_path, MAKES)
    before = environment.built
    assert await environment.python() == tmp_path / "feast" / "bin" / "python"
    await environment.python()  # would fail if it made the directory again
    after = environment.built
    monkeypatch.setitem(REQUIREMENTS, "feast", ("feast==0",))
    assert (before, after, environment.built) == (False, True, False)


async def test_the_last_words_of_a_command_that_fails_are_told_and_nothing_counts_as_built(tmp_path: Path) -> None:
    environment = Scripted(tmp_path, MAKES, FAILS)
    with pytest.raises(Unavailable, match="no such package"):
        await environment.python()
    assert not environment.built


def test_the_cache_directory_follows_the_system_s_convention(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_directory() == tmp_path / "timewell-peers"


# Processes

PARENT = """
import subprocess, sys, time
print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"]).pid, flush=True)
time.sleep(100)
"""


def test_a_child_is_pinned_and_ends_with_its_own_children(tmp_path: Path) -> None:
    mine = os.sched_getaffinity(0)
    with child([sys.executable, "-c", PARENT], cores().server, tmp_path / "words", pipes=True) as process:
        assert process.stdout is not None
        grandchild = int(process.stdout.readline())
        assert os.sched_getaffinity(0) == mine
        assert os.sched_getaffinity(grandchild) == cores().server
        assert session_of(process.pid) == sorted((process.pid, grandchild))
        assert resident_bytes([grandchild]) > 0 and processor_time([grandchild]) >= 0
    assert session_of(process.pid) == []


def test_a_child_that_ignores_the_request_to_end_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loadtest.machine.processes.PATIENCE_SECONDS", 0.1)
    stubborn = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(100)"
    )
    with child([sys.executable, "-c", stubborn], cores().server, tmp_path / "words", pipes=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
    assert process.returncode == -signal.SIGKILL


def test_a_thread_is_placed_for_as_long_as_it_says() -> None:
    before = os.sched_getaffinity(0)
    with placed(cores().driver):
        assert os.sched_getaffinity(0) == cores().driver
    assert os.sched_getaffinity(0) == before


async def test_a_server_that_dies_at_its_start_is_told_by_its_last_words(tmp_path: Path) -> None:
    async def answers(_port: int) -> None:
        raise ConnectionRefusedError

    launch = Launch(lambda _: [sys.executable, "-c", FAILS], answers, cores().server, tmp_path / "words")
    with pytest.raises(Unavailable, match="no such package"):
        async with serving(launch):
            pass


def driver(module: str, tmp_path: Path) -> Launch:
    return Launch(
        lambda port: [sys.executable, "-m", module, str(port)], over_rpc, cores().driver, tmp_path / "words"
    )


async def test_a_driver_answers_calls_and_tells_its_errors_until_it_is_let_go(tmp_path: Path) -> None:
    async with serving(driver("tests.loadtest.echo_driver", tmp_path)) as echo:
        assert await call(echo.port, "echo", "x" * 2_000_000) == "x" * 2_000_000
        with pytest.raises(RuntimeError, match="nothing of that name"):
            await call(echo.port, "nothing of that name")
        with pytest.raises(RuntimeError, match="TypeError"):
            await call(echo.port, "echo", "one", "too many")
        assert await call(echo.port, "echo", "still there") == "still there"
    assert session_of(echo.pid) == []


async def test_a_driver_that_ends_is_told_by_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"no\.such|No module named"):
        async with serving(driver("no.such.driver", tmp_path)):
            pass


async def test_a_call_of_a_driver_that_dies_meanwhile_is_an_error(tmp_path: Path) -> None:
    async with serving(driver("tests.loadtest.echo_driver", tmp_path)) as echo:
        os.kill(echo.pid, signal.SIGKILL)
        with pytest.raises(OSError):
            await call(echo.port, "echo", "x")
