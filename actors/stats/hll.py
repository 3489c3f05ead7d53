"""A HyperLogLog sketch (Heule, Nunkesser & Hall 2013) of a whole column at once.

Apache DataSketches takes one key a call. Here a column is hashed as it does (MurmurHash3, x64, 128 bits, by Austin
Appleby), the buckets are filled, and the library is given the sketch in its own serialized form, as of type HLL_8
and put together out of others. It has the buckets that the same keys one by one would have given it.

It could go if the library took a column: an `update` of a numpy array, without a Python call for each key.
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
"""Its length in 32-bit words, the version, and the family HLL."""
_FLAGS = 0x18
"""Compact; not in the order of the stream."""
_BUCKETS_OF_8_BITS = 0x0A
_NO_ORDER = 0.0
"""What a sketch estimates as it goes, if it goes in the order of the stream."""
_SUMMED_APART = 32
"""Buckets from here on would be lost in the sum of the others."""


def sketch_of(keys: NDArray[np.int64], log2_buckets: int) -> hll_sketch:
    """The sketch that has seen these keys."""
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
    """Of 64 bits; 53 where there are more. What is left of 53 bits is exact as a float, whose exponent tells."""
    _, exponents = np.frexp((numbers >> _U(11)).astype(np.float64))
    return (53 - exponents).astype(np.uint8)


def _hashes(keys: NDArray[np.int64]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Both halves of the hash of each key's eight bytes."""
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
