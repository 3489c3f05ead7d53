"""What a request asks for, in the one form that Hypercorn and Quart can take: a path that begins with a slash.

It could go if Hypercorn refused what is no path, and Quart took two slashes for what they are.
"""

from __future__ import annotations

import re
from urllib.parse import quote

_ASCII = bytes(range(128))
_AUTHORITY = re.compile(rb"[a-zA-Z][a-zA-Z0-9+.-]*://[^/?#]*")


def as_path(target: bytes) -> bytes:
    """The target of a request, which may be absolute (RFC 9112, 3.2.2), a single word, or empty.

    >>> as_path(b"http://host/features?q=a"), as_path(b"http://[::host?q=a"), as_path(b"*"), as_path(b"/b\\xff")
    (b'/features?q=a', b'/?q=a', b'/*', b'/b%FF')
    """
    if not target.startswith(b"/"):
        target = b"/" + _AUTHORITY.sub(b"", target, count=1).removeprefix(b"/")
    return escaped(target)


def escaped(text: bytes) -> bytes:
    """With what is no ASCII escaped."""
    return text if text.isascii() else quote(text, safe=_ASCII).encode()
