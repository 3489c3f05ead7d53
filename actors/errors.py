"""What can go wrong, as one tree. These classes know nothing of HTTP; `web.errors` maps them to statuses.

TimewellError
    RequestError            the asker's doing; nothing was changed
        InvalidInput        malformed, or against a schema
        NotFound            no such feature, group, check
        Conflict            it contradicts what is registered
        TooLarge            over a limit of `actors.settings`
            TooMuchAtOnce   as a whole, but maybe not in parts
    Unavailable             not now; asking again later is safe
        Overloaded          an inbox stayed full
        StoreCrashed        the actor died under the call and is being rebuilt
        StorageDown         the journal cannot take writes (disk full, I/O error)
        UnderWay            another process is at work on the same idempotency key
        Damaged             what is stored is not what was written
    StartupError            the process cannot start
"""

from __future__ import annotations

import errno
from collections.abc import Sequence

import msgspec


class Fault(msgspec.Struct, frozen=True, omit_defaults=True):
    """One part of an input that is to blame: where it stands and why it was refused."""

    field: str
    message: str
    index: int | None = None


MOST_NAMED_CHARACTERS = 200
"""Of a field that the asker has named."""


def fault_of(told: msgspec.ValidationError, root: str = "") -> Fault:
    """msgspec's words: the field stands in the path, or in the reason where it is missing or unknown.

    Taken apart without a regular expression: the names in them are the asker's, and as long as he likes.
    """
    reason, _, path = str(told).rpartition(" - at `$") if str(told).endswith("`") else (str(told), "", "")
    if not reason:
        reason, path = str(told), ""
    path = root + path.removesuffix("`")
    for beginning, said in _ABOUT_FIELDS.items():
        if reason.startswith(beginning):
            path, reason = f"{path}.{reason[len(beginning) :].removesuffix('`')}", said
            break
    path = path.lstrip(".")
    if path.rpartition(".")[2] in _MOMENTS and reason.endswith(("`int`", "`float`")):
        reason += "; a moment is an RFC 3339 text such as 2025-11-07T10:00:00Z, a number does not say its unit"
    shown = path if len(path) <= MOST_NAMED_CHARACTERS else path[: MOST_NAMED_CHARACTERS - 3] + "..."
    return Fault(shown or "body", reason)


_MOMENTS = ("timestamp", "asOf", "startTime", "endTime", "knownAt")
_ABOUT_FIELDS = {
    "Object missing required field `": "is required",
    "Object contains unknown field `": "is not a known field",
}


class TimewellError(Exception):
    """The root. `detail` is one sentence for a person; `faults` name the parts of the input to blame."""

    def __init__(self, detail: str, faults: Sequence[Fault] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.faults = tuple(faults)


class RequestError(TimewellError):
    """The asker's doing. Nothing was changed."""


class InvalidInput(RequestError):
    """Malformed, or against a schema."""

    @classmethod
    def at(cls, field: str, message: str) -> InvalidInput:
        """One field is to blame."""
        return cls(f"{field}: {message}", [Fault(field, message)])


class NotFound(RequestError):
    """No such feature or group."""


class Conflict(RequestError):
    """It contradicts what is registered."""


class TooLarge(RequestError):
    """Over a limit."""


class TooMuchAtOnce(TooLarge):
    """More than one question may bring or hold; it may do for half of what was asked."""


class Unavailable(TimewellError):
    """Not now. `retry_after_seconds` is a hint for the asker."""

    retry_after_seconds = 1


class Overloaded(Unavailable):
    """An inbox stayed full, or too much is under way."""


class StoreCrashed(Unavailable):
    """The actor died under the call; its supervisor is rebuilding it."""


class StorageDown(Unavailable):
    """The journal cannot take writes: disk full, I/O error."""

    retry_after_seconds = 5


class UnderWay(Unavailable):
    """Another process is at work on the same idempotency key."""


class Damaged(Unavailable):
    """What is stored is not what was written: a checksum says so. `detail` names the file and what it held."""

    retry_after_seconds = 60


class StartupError(TimewellError):
    """The process cannot start: a bad setting, a data directory in use, damaged or not writable."""


def shortage(error: BaseException) -> Unavailable | None:
    """What to answer where the process lacks something for a moment (memory, a thread, a descriptor), else None.

    One request is refused for it; nothing is broken.
    """
    if isinstance(error, MemoryError):
        return Overloaded("there is not enough memory for this at the moment: ask for less at once, or later")
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return Overloaded("no thread can be had for this at the moment")
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
        return Overloaded(f"the process is short of something at the moment: {error.strerror}")
    return None
