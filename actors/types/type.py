"""What is common to all types of values, and what each says of itself."""

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
"""Up to so many values Python is done before numpy has begun."""
CANONICAL = msgspec.json.Encoder(order="sorted")


class Refused(NamedTuple):
    """The value at `position` was refused, and why."""

    position: int
    reason: str


class Coerced(NamedTuple):
    """Coerced values with their null mask; `refused` positions hold a null and must not be written."""

    values: Array
    nulls: Nulls
    refused: list[Refused]


_NO_NULLS = np.zeros(1 << 24, np.bool_)
_NO_NULLS.setflags(write=False)  # and so never takes memory: what is read of it is the system's one page of zeros


def no_nulls(count: int) -> Nulls:
    """So many times False, which take no memory."""
    return _NO_NULLS[:count] if count <= len(_NO_NULLS) else np.zeros(count, np.bool_)


def all_there(nulls: Nulls) -> bool:
    """Whether these are `no_nulls`, without a look at them."""
    return nulls.base is _NO_NULLS


def lean_nulls(nulls: Nulls) -> Nulls:
    """The same, as `no_nulls` where there are none: who comes later need not look."""
    return nulls if all_there(nulls) or nulls.any() else no_nulls(len(nulls))


class Observed(NamedTuple):
    """What statistics take of some values: what tells them apart, amounts, how often each, components.

    `distinct`: numbers (a row each), or texts. `amounts`: what is distributed.
    """

    distinct: Array | Sequence[str]
    amounts: Array | None = None
    counts: Mapping[str, int] | None = None
    components: Array | None = None


class Refusal(ValueError):
    """Why a value is not taken."""


def expected(what: str, value: object) -> Refusal:
    """A value is of another type."""
    return Refusal(f"expected {what}, got {shown(value)}")


def shown(value: Any) -> str:
    """A JSON value for a message, cut where it is long."""
    text = CANONICAL.encode(value).decode()
    return text if len(text) <= 60 else text[:57] + "..."


def blank(dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    """Zeros, or None for objects."""
    return np.full(shape, None, dtype) if dtype.kind == "O" else np.zeros(shape, dtype)


class Type(ABC):
    """A type of values. A null is kept as the type's zero (None for objects) beside True in the null mask."""

    name: ClassVar[str]
    dtype: ClassVar[np.dtype[Any]]
    """In which values are kept in memory."""
    arrow: ClassVar[pa.DataType]
    """In which they are kept in history files and go out in Arrow."""
    constraints: ClassVar[frozenset[str]] = frozenset()
    """What a schema may say of it: of min, max, enum, pattern, max_length, dimension."""
    compared: ClassVar[Literal["amounts", "categories", "components"]]
    """As what two stretches of a stream are compared. Amounts have an order."""
    numeric: ClassVar[bool] = False
    """Whether sums and means make sense."""
    slow: ClassVar[bool] = False
    """Whether a value of JSON takes long to be judged."""
    repeats: ClassVar[bool] = True
    """Whether files are smaller where each distinct value stands once."""
    further: ClassVar[Literal["true_rate", "lengths", "norms"] | None] = None
    """What its statistics have beside those of all."""

    # JSON

    def whole(self, given: Sequence[Any]) -> Array | None:
        """A column at once where every value is plainly of the type, None where they are to be looked at."""
        return None

    @abstractmethod
    def one(self, feature: Feature, value: Any) -> Any:
        """One value as it is kept. Raises Refusal."""

    def bound(self, value: Any, least: bool) -> Any:
        """A schema's min (`least`) or max as it is kept. Raises Refusal."""
        return self.one(NO_FEATURE, value)

    def rendered(self, values: Array) -> list[Any]:
        """The values as objects that encode to the contract's JSON; nulls are the type's zero."""
        return values.tolist()  # type: ignore[no-any-return]

    # Arrow

    @abstractmethod
    def taken(self, feature: Feature, values: pa.Array, field: str) -> Coerced:
        """A plain Arrow array as a column. Raises InvalidInput that names `field` for one of another type."""

    def given(self, values: Array, nulls: Nulls) -> pa.Array:
        """The values as an Arrow array."""
        return pa.array(values, self.arrow, mask=nulls)

    def restored(self, feature: Feature, column: pa.Array, nulls: Nulls) -> Array:
        """The values of an array that `given` made."""
        return column.fill_null(0).to_numpy(zero_copy_only=False).astype(self.dtype, copy=False)  # type: ignore[no-any-return]

    # Statistics

    @abstractmethod
    def observed(self, values: Array) -> Observed:
        """What statistics take of some values, which are no nulls."""

    def told(self, amount: float | int | None) -> Any:
        """An amount of the statistics as JSON."""
        return plain(amount)

    def counted(self, texts: Sequence[str]) -> Sequence[Any] | None:
        """The values that the counts of the statistics stand for, None where these do not tell."""
        return None

    def counted_as(self, text: str) -> Any:
        """A counted text as JSON."""
        try:
            return msgspec.json.decode(text)
        except msgspec.DecodeError:  # one that was cut
            return text


NO_FEATURE = Feature(id="", entity="", name="", version=1, value_type="number", created=0, updated=0)


def plain(amount: float | int | None) -> float | int | None:
    """5 rather than 5.0, as everywhere."""
    return int(amount) if isinstance(amount, float) and amount.is_integer() and abs(amount) < 2**63 else amount


def is_numeric(kind: pa.DataType) -> bool:
    """Whether an Arrow type is one of numbers."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def is_text(kind: pa.DataType) -> bool:
    """Whether a plain Arrow type is one of texts."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def nulls_of(values: pa.Array) -> Nulls:
    """Where an Arrow array has nulls."""
    return np.asarray(values.is_null().to_numpy(zero_copy_only=False), np.bool_)


def mismatch(feature: Feature, values: pa.Array, field: str) -> InvalidInput:
    """An Arrow array that cannot be the feature's values at all."""
    reason = f"a column of {values.type} cannot be the values of {feature.id} ({feature.value_type})"
    return InvalidInput.at(field, reason)


def one_by_one(type_: Type, feature: Feature, given: Sequence[Any], values: Array) -> list[Refused]:
    """Fill in what is given, and say what is not acceptable. Nulls stay as they are."""
    refused = []
    for position, value in enumerate(given):
        if value is None:
            continue
        try:
            values[position] = type_.one(feature, value)
        except Refusal as refusal:
            refused.append(Refused(position, str(refusal)))
    return refused


def column_of(type_: Type, feature: Feature, given: Sequence[Any], shape: tuple[int, ...]) -> Coerced:
    """JSON values as a column, constraints not looked at."""
    nulls = no_nulls(len(given))
    if None in given:
        nulls = np.fromiter((value is None for value in given), np.bool_, len(given))
    values = type_.whole(given)
    if values is not None:
        return Coerced(values, nulls, [])
    values = blank(type_.dtype, shape)
    return Coerced(values, nulls, one_by_one(type_, feature, given, values))
