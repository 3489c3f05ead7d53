"""Validates the URL of a shared store. Messages never quote it, as any part of it may be the password."""

from __future__ import annotations

import re
from collections.abc import Collection

from actors.errors import StartupError

_ESCAPED = re.compile(r"(?:[^%]|%[0-9A-Fa-f]{2})*")
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.%a-z]+\]|[^\[\]:@\s]*)(?::(?P<port>[0-9]*))?")
_MOST_PORT = 65_535


def check_address(url: str, schemes: Collection[str], name: str) -> None:
    """Raise StartupError unless `url` is a valid URL with one of these schemes. `name`: the kind of server."""
    scheme, slashes, rest = url.partition("://")
    if not slashes or scheme not in schemes:
        raise refused(name, f"it does not begin with {' or '.join(f'{one}://' for one in schemes)}")
    who, at, where = rest.rpartition("@")
    if re.search(r"[@/?#\[\]\s]", who) or (not at and "#" in rest):
        signs = "an @, /, ?, #, [ or ] in a user, a password or an option has to be percent-encoded (%40 for @)"
        raise refused(name, signs)
    if re.search(r"\s", url) or not url.isprintable():
        raise refused(
            name, "there is a space or another character in it that is none of an address (%20 for a space)"
        )
    if not _ESCAPED.fullmatch(url):
        raise refused(name, "a % is not followed by two hexadecimal digits (%25 for a % itself)")
    for host in re.split(r"[/?#]", where, maxsplit=1)[0].split(","):
        found = _HOST.fullmatch(host)
        if found is None or int(found["port"] or 1) not in range(1, _MOST_PORT + 1):
            raise refused(
                name, f"a host is to be name, name:port or [IPv6 address]:port, a port 1 to {_MOST_PORT}"
            )


def refused(name: str, reason: str) -> StartupError:
    """The error for an invalid URL."""
    return StartupError(f"STORAGE_URL is not what {name} takes: {reason}")
