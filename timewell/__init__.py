"""Timewell from Python.

    from timewell import Client

    with Client("http://localhost:3001") as client:
        client.register("purchases_7d", "user", "number")
        client.write("user.purchases_7d", "ada", 3)
        (ada,) = client.serve(["ada"], ["user.purchases_7d"])
        print(ada.features["user.purchases_7d"])

`AsyncClient` has the same methods, to be awaited under trio or asyncio. All that is raised is a `TimewellError`.

Knows no server, which takes its structs of the wire from here. Each line imports only from the lines above it.

wire.py                  request bodies and answers as msgspec structs
monitoring_wire.py       those of monitoring
errors.py timestamps.py  what is raised; moments as text and as microseconds
times.py                 times and lengths of Python, numpy, pandas as the contract takes them
plain.py                 values of Python as those of JSON
arrow_moments.py         columns of Arrow: moments as microseconds;
arrow_plain.py           without dictionaries, runs, views;
arrow_objects.py         as the objects that encode to their JSON
time_columns.py          numbers as moments, where their unit is said
calls.py                 how a client asks, and asks again
events.py                events as they happen
arrow.py                 between frames and Arrow
routes/                  each route once, for `Client` and `AsyncClient`
client.py                the clients: waiting or as a task
commands/                the commands that speak to a service
cli.py                   `timewell` with these commands
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from timewell.calls import Retry
    from timewell.client import AsyncClient, Client
    from timewell.errors import (
        Conflict,
        Denied,
        InvalidInput,
        NotFound,
        ServerFailed,
        TimewellError,
        TooLarge,
        Unavailable,
        Unreachable,
        UnsupportedMediaType,
    )

__all__ = [
    "AsyncClient",
    "Client",
    "Conflict",
    "Denied",
    "InvalidInput",
    "NotFound",
    "Retry",
    "ServerFailed",
    "TimewellError",
    "TooLarge",
    "Unavailable",
    "Unreachable",
    "UnsupportedMediaType",
]

_PLACES = {"AsyncClient": "client", "Client": "client", "Retry": "calls"}


def __getattr__(name: str) -> object:
    """What is exported, imported when it is asked for: the wire's structs and `--help` need no HTTP client."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES.get(name, 'errors')}"), name)


def __dir__() -> list[str]:
    return __all__
