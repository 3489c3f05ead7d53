"""Requests with the checks of their answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import msgspec

Check = Callable[[bytes], bool]
"""Whether the body of a 2xx answer is right. May raise for bodies of another form, see `fault`."""


class Ask(NamedTuple):
    """A prepared request, its kind (latencies are reported by kind), and the check of its answer."""

    kind: str
    request: bytes
    check: Check


class Work(Protocol):
    """The requests of a run."""

    @property
    def kinds(self) -> Sequence[str]:
        """Of the rows: row n is of kind `kinds[n % len(kinds)]`."""

    def ask(self, row: int) -> Ask:
        """The request of a row with its check."""


class Ring:
    """Requests made once and sent repeatedly."""

    def __init__(self, asks: Sequence[Ask]) -> None:
        self._asks = asks
        self.kinds = [ask.kind for ask in asks]

    def ask(self, row: int) -> Ask:
        return self._asks[row % len(self._asks)]


def fault(ask: Ask, body: bytes) -> str | None:
    """The fault of an answer, or None."""
    try:
        if ask.check(body):
            return None
    except (msgspec.DecodeError, LookupError, TypeError, ValueError, AttributeError):
        pass
    return f"{ask.kind}: wrong answer {body[:200].decode(errors='replace')}"
