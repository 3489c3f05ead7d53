"""Request targets in the one form that Hypercorn and Quart both handle: an ASCII path that begins with a slash.

It could go if Hypercorn refused targets that are not paths: Quart fails on an empty one, and parses others as
URLs.
"""

from __future__ import annotations

import re
from urllib.parse import quote

_ASCII = bytes(range(128))
_AUTHORITY = re.compile(rb"[a-zA-Z][a-zA-Z0-9+.-]*://[^/?#]*")


def as_path(target: bytes) -> bytes:
    """The target as a path. It may have been an absolute URI (RFC 9112, 3.2.2), a word such as `*`, or empty.

    >>> as_path(b"http://host/features?q=a"), as_path(b"http://[::host?q=a"), as_path(b"*"), as_path(b"/b\\xff")
    (b'/features?q=a', b'/?q=a', b'/*', b'/b%FF')
    """
    if not target.startswith(b"/"):
        target = b"/" + _AUTHORITY.sub(b"", target, count=1).removeprefix(b"/")
    return escaped(target)


def escaped(text: bytes) -> bytes:
    """The text with its non-ASCII bytes percent-encoded."""
    return text if text.isascii() else quote(text, safe=_ASCII).encode()
