"""Reading requests: typed bodies, query strings, times. Errors name the field at fault."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from functools import cache
from typing import Any, TypeVar

import msgspec
import trio
from quart import Response, request

from actors.errors import Fault, InvalidInput, TooLarge, fault_of
from actors.settings import MAX_ELEMENTS, MAX_KEYS
from actors.timestamps import FOREVER, NEVER, parse_timestamp
from actors.turns import Steps, by_turns
from web.bodies.choices import choices
from web.bodies.outline import has_more_elements, has_more_keys
from web.errors import UnsupportedMediaType

JSON_TYPE = "application/json"
T = TypeVar("T")
_DATE_AND_MARK = len("2025-03-01 ")


async def json_body(kind: type[T]) -> T:
    """The body, decoded and checked. Raises UnsupportedMediaType, or InvalidInput that names the field."""
    return await decode_bounded(await json_bytes(), kind)


async def decode_bounded(
    data: bytes | bytearray, kind: type[T], most: int = MAX_ELEMENTS, most_keys: int = MAX_KEYS
) -> T:
    """The same for a body already read. Raises TooLarge if decoding its elements would hold other requests up."""
    long = len(data) > min(most, most_keys)
    if long:
        await by_turns(checking_size(data, most, most_keys))
    decoded = decode(data, kind)
    if long:
        await trio.lowlevel.checkpoint()
    return decoded


def checking_size(data: bytes | bytearray, most: int = MAX_ELEMENTS, most_keys: int = MAX_KEYS) -> Steps[None]:
    """Raise TooLarge, in steps, if a body has so many elements that decoding it would hold other requests up."""
    if (yield from has_more_elements(data, most)):
        raise TooLarge(f"the body has more than {most} elements")
    if (yield from has_more_keys(data, most_keys)):
        raise TooLarge(f"the objects of the body have more than {most_keys} keys")


async def json_bytes(also: Sequence[str] = ()) -> bytes:
    """The body of a request that declares JSON. `also`: other media types of the route, for the error message."""
    if request.content_type != JSON_TYPE:  # the common case; parsing off parameters is slow
        declared = request.mimetype or "no Content-Type"
        if declared != JSON_TYPE:
            taken = " or ".join((JSON_TYPE, *also))
            raise UnsupportedMediaType(f"send the body as Content-Type: {taken} (got {declared})")
    return await body_bytes()


async def body_bytes() -> bytes:
    """The body, whatever it is declared as."""
    data = await request.get_data(cache=False)
    return data if isinstance(data, bytes) else data.encode()


def decode(
    data: bytes | bytearray | msgspec.Raw, kind: type[T], place_of: Callable[[int], int] | None = None
) -> T:
    """JSON decoded to a struct. Raises InvalidInput that names the field, or the place where the text is not JSON.

    `place_of`: if `data` is a piece of the body, maps a place in the piece to that in the body.
    """
    try:
        decoded: T = _decoder(kind).decode(data)  # type: ignore[arg-type]
    except msgspec.ValidationError as error:
        fault = _with_choices(fault_of(error), kind)
        raise InvalidInput(f"{fault.field}: {fault.message}", [fault]) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"the body is not valid JSON: {not_json(error, bytes(data), place_of)}") from None
    except RecursionError:
        raise InvalidInput("the body is nested too deeply") from None
    return decoded


def _with_choices(fault: Fault, kind: type[Any]) -> Fault:
    """The fault, with the words that an enumerated field takes, which msgspec does not name."""
    words = choices(kind, fault.field) if fault.message.startswith(_NO_CHOICE) else []
    if not words:
        return fault
    return Fault(fault.field, f"{fault.message.removeprefix(_NO_CHOICE)} is not one of {', '.join(words)}")


def not_json(error: Exception, data: bytes, place_of: Callable[[int], int] | None = None) -> str:
    """What is wrong with a text and at which byte, in helpful words for the most common mistakes."""
    place_of = place_of or (lambda place: place)
    if isinstance(error, UnicodeDecodeError):
        at = data.find(error.object) + error.start
        return f"a text is not UTF-8: 0x{error.object[error.start]:02x} (byte {place_of(at)})"
    found = _BYTE.search(str(error))
    if found is None:
        return str(error) if data.strip() else "it is empty"
    at = int(found[1])
    for start, words in _RIDDLES.items():
        for begin in (at, at - 1):  # msgspec takes the sign of -Infinity for a number's
            if begin >= 0 and data.startswith(start, begin):
                return f"{words} (byte {place_of(begin)})"
    return _BYTE.sub(f"(byte {place_of(at)})", str(error))


_NO_CHOICE = "Invalid enum value "
_BYTE = re.compile(r"\(byte ([0-9]+)\)")
_RIDDLES = {
    b"\xef\xbb\xbf": "it begins with a byte order mark, which JSON has none of",
    b"\xff\xfe": "it is UTF-16, JSON is UTF-8",
    b"\xfe\xff": "it is UTF-16, JSON is UTF-8",
    b"\0": "it has NULs as UTF-16 or UTF-32, JSON is UTF-8",
    b"\x1f\x8b": "it looks compressed; say so with Content-Encoding: gzip",
    b"-Infinity": "JSON has no -Infinity; write null",
    b"Infinity": "JSON has no Infinity; write null",
    b"NaN": "JSON has no NaN; write null",
    b"'": "texts are in double quotes, not in single ones",
}


@cache
def _decoder(kind: type[Any]) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def encode(answer: object, status: int = 200) -> Response:
    """An answer as JSON."""
    return Response(msgspec.json.encode(answer), status, content_type=JSON_TYPE)


def said(answer: bytes) -> Response:
    """An answer that is already encoded as JSON."""
    return Response(answer, 200, content_type=JSON_TYPE)


def no_content() -> Response:
    """The answer to a deletion."""
    response = Response(b"", 204)
    del response.headers["Content-Type"]
    return response


def with_offset(text: str) -> str:
    """A timestamp from a query string, where an unescaped `+` of its offset has become a space.

    >>> with_offset("2025-03-01 10:00:00 02:00"), with_offset("2025-03-01 10:00:00 UTC")
    ('2025-03-01 10:00:00+02:00', '2025-03-01 10:00:00 UTC')
    """
    return text[:_DATE_AND_MARK] + re.sub(" (?=[0-9])", "+", text[_DATE_AND_MARK:])


def range_of(start: str | None, end: str | None, within: str = "") -> tuple[int, int]:
    """The moments startTime and endTime of a request, in microseconds; the first or last of all where one is None.

    `within`: the path of the object that has them. Raises InvalidInput if they are no moments, or in wrong order.
    """
    fields = f"{within}startTime", f"{within}endTime"
    begin = NEVER if start is None else parse_timestamp(start, fields[0])
    last = FOREVER if end is None else parse_timestamp(end, fields[1])
    if begin > last:
        raise InvalidInput.at(fields[0], f"is after {fields[1]}")
    return begin, last


class Query:
    """The query string. Parameters that the route does not know are refused: most often they are typing errors."""

    def __init__(self, known: Collection[str], taker: str = "this route") -> None:
        self._given = request.args
        for name in self._given:
            if name not in known:
                taken = ", ".join(sorted(known)) or "none"
                raise InvalidInput.at(name, f"unknown query parameter; {taker} takes {taken}")

    def text(self, name: str) -> str | None:
        """A parameter as given; None if it is missing or empty."""
        return self._given.get(name) or None

    def needed(self, name: str) -> str:
        """A required parameter."""
        found = self.text(name)
        if found is None:
            raise InvalidInput.at(name, "is required")
        return found

    def choice(self, name: str, choices: Collection[str], default: str) -> str:
        """One of several words."""
        found = self.text(name) or default
        if found not in choices:
            raise InvalidInput.at(name, f"{found!r} is not one of {', '.join(choices)}")
        return found

    def flag(self, name: str) -> bool:
        """true or false; false if missing."""
        return self.choice(name, ("true", "false"), "false") == "true"

    def number(self, name: str, default: int, most: int) -> int:
        """A whole number from 1 to `most`."""
        found = self.text(name)
        if found is None:
            return default
        if not re.fullmatch(r"[0-9]{1,9}", found) or not 1 <= int(found) <= most:
            raise InvalidInput.at(name, f"{found!r} is not a whole number from 1 to {most}")
        return int(found)

    def range_of(self) -> tuple[int, int]:
        """`range_of` the parameters."""
        start, end = self.text("startTime"), self.text("endTime")
        return range_of(start and with_offset(start), end and with_offset(end))
