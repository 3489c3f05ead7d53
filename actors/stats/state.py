"""Serializes statistics: as MessagePack, in which a sketch is a byte string in its own serialized form.

Summaries that are kept for long are compressed. Eight-byte numbers usually compress better when transposed: the
first bytes of all numbers, then the second bytes, and so on. The shorter of both results is kept.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any, TypeVar

import msgspec
import numpy as np

T = TypeVar("T")


def _to_bytes(sketch: Any) -> bytes:
    compact = getattr(sketch, "serialize_compact", None)
    return bytes(compact() if compact is not None else sketch.serialize())


def _from_bytes(kind: type, data: Any) -> Any:
    return kind.deserialize(data)  # type: ignore[attr-defined]


_ENCODER = msgspec.msgpack.Encoder(enc_hook=_to_bytes)


def encode(statistic: Any) -> bytes:
    """Serialize a statistic, or a mapping of statistics."""
    return _ENCODER.encode(statistic)


def decode(data: bytes, kind: type[T]) -> T:
    """Deserialize what `encode` returned, whether or not it has been `packed`."""
    return msgspec.msgpack.decode(_unpacked(data), type=kind, dec_hook=_from_bytes)


_PACKED = struct.Struct("<B?I")
_MARK = 0xC1
"""The one byte that MessagePack never uses: marks compressed data."""
_FAST = 1


def packed(data: bytes) -> bytes:
    """Compress the result of `encode`."""
    wide = np.zeros(-(-len(data) // 8) * 8, np.uint8)
    wide[: len(data)] = np.frombuffer(data, np.uint8)
    plain = zlib.compress(data, _FAST)
    by_byte = zlib.compress(wide.reshape(-1, 8).T.tobytes(), _FAST)
    turned = len(by_byte) < len(plain)
    return _PACKED.pack(_MARK, turned, len(data)) + (by_byte if turned else plain)


def _unpacked(data: bytes) -> bytes:
    if data[0] != _MARK:
        return data
    _, turned, length = _PACKED.unpack_from(data)
    found = zlib.decompress(memoryview(data)[_PACKED.size :])
    return np.frombuffer(found, np.uint8).reshape(8, -1).T.tobytes()[:length] if turned else found
