"""Tables appended to a file, which appears under its name only once it is complete.

In text files values look as in the service's JSON, except that timestamps keep their nanoseconds. What comes from
the service is written in NDJSON to the letter as the service writes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from shutil import copymode
from types import TracebackType
from typing import Any, Protocol

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pa_parquet

from timewell.arrow import holds_bytes, plain_column
from timewell.arrow_objects import Unsayable, objects
from timewell.arrow_plain import is_plain, plain_array
from timewell.commands.exits import Failed

ROWS_PER_SLICE = 10_000


class Sink(Protocol):
    """An open file for tables of one schema."""

    def write_table(self, table: pa.Table) -> None:
        """Append a table."""
        ...

    def close(self) -> None:
        """Finish the file."""
        ...


class SavedFile:
    """A file being written: Parquet, CSV or NDJSON, by its ending.

    `json_columns`: columns that hold JSON text. `served`: columns of the service, with its values.
    It is written as NAME.part and renamed when the context ends without an error; otherwise it is removed.
    """

    def __init__(self, path: Path, json_columns: Iterable[str], served: Iterable[str] = ()) -> None:
        self._path = path
        self._part = path.with_name(f"{path.name}.part")
        self._json = set(json_columns)
        self._served = set(served) if path.suffix.lower() == ".ndjson" else set()
        self._sink: Sink | None = None
        self.rows = 0

    def write(self, table: pa.Table) -> None:
        """Append rows; the first table determines the columns."""
        if self._path.suffix.lower() != ".parquet":
            table = self._as_text(table)
        if self._sink is None:
            self._sink = self._open(table.schema)
        self._sink.write_table(table)
        self.rows += table.num_rows

    def _as_text(self, table: pa.Table) -> pa.Table:
        """The table with its columns as text files can hold them."""
        for place, field in enumerate(table.schema):
            given = table[place].combine_chunks()
            if field.name in self._served:
                given = _as_served(given)
            if field.type.num_fields or isinstance(given.type, pa.JsonType):
                self._json.add(field.name)
            try:
                column = _said(given)
            except Unsayable as error:
                reason = f"column {field.name!r}: {error}; save to .parquet"
                raise Failed(f"{self._path}: {reason}") from None
            table = table.set_column(place, field.name, column)
        return table

    def _open(self, schema: pa.Schema) -> Sink:
        ending = self._path.suffix.lower()
        if ending == ".parquet":
            return pa_parquet.ParquetWriter(self._part.absolute(), schema)  # type: ignore[no-any-return]
        if ending == ".csv":
            return _CsvLines(self._part, schema.names)
        return _JsonLines(self._part, self._json)

    def __enter__(self) -> SavedFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._sink is not None:
            self._sink.close()
        if kind is None:
            if self._path.exists():  # keep its permissions
                copymode(self._path, self._part)
            self._part.replace(self._path)
        else:
            self._part.unlink(missing_ok=True)


class _CsvLines:
    """A CSV file. Fields are quoted if they need it or are empty text: without quotes, empty means missing."""

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self._file = path.open("w", encoding="utf-8", newline="")
        self._file.write(",".join(_quoted(pa.array(names)).to_pylist()) + "\n")

    def write_table(self, table: pa.Table) -> None:
        """See Sink."""
        for start in range(0, table.num_rows, ROWS_PER_SLICE):
            part = table.slice(start, ROWS_PER_SLICE).combine_chunks()
            cells = [_quoted(column.cast(pa.string())) for column in part.columns]
            lines = pc.binary_join_element_wise(*cells, ",", null_handling="replace", null_replacement="")
            self._file.write("\n".join(lines.to_pylist()) + "\n")

    def close(self) -> None:
        """See Sink."""
        self._file.close()


def _quoted(texts: Any) -> Any:
    """Texts as fields of a CSV file."""
    doubled = pc.binary_join_element_wise('"', pc.replace_substring(texts, '"', '""'), '"', "")
    return pc.if_else(pc.match_substring_regex(texts, r'^$|[",\r\n]'), doubled, texts)


class _JsonLines:
    """An NDJSON file: a JSON object on each line."""

    def __init__(self, path: Path, json_columns: set[str]) -> None:
        self._file = path.open("wb")
        self._json = json_columns

    def write_table(self, table: pa.Table) -> None:
        """See Sink."""
        for start in range(0, table.num_rows, ROWS_PER_SLICE):
            part = table.slice(start, ROWS_PER_SLICE)
            columns = [self._values(name, objects(part[name])) for name in part.column_names]
            rows = (dict(zip(part.column_names, row, strict=True)) for row in zip(*columns, strict=True))
            self._file.write(_LINES.encode_lines(list(rows)))

    def _values(self, name: str, values: list[Any]) -> list[Any]:
        if name not in self._json:
            return values
        return [None if value is None else msgspec.Raw(value.encode()) for value in values]

    def close(self) -> None:
        """See Sink."""
        self._file.close()


_LINES = msgspec.json.Encoder()


def _said(column: pa.Array) -> pa.Array:
    """An equivalent column of text, numbers or booleans. Raises Unsayable for values that JSON cannot express."""
    kind, types = column.type, pa.types
    if isinstance(kind, pa.JsonType) and not all(map(_is_json, column.to_pylist())):
        raise Unsayable("a text is not valid JSON")
    if kind.num_fields:
        texts = [None if one is None else _LINES.encode(one).decode() for one in objects(plain_array(column))]
        return pa.array(texts, pa.string())
    column = plain_column(pa, column if is_plain(kind) else plain_array(column))
    kind = column.type
    if types.is_timestamp(kind):
        return _moments(column)
    if types.is_temporal(kind) or types.is_decimal(kind) or holds_bytes(kind):
        return pa.array(objects(column), pa.string())
    return column


def _as_served(column: pa.Array) -> pa.Array:
    """A column of the service as in its JSON: 6, not 6.0, and fractions of seconds in three digits or six."""
    kind, types = column.type, pa.types
    if types.is_timestamp(kind):
        return pa.array(objects(column), pa.string())
    if not (types.is_floating(kind) or types.is_list(kind)):
        return column
    texts = [None if one is None else _LINES.encode(_whole(one)).decode() for one in objects(column)]
    return pa.ExtensionArray.from_storage(pa.json_(), pa.array(texts, pa.string()))


def _whole(value: Any) -> Any:
    """Whole floats, also in a list, as integers."""
    if isinstance(value, list):
        return [_whole(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**63 else value


def _is_json(text: str | None) -> bool:
    try:
        msgspec.json.decode(text or "null")
    except msgspec.DecodeError:
        return False
    return True


def _moments(column: pa.Array) -> pa.Array:
    """Timestamps as text, to the microsecond, or nanosecond if the column has them; naive ones stay naive."""
    unit = "ns" if column.type.unit == "ns" else "us"
    plain = column.cast(pa.timestamp(unit, column.type.tz)).cast(pa.timestamp(unit))
    return pc.strftime(plain, format=f"%Y-%m-%dT%H:%M:%S{'Z' if column.type.tz else ''}")
