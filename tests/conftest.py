from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hypothesis
import pytest

from actors.storage.embedded.local import MemoryStorage
from actors.storage.embedded.on_disk import EmbeddedStorage
from actors.storage.postgres.storage import PostgresStorage
from actors.storage.protocol import Storage
from actors.storage.redis.storage import RedisStorage
from tests.live import LiveServer
from tests.servers.postgres import PostgresServer
from tests.servers.valkey import ValkeyCluster, ValkeyServer

hypothesis.settings.register_profile("whatever the machine does meanwhile", deadline=None)
hypothesis.settings.load_profile("whatever the machine does meanwhile")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    """A server of its own for one test."""
    with LiveServer(tmp_path / "data") as live:
        yield live


SHARED_STORES = ("redis", "cluster", "postgresql")
STORES = ("embedded", "memory", *SHARED_STORES)
WEB = Path(__file__).parent / "web"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The tests of a module that says `OVER_EVERY_STORE` run over each, except those marked `before_the_store`."""
    if "kept_in" in metafunc.fixturenames and getattr(metafunc.module, "OVER_EVERY_STORE", False):
        one_will_do = metafunc.definition.get_closest_marker("before_the_store") is not None
        metafunc.parametrize("kept_in", STORES[:1] if one_will_do else STORES, scope="module", indirect=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests of the web room come first: its files take longest, and one that began last would run alone."""
    items.sort(key=lambda item: WEB not in item.path.parents)


@pytest.fixture(scope="module")
def kept_in(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """Settings of a server whose values are in an empty store of a kind; an embedded one unless told otherwise."""
    kind = getattr(request, "param", "embedded")
    if kind == "postgresql":
        with request.getfixturevalue("postgres").database() as url:
            yield {"STORAGE_TYPE": kind, "STORAGE_URL": url}
    elif kind in ("redis", "cluster"):
        server = request.getfixturevalue("valkey" if kind == "redis" else "valkey_cluster")
        server.empty()
        yield {"STORAGE_TYPE": "redis", "STORAGE_URL": server.url}
    else:
        yield {"STORAGE_TYPE": kind}


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory, kept_in: dict[str, str]) -> Iterator[LiveServer]:
    """One server for all tests of a module, which use names of their own."""
    with LiveServer(tmp_path_factory.mktemp("shared") / "data", **kept_in) as live:
        yield live


@pytest.fixture(params=STORES)
def any_storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    """An empty storage of each kind, opened."""
    with storage_of(request, request.param, tmp_path) as made:
        yield made


@contextmanager
def storage_of(request: pytest.FixtureRequest, kind: str, directory: Path) -> Iterator[Storage]:
    """An empty storage of a kind, opened."""
    made: Storage
    if kind == "memory":
        made = MemoryStorage()
    elif kind == "embedded":
        made = EmbeddedStorage(str(directory / "data"))
    elif kind == "postgresql":
        made = PostgresStorage(request.getfixturevalue("database"), 10.0)
    else:
        server = request.getfixturevalue("valkey" if kind == "redis" else "valkey_cluster")
        server.empty()
        made = RedisStorage(server.url, 10.0)
    made.open()
    try:
        yield made
    finally:
        made.close()


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
