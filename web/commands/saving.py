"""Tables into a file, one after another. The file is there once it is whole, and not before."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from shutil import copymode
from types import TracebackType
from typing import Any, Protocol

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pa_parquet

from web.client_arrow import holds_bytes, plain_column
from web.commands.exits import Failed

ROWS_PER_SLICE = 10_000


class Sink(Protocol):
    """What takes tables of one schema."""

    def write_table(self, table: pa.Table) -> None:
        """Take a table."""
        ...

    def close(self) -> None:
        """That was all."""
        ...


class Saved:
    """A file being written, by its ending: Parquet, CSV or NDJSON. `json_columns` hold the text of JSON.

    It grows beside its place, as NAME.part, and takes it when the context ends well; else it is removed.
    """

    def __init__(self, path: Path, json_columns: Iterable[str]) -> None:
        self._path = path
        self._part = path.with_name(f"{path.name}.part")
        self._json = set(json_columns)
        self._sink: Sink | None = None
        self.rows = 0

    def write(self, table: pa.Table) -> None:
        """More rows; the first table says the columns."""
        if self._path.suffix.lower() != ".parquet":
            table = _as_text(self._path, table)
        if self._sink is None:
            self._sink = self._open(table.schema)
        self._sink.write_table(table)
        self.rows += table.num_rows

    def _open(self, schema: pa.Schema) -> Sink:
        ending = self._path.suffix.lower()
        if ending == ".parquet":
            return pa_parquet.ParquetWriter(self._part.absolute(), schema)  # type: ignore[no-any-return]
        if ending == ".csv":
            return _CsvLines(self._part, schema.names)
        return _JsonLines(self._part, self._json)

    def __enter__(self) -> Saved:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._sink is not None:
            self._sink.close()
        if kind is None:
            if self._path.exists():  # who may read it does not change
                copymode(self._path, self._part)
            self._part.replace(self._path)
        else:
            self._part.unlink(missing_ok=True)


class _CsvLines:
    """Quotes stand where they are needed, and around an empty text: nothing at all is a missing value."""

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self._file = path.open("w", encoding="utf-8", newline="")
        self._file.write(",".join(_quoted(pa.array(names)).to_pylist()) + "\n")

    def write_table(self, table: pa.Table) -> None:
        """See Sink."""
        for start in range(0, table.num_rows, ROWS_PER_SLICE):
            part = table.slice(start, ROWS_PER_SLICE).combine_chunks()
            cells = [_cells(column) for column in part.columns]
            lines = pc.binary_join_element_wise(*cells, ",", null_handling="replace", null_replacement="")
            self._file.write("\n".join(lines.to_pylist()) + "\n")

    def close(self) -> None:
        """See Sink."""
        self._file.close()


def _cells(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_nested(column.type):  # a field of a CSV has no parts
        texts = [None if one is None else msgspec.json.encode(one).decode() for one in column.to_pylist()]
        return _quoted(pa.chunked_array([texts], pa.string()))
    return _quoted(column.cast(pa.string()))


def _quoted(texts: Any) -> Any:
    """Texts as fields of a CSV."""
    doubled = pc.binary_join_element_wise('"', pc.replace_substring(texts, '"', '""'), '"', "")
    return pc.if_else(pc.match_substring_regex(texts, r'^$|[",\r\n]'), doubled, texts)


class _JsonLines:
    """An object on each line."""

    def __init__(self, path: Path, json_columns: set[str]) -> None:
        self._file = path.open("wb")
        self._json = json_columns

    def write_table(self, table: pa.Table) -> None:
        """See Sink."""
        for start in range(0, table.num_rows, ROWS_PER_SLICE):
            part = table.slice(start, ROWS_PER_SLICE)
            columns = [self._values(name, part[name].to_pylist()) for name in part.column_names]
            rows = (dict(zip(part.column_names, row, strict=True)) for row in zip(*columns, strict=True))
            self._file.write(_LINES.encode_lines(list(rows)))

    def _values(self, name: str, values: list[Any]) -> list[Any]:
        if name not in self._json:
            return [msgspec.Raw(f"{one:f}".encode()) if isinstance(one, Decimal) else one for one in values]
        return [None if value is None else msgspec.Raw(value.encode()) for value in values]

    def close(self) -> None:
        """See Sink."""
        self._file.close()


_LINES = msgspec.json.Encoder()


def _as_text(path: Path, table: pa.Table) -> pa.Table:
    """Columns as files of text can hold them: moments in RFC 3339, those without a zone stay without."""
    for place, field in enumerate(table.schema):
        if holds_bytes(field.type):
            reason = f"a column of {field.type} cannot stand in a file of text; save to .parquet"
            raise Failed(f"{path}: column {field.name!r}: {reason}")
        column = plain_column(pa, table[place].combine_chunks())
        if pa.types.is_timestamp(column.type):
            column = _moments(column)
        table = table.set_column(place, field.name, column)
    return table


def _moments(column: pa.Array) -> pa.Array:
    """To the microsecond, and finer where the column is."""
    unit = "ns" if column.type.unit == "ns" else "us"
    plain = column.cast(pa.timestamp(unit, column.type.tz)).cast(pa.timestamp(unit))
    return pc.strftime(plain, format=f"%Y-%m-%dT%H:%M:%S{'Z' if column.type.tz else ''}")
