"""Sends alerts to the operator's webhook: signed, with a timeout and retries.

The body is JSON. The header `Timewell-Signature: t=SECONDS,v1=HEX` proves origin and time of the request: HEX is
the HMAC-SHA256 (RFC 2104), keyed with the shared secret, of the text `SECONDS.BODY`.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
from collections.abc import Callable
from typing import Any

import msgspec
import trio

log = logging.getLogger("timewell.webhook")
WAITING = 1_000
"""How many deliveries may wait; beyond, new ones are dropped and logged."""
ATTEMPTS = 6
TIMEOUT_SECONDS = 5.0
FIRST_RETRY_SECONDS = 1.0
"""Each retry waits twice as long as the one before: 31 s over all attempts."""


def signature(secret: str, seconds: int, body: bytes) -> str:
    """The value of the `Timewell-Signature` header.

    >>> signature("secret", 1762509600, b"{}")[:15]
    't=1762509600,v1'
    """
    digest = hmac.new(secret.encode(), b"%d.%b" % (seconds, body), hashlib.sha256).hexdigest()
    return f"t={seconds},v1={digest}"


class Webhook:
    """Sends deliveries one after the other, in order. Without a URL it drops them."""

    def __init__(self, url: str, secret: str, now: Callable[[], float] = time.time) -> None:
        self._url = url
        self._secret = secret
        self._now = now
        self._send, self._receive = trio.open_memory_channel[dict[str, Any]](WAITING)

    def post(self, payload: dict[str, Any]) -> None:
        """Queue a delivery. Never waits."""
        if not self._url:
            return
        try:
            self._send.send_nowait(payload)
        except trio.WouldBlock:
            log.error("too many deliveries wait; dropped: %s", payload)

    async def run(self) -> None:
        """Deliver until cancelled."""
        if not self._url:
            return
        import httpx  # imported only if there is something to send

        while True:
            try:
                async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS) as client:
                    async for payload in self._receive:
                        await self._deliver(client, payload)
                    return
            except Exception as error:  # unreadable certificates, for example, or no free file descriptor
                log.exception("the webhook cannot be used and will be tried again", exc_info=error)
                await trio.sleep(FIRST_RETRY_SECONDS)

    async def _deliver(self, client: Any, payload: dict[str, Any]) -> None:
        import httpx

        body = msgspec.json.encode(payload)
        for attempt in range(ATTEMPTS):
            if attempt:
                await trio.sleep(FIRST_RETRY_SECONDS * 2 ** (attempt - 1))
            try:
                answer = await client.post(self._url, content=body, headers=self._headers(body))
                if answer.is_success:
                    return
                reason = f"status {answer.status_code}"
            except Exception as error:  # includes an unresolvable name, or no free file descriptor
                reason = type(error).__name__
                if isinstance(error, httpx.NetworkError | OSError):  # others may quote the URL and secrets in it
                    reason += f": {error}"
            log.warning("webhook attempt %d of %d failed: %s", attempt + 1, ATTEMPTS, reason)
        log.error("webhook gave up on: %s", body.decode())

    def _headers(self, body: bytes) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "User-Agent": "timewell"}
        if self._secret:
            headers["Timewell-Signature"] = signature(self._secret, int(self._now()), body)
        return headers
