"""The type `json`: any JSON value, stored as canonical text: keys sorted, -0.0 as 0.0."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from actors.domain import Feature
from actors.errors import InvalidInput
from actors.settings import MAX_JSON_DEPTH, MAX_VALUE_BYTES, ROWS_PER_TURN
from actors.types.string import Text
from actors.types.type import CANONICAL, Array, Coerced, Refusal, Refused, column_of, is_text, joined, mismatch
from timewell.arrow_objects import Unsayable, has_bytes, objects


class Json(Text):
    """The type `json`."""

    name = "json"
    slow = True

    def from_json(self, feature: Feature, value: Any) -> str:
        """Convert a value to canonical text. Raises Refusal if it is too long or nested too deeply."""
        try:
            text = CANONICAL.encode(value)
        except RecursionError:
            raise Refusal(_TOO_DEEP) from None
        except (ValueError, OverflowError):
            raise Refusal("holds a number that JSON cannot carry") from None
        if len(text) > MAX_VALUE_BYTES:
            raise Refusal(f"longer than {MAX_VALUE_BYTES} bytes of canonical JSON")
        if text.count(b"[") + text.count(b"{") > MAX_JSON_DEPTH and _depth(text) > MAX_JSON_DEPTH:
            raise Refusal(_TOO_DEEP)
        if b"-0.0" in text:
            text = CANONICAL.encode(_without_negative_zero(value))
        return text.decode()

    def to_json(self, values: Array) -> list[Any]:
        """Embed the stored texts as they are."""
        return [None if text is None else msgspec.Raw(text.encode()) for text in values.tolist()]

    def from_arrow(self, feature: Feature, values: pa.Array, field: str) -> Coerced:
        """Accept JSON texts, as training sets have them, and Arrow values of other types, which are converted.

        Works in parts: the objects of all rows together would take hundreds of megabytes, which the garbage
        collector would traverse again and again while no other thread runs.
        """
        convert = self._of_texts if is_text(values.type) else self._of_objects
        starts = range(0, max(1, len(values)), ROWS_PER_TURN)
        return joined([convert(feature, values.slice(start, ROWS_PER_TURN), field) for start in starts])

    def _of_texts(self, feature: Feature, values: pa.Array, _: str) -> Coerced:
        decoded, refused = [], []
        for place, text in enumerate(values.to_pylist()):
            try:
                decoded.append(None if text is None else msgspec.json.decode(text))
            except (msgspec.DecodeError, UnicodeError, RecursionError):
                decoded.append(None)
                refused.append(Refused(place, "expected JSON text"))
        return self._column(feature, decoded, refused)

    def _of_objects(self, feature: Feature, values: pa.Array, field: str) -> Coerced:
        if has_bytes(values.type):
            raise mismatch(feature, values, field)
        try:
            given = objects(values, _number_of)
        except Unsayable as error:
            raise InvalidInput.at(field, str(error)) from None
        endless = [place for place, one in enumerate(given) if _is_endless(one)]
        for place in endless:
            given[place] = None
        given = [None if isinstance(one, float) and math.isnan(one) else one for one in given]
        return self._column(feature, given, [Refused(place, "JSON has no infinities") for place in endless])

    def _column(self, feature: Feature, given: list[Any], refused: list[Refused]) -> Coerced:
        column = column_of(self, feature, given, (len(given),))
        return column._replace(refused=[*column.refused, *refused])


def _without_negative_zero(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_negative_zero(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_negative_zero(one) for one in value]
    return value + 0.0 if type(value) is float else value


_TOO_DEEP = f"nested deeper than {MAX_JSON_DEPTH} levels"
_TEXTS = re.compile(rb'"(?:[^"\\]|\\.)*+"')
_DEPTHS = np.zeros(256, np.int8)
_DEPTHS[list(b"[{")] = 1
_DEPTHS[list(b"]}")] = -1


def _depth(text: bytes) -> int:
    """How deeply arrays and objects are nested in a JSON text, not counting empty ones.

    >>> _depth(b'[{"a[":["]"]},[]]'), _depth(b"[[]]"), _depth(b"{}")
    (3, 1, 0)
    """
    bare = _TEXTS.sub(b"_", text).replace(b"[]", b"").replace(b"{}", b"")
    return int(np.cumsum(_DEPTHS[np.frombuffer(bare, np.uint8)]).max(initial=0))


def _is_endless(value: Any) -> bool:
    """Whether a value is or contains an infinity, which would be encoded as null."""
    if isinstance(value, float):
        return math.isinf(value)
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(map(_is_endless, parts))


def _number_of(exact: Decimal) -> int | float:
    return int(exact) if exact == int(exact) else float(exact)
