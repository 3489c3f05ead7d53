"""How many distinct values there were: exact up to a limit, then a HyperLogLog sketch.

Values are told apart by 64-bit keys: numbers by their own bits, others by a BLAKE2b digest. The sketch is
Apache DataSketches' HLL (Heule, Nunkesser & Hall 2013) with 2^12 buckets: a relative error of 1.6 %.
"""

from __future__ import annotations

from hashlib import blake2b

import msgspec
import numpy as np
from datasketches import hll_sketch, hll_union, tgt_hll_type
from numpy.typing import NDArray

from actors.values import Array

EXACT_LIMIT = 4_096
_LOG2_BUCKETS = 12

Keys = NDArray[np.int64]


class Distinct(msgspec.Struct):
    """`keys` are sorted int64 as bytes while the count is exact, `sketch` takes their place beyond `limit`.

    >>> distinct = Distinct()
    >>> distinct.add(keys_of(np.array([1.5, 1.5, 2.0])))
    >>> distinct.estimate(), distinct.exact
    (2, True)
    """

    limit: int = EXACT_LIMIT
    keys: bytes = b""
    sketch: hll_sketch | None = None

    @property
    def exact(self) -> bool:
        """Whether the count is exact."""
        return self.sketch is None

    def estimate(self) -> int:
        """The count, or the sketch's estimate of it."""
        return len(self.keys) // 8 if self.sketch is None else int(self.sketch.get_estimate() + 0.5)

    def add(self, keys: Keys) -> None:
        """Take in the keys of a column."""
        if self.sketch is None:
            keys = np.union1d(np.frombuffer(self.keys, np.int64), keys)
            if len(keys) <= self.limit:
                self.keys = keys.tobytes()
                return
            self.keys, self.sketch = b"", hll_sketch(_LOG2_BUCKETS, tgt_hll_type.HLL_8)
        update = self.sketch.update
        for key in keys.tolist():
            update(key)

    def merge(self, other: Distinct) -> None:
        """Take in what the other has seen."""
        if other.sketch is None:
            self.add(np.frombuffer(other.keys, np.int64))
            return
        union = hll_union(_LOG2_BUCKETS)
        union.update(other.sketch)
        if self.sketch is not None:
            union.update(self.sketch)
        for key in np.frombuffer(self.keys, np.int64).tolist():
            union.update(key)
        self.keys, self.sketch = b"", union.get_result(tgt_hll_type.HLL_8)


def keys_of(values: Array) -> Keys:
    """A 64-bit key per value of a column."""
    if values.ndim == 2:
        return digests([row.tobytes() for row in values])
    if values.dtype == object:
        return digests([text.encode() for text in values.tolist()])
    if values.dtype == np.float64:
        return (values + 0.0).view(np.int64)  # -0.0 and 0.0 are one value
    return values.astype(np.int64, copy=False)


def digests(texts: list[bytes]) -> Keys:
    """A 64-bit key per text."""
    joined = b"".join(blake2b(text, digest_size=8).digest() for text in texts)
    return np.frombuffer(joined, np.int64)
