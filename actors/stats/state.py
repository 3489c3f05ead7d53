"""Statistics as bytes and back: MessagePack, in which a sketch stands as its own serialized form."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


def _to_bytes(sketch: Any) -> bytes:
    compact = getattr(sketch, "serialize_compact", None)
    return bytes(compact() if compact is not None else sketch.serialize())


def _from_bytes(kind: type, data: Any) -> Any:
    return kind.deserialize(data)  # type: ignore[attr-defined]


_ENCODER = msgspec.msgpack.Encoder(enc_hook=_to_bytes)


def encode(statistic: Any) -> bytes:
    """A statistic, or a mapping of some, as bytes."""
    return _ENCODER.encode(statistic)


def decode(data: bytes, kind: type[T]) -> T:
    """What `encode` was given."""
    return msgspec.msgpack.decode(data, type=kind, dec_hook=_from_bytes)
