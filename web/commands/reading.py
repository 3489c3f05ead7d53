"""Rows out of CSV, Parquet and NDJSON files, in lots. The same file is always cut in the same places."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet

from web.commands.exits import Failed

Lot = dict[str, Any]
"""Columns by their name: Arrow arrays, or lists of what JSON had."""

CSV_BLOCK_BYTES = 2 * 1024 * 1024
MOST_LINE_BYTES_OF_A_LOT = 16 * 1024 * 1024


class RowsFile(Protocol):
    """A file of rows."""

    path: Path
    names: list[str]

    def lots(self, rows: int, columns: Sequence[str]) -> Iterator[Lot]:
        """Some columns, so many rows at a time; at least one lot, which may be empty."""
        ...

    def share(self) -> float:
        """How much of the file has been read, from 0 to 1."""
        ...


def open_rows(path: Path, text_columns: Sequence[str] | None = None) -> RowsFile:
    """A file by its ending. `text_columns`: those of a CSV that stay text, None for all."""
    ending = path.suffix.lower()
    opened: RowsFile
    if ending == ".parquet":
        opened = ParquetRows(path)
    elif ending == ".csv":
        opened = CsvRows(path, text_columns)
    else:
        opened = LineRows(path)
    for name in opened.names:
        if opened.names.count(name) > 1:
            raise Failed(f"{path}: two columns are named {name!r}")
    return opened


def need(file: RowsFile, names: Iterable[str]) -> None:
    """Raises Failed where the file lacks a column."""
    for name in names:
        if name not in file.names:
            raise Failed(f"{file.path}: there is no column {name!r}; there are {', '.join(file.names) or 'none'}")


class ParquetRows:
    """A Parquet file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read = 0
        try:
            self._file = pa_parquet.ParquetFile(path.absolute())  # else one named "s3:x" is a URL
        except pa.ArrowInvalid as error:
            raise Failed(f"{path}: this is no Parquet file: {error}") from None
        self.names = list(self._file.schema_arrow.names)

    def lots(self, rows: int, columns: Sequence[str]) -> Iterator[Lot]:
        """See RowsFile."""
        schema = pa.schema([self._file.schema_arrow.field(name) for name in columns])
        try:
            for table in _cut(self._file.iter_batches(rows, columns=list(columns)), schema, rows):
                self._read += table.num_rows
                yield _lot(table, columns)
        except (pa.ArrowInvalid, OSError) as error:
            raise Failed(f"{self.path}: cannot be read after row {self._read}: {error}") from None

    def share(self) -> float:
        """See RowsFile."""
        return self._read / max(1, int(self._file.metadata.num_rows))


class CsvRows:
    """A CSV file with a header, in UTF-8. An empty field without quotes is a missing value."""

    def __init__(self, path: Path, text_columns: Sequence[str] | None) -> None:
        self.path = path
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            self.names = next(csv.reader(file), [])
            self._has_rows = any(line.strip() for line in file)
        if not all(name.isprintable() for name in self.names):
            raise Failed(f"{path}: the header is not in UTF-8")
        if not self.names:
            raise Failed(f"{path}: there is no header")
        self._text = self.names if text_columns is None else text_columns
        self._size = max(1, path.stat().st_size)
        self._file: Any = None

    def lots(self, rows: int, columns: Sequence[str]) -> Iterator[Lot]:
        """See RowsFile. Columns that are not to stay text have the type that their first values suggest."""
        if not self._has_rows:
            yield {name: pa.array([], pa.string()) for name in columns}
            return
        bad: list[pa_csv.InvalidRow] = []

        def note(row: pa_csv.InvalidRow) -> str:
            bad.append(row)
            return "error"

        try:
            with pa.OSFile(str(self.path)) as self._file, self._open(columns, note) as reader:
                for table in _cut(reader, reader.schema, rows):
                    yield _lot(table, columns)
        except pa.ArrowInvalid as error:
            if bad:
                fields = f"{bad[0].actual_columns} fields, the header has {bad[0].expected_columns}"
                where = f"row {bad[0].number - 1}" if bad[0].number else "a row"
                raise Failed(f"{self.path}: {where} has {fields}") from None
            raise Failed(f"{self.path}: {error}") from None

    def _open(self, columns: Sequence[str], note: Any) -> Any:
        convert = pa_csv.ConvertOptions(
            column_types={name: pa.string() for name in self._text},
            include_columns=list(columns),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        )
        parse = pa_csv.ParseOptions(newlines_in_values=True, invalid_row_handler=note)
        read = pa_csv.ReadOptions(use_threads=False, block_size=CSV_BLOCK_BYTES)
        return pa_csv.open_csv(self._file, read, parse, convert)

    def share(self) -> float:
        """See RowsFile."""
        if self._file is None:
            return 0.0
        return 1.0 if self._file.closed else float(self._file.tell()) / self._size


class LineRows:
    """A file with a JSON object on each line. Its columns are those of the first row, unless it `has_others`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.has_others = True
        self._size, self._done = max(1, path.stat().st_size), 0
        with path.open("rb") as file:
            first = next((line for line in file if line.strip()), b"{}")
        self.names = list(self._decode([first], 0)[0])

    def lots(self, rows: int, columns: Sequence[str]) -> Iterator[Lot]:
        """See RowsFile."""
        start = 0
        with self.path.open("rb") as file:
            for lines in self._lines(file, rows):
                decoded = self._decode(lines, start)
                self._check(decoded, start)
                start += len(lines)
                yield {name: [row.get(name) for row in decoded] for name in columns}

    def _check(self, rows: list[dict[str, Any]], start: int) -> None:
        """Nothing is left out in silence."""
        known = set() if self.has_others else set(self.names)
        for row, values in enumerate(rows if known else (), start + 1):
            if unknown := values.keys() - known:
                reason = f"has {', '.join(sorted(unknown))}, which row 1 has not; name the columns that are wanted"
                raise Failed(f"{self.path}: row {row} {reason}")

    def _lines(self, file: Iterable[bytes], rows: int) -> Iterator[list[bytes]]:
        lines: list[bytes] = []
        size, first = 0, True
        for line in file:
            self._done += len(line)
            if not line.strip():
                continue
            lines.append(line)
            size += len(line)
            if len(lines) == rows or size >= MOST_LINE_BYTES_OF_A_LOT:
                yield lines
                lines, size, first = [], 0, False
        if lines or first:
            yield lines

    def _decode(self, lines: list[bytes], start: int) -> list[dict[str, Any]]:
        try:
            return _OBJECTS.decode_lines(b"\n".join(lines))
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass
        for row, line in enumerate(lines, start + 1):
            try:
                _OBJECTS.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise Failed(f"{self.path}: row {row} is no JSON object: {error}") from None
        raise Failed(f"{self.path}: a line holds more than one JSON value")

    def share(self) -> float:
        """See RowsFile."""
        return self._done / self._size


_OBJECTS = msgspec.json.Decoder(dict[str, Any])


def _cut(batches: Iterable[pa.RecordBatch], schema: pa.Schema, rows: int) -> Iterator[pa.Table]:
    """The same rows in tables of `rows` each but for the last."""
    held: list[pa.RecordBatch] = []
    count, first = 0, True
    for batch in batches:
        held.append(batch)
        count += batch.num_rows
        while count >= rows:
            table = pa.Table.from_batches(held)
            yield table.slice(0, rows)
            held, count, first = table.slice(rows).to_batches(), count - rows, False
    if count or first:
        yield pa.Table.from_batches(held, None if held else schema)


def _lot(table: pa.Table, columns: Sequence[str]) -> Lot:
    return {name: _one(table[name]) for name in columns}


def _one(column: pa.ChunkedArray) -> pa.Array:
    """A column in one piece and in a type that every reader of Arrow knows."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
    elif pa.types.is_string_view(kind):
        column = column.cast(pa.string())
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
