"""A long array in a JSON body, decoded a piece at a time so that other requests are served in between.

msgspec decodes 500,000 values a second and holds the interpreter throughout. So the array is cut into pieces, and
each step decodes one. The cuts are guessed at first, where an object seems to end (`},`). From the first piece on
that does not decode, they are made where the outline says that an item ends (`outline.py`). The result is that of
decoding the whole, faults included, except that a batch with too many items is refused as soon as they are
counted.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple, NoReturn

import msgspec

from actors.errors import Fault, InvalidInput, TooLarge
from actors.turns import Steps
from web.bodies.outline import CHUNK_BYTES, MOST_FIELDS, ManyFields, Outline, finding
from web.bodies.requests import checking_size, decode

LONGEST_ITEM_BYTES = 1024 * 1024
"""Twice what the largest vector takes."""
_LOOK_AHEAD_BYTES = 64
"""The message for a fault at the end of a piece depends on the text that follows."""
_END = re.compile(rb"\][ \t\r\n]*+\}[ \t\r\n]*+")
_INDEX = re.compile(r"\[(\d+)\]")
_RAW = list[msgspec.Raw]


class Array(NamedTuple):
    """The long array of a body: `body` is the type of the body, `items` that of a list of the array's items."""

    field: str
    body: type[Any]
    items: Any
    most: int | None
    """How many items are accepted, None for any number."""


def _nothing() -> Steps[None]:
    yield from ()


class Items:
    """Reads the items of a body. `take` is called with decoded items, some at a time.

    `judge` is called with the undecoded items of a piece of which some have the wrong type; without it the first
    such item is refused.
    """

    def __init__(
        self,
        data: bytes | bytearray,
        array: Array,
        take: Callable[[list[Any]], None],
        judge: Callable[[list[msgspec.Raw]], Steps[None]] | None = None,
    ) -> None:
        self._data = data
        self._array = array
        self._take = take
        self._judge = judge
        self._count = 0
        self._faulty = False
        self._after = _nothing

    def reading(self, after: Callable[[], Steps[None]] = _nothing) -> Steps[Any]:
        """Read the whole body, in steps; the steps of `after` follow each piece.

        Returns the body with the array left empty. Raises InvalidInput, TooLarge.
        """
        self._after = after
        data, array = self._data, self._array
        try:
            begin = yield from finding(data, array.field)
        except ManyFields as error:
            self._refuse_many(error.at)
        if begin is None:
            yield from checking_size(data)
            return decode(data, array.body)
        yield from checking_size(data[:begin])
        decode(data[:begin] + b"]}", array.body)
        end, whole = yield from self._likely(begin)
        if not whole:
            end = yield from self._certain(begin, end)
        if not _END.fullmatch(data, end):
            yield from checking_size(data[end:])
            self._refuse_another(end)
        rest = data[:begin] + data[end:]
        return decode(rest, array.body, lambda place: place if place < begin else place + end - begin)

    def _refuse_many(self, end: int) -> NoReturn:
        """Raise InvalidInput for too many fields before the array: for the first invalid one, if there is one."""
        before = self._data[:end].rstrip(b", \t\r\n")
        decode(before + f',"{self._array.field}":[]}}'.encode(), self._array.body)
        raise InvalidInput.at("body", f"has more than {MOST_FIELDS} fields before {self._array.field!r}")

    def _refuse_another(self, end: int) -> None:
        """Raise InvalidInput if the array is given twice: the second would silently replace the first."""
        fields = dict[str, msgspec.Raw]()
        with suppress(InvalidInput):  # the caller reports this fault itself
            fields = decode(b'{"":0' + self._data[end + 1 :], dict[str, msgspec.Raw])
        if self._array.field in fields:
            raise InvalidInput.at(self._array.field, "is given twice")

    def _likely(self, begin: int) -> Steps[tuple[int, bool]]:
        """Decode, cutting where objects seem to end. Returns how far it got, and whether that was everything."""
        data = self._data
        end = data.rfind(b"]")
        if not _END.fullmatch(data, end):
            return begin, False
        start = begin
        while True:
            comma = data.find(b"},", start + CHUNK_BYTES, end)
            stop = end if comma < 0 else comma + 1
            if stop - start > LONGEST_ITEM_BYTES:
                return start, False
            try:
                items = self._decoded(start, stop, self._array.items)
            except InvalidInput:
                return start, False
            if not items and (start, stop) != (begin, end):
                return start, False
            self._taken(items)
            yield
            yield from self._after()
            if stop == end:
                return end, True
            start = stop + 1

    def _certain(self, begin: int, start: int) -> Steps[int]:
        """Decode, cutting where the outline says. Returns where the array ends."""
        data, outline, at = self._data, Outline(), start
        while at < len(data):
            commas, end = outline.look(bytes(data[at : at + CHUNK_BYTES]))
            self._refuse_too_many(len(commas))
            if end >= 0:
                yield from self._piece(begin, start, at + end)
                if data[at + end] != ord("]"):
                    self._refuse(start, at + end + _LOOK_AHEAD_BYTES)
                return at + end
            if len(commas):
                stop = at + int(commas[-1])
                yield from self._piece(begin, start, stop)
                start = stop + 1
            at += CHUNK_BYTES
            if at - start > LONGEST_ITEM_BYTES:
                fault = Fault(self._array.field, f"is longer than {LONGEST_ITEM_BYTES} bytes", self._count)
                raise InvalidInput(f"{self._array.field}[{self._count}]: {fault.message}", [fault])
            yield
        self._refuse(start, len(data))
        raise AssertionError("an array without an end was decoded")

    def _piece(self, begin: int, start: int, stop: int) -> Steps[None]:
        """Decode whole items, as the outline sees them. Raises what decoding the whole body would raise here."""
        try:
            items = self._decoded(start, stop, self._array.items)
        except InvalidInput as error:
            if self._judge is None or not (error.faults or self._faulty):
                self._refuse(start, stop + _LOOK_AHEAD_BYTES)
        else:
            self._none_missing(begin, start, stop, items)
            self._taken(items)
            yield from self._after()
            return
        self._faulty = True
        try:
            raw = self._decoded(start, stop, _RAW)
        except InvalidInput:
            self._refuse(start, stop + _LOOK_AHEAD_BYTES)
            raise
        self._none_missing(begin, start, stop, raw)
        self._refuse_too_many(len(raw))
        self._count += len(raw)
        if self._judge is not None:
            yield from self._judge(raw)

    def _refuse(self, start: int, stop: int) -> None:
        """Raise InvalidInput for the first fault of this text."""
        if not self._faulty:
            try:
                self._decoded(start, stop, self._array.items, closed=False)
            except InvalidInput as error:
                if not error.faults:
                    raise
                if self._judge is None:
                    raise self._named(error) from None
        self._decoded(start, stop, _RAW, closed=False)

    def _decoded(self, start: int, stop: int, kind: Any, closed: bool = True) -> list[Any]:
        """The items of a piece. A fault is reported with its place in the whole body."""
        text = b"[" + self._data[start:stop] + (b"]" if closed else b"")
        return decode(text, kind, lambda place: place + start - 1)

    def _none_missing(self, begin: int, start: int, stop: int, items: list[Any]) -> None:
        """Raise InvalidInput if a comma has no item before or after it."""
        if items or (start == begin and self._data[stop : stop + 1] != b","):
            return
        before = b"[0," if start > begin else b"["
        text = before + self._data[start : stop + _LOOK_AHEAD_BYTES]
        decode(text, _RAW, lambda place: place + start - len(before))

    def _taken(self, items: list[Any]) -> None:
        self._refuse_too_many(len(items))
        self._count += len(items)
        self._take(items)

    def _refuse_too_many(self, more: int) -> None:
        if self._array.most is not None and self._count + more > self._array.most:
            one = "a batch" if self._array.field == "values" else "a request"
            raise TooLarge(f"{one} takes at most {self._array.most} {self._array.field}")

    def _named(self, error: InvalidInput) -> InvalidInput:
        """An error in an item of a piece, with the item's index in the whole array."""

        def whole(match: re.Match[str]) -> str:
            return f"{self._array.field}[{int(match[1]) + self._count}]"

        fault = error.faults[0]
        field = _INDEX.sub(whole, fault.field, count=1)
        return InvalidInput(f"{field}: {fault.message}", [Fault(field, fault.message)])
