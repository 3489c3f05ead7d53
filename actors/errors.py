"""The exception tree. These classes know nothing of HTTP; `web.errors` maps them to status codes.

TimewellError
    RequestError            the request is at fault; nothing was changed
        InvalidInput        malformed, or violates a schema
        NotFound            no such feature, group, check
        Conflict            contradicts what is registered
        Gone                was there, and cannot be had again
        TooLarge            over a limit of `actors.settings`
            TooMuchAtOnce   too large as a whole; smaller parts may succeed
    Unavailable             temporary; a retry is safe
        Overloaded          an inbox stayed full, or a resource is exhausted
        StoreCrashed        the actor crashed during the call and is being rebuilt
        StorageDown         the storage cannot be used (disk full, I/O error, shared store out of reach)
        UnderWay            another process is handling the same idempotency key
        Damaged             stored data does not match its checksum
    StartupError            the process cannot start
"""

from __future__ import annotations

import errno
from collections.abc import Sequence

import msgspec


class Fault(msgspec.Struct, frozen=True, omit_defaults=True):
    """One part of the input that was refused: the field, the reason, and its index in a list if it has one."""

    field: str
    message: str
    index: int | None = None

    @property
    def place(self) -> str:
        """Where it is, for a message: `features`, `[3].entityId`, `rows[3].user`."""
        if self.index is None:
            return self.field
        field = self.field.removeprefix("rows.")
        return f"rows[{self.index}].{field}" if field != self.field else f"[{self.index}].{field}"


MOST_NAMED_CHARACTERS = 200
"""How much of a field name from the request is repeated in an error message."""


def fault_of(told: msgspec.ValidationError, root: str = "") -> Fault:
    """The Fault that a validation error of msgspec describes. `root`: the path of the value that was validated.

    The field is in the path of msgspec's message, or in its reason if the field is missing or unknown. The message
    is parsed without a regular expression, as it may contain arbitrarily long names from the request.
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
    """The root. `detail` is one sentence for a person; `faults` name the parts of the input that were refused."""

    def __init__(self, detail: str, faults: Sequence[Fault] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.faults = tuple(faults)


class RequestError(TimewellError):
    """The request is at fault. Nothing was changed."""


class InvalidInput(RequestError):
    """The input is malformed, or violates a schema."""

    @classmethod
    def at(cls, field: str, message: str) -> InvalidInput:
        """An error about a single field."""
        return cls(f"{field}: {message}", [Fault(field, message)])


class NotFound(RequestError):
    """What the request names does not exist."""


class Conflict(RequestError):
    """The request contradicts what is registered."""


class Gone(RequestError):
    """What the request names was there, and cannot be had again."""


class TooLarge(RequestError):
    """The request or its answer exceeds a limit."""


class TooMuchAtOnce(TooLarge):
    """A query would read or hold more than a single query may; half of it may succeed."""


class Unavailable(TimewellError):
    """The request cannot be served now. `retry_after_seconds` is a hint for the client."""

    retry_after_seconds = 1


class Overloaded(Unavailable):
    """An inbox stayed full, or too much work is in progress."""


class StoreCrashed(Unavailable):
    """The actor crashed during the call; its supervisor is rebuilding it."""


class StorageDown(Unavailable):
    """The storage cannot be used: disk full, I/O error, shared store out of reach."""

    retry_after_seconds = 5


class UnderWay(Unavailable):
    """Another process is handling a write with the same idempotency key."""


class Damaged(Unavailable):
    """Stored data does not match its checksum. `detail` names the file and what it held."""

    retry_after_seconds = 60


class StartupError(TimewellError):
    """The process cannot start: a bad setting, or a data directory that is in use, damaged or not writable."""


def shortage(error: BaseException) -> Unavailable | None:
    """The error to answer with if the process has run out of memory, threads or file descriptors; otherwise None.

    Such a shortage fails the one request and needs no restart.
    """
    if isinstance(error, MemoryError):
        return Overloaded("there is not enough memory for this at the moment: ask for less at once, or later")
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return Overloaded("no thread can be had for this at the moment")
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
        return Overloaded(f"the process is short of something at the moment: {error.strerror}")
    return None
