"""Connections of our own making in Hypercorn's server, and one at fault ends alone.

Hypercorn has no setting for the class of its connections, so the name that it calls is replaced. It runs all of
them in one nursery: an exception that leaves one, as the handshake of a websocket with anything behind it makes
h11 raise, would end the process. `Guarded` logs it instead.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from hypercorn.config import Config
from hypercorn.trio import run
from hypercorn.trio.tcp_server import TCPServer

from web.keepalive import IdleTimer

log = logging.getLogger("timewell.connections")


class Guarded(TCPServer):
    """A connection of which the faults stay with it."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self._idle = IdleTimer(
            self.config.keep_alive_timeout, self.context.terminated, self._initiate_server_close, self._cut_off
        )
        self.idle_task = self._idle  # type: ignore[assignment]

    async def run(self) -> None:
        """Serve it to its end."""
        try:
            await super().run()
        except* Exception as group:
            log.warning("a connection was given up: %s", _causes(group), exc_info=_if_debugging(group))

    async def _read_data(self) -> None:
        with self._idle.running():
            await super()._read_data()

    def _cut_off(self) -> None:
        getattr(self.stream, "transport_stream", self.stream).socket.close()


class ConnectionsConfig(Config):
    """Hypercorn's. `connection` is called with what a TCPServer is made of."""

    connection: Callable[..., TCPServer] = Guarded


def install() -> None:
    """Have connections made as their configuration says. Servers with Hypercorn's own are served as ever."""
    run.TCPServer = _connection  # type: ignore[attr-defined, assignment]


def _connection(app: Any, config: Config, *rest: Any) -> TCPServer:
    make = config.connection if isinstance(config, ConnectionsConfig) else TCPServer
    return make(app, config, *rest)


def _causes(group: BaseExceptionGroup[BaseException]) -> str:
    """In one line: clients can bring this about as often as they like."""
    parts = [_causes(one) if isinstance(one, BaseExceptionGroup) else repr(one) for one in group.exceptions]
    return ", ".join(dict.fromkeys(parts))


def _if_debugging(group: BaseExceptionGroup[BaseException]) -> BaseExceptionGroup[BaseException] | None:
    return group if log.isEnabledFor(logging.DEBUG) else None
