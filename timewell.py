"""Timewell from Python.

    from timewell import Client

    with Client("http://localhost:3001") as client:
        client.register("purchases_7d", "user", "number")
        client.write("user.purchases_7d", "ada", 3)
        (ada,) = client.serve(["ada"], ["user.purchases_7d"])
        print(ada.features["user.purchases_7d"])

`AsyncClient` has the same methods, to be awaited under trio or asyncio. All that is raised is a `TimewellError`.
"""

from web.client import AsyncClient, Client
from web.client_calls import Retry
from web.client_errors import (
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
