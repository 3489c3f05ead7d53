"""Texts, of up to MAX_VALUE_BYTES as UTF-8."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from actors.domain import Feature
from actors.settings import MAX_VALUE_BYTES
from actors.types.type import (
    Array,
    Coerced,
    Nulls,
    Observed,
    Refusal,
    Refused,
    Type,
    blank,
    expected,
    is_text,
    mismatch,
    nulls_of,
)


class Text(Type):
    """What is kept as a Python text."""

    dtype = np.dtype(object)
    arrow = pa.string()
    compared = "categories"
    further = "lengths"

    def restored(self, feature: Feature, column: pa.Array, nulls: Nulls) -> Array:
        """Texts, None for nulls."""
        values = np.empty(len(column), object)
        values[:] = column.to_pylist()
        return values

    def observed(self, values: Array) -> Observed:
        """How often each, and their lengths in characters."""
        counts = Counter(values.tolist())
        lengths = np.fromiter(map(len, values.tolist()), np.int64, len(values))
        return Observed(list(counts), lengths, counts)


class String(Text):
    """See the module."""

    name = "string"
    constraints = frozenset({"enum", "pattern", "max_length"})

    def whole(self, given: Sequence[Any]) -> Array | None:
        """Those that are surely short enough: UTF-8 takes at most four bytes a character."""
        if set(map(type, given)) != {str} or max(map(len, given)) * 4 > MAX_VALUE_BYTES:
            return None
        column = np.empty(len(given), object)
        column[:] = given
        return column

    def one(self, feature: Feature, value: Any) -> str:
        """A text that is not too long."""
        if type(value) is not str:
            raise expected("a string", value)
        if len(value.encode()) > MAX_VALUE_BYTES:
            raise Refusal(f"longer than {MAX_VALUE_BYTES} bytes")
        return value

    def taken(self, feature: Feature, values: pa.Array, field: str) -> Coerced:
        """Texts alone."""
        if not is_text(values.type):
            raise mismatch(feature, values, field)
        texts = blank(self.dtype, (len(values),))
        texts[:] = values.to_pylist()
        lengths = values.cast(pa.string()).cast(pa.binary())
        sizes = np.array(pc.binary_length(lengths).fill_null(0).to_numpy(zero_copy_only=False))
        long = np.flatnonzero(sizes > MAX_VALUE_BYTES)
        return Coerced(
            texts, nulls_of(values), [Refused(int(p), f"longer than {MAX_VALUE_BYTES} bytes") for p in long]
        )

    def counted(self, texts: Sequence[str]) -> Sequence[Any] | None:
        """Themselves."""
        return texts

    def counted_as(self, text: str) -> Any:
        """Itself."""
        return text
