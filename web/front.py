"""What listens from the first moment: until the service is there, the process is alive and not ready."""

from __future__ import annotations

import msgspec
from hypercorn.typing import ASGIFramework, ASGIReceiveCallable, ASGISendCallable, Scope

from actors.errors import Unavailable
from timewell.wire import Health
from web.bodies.requests import JSON_TYPE
from web.hypercorn.admission import refuse, say

_ABOUT_HEALTH = {"/health/live": (200, Health("live")), "/health/ready": (503, Health("waiting for the storage"))}


class Front:
    """An application that is another one as soon as `app` is set."""

    def __init__(self) -> None:
        self.app: ASGIFramework | None = None

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Answer, or have the application answer."""
        if scope["type"] == "websocket":  # by HTTP/2; none is spoken
            await send({"type": "websocket.close", "code": 1000, "reason": None})
        elif self.app is not None:
            await self.app(scope, receive, send)
        elif scope["type"] == "http" and scope["path"] in _ABOUT_HEALTH:
            status, health = _ABOUT_HEALTH[scope["path"]]
            await say(send, status, msgspec.json.encode(health), JSON_TYPE)
        else:
            await refuse(send, Unavailable("the service is starting: its storage is not open yet"))
