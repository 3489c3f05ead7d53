"""Builds a HyperLogLog sketch (Heule, Nunkesser & Hall 2013) from a whole column.

Apache DataSketches takes one key per call. Here a column is hashed as it would hash the keys (MurmurHash3_x64_128
by Austin Appleby), the buckets are filled, and the library deserializes the result: a sketch of type HLL_8, marked
as the result of merging. Its buckets are the same as if the keys had been added one by one.

This file could go if the library's `update` took a numpy array, without a Python call for each key.
"""

from __future__ import annotations

import struct

import numpy as np
from datasketches import hll_sketch
from numpy.typing import NDArray

_U = np.uint64
_SEED = _U(9001)
_LENGTH = _U(8)
_PREAMBLE = struct.Struct("<8B3d2I")
_KIND = 10, 1, 7
"""The length of the preamble in 32-bit words, the version, and the family HLL."""
_FLAGS = 0x18
"""Compact; out of order, which means that the incremental (HIP) estimate is not valid."""
_BUCKETS_OF_8_BITS = 0x0A
_NO_ORDER = 0.0
"""The incremental (HIP) estimate, which is unused."""
_SUMMED_APART = 32
"""Terms of buckets from this value on are summed separately: they would be lost in the sum of the others."""


def sketch_of(keys: NDArray[np.int64], log2_buckets: int) -> hll_sketch:
    """A sketch of these keys (int64[n]) with 2**log2_buckets buckets."""
    low, high = _hashes(keys)
    buckets = np.zeros(1 << log2_buckets, np.uint8)
    np.maximum.at(buckets, (low & _U(len(buckets) - 1)).astype(np.intp), _leading_zeros(high) + 1)
    shares = np.ldexp(1.0, -buckets.astype(np.int32))
    far = buckets >= _SUMMED_APART
    sums = float(shares[~far].sum()), float(shares[far].sum())
    empty = len(buckets) - int(np.count_nonzero(buckets))
    kind = *_KIND, log2_buckets, 0, _FLAGS, 0, _BUCKETS_OF_8_BITS
    return hll_sketch.deserialize(_PREAMBLE.pack(*kind, _NO_ORDER, *sums, empty, 0) + buckets.tobytes())


def _leading_zeros(numbers: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """The leading zeros of each 64-bit number, at most 53, from the exponent of its top 53 bits as a float."""
    _, exponents = np.frexp((numbers >> _U(11)).astype(np.float64))
    return (53 - exponents).astype(np.uint8)


def _hashes(keys: NDArray[np.int64]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """The low and the high 64 bits of the hash of each key's eight bytes."""
    mixed = keys.view(np.uint64) * _U(0x87C37B91114253D5)
    mixed = (mixed << _U(31) | mixed >> _U(33)) * _U(0x4CF5AD432745937F)
    low = (mixed ^ _SEED ^ _LENGTH) + (_SEED ^ _LENGTH)
    high = low + (_SEED ^ _LENGTH)
    low, high = _finished(low), _finished(high)
    low += high
    high += low
    return low, high


def _finished(hashed: NDArray[np.uint64]) -> NDArray[np.uint64]:
    hashed = (hashed ^ hashed >> _U(33)) * _U(0xFF51AFD7ED558CCD)
    hashed = (hashed ^ hashed >> _U(33)) * _U(0xC4CEB9FE1A85EC53)
    hashed ^= hashed >> _U(33)
    return hashed
