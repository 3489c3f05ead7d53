"""Requests over HTTP, from several connections, for a given time."""

from __future__ import annotations

import time
import xmlrpc.client
from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import Any, NamedTuple

import trio

from loadtest.compare.work import Timed
from loadtest.machine.messages import encoded
from loadtest.machine.wire import Wire, connect

LOOPBACK = "127.0.0.1"
MOST_REQUESTS = 50_000


class Rounds(NamedTuple):
    """The requests of a round; `again`: whether they may be repeated."""

    requests: Sequence[bytes]
    again: bool

    def dealt(self) -> Iterator[bytes]:
        """One after the other, for whichever connection is free."""
        if not self.again:
            yield from self.requests
            return
        for _, request in zip(range(MOST_REQUESTS), cycle(self.requests), strict=False):
            yield request


class _Driven:
    """The state shared by the connections of a round."""

    def __init__(self, requests: Iterator[bytes], seconds: float) -> None:
        self._requests, self._until = requests, time.perf_counter() + seconds
        self.answered = 0

    async def ask(self, wire: Wire) -> None:
        """Send requests until the time is up or none is left."""
        while time.perf_counter() < self._until or not self.answered:
            request = next(self._requests, None)
            if request is None:
                return
            (await wire.ask(request)).good()
            self.answered += 1


async def drive(port: int, rounds: Rounds, connections: int, seconds: float) -> Timed:
    """Send requests over `connections`, each the next one when its last is answered (a closed loop).

    Raises RuntimeError if an answer is an error or none comes.
    """
    wires = [await connect(LOOPBACK, port) for _ in range(connections)]
    try:
        began = time.perf_counter()
        driven = _Driven(rounds.dealt(), seconds)
        async with trio.open_nursery() as nursery:
            for wire in wires:
                nursery.start_soon(driven.ask, wire)
        took = time.perf_counter() - began
    except ExceptionGroup as group:
        raise RuntimeError(str(group.exceptions[0])) from group
    finally:
        with trio.CancelScope(shield=True):
            for wire in wires:
                await wire.aclose()
    return Timed(driven.answered, took)


async def ask(port: int, request: bytes) -> bytes:
    """The body of one answer, over a connection of its own. Raises RuntimeError if it is an error."""
    wire = await connect(LOOPBACK, port)
    try:
        return (await wire.ask(request)).good()
    finally:
        with trio.CancelScope(shield=True):
            await wire.aclose()


async def call(port: int, name: str, *given: Any) -> Any:
    """The result of a function of an XML-RPC server. Raises RuntimeError with its error."""
    request = encoded("POST", "/", xmlrpc.client.dumps(given, name).encode(), "text/xml")
    try:
        (found,), _ = xmlrpc.client.loads(await ask(port, request))
    except xmlrpc.client.Fault as fault:
        raise RuntimeError(fault.faultString) from None
    return found
