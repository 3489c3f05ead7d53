"""Rows from CSV, Parquet and NDJSON files, in lots. The same file is always cut at the same rows."""

from __future__ import annotations

import csv
import zlib
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from gzip import BadGzipFile, GzipFile
from io import TextIOWrapper
from pathlib import Path
from typing import Any, Protocol

import msgspec
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet

from timewell.commands.exits import Failed

Lot = dict[str, Any]
"""Columns by name: Arrow arrays, or lists of JSON values."""

CSV_BLOCK_BYTES = 2 * 1024 * 1024
MOST_LINE_BYTES_OF_A_LOT = 16 * 1024 * 1024
ROWS_LOOKED_AT = 10_000


class RowsFile(Protocol):
    """A file of rows."""

    path: Path
    names: list[str]

    def lots(self, rows: int, columns: Sequence[str]) -> Iterator[Lot]:
        """The given columns, `rows` rows at a time; at least one lot, which may be empty."""
        ...

    def share(self) -> float:
        """The share of the file that has been read, from 0 to 1."""
        ...


def open_rows(path: Path) -> RowsFile:
    """Open a file in the format that its ending tells; `.gz` after it means compressed."""
    ending = (path.with_suffix("") if path.suffix.lower() == ".gz" else path).suffix.lower()
    kinds: dict[str, Callable[[Path], RowsFile]] = {".parquet": ParquetRows, ".csv": CsvRows}
    opened = kinds.get(ending, LineRows)(path)
    for name in opened.names:
        if opened.names.count(name) > 1:
            raise Failed(f"{path}: two columns are named {name!r}")
    return opened


@contextmanager
def _unpacked(path: Path) -> Iterator[Any]:
    """The decompressed content of a file. Raises Failed if the compressed data is damaged."""
    try:
        with path.open("rb") as packed:
            yield GzipFile(fileobj=packed) if path.suffix.lower() == ".gz" else packed
    except (BadGzipFile, EOFError, zlib.error) as error:
        raise Failed(f"{path}: cannot be unpacked: {error}") from None


def need(file: RowsFile, names: Iterable[str]) -> None:
    """Raise Failed if the file lacks one of the columns."""
    for name in names:
        if name not in file.names:
            raise Failed(f"{file.path}: there is no column {name!r}; there are {', '.join(file.names) or 'none'}")


class ParquetRows:
    """A Parquet file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read = 0
        try:
            # An absolute path, else one named "s3:x" would be taken for a URL.
            # By default INT96 is read as nanoseconds, which end in 2262: later timestamps would wrap around.
            self._file = pa_parquet.ParquetFile(path.absolute(), coerce_int96_timestamp_unit="us")
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
    """A CSV file with a header, in UTF-8. All columns are text; an empty field without quotes is missing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with _unpacked(path) as file:
            lines = TextIOWrapper(file, newline="", encoding="utf-8-sig", errors="surrogateescape")
            self.names = next(csv.reader(lines), [])
            self._has_rows = any(line.strip() for line in lines)
        if not all(name.isprintable() for name in self.names):
            raise Failed(f"{path}: the header is not in UTF-8")
        if not self.names:
            raise Failed(f"{path}: there is no header")
        self._size = max(1, path.stat().st_size)
        self._file: Any = None

    def lots(self, rows: int, columns: Sequence[str]) -> Iterator[Lot]:
        """See RowsFile."""
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
        except OSError as error:
            raise Failed(f"{self.path}: cannot be read: {error}") from None
        except pa.ArrowInvalid as error:
            if bad:
                fields = f"{bad[0].actual_columns} fields, the header has {bad[0].expected_columns}"
                where = f"row {bad[0].number - 1}" if bad[0].number else "a row"
                raise Failed(f"{self.path}: {where} has {fields}") from None
            raise Failed(f"{self.path}: {error}") from None

    def _open(self, columns: Sequence[str], note: Any) -> Any:
        convert = pa_csv.ConvertOptions(
            column_types={name: pa.string() for name in self.names},
            include_columns=list(columns),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        )
        parse = pa_csv.ParseOptions(newlines_in_values=True, invalid_row_handler=note)
        read = pa_csv.ReadOptions(use_threads=False, block_size=CSV_BLOCK_BYTES)
        packed = self.path.suffix.lower() == ".gz"
        file = pa.CompressedInputStream(self._file, "gzip") if packed else self._file
        return pa_csv.open_csv(file, read, parse, convert)

    def share(self) -> float:
        """See RowsFile."""
        if self._file is None:
            return 0.0
        return 1.0 if self._file.closed else float(self._file.tell()) / self._size


class LineRows:
    """A file with a JSON object on each line. Its columns are those of the first row; unless `has_others`, a later
    row with others is refused.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.has_others = True
        self._size, self._done = max(1, path.stat().st_size), 0
        with _unpacked(path) as file:
            first = next(filter(bytes.strip, _without_mark(file)), b"{}")
        self._decoder: msgspec.json.Decoder[dict[str, Any]] = _OBJECTS
        self.names = list(self._decode([first], 0)[0])

    def keep_as_written(self) -> None:
        """Have the lots hold each value as its JSON text, and take the columns of all rows, not only the first."""
        self._decoder = _WRITTEN
        found = dict.fromkeys(self.names)
        with _unpacked(self.path) as file:
            start = 0
            for lines in self._lines(_without_mark(file), ROWS_LOOKED_AT):
                for row in self._decode(lines, start):
                    found.update(dict.fromkeys(row))
                start += len(lines)
        self.names, self._done = list(found), 0

    def lots(self, rows: int, columns: Sequence[str]) -> Iterator[Lot]:
        """See RowsFile."""
        start = 0
        with _unpacked(self.path) as file:
            for lines in self._lines(_without_mark(file), rows):
                decoded = self._decode(lines, start)
                self._check(decoded, start)
                start += len(lines)
                yield {name: [row.get(name) for row in decoded] for name in columns}

    def _check(self, rows: list[dict[str, Any]], start: int) -> None:
        """Raise Failed for a row with columns that the first row lacks, so that nothing is silently left out."""
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
            return self._decoder.decode_lines(b"\n".join(lines))
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass
        for row, line in enumerate(lines, start + 1):
            try:
                self._decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise Failed(f"{self.path}: row {row} is no JSON object: {error}") from None
        raise Failed(f"{self.path}: a line holds more than one JSON value")

    def share(self) -> float:
        """See RowsFile."""
        return self._done / self._size


_OBJECTS = msgspec.json.Decoder(dict[str, Any])
_WRITTEN = msgspec.json.Decoder(dict[str, msgspec.Raw])


def _cut(batches: Iterable[pa.RecordBatch], schema: pa.Schema, rows: int) -> Iterator[pa.Table]:
    """The same rows in tables of `rows` rows each, except the last."""
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
    return {name: _one_array(table[name]) for name in columns}


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _without_mark(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The lines without the byte order mark that some programs write first."""
    for place, line in enumerate(lines):
        yield line if place else line.removeprefix(BOM_UTF8)
