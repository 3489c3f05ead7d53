"""The Python client of Timewell, and the commands that use it.

    from timewell import Client

    with Client("http://localhost:3001") as client:
        client.register("purchases_7d", "user", "number")
        client.write("user.purchases_7d", "ada", 3)
        (ada,) = client.serve(["ada"], ["user.purchases_7d"])
        print(ada.features["user.purchases_7d"])

`AsyncClient` has the same methods, to be awaited under trio or asyncio. Every failure is a `TimewellError`.

The package imports nothing of the service; the service imports the wire structs from here. Each line imports only
from the lines above it.

wire.py                  request bodies and answers as msgspec structs
rows_wire.py             the same for exports and training sets
monitoring_wire.py       the same for monitoring
errors.py timestamps.py  the exceptions; timestamps as text and as microseconds
times.py                 times and durations of Python, numpy and pandas in the contract's form
plain.py                 Python values as JSON values
arrow_moments.py         Arrow columns of timestamps as microseconds
arrow_plain.py           Arrow columns without dictionaries, run ends, views and extension types
arrow_objects.py         Arrow columns as objects that msgspec encodes to their JSON
time_columns.py          columns of timestamps, numbers with a unit among them
calls.py                 requests, answers and retries, without I/O
events.py                server-sent events
arrow.py                 conversions between frames and Arrow
routes/                  every route, written once for `Client` and `AsyncClient`
client.py                the two clients
commands/                the commands that ask a service
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
        Gone,
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
    "Gone",
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
    """Import what is exported on first use, as the wire structs and `--help` need no HTTP client."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES.get(name, 'errors')}"), name)


def __dir__() -> list[str]:
    return __all__
