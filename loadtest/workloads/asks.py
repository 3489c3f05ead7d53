"""Requests with what is known of their answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import msgspec

Check = Callable[[bytes], bool]
"""Whether the body of a 2xx answer is right. Raises whatever it likes for bodies of another form."""


class Ask(NamedTuple):
    """A request made ready, its kind (latencies are reported by kind), and the check of its answer."""

    kind: str
    request: bytes
    check: Check


class Work(Protocol):
    """What a run sends."""

    @property
    def kinds(self) -> Sequence[str]:
        """Of the rows: row n is of kind `kinds[n % len(kinds)]`."""

    def ask(self, row: int) -> Ask:
        """The request of a row with its check."""


class Ring:
    """Requests made once and sent over and over."""

    def __init__(self, asks: Sequence[Ask]) -> None:
        self._asks = asks
        self.kinds = [ask.kind for ask in asks]

    def ask(self, row: int) -> Ask:
        return self._asks[row % len(self._asks)]


def fault(ask: Ask, body: bytes) -> str | None:
    """What is wrong with the answer, None where nothing is."""
    try:
        if ask.check(body):
            return None
    except (msgspec.DecodeError, LookupError, TypeError, ValueError, AttributeError):
        pass
    return f"{ask.kind}: wrong answer {body[:200].decode(errors='replace')}"
