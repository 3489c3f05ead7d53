"""The type `string`: texts of up to MAX_VALUE_BYTES in UTF-8."""

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
    """The base of types whose values are stored as Python strings."""

    dtype = np.dtype(object)
    arrow = pa.string()
    compared = "categories"
    further = "lengths"

    def restored(self, feature: Feature, column: pa.Array, nulls: Nulls) -> Array:
        """Restore the texts; nulls become None."""
        values = np.empty(len(column), object)
        values[:] = column.to_pylist()
        return values

    def observed(self, values: Array) -> Observed:
        """Count each distinct text, and observe the lengths in characters as amounts."""
        counts = Counter(values.tolist())
        lengths = np.fromiter(map(len, values.tolist()), np.int64, len(values))
        return Observed(list(counts), lengths, counts)


class String(Text):
    """The type `string`."""

    name = "string"
    constraints = frozenset({"enum", "pattern", "max_length"})

    def all_from_json(self, given: Sequence[Any]) -> Array | None:
        """Convert a column of texts that are surely short enough: UTF-8 takes at most four bytes a character."""
        if set(map(type, given)) != {str} or max(map(len, given)) * 4 > MAX_VALUE_BYTES:
            return None
        column = np.empty(len(given), object)
        column[:] = given
        return column

    def from_json(self, feature: Feature, value: Any) -> str:
        """Accept a text that is not too long."""
        if type(value) is not str:
            raise expected("a string", value)
        if len(value.encode()) > MAX_VALUE_BYTES:
            raise Refusal(f"longer than {MAX_VALUE_BYTES} bytes")
        return value

    def from_arrow(self, feature: Feature, values: pa.Array, field: str) -> Coerced:
        """Accept only Arrow texts."""
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

    def values_counted(self, texts: Sequence[str]) -> Sequence[Any] | None:
        """The texts are the values."""
        return texts

    def counted_to_json(self, text: str) -> Any:
        """The text is the value."""
        return text
