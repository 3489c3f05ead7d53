"""Cursors: the position where a page ended, as an opaque text."""

from __future__ import annotations

from base64 import b64decode, urlsafe_b64encode

from actors.errors import InvalidInput


def to_cursor(position: str) -> str:
    """A position as a cursor, safe in a query string."""
    return urlsafe_b64encode(position.encode()).decode().rstrip("=")


def from_cursor(cursor: str) -> str:
    """The position of a cursor. Raises InvalidInput for a text that `to_cursor` did not make."""
    try:
        position = b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
        if position:
            return position
    except ValueError:
        pass
    raise InvalidInput.at("cursor", "is not a cursor of this service")
