"""Tables as Arrow, and as requests."""

from __future__ import annotations

import pyarrow as pa

from loadtest.machine.messages import encoded

ARROW = "application/vnd.apache.arrow.stream"


def stream(table: pa.Table) -> bytes:
    """The table as an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def post_table(path: str, table: pa.Table) -> bytes:
    """A POST request with the table as its body."""
    return encoded("POST", path, stream(table), ARROW)
