from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtest.postgres import PostgresServer
from loadtest.valkey import ValkeyCluster, ValkeyServer
from tests.live import LiveServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    """A server of its own for one test."""
    with LiveServer(tmp_path / "data") as live:
        yield live


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """One server for all tests of a module, which use names of their own."""
    with LiveServer(tmp_path_factory.mktemp("shared") / "data") as live:
        yield live


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL for all tests of this process, which have databases of their own."""
    with PostgresServer() as server:
        yield server


@pytest.fixture
def database(postgres: PostgresServer) -> Iterator[str]:
    """A new database."""
    with postgres.database() as url:
        yield url


@pytest.fixture(scope="session")
def valkey() -> Iterator[ValkeyServer]:
    """A Valkey for all tests of this process."""
    with ValkeyServer() as server:
        yield server


@pytest.fixture(scope="session")
def valkey_cluster() -> Iterator[ValkeyCluster]:
    """A cluster for all tests of this process."""
    with ValkeyCluster() as cluster:
        yield cluster
