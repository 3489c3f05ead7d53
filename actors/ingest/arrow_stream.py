"""Reads Arrow streams as tables, within limits that are checked before anything is allocated.

Some hundred bytes can stand for a billion rows, and a megabyte for gigabytes. But each record batch says how many
rows its columns have, and each compressed buffer begins with its decompressed length. What dictionaries, runs and
views expand to is counted before they are decoded.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa

from actors.errors import InvalidInput, TooLarge
from actors.settings import MAX_ARROW_CHUNKS, MAX_ARROW_SCHEMA_BYTES, MAX_TABLE_COLUMNS, Settings
from actors.types.arrow_contents import full_bytes

LEAST_BYTES_OF_A_VALUE = 4
"""The least that each value counts for, as any number of nulls can take no bytes at all."""
_NOT_COMPRESSED = -1
LOOKED_AT_BYTES = 64
"""How much of an unreadable body is examined to find out what it is instead."""
_NOT_READABLE = (pa.ArrowException, OSError, struct.error, IndexError, UnicodeDecodeError)


def read_table(data: str | bytes, settings: Settings) -> pa.Table:
    """Read a stream as a table. Blocks; for a worker thread.

    Raises TooLarge if it exceeds a limit, InvalidInput if it is no Arrow stream or inconsistent.
    """
    whole = pa.py_buffer(data.encode() if isinstance(data, str) else data)
    try:
        _judge(whole, settings)
        table = pa.ipc.open_stream(whole).read_all()
        table.validate(full=True)  # its metadata cannot be trusted
        written_out = full_bytes(table)
    except MemoryError:
        raise
    except _NOT_READABLE as error:
        said = _other_format(bytes(memoryview(whole)[:LOOKED_AT_BYTES])) or str(error)
        raise InvalidInput(f"the body cannot be read as an Arrow stream: {said}") from None
    if written_out > _most_bytes(whole, settings):
        raise TooLarge(f"the table has dictionaries, runs or views that stand for {_at_most(settings)}")
    return table


_OTHERS = {
    b"ARROW1": "it is an Arrow file; send the stream format (pyarrow.ipc.new_stream)",
    b"PAR1": "it is a Parquet file; send its table as a stream (pyarrow.ipc.new_stream)",
    b"\x1f\x8b": "it looks compressed; say so with Content-Encoding: gzip",
    b"{": "it looks like JSON; send it as Content-Type: application/json or application/x-ndjson",
    b"[": "it looks like JSON; send it as Content-Type: application/json",
}
"""Formats that are often sent by mistake, by their first bytes."""


def _other_format(beginning: bytes) -> str | None:
    """What a body is that is no Arrow stream; None if that is unclear."""
    if not beginning.strip():
        return "it is empty"
    for start, words in _OTHERS.items():
        if beginning.lstrip().startswith(start):
            return words
    text = beginning.isascii() and beginning.decode().replace("\r", "").replace("\n", "").isprintable()
    return "it is text; CSV is taken by `timewell load`" if text else None


def _most_bytes(whole: pa.Buffer, settings: Settings) -> int:
    """The limit for decompressed bytes, but at least the size of the body itself."""
    return max(settings.max_decompressed_bytes, int(whole.size))


def _at_most(settings: Settings) -> str:
    return f"more than {settings.max_decompressed_bytes} bytes (MAX_DECOMPRESSED_BYTES)"


def _judge(whole: pa.Buffer, settings: Settings) -> None:
    """Raise TooLarge based on the metadata of each message, before its columns are allocated."""
    columns, values, size, chunks = 0, 0, 0, 0
    for message in _messages(whole):
        if message.type == "schema":
            columns = _columns(message)
            continue
        batch = _batch_of(message)
        if message.type == "record batch":
            values += batch.rows * max(1, columns)
        size += max(batch.size, LEAST_BYTES_OF_A_VALUE * sum(batch.lengths))
        chunks += len(batch.lengths)
        if values > settings.max_table_values:
            raise TooLarge(f"a table takes at most {settings.max_table_values} values (rows x columns)")
        if size > _most_bytes(whole, settings):
            raise TooLarge(f"the body stands for {_at_most(settings)}")
        if chunks > MAX_ARROW_CHUNKS:
            raise TooLarge(f"the table has more than {MAX_ARROW_CHUNKS} pieces of columns; send larger batches")


def _messages(whole: pa.Buffer) -> Iterator[pa.ipc.Message]:
    reader = pa.ipc.MessageReader.open_stream(whole)
    while True:
        try:
            yield reader.read_next_message()
        except StopIteration:
            return


def _columns(message: pa.ipc.Message) -> int:
    if message.metadata.size > MAX_ARROW_SCHEMA_BYTES:
        raise TooLarge(f"the schema of the table has more than {MAX_ARROW_SCHEMA_BYTES} bytes")
    columns = len(pa.ipc.read_schema(message))
    if columns > MAX_TABLE_COLUMNS:
        raise TooLarge(f"the table has {columns} columns, at most {MAX_TABLE_COLUMNS} are taken")
    return columns


# The metadata: FlatBuffers, laid out as in `Message.fbs` of the Arrow format, which pyarrow does not expose.


class _Batch(NamedTuple):
    """A record batch or dictionary: rows, the length of each column including nested ones, decompressed bytes."""

    rows: int
    lengths: Sequence[int]
    size: int


class _Table:
    """A FlatBuffers table, whose fields are numbered."""

    def __init__(self, data: memoryview, at: int) -> None:
        self._data = data
        self._at = at
        self._fields = at - _read("<i", data, at)
        self._size = _read("<H", data, self._fields)

    def _place(self, field: int) -> int | None:
        entry = 4 + 2 * field
        offset = _read("<H", self._data, self._fields + entry) if entry < self._size else 0
        return self._at + offset if offset else None

    def number(self, field: int) -> int:
        """A 64-bit integer; 0 if the field is absent."""
        place = self._place(field)
        return 0 if place is None else _read("<q", self._data, place)

    def table(self, field: int) -> _Table | None:
        """A nested table; None if the field is absent."""
        place = self._place(field)
        return None if place is None else _Table(self._data, place + _read("<I", self._data, place))

    def pairs(self, field: int) -> list[tuple[int, int]]:
        """A vector of structs of two 64-bit integers; empty if the field is absent."""
        place = self._place(field)
        if place is None:
            return []
        start = place + _read("<I", self._data, place)
        count = _read("<I", self._data, start)
        return list(struct.iter_unpack("<qq", self._data[start + 4 : start + 4 + 16 * count]))


def _read(kind: str, data: memoryview, at: int) -> int:
    if at < 0:
        raise IndexError(at)
    found: int = struct.unpack_from(kind, data, at)[0]
    return found


_HEADER, _DATA_OF_DICTIONARY = 2, 1
_LENGTH, _NODES, _BUFFERS, _COMPRESSION = 0, 1, 2, 3


def _batch_of(message: pa.ipc.Message) -> _Batch:
    metadata = memoryview(message.metadata)
    header = _Table(metadata, _read("<I", metadata, 0)).table(_HEADER)
    if header is not None and message.type == "dictionary":
        header = header.table(_DATA_OF_DICTIONARY)
    if header is None:
        return _Batch(0, [], 0)
    lengths = [length for length, _ in header.pairs(_NODES)]
    rows, buffers = header.number(_LENGTH), header.pairs(_BUFFERS)
    if min([rows, *lengths]) < 0:
        raise IndexError("a length is negative")
    sizes = [size for _, size in buffers]
    if header.table(_COMPRESSION) is not None:
        body = memoryview(message.body) if message.body is not None else memoryview(b"")
        sizes = [_decompressed(body, offset, size) for offset, size in buffers]
    return _Batch(rows, lengths, sum(sizes))


def _decompressed(body: memoryview, offset: int, size: int) -> int:
    if size <= 0:
        return 0
    said = _read("<q", body, offset)
    return size if said == _NOT_COMPRESSED else max(said, 0)
