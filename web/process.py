"""The process: actors and front end in one `trio.run`, on one port, until a signal.

It listens before the storage is open, so that it can say that it is alive and not ready. It shuts down in this
order: the front end stops taking requests and finishes those it has, the journal commits what waits, the storage
closes.
"""

from __future__ import annotations

import gc
import logging
import signal
import sys
from functools import partial
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import trio

from actors.errors import StartupError
from actors.memory import keep_for_reuse
from actors.opening import open_router, unwrapped
from actors.router import Router
from actors.settings import Settings
from web.app import create_app
from web.fastlane import Connection, FastLane
from web.gate import Gate
from web.hypercorn.connections import ConnectionsConfig, install
from web.hypercorn.listening import listen
from web.hypercorn.places import ConnectionPlaces, room_for_connections
from web.hypercorn.untaken import Untaken

log = logging.getLogger("timewell.serve")
CONNECTIONS_WAITING = 4_096
"""The backlog: a thousand clients may connect at once. The system has a bound of its own (somaxconn)."""
GRACEFUL_SECONDS = 10.0
KEEP_ALIVE_SECONDS = 75.0
KEEP_ALIVE_REQUESTS = 1_000_000
SWITCH_SECONDS = 0.0005
"""How long a worker thread (a checkpoint, a large answer) may hold the interpreter while requests wait."""


async def serve(
    settings: Settings,
    stop: trio.Event | None = None,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until SIGTERM, SIGINT or `stop`. Reports the bound addresses once requests are answered.

    Raises StartupError if the storage cannot be opened or the port cannot be bound.
    """
    stop = stop or trio.Event()
    sys.setswitchinterval(SWITCH_SECONDS)
    keep_for_reuse()
    gate, config, ended = Gate(stop), _config(settings), trio.Event()
    config.places = ConnectionPlaces(room_for_connections(settings))
    if config.places.most < settings.max_connections:
        log.warning("room for %d connections: the limit of open files is low (ulimit -n)", config.places.most)
    install()
    try:
        async with trio.open_nursery() as web:
            binds = await web.start(_listen, gate, config, ended)
            async with open_router(settings) as router, trio.open_nursery() as nursery:
                await nursery.start(_stop_on_signal, stop)
                nursery.start_soon(_end_event_streams, router, stop)
                _open(gate, config, router, settings)
                log.info("serving on %s (storage: %s)", ", ".join(binds), where(settings))
                task_status.started(binds)
                await ended.wait()
                log.info("stopped taking requests; committing what waits")
                nursery.cancel_scope.cancel()
            web.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise unwrapped(group) from None


async def _listen(
    gate: Gate,
    config: ConnectionsConfig,
    ended: trio.Event,
    task_status: trio.TaskStatus[list[str]],
) -> None:
    """Listen until the process is to end, or until cancelled. Raises StartupError if the port cannot be bound."""
    try:
        await listen(gate, config, gate.stop, task_status)
        ended.set()
    except* (OSError, UnicodeError) as group:
        reason = unwrapped(group)
        words = getattr(reason, "strerror", None) or str(reason)
        raise StartupError(f"cannot listen on {config.bind[0]}: {words} (HOST, PORT)") from None


def _open(gate: Gate, config: ConnectionsConfig, router: Router, settings: Settings) -> None:
    """Have the application answer requests from now on, and the fast lane those of new connections."""
    gate.open(create_app(router, settings, gate.traffic))
    if settings.fast_lane == "on":
        config.connection = partial(Connection, FastLane(router, settings, gate))
    pa.array(np.zeros(1))  # imports pandas if installed, which would hold up the first table for half a second
    gc.collect()
    gc.freeze()  # else each full collection holds requests up while it visits 75,000 objects of libraries


async def _end_event_streams(router: Router, stop: trio.Event) -> None:
    """End them when the process is to stop: they last as long as their clients listen."""
    await stop.wait()
    router.end_event_streams()


def where(settings: Settings) -> str:
    """The storage in words, without its password."""
    if settings.storage_type == "embedded":
        return f"embedded in {settings.data_dir}"
    if settings.storage_type == "memory":
        return "memory, nothing is kept"
    hosts = urlsplit(settings.storage_url).netloc.rpartition("@")[2]
    return f"{settings.storage_type} at {hosts}" if hosts else settings.storage_type


def _config(settings: Settings) -> ConnectionsConfig:
    config = ConnectionsConfig()
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    config.bind = [f"{host}:{settings.port}"]
    config.untaken = Untaken(settings.stalled_seconds)
    config.backlog = CONNECTIONS_WAITING
    config.graceful_timeout = GRACEFUL_SECONDS
    config.keep_alive_timeout = KEEP_ALIVE_SECONDS
    config.keep_alive_max_requests = KEEP_ALIVE_REQUESTS
    config.include_server_header = False
    config.errorlog = logging.getLogger("timewell.hypercorn")
    config.errorlog.setLevel(logging.WARNING)  # `serve` itself logs the addresses, once everything is ready
    return config


async def _stop_on_signal(stop: trio.Event, task_status: trio.TaskStatus[None]) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for _ in signals:
            if stop.is_set():
                raise KeyboardInterrupt  # a second signal does not wait
            stop.set()
