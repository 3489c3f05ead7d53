"""Type: the base class of value types, and what they share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from actors.domain import Feature
from actors.errors import InvalidInput

Array = NDArray[Any]
Nulls = NDArray[np.bool_]
FEW = 128
"""Up to this many values a Python loop is faster than numpy."""
CANONICAL = msgspec.json.Encoder(order="sorted")


class Refused(NamedTuple):
    """A refused value: its position in the column, and the reason."""

    position: int
    reason: str


class Coerced(NamedTuple):
    """A converted column: values and null mask. Values at `refused` positions are null and must not be written."""

    values: Array
    nulls: Nulls
    refused: list[Refused]


_NO_NULLS = np.zeros(1 << 24, np.bool_)
_NO_NULLS.setflags(write=False)  # so it never takes memory: all of it is mapped to the system's page of zeros


def no_nulls(count: int) -> Nulls:
    """A null mask of `count` False, which takes no memory."""
    return _NO_NULLS[:count] if count <= len(_NO_NULLS) else np.zeros(count, np.bool_)


def known_without_nulls(nulls: Nulls) -> bool:
    """Whether a null mask was made by `no_nulls`, without looking at its content."""
    return nulls.base is _NO_NULLS


def lean_nulls(nulls: Nulls) -> Nulls:
    """The null mask, replaced by `no_nulls` if there are none, so that later code need not look at its content."""
    return nulls if known_without_nulls(nulls) or nulls.any() else no_nulls(len(nulls))


class Observed(NamedTuple):
    """What statistics use of a column of values.

    `distinct`: for the distinct count: numbers (one row per value) or texts. `amounts`: numbers for the
    distribution. `counts`: how often each text occurs. `components`: float32[n, d].
    """

    distinct: Array | Sequence[str]
    amounts: Array | None = None
    counts: Mapping[str, int] | None = None
    components: Array | None = None


class Refusal(ValueError):
    """A value is not accepted; the message says why."""


def expected(what: str, value: object) -> Refusal:
    """A refusal of a value that is of another type."""
    return Refusal(f"expected {what}, got {shown(value)}")


def shown(value: Any) -> str:
    """A JSON value for a message, truncated if it is long."""
    text = CANONICAL.encode(value).decode()
    return text if len(text) <= 60 else text[:57] + "..."


def blank(dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    """An array of zeros, or of None for objects."""
    return np.full(shape, None, dtype) if dtype.kind == "O" else np.zeros(shape, dtype)


class Type(ABC):
    """A value type. A null is stored as the type's zero (None for objects), with True in a separate null mask."""

    name: ClassVar[str]
    dtype: ClassVar[np.dtype[Any]]
    """The dtype of values in memory."""
    arrow: ClassVar[pa.DataType]
    """The Arrow type of values in history files and in answers."""
    constraints: ClassVar[frozenset[str]] = frozenset()
    """Which constraints a schema may have: of min, max, enum, pattern, max_length, dimension."""
    compared: ClassVar[Literal["amounts", "categories", "components"]]
    """How drift is measured: as a distribution of ordered amounts, by counts of categories, or by components."""
    numeric: ClassVar[bool] = False
    """Whether sums and means are defined."""
    slow: ClassVar[bool] = False
    """Whether validating a JSON value takes long."""
    repeats: ClassVar[bool] = True
    """Whether values repeat enough for dictionary encoding to make files smaller."""
    further: ClassVar[Literal["true_rate", "lengths", "norms"] | None] = None
    """Which statistics the type has in addition to those of all types."""

    # JSON

    def all_from_json(self, given: Sequence[Any]) -> Array | None:
        """Convert a whole column at once if every value is plainly of the type; None if each has to be checked."""
        return None

    @abstractmethod
    def from_json(self, feature: Feature, value: Any) -> Any:
        """Convert one JSON value to its stored form. Raises Refusal."""

    def bound(self, value: Any, least: bool) -> Any:
        """Convert a schema's min (if `least`) or max to the stored form. Raises Refusal."""
        return self.from_json(NO_FEATURE, value)

    def to_json(self, values: Array) -> list[Any]:
        """Render values as objects that msgspec encodes to the API's JSON; nulls as the type's zero."""
        return values.tolist()  # type: ignore[no-any-return]

    # Arrow

    @abstractmethod
    def from_arrow(self, feature: Feature, values: pa.Array, field: str) -> Coerced:
        """Convert a plain Arrow array to a column. Raises InvalidInput, naming `field`, for an unsuitable type."""

    def to_arrow(self, values: Array, nulls: Nulls) -> pa.Array:
        """Convert values to an Arrow array."""
        return pa.array(values, self.arrow, mask=nulls)

    def restored(self, feature: Feature, column: pa.Array, nulls: Nulls) -> Array:
        """Convert an array made by `to_arrow` back to values."""
        return column.fill_null(0).to_numpy(zero_copy_only=False).astype(self.dtype, copy=False)  # type: ignore[no-any-return]

    # Statistics

    def observed(self, values: Array) -> Observed:
        """Compute what statistics use of values, none of them null: by default the values as amounts."""
        return Observed(values, values)

    def amount_to_json(self, amount: float | int | None) -> Any:
        """Render an amount in statistics as JSON."""
        return plain(amount)

    def values_counted(self, texts: Sequence[str]) -> Sequence[Any] | None:
        """Convert texts counted in statistics back to values; None if that is not possible for this type."""
        return None

    def counted_to_json(self, text: str) -> Any:
        """Render a text counted in statistics as JSON."""
        try:
            return msgspec.json.decode(text)
        except msgspec.DecodeError:  # it was truncated
            return text


NO_FEATURE = Feature(id="", entity="", name="", version=1, value_type="number", created=0, updated=0)


def plain(amount: float | int | None) -> float | int | None:
    """Turn whole floats into integers: 5.0 into 5."""
    return int(amount) if isinstance(amount, float) and amount.is_integer() and abs(amount) < 2**63 else amount


def is_numeric(kind: pa.DataType) -> bool:
    """Whether an Arrow type is numeric."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def is_text(kind: pa.DataType) -> bool:
    """Whether a plain Arrow type is a text type."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def nulls_of(values: pa.Array) -> Nulls:
    """The null mask of an Arrow array: bool[n]."""
    return np.asarray(values.is_null().to_numpy(zero_copy_only=False), np.bool_)


def mismatch(feature: Feature, values: pa.Array, field: str) -> InvalidInput:
    """The error for an Arrow array whose type does not fit the feature."""
    reason = f"a column of {values.type} cannot be the values of {feature.id} ({feature.value_type})"
    return InvalidInput.at(field, reason)


def one_by_one(type_: Type, feature: Feature, given: Sequence[Any], values: Array) -> list[Refused]:
    """Convert `given` one by one into `values`, and return what was refused. Nulls are skipped."""
    refused = []
    for position, value in enumerate(given):
        if value is None:
            continue
        try:
            values[position] = type_.from_json(feature, value)
        except Refusal as refusal:
            refused.append(Refused(position, str(refusal)))
    return refused


def joined(parts: Sequence[Coerced]) -> Coerced:
    """Join columns of one feature, of which there is at least one, in order."""
    if len(parts) == 1:
        return parts[0]
    refused, start = list[Refused](), 0
    for part in parts:
        refused += [one._replace(position=one.position + start) for one in part.refused]
        start += len(part.nulls)
    values, nulls = (np.concatenate([part[place] for part in parts]) for place in (0, 1))
    return Coerced(values, lean_nulls(nulls), refused)


def column_of(type_: Type, feature: Feature, given: Sequence[Any], shape: tuple[int, ...]) -> Coerced:
    """Convert JSON values to a column, without checking constraints. `shape`: that of the column."""
    nulls = no_nulls(len(given))
    if None in given:
        nulls = np.fromiter((value is None for value in given), np.bool_, len(given))
    values = type_.all_from_json(given)
    if values is not None:
        return Coerced(values, nulls, [])
    values = blank(type_.dtype, shape)
    return Coerced(values, nulls, one_by_one(type_, feature, given, values))
