"""Listening: new connections are accepted many at a time.

Hypercorn, through trio, accepts one connection in each pass of the event loop. A pass is long while a batch is
judged, and a thousand clients that connect at once would wait for a thousand passes.

It could go if Hypercorn, or trio's `serve_listeners`, accepted all waiting connections.
"""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Iterator
from typing import Any

import trio
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework, ConnectionState
from hypercorn.utils import repr_socket_addr, wrap_app

from web.hypercorn.connections import ConnectionsConfig

log = logging.getLogger("timewell.connections")
ACCEPTED_AT_ONCE = 16
"""Open connections wait while this many new ones are set up, about a millisecond."""
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)
_NO_ROOM_SECONDS = 0.1


async def listen(
    app: ASGIFramework,
    config: ConnectionsConfig,
    stop: trio.Event,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Accept connections until `stop`, then serve the open ones for a while longer. Reports the addresses.

    Raises OSError or UnicodeError if it cannot listen.
    """
    sockets = config.create_sockets()
    listeners = [*sockets.secure_sockets, *sockets.insecure_sockets]
    for listener in listeners:
        listener.listen(config.backlog)
    scheme = "https" if config.ssl_enabled else "http"
    context = WorkerContext(None)
    made = _Making(app, config, context)
    async with trio.open_nursery() as connections:
        async with trio.open_nursery() as accepting:
            for listener in listeners:
                accepting.start_soon(_accept, listener, made, connections)
            task_status.started([f"{scheme}://{_address(listener)}" for listener in listeners])
            await stop.wait()
            accepting.cancel_scope.cancel()
        await context.terminated.set()
        connections.cancel_scope.deadline = trio.current_time() + config.graceful_timeout


class _Making:
    """Makes and serves connections. `config.connection` is looked up for each, as it changes at the start."""

    def __init__(self, app: ASGIFramework, config: ConnectionsConfig, context: WorkerContext) -> None:
        self._app = wrap_app(app, config.wsgi_max_body_size, "asgi")
        self._config = config
        self._context = context
        self._encryption = config.create_ssl_context()

    async def serve(self, plain: socket.socket) -> None:
        """Serve one connection to its end."""
        stream: Any = trio.SocketStream(trio.socket.from_stdlib_socket(plain))
        if self._encryption is not None:
            stream = trio.SSLStream(stream, self._encryption, server_side=True, https_compatible=True)
        try:
            await self._config.connection(self._app, self._config, self._context, ConnectionState({}), stream)
        finally:
            plain.close()


def _address(listener: socket.socket) -> str:
    return repr_socket_addr(listener.family, listener.getsockname())


async def _accept(listener: socket.socket, made: _Making, connections: trio.Nursery) -> None:
    with listener:
        while True:
            await trio.lowlevel.wait_readable(listener)
            try:
                for plain in _accepted(listener):
                    connections.start_soon(made.serve, plain)
            except OSError as error:
                log.error("no connection can be accepted at the moment: %s", error.strerror)
                await trio.sleep(_NO_ROOM_SECONDS)


def _accepted(listener: socket.socket) -> Iterator[socket.socket]:
    """Some of the waiting connections. Raises OSError if there is no descriptor or memory for them."""
    for _ in range(ACCEPTED_AT_ONCE):
        try:
            plain, _ = listener.accept()
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise
            continue  # the client has already left
        plain.setblocking(False)
        yield plain
