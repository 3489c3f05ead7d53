"""Cursors: where a page ended, as an opaque word."""

from __future__ import annotations

from base64 import b64decode, urlsafe_b64encode

from actors.errors import InvalidInput


def to_cursor(position: str) -> str:
    """A position as a word for a query string."""
    return urlsafe_b64encode(position.encode()).decode().rstrip("=")


def from_cursor(cursor: str) -> str:
    """The position. Raises InvalidInput for a word that `to_cursor` did not make."""
    try:
        position = b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
        if position:
            return position
    except ValueError:
        pass
    raise InvalidInput.at("cursor", "is not a cursor of this service")
