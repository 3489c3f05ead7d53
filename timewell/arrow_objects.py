"""Plain Arrow values of any type as objects that msgspec encodes to their JSON.

Timestamps become RFC 3339; dates, times and durations ISO 8601; bytes Base64; decimals their digits, as text.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from timewell.arrow_moments import micros_of
from timewell.arrow_plain import within
from timewell.timestamps import format_timestamp

Decimals = Callable[[Decimal], Any]
_NANOS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_DAY_NANOS = 86_400 * 10**9


class Unsayable(ValueError):
    """A value that JSON cannot express."""


def may_be_unsayable(kind: pa.DataType) -> bool:
    """Whether some values of a type may be Unsayable, so that they have to be looked at."""
    itself = _is_temporal(kind) or pa.types.is_struct(kind) or isinstance(kind, pa.JsonType)
    return itself or any(may_be_unsayable(field.type) for field in within(kind))


def _is_temporal(kind: pa.DataType) -> bool:
    return bool(pa.types.is_temporal(kind))


def has_bytes(kind: pa.DataType) -> bool:
    """Whether a type is binary or contains a binary type."""
    types = pa.types
    itself = types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)
    return bool(itself or any(has_bytes(field.type) for field in within(kind)))


def objects(values: pa.Array | pa.ChunkedArray, decimals: Decimals = str) -> list[Any]:
    """The values, None for nulls. `decimals`: converts a decimal. Raises Unsayable for a value that JSON lacks."""
    if isinstance(values, pa.ChunkedArray):
        return [one for chunk in values.chunks for one in objects(chunk, decimals)]
    kind = values.type
    if kind.num_fields:
        return _nested(values, decimals)
    if isinstance(kind, pa.JsonType):
        return [None if one is None else _decoded(one) for one in values.to_pylist()]
    if _is_temporal(kind):
        return _temporal(values)
    if pa.types.is_decimal(kind):
        return [None if one is None else decimals(one) for one in values.to_pylist()]
    if has_bytes(kind):
        return [None if one is None else b64encode(one).decode() for one in values.to_pylist()]
    if pa.types.is_float16(kind) or pa.types.is_float32(kind):
        return _floats(values)
    return list(values.to_pylist())


def _decoded(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise Unsayable("a text of the type arrow.json is not JSON") from None


def _floats(values: pa.Array) -> list[Any]:
    """Floats as the shortest decimals that round to them: 0.1, not 0.10000000149011612."""
    known = values.drop_null().to_numpy(zero_copy_only=False)
    return _put_back(values, known.astype("U").astype(np.float64).tolist())


def _put_back(values: pa.Array, known: Sequence[Any]) -> list[Any]:
    """The converted non-null values in their places, with None for the nulls."""
    if not values.null_count:
        return list(known)
    rest = iter(known)
    return [next(rest) if is_valid else None for is_valid in values.is_valid().to_pylist()]


def _temporal(values: pa.Array) -> list[Any]:
    kind, types = values.type, pa.types
    if types.is_timestamp(kind) or types.is_date(kind):
        micros, beyond = micros_of(values)
        if beyond.any():
            raise Unsayable("a moment is not within the years 1 to 9999")
        size = 10 if types.is_date(kind) else None
        known = micros[np.asarray(values.is_valid())].tolist()
        return _put_back(values, [format_timestamp(one)[:size] for one in known])
    unit = _NANOS[kind.unit]
    bits = pa.int32() if kind.bit_width == 32 else pa.int64()
    counts = values.view(bits).drop_null().to_pylist()
    said = _duration if types.is_duration(kind) else _time
    return _put_back(values, [said(count * unit) for count in counts])


def _time(nanos: int) -> str:
    seconds, rest = divmod(nanos % _DAY_NANOS, 10**9)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{_fraction(rest)}"


def _duration(nanos: int) -> str:
    days, rest = divmod(abs(nanos), _DAY_NANOS)
    seconds, finer = divmod(rest, 10**9)
    day = f"{days}D" if days else ""
    time = f"T{seconds}{_fraction(finer)}S" if rest or not days else ""
    return f"{'-' if nanos < 0 else ''}P{day}{time}"


def _fraction(nanos: int) -> str:
    return f".{nanos:09}".rstrip("0") if nanos else ""


def _nested(values: pa.Array, decimals: Decimals) -> list[Any]:
    kind, types = values.type, pa.types
    if types.is_struct(kind):
        return _structs(values, decimals)
    if types.is_fixed_size_list(kind):
        size = kind.list_size
        flat = objects(values.values.slice(values.offset * size, len(values) * size), decimals)
        bounds = [(row * size, row * size + size) for row in range(len(values))]
    else:
        offsets = values.offsets.to_pylist() or [0]
        first, last = offsets[0], offsets[-1]
        if types.is_map(kind):
            flat = list(
                zip(*(objects(one[first:last], decimals) for one in (values.keys, values.items)), strict=True)
            )
        else:
            flat = objects(values.values[first:last], decimals)
        bounds = [(begin - first, end - first) for begin, end in pairwise(offsets)]
    made: Callable[[Any], Any] = list
    if types.is_map(kind):
        of_texts = types.is_string(kind.key_type) or types.is_large_string(kind.key_type)
        made = _pairs if of_texts else _lists
    valid = values.is_valid().to_pylist()
    return [
        made(flat[start:end]) if is_valid else None for (start, end), is_valid in zip(bounds, valid, strict=True)
    ]


def _pairs(pairs: Sequence[tuple[Any, Any]]) -> Any:
    """A map with text keys as an object if the keys are distinct, else as a list of pairs."""
    return dict(pairs) if len({key for key, _ in pairs}) == len(pairs) else _lists(pairs)


def _lists(pairs: Sequence[tuple[Any, Any]]) -> list[Any]:
    return [list(pair) for pair in pairs]


def _structs(values: pa.StructArray, decimals: Decimals) -> list[Any]:
    names = [one.name for one in within(values.type)]
    if len(set(names)) < len(names):
        raise Unsayable("two fields of one object have one name")
    fields = [objects(values.field(place), decimals) for place in range(len(names))]
    valid = values.is_valid().to_pylist()
    rows = zip(*fields, strict=True) if fields else [()] * len(values)
    return [
        dict(zip(names, row, strict=True)) if is_valid else None for row, is_valid in zip(rows, valid, strict=True)
    ]
