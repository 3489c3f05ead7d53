from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.live import LiveServer
from tests.timewell.outcomes import Command
from timewell.client import Client
from web.cli import main

_NUMBERS = count()


@pytest.fixture
def client(shared_server: LiveServer) -> Iterator[Client]:
    with Client(shared_server.url) as made:
        yield made


@pytest.fixture
def name() -> str:
    """A feature name of its own for each test, none the beginning of another."""
    return f"f{next(_NUMBERS)}x"


@pytest.fixture
def timewell(
    shared_server: LiveServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Command:
    """Run a command; its exit code, and what it said on stdout and stderr."""
    monkeypatch.setenv("TIMEWELL_URL", shared_server.url)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        try:
            code = main(arguments)
        except SystemExit as ended:
            code = int(ended.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run
