"""How new connections are taken."""

from __future__ import annotations

import socket
from contextlib import ExitStack

import trio
from trio.testing import wait_all_tasks_blocked

from tests.web.hostile_requests import SERVE, request
from tests.web.two_lanes import front_end
from web.hypercorn.listening import listen
from web.hypercorn.places import TURNED_AWAY_AT_ONCE

HOT = request(SERVE, b'{"entityIds":["one"],"features":["a"]}')


class Passes(trio.abc.Instrument):
    """How often the event loop has looked for what happened."""

    count = 0

    def before_io_wait(self, timeout: float) -> None:
        self.count += 1


async def test_those_who_come_at_once_are_taken_in_a_few_passes_of_the_loop(nursery: trio.Nursery) -> None:
    async with front_end("on") as front:
        front.config.bind = ["127.0.0.1:0"]
        (bound,) = await nursery.start(listen, front.gate, front.config, front.stop)
        port = int(bound.rpartition(":")[2])
        clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(96)]
        for client in clients:
            client.sendall(HOT)
        passes = Passes()
        trio.lowlevel.add_instrument(passes)
        while len(front.config.places) < len(clients):
            await trio.lowlevel.checkpoint()
        assert passes.count < 48
        await wait_all_tasks_blocked()
        trio.lowlevel.remove_instrument(passes)
        for client in clients:
            assert client.recv(65_536).startswith(b"HTTP/1.1 200 ")
            client.close()
        front.stop.set()


async def test_each_of_very_many_who_are_turned_away_is_told_why(nursery: trio.Nursery) -> None:
    async with front_end("on") as front:
        front.config.bind = ["127.0.0.1:0"]
        front.config.places.most = 0
        (bound,) = await nursery.start(listen, front.gate, front.config, front.stop)
        port = int(bound.rpartition(":")[2])
        with ExitStack() as clients:
            silent = [connected(port, clients) for _ in range(2 * TURNED_AWAY_AT_ONCE)]
            await wait_all_tasks_blocked(0.01)
            asking = [connected(port, clients) for _ in range(2 * TURNED_AWAY_AT_ONCE)]
            for client in asking:
                client.sendall(HOT)
            await wait_all_tasks_blocked(0.01)
            assert len(front.config.places.turned_away) <= TURNED_AWAY_AT_ONCE
            assert [client.recv(13) for client in silent + asking] == [b"HTTP/1.1 503 "] * 4 * TURNED_AWAY_AT_ONCE
        front.stop.set()


def connected(port: int, clients: ExitStack) -> socket.socket:
    return clients.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
