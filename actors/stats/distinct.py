"""How many distinct values there were: exact up to EXACT_LIMIT, then a HyperLogLog sketch.

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
    """`keys` are sorted int64 as bytes while the count is exact, `sketch` a serialized HLL afterwards.

    >>> distinct = Distinct()
    >>> distinct.add(keys_of(np.array([1.5, 1.5, 2.0])))
    >>> distinct.estimate(), distinct.exact
    (2, True)
    """

    keys: bytes = b""
    sketch: bytes | None = None

    @property
    def exact(self) -> bool:
        """Whether the count is exact."""
        return self.sketch is None

    def estimate(self) -> int:
        """The count, or the sketch's estimate of it."""
        if self.sketch is None:
            return len(self.keys) // 8
        return int(hll_sketch.deserialize(self.sketch).get_estimate() + 0.5)

    def add(self, keys: Keys) -> None:
        """Take in the keys of a column."""
        fresh = np.unique(keys)
        if self.sketch is None:
            fresh = np.union1d(np.frombuffer(self.keys, np.int64), fresh)
            if len(fresh) <= EXACT_LIMIT:
                self.keys = fresh.tobytes()
                return
        sketch = _empty() if self.sketch is None else hll_sketch.deserialize(self.sketch)
        for key in fresh.tolist():
            sketch.update(key)
        self.keys, self.sketch = b"", sketch.serialize_compact()

    def merge(self, other: Distinct) -> None:
        """Take in what the other has seen."""
        if other.sketch is None:
            self.add(np.frombuffer(other.keys, np.int64))
            return
        union = hll_union(_LOG2_BUCKETS)
        union.update(hll_sketch.deserialize(other.sketch))
        for key in np.frombuffer(self.keys, np.int64).tolist():
            union.update(key)
        if self.sketch is not None:
            union.update(hll_sketch.deserialize(self.sketch))
        self.keys, self.sketch = b"", union.get_result(tgt_hll_type.HLL_8).serialize_compact()


def _empty() -> hll_sketch:
    return hll_sketch(_LOG2_BUCKETS, tgt_hll_type.HLL_8)


def keys_of(values: Array) -> Keys:
    """A 64-bit key per value of a column."""
    if values.ndim == 2:
        return _digests([row.tobytes() for row in values])
    if values.dtype == object:
        return _digests([text.encode() for text in values.tolist()])
    if values.dtype == np.float64:
        return (values + 0.0).view(np.int64)  # -0.0 and 0.0 are one value
    return values.astype(np.int64)


def _digests(texts: list[bytes]) -> Keys:
    digests = b"".join(blake2b(text, digest_size=8).digest() for text in texts)
    return np.frombuffer(digests, np.int64)
