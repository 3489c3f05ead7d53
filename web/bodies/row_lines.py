"""Rows as NDJSON: an object on each line, decoded in steps."""

from __future__ import annotations

from typing import Any

import msgspec

from actors.errors import Fault, InvalidInput, TooLarge
from actors.turns import Steps
from web.bodies.items import LONGEST_ITEM_BYTES
from web.bodies.outline import CHUNK_BYTES
from web.bodies.requests import not_json

Row = dict[str, Any]
_ROW = msgspec.json.Decoder(Row)


def reading_lines(data: bytes, most: int) -> Steps[list[Row]]:
    """The rows of a body; blank lines are none. Raises InvalidInput that names the row, TooLarge for too many."""
    rows, start = list[Row](), 0
    while start < len(data):
        end = data.find(b"\n", start + CHUNK_BYTES) + 1 or len(data)
        for line in data[start:end].split(b"\n"):
            if line.strip():
                rows.append(_row(line, len(rows)))
        if len(rows) > most:
            raise TooLarge(f"rows: the body has more than {most}")
        start = end
        yield
    return rows


def _row(line: bytes, index: int) -> Row:
    if len(line) > LONGEST_ITEM_BYTES:
        raise _refused(f"is longer than {LONGEST_ITEM_BYTES} bytes", index)
    try:
        return _ROW.decode(line)
    except msgspec.ValidationError as error:
        raise _refused(str(error), index) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _refused(f"is not valid JSON: {not_json(error, line)}", index) from None
    except RecursionError:
        raise _refused("is nested too deeply", index) from None


def _refused(reason: str, index: int) -> InvalidInput:
    return InvalidInput(f"rows[{index}]: {reason}", [Fault("rows", reason, index)])
