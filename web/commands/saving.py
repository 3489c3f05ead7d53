"""Tables into a file, one after another. The file is there once it is whole, and not before."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet

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
            table = _as_text(table)
        if self._sink is None:
            self._sink = self._open(table.schema)
        self._sink.write_table(table)
        self.rows += table.num_rows

    def _open(self, schema: pa.Schema) -> Sink:
        ending = self._path.suffix.lower()
        if ending == ".parquet":
            return pa_parquet.ParquetWriter(self._part.absolute(), schema)  # type: ignore[no-any-return]
        if ending == ".csv":
            return _CsvLines(self._part, schema)
        return _JsonLines(self._part, self._json)

    def __enter__(self) -> Saved:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._sink is not None:
            self._sink.close()
        if kind is None:
            self._part.replace(self._path)
        else:
            self._part.unlink(missing_ok=True)


class _CsvLines:
    """Text is quoted, so that an empty one and nothing at all are not the same."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._writer = pa_csv.CSVWriter(str(path), _flat(schema.empty_table()).schema)

    def write_table(self, table: pa.Table) -> None:
        """See Sink."""
        self._writer.write_table(_flat(table))

    def close(self) -> None:
        """See Sink."""
        self._writer.close()


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
            return values
        return [None if value is None else msgspec.Raw(value.encode()) for value in values]

    def close(self) -> None:
        """See Sink."""
        self._file.close()


_LINES = msgspec.json.Encoder()


def _as_text(table: pa.Table) -> pa.Table:
    """Moments in RFC 3339; those without a zone stay without."""
    for place, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            plain = table[place].cast(pa.timestamp("us", field.type.tz), safe=False).cast(pa.timestamp("us"))
            text = pc.strftime(plain, format=f"%Y-%m-%dT%H:%M:%S{'Z' if field.type.tz else ''}")
            table = table.set_column(place, field.name, text)
    return table


def _flat(table: pa.Table) -> pa.Table:
    """Lists and the like as their JSON: a field of a CSV has no parts."""
    for place, field in enumerate(table.schema):
        if pa.types.is_nested(field.type):
            values = table[place].to_pylist()
            texts = [None if value is None else msgspec.json.encode(value).decode() for value in values]
            table = table.set_column(place, field.name, pa.array(texts, pa.string()))
    return table
