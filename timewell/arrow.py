"""Conversions between frames (pandas, Polars) and Arrow. The libraries are imported on first use."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal, NamedTuple

import msgspec

from timewell.errors import InvalidInput, ServerFailed
from timewell.plain import to_plain
from timewell.time_columns import Unit, moments_of
from timewell.times import as_datetime
from timewell.wire import FIRST_INEXACT

FrameKind = Literal["pandas", "polars"]

MOST_ROWS = 100_000
MOST_BYTES = 16 * 1024 * 1024
"""The most that one request carries: half of the largest body that a service takes by default."""


def library(name: str) -> Any:
    """An optional library. Raises ImportError with the command that installs it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        command = f"pip install 'timewell[{name.partition('.')[0]}]'"
        raise ImportError(f"this needs {name}: {command}", name=name) from error


def kind_of(given: object) -> FrameKind | None:
    """The library of a frame or column, None for other objects. Imports nothing."""
    for ancestor in type(given).__mro__:
        found = ancestor.__module__.partition(".")[0]
        if found == "pandas":
            return "pandas"
        if found == "polars":
            return "polars"
    return None


def as_kind(frame: Any, kind: FrameKind | None) -> Any:
    """A frame converted to the library `kind`, or rows (dicts) as a frame. With None it is returned as it is."""
    have = kind_of(frame)
    if kind in (None, have):
        return frame
    if have is None:
        return library(str(kind)).DataFrame(frame)
    return library("polars").from_pandas(frame) if kind == "polars" else frame.to_pandas()


# Columns out of a frame


def check_frame(frame: Any) -> FrameKind:
    """The library of a frame. Raises InvalidInput for anything but a DataFrame."""
    kind = kind_of(frame)
    if kind is None or type(frame).__name__ in ("LazyFrame", "Series", "Index"):
        words = "; collect() it first" if hasattr(frame, "collect") else ""
        raise InvalidInput.at("frame", f"a {type(frame).__name__} is no pandas or Polars DataFrame{words}")
    return kind


class Objects(NamedTuple):
    """A column that only JSON can hold: dicts, lists of mixed types. Values are plain, None if missing."""

    values: list[Any]

    def texts(self) -> Any:
        """The column with each value as JSON text."""
        texts = [None if value is None else msgspec.json.encode(value).decode() for value in self.values]
        return library("pyarrow").array(texts, "string")


def value_column(frame: Any, name: str) -> Any:
    """A column as a plain Arrow array, or Objects. pandas' missing values become nulls.

    Raises InvalidInput for values that would change their meaning: bytes, and whatever `to_plain` refuses.
    """
    pa = library("pyarrow")
    return _valued(pa, frame, name, _as_arrow(pa, frame, name))


def _valued(pa: Any, frame: Any, name: str, column: Any) -> Any:
    """The same, from what `_as_arrow` made of the column."""
    if column is not None and _holds(column.type, pa.types.is_struct, pa.types.is_map):
        column = None  # in a struct column every value would have the keys of all
    if column is None:
        return _of_objects(pa, [to_plain(one, name, row) for row, one in enumerate(frame[name].to_list())])
    if holds_bytes(column.type):
        raise InvalidInput.at(name, f"a column of {column.type} is no text before it is decoded")
    return plain_column(pa, column)


def holds_bytes(kind: Any) -> bool:
    """Whether an Arrow type is binary or contains a binary type, which JSON does not have."""
    types = library("pyarrow").types
    return _holds(kind, types.is_binary, types.is_large_binary, types.is_fixed_size_binary, types.is_binary_view)


def _of_objects(pa: Any, values: list[Any]) -> Any:
    if not any(isinstance(one, dict) for one in values):
        try:
            column = pa.array(values)
            return Objects(values) if _holds(column.type, pa.types.is_struct) else column
        except OverflowError:  # integers beyond 64 bits
            return _of_large(pa, values)
        except pa.ArrowException:
            pass
    return Objects(values)


def _of_large(pa: Any, values: list[Any]) -> Any:
    """Integers of up to 76 digits, as exact decimals; Objects if that fails."""
    try:
        return pa.array([Decimal(one) if type(one) is int else one for one in values])
    except (pa.ArrowException, OverflowError):
        return Objects(values)


def arrow_column(frame: Any, name: str) -> Any:
    """A column as a plain Arrow array. Raises InvalidInput if its values are of several types."""
    return _of_one_type(name, value_column(frame, name))


def _of_one_type(name: str, column: Any) -> Any:
    if isinstance(column, Objects):
        raise InvalidInput.at(name, "the column has no one type")
    return column


def _as_arrow(pa: Any, frame: Any, name: str) -> Any:
    """A column as an Arrow array; None if Arrow has no type for its values or would change them."""
    if list(frame.columns).count(name) != 1:
        which = "several columns" if name in list(frame.columns) else "no column"
        raise InvalidInput.at(name, f"the frame has {which} of this name")
    given = frame[name]
    if str(given.dtype) == "Object" or (str(given.dtype) == "object" and _would_change(given)):
        return None
    try:
        column = pa.Array.from_pandas(given) if kind_of(frame) == "pandas" else given.to_arrow()
    except (pa.ArrowException, OverflowError, UnicodeEncodeError):
        return None
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    # What an extension stores may be another value: a period is the count of days since 1970.
    return None if isinstance(kind, pa.BaseExtensionType) and not isinstance(kind, pa.JsonType) else column


def _would_change(values: Any) -> bool:
    """Whether Arrow would turn sets into lists, or datetimes in a column with dates into dates."""
    kinds = set(map(type, values))
    dates = date in kinds and any(issubclass(kind, datetime) for kind in kinds)
    return dates or bool({set, frozenset} & kinds)


def _holds(kind: Any, *tests: Callable[[Any], bool]) -> bool:
    """Whether a type, or a type nested in it, passes one of the tests."""
    if any(test(kind) for test in tests):
        return True
    parts = [kind.field(place).type for place in range(kind.num_fields)]
    if getattr(kind, "value_type", None) is not None:
        parts.append(kind.value_type)
    return any(_holds(part, *tests) for part in parts)


def plain_column(pa: Any, column: Any) -> Any:
    """The column in the simplest equivalent type: without extensions, dictionaries, views and large offsets."""
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return column.cast(_plain_type(pa, column.type))


def _plain_type(pa: Any, kind: Any) -> Any:
    types = pa.types
    if types.is_dictionary(kind):
        return _plain_type(pa, kind.value_type)
    if types.is_large_string(kind) or types.is_string_view(kind):
        return pa.string()
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return pa.list_(_plain_type(pa, kind.value_type))
    return kind


def id_column_of(frame: Any, name: str, missing: bool = False) -> Any:
    """A column of entity ids as text; whole numbers as their digits. Raises InvalidInput for other values.

    `missing`: whether ids may be missing. Where some are, pandas has whole numbers as floats, which are taken.
    """
    pa = library("pyarrow")
    column = _as_arrow(pa, frame, name)
    if column is not None and isinstance(column.type, pa.JsonType):  # the id u1 would be "u1" with its quotes
        raise InvalidInput.at(name, "entity ids are text or whole numbers, not JSON")
    column = _of_one_type(name, _valued(pa, frame, name, column))
    if pa.types.is_floating(column.type):
        column = _unfloated(pa, column)
    if column.null_count < len(column) and not (
        pa.types.is_string(column.type) or pa.types.is_integer(column.type)
    ):
        raise InvalidInput.at(name, f"entity ids are text or whole numbers, not {column.type}")
    return (column if missing else _whole(column, name)).cast(pa.string())


def _unfloated(pa: Any, column: Any) -> Any:
    """Floats as integers, if each stands for one integer alone; else as they are."""
    numbers = [one for one in column.to_pylist() if one is not None]
    first_inexact = {16: 2.0**11, 32: 2.0**24, 64: FIRST_INEXACT}[column.type.bit_width]
    if all(one.is_integer() and abs(one) < first_inexact for one in numbers):
        return column.cast(pa.int64())
    return column


def id_rows(frame: Any, fields: Sequence[str]) -> list[dict[str, str | None]]:
    """The columns of entity ids as rows. Raises InvalidInput for values that are no ids."""
    columns = [id_column_of(frame, name, missing=True).to_pylist() for name in fields]
    return [dict(zip(fields, ids, strict=True)) for ids in zip(*columns, strict=True)]


def time_column_of(frame: Any, name: str, unit: Unit | None = None) -> Any:
    """A column of timestamps to the microsecond; naive ones are UTC. Raises InvalidInput for missing ones."""
    return moments_of(_whole(arrow_column(frame, name), name), name, unit)


def _whole(column: Any, name: str) -> Any:
    if column.null_count:
        raise InvalidInput.at(name, "is missing", column.is_null().index(True).as_py())
    return column


def missing_in(columns: Iterable[Any]) -> int:
    """How many values of the Arrow columns are null or NaN."""
    pa = library("pyarrow")
    pc = library("pyarrow.compute")
    return sum(
        column.null_count + (pc.sum(pc.is_nan(column)).as_py() or 0 if pa.types.is_floating(column.type) else 0)
        for column in columns
    )


def repeated_in(table: Any, keys: Sequence[str], nulls: bool) -> int:
    """How many values of a wide table a later row of the same keys replaces. `nulls`: count missing values too.

    `keys`: its first columns.
    """
    pa = library("pyarrow")
    pc = library("pyarrow.compute")
    rows = pa.table({name: table[name] for name in keys})
    for place, column in enumerate(table.columns[len(keys) :]):
        floating = pa.types.is_floating(column.type)
        gap = pc.is_null(column, nan_is_null=True) if floating else pc.is_null(column)
        rows = rows.append_column(f"{place}", pc.or_(pc.invert(gap), nulls))
    counted = [(f"{place}", "sum") for place in range(table.num_columns - len(keys))]
    found = rows.group_by(list(keys)).aggregate(counted).drop_columns(list(keys))
    replaced = (pc.sum(one).as_py() - pc.sum(pc.greater(one, 0)).as_py() for one in found.columns)
    return int(sum(replaced))


# Tables as streams


def slices_of(table: Any) -> list[Any]:
    """A table in parts of bounded rows and bytes."""
    each = max(1, table.nbytes // max(1, table.num_rows))
    step = max(1, min(MOST_ROWS, MOST_BYTES // each))
    return [table.slice(start, step) for start in range(0, table.num_rows, step)]


def to_stream(table: Any) -> bytes:
    """A table as an Arrow IPC stream."""
    pa = library("pyarrow")
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def from_stream(content: bytes) -> Any:
    """The table in an Arrow IPC stream. Raises ServerFailed if it is not one."""
    pa = library("pyarrow")
    try:
        return pa.ipc.open_stream(content).read_all()
    except pa.ArrowInvalid as error:
        raise ServerFailed(f"the answer is not an Arrow stream: {error}") from None


# Frames out of tables


def frame_of(table: Any, kind: FrameKind) -> Any:
    """A table as a frame. In pandas, integers and booleans with missing values get nullable types."""
    if kind == "polars":
        return library("polars").from_arrow(table)
    pandas = library("pandas")
    columns = {name: _pandas_column(pandas, table[name]) for name in table.column_names}
    return pandas.DataFrame(columns)


def _pandas_column(pandas: Any, column: Any) -> Any:
    pa = library("pyarrow")
    nullable = {pa.int64(): pandas.Int64Dtype(), pa.bool_(): pandas.BooleanDtype()}
    return column.to_pandas(types_mapper=nullable.get if column.null_count else None)


def beside(frame: Any, table: Any) -> Any:
    """The frame with the columns of a table appended on its right, row by row."""
    kind = check_frame(frame)
    check_new(table.column_names, list(frame.columns))
    columns = frame_of(table, kind)
    if kind == "polars":
        return frame.hstack(columns)
    return library("pandas").concat([frame, columns.set_axis(frame.index)], axis=1)


def check_new(names: Sequence[str], taken: Sequence[str]) -> None:
    """Raise InvalidInput if a feature would be a second column of the same name."""
    for name in names:
        if name in taken:
            reason = (
                f"{name!r} is a column of the rows as well; ask by another reference, such as the feature's id"
            )
            raise InvalidInput.at("features", reason)


# Values of JSON as columns

_READ: dict[str, Callable[[Any], Any]] = {
    "timestamp": lambda value: as_datetime(value, "timestamp"),
    "json": lambda value: msgspec.json.encode(value).decode(),
}


def column_of(value_type: str, values: Sequence[Any]) -> Any:
    """Served values as a column of their feature's type; json as its text.

    Raises ServerFailed for a type that this version of the client does not know.
    """
    pa = library("pyarrow")
    kind = {
        "string": pa.string(),
        "json": pa.string(),
        "number": pa.float64(),
        "integer": pa.int64(),
        "boolean": pa.bool_(),
        "timestamp": pa.timestamp("us", "UTC"),
        "vector": pa.list_(pa.float32()),
    }.get(value_type)
    if kind is None:
        raise ServerFailed(f"the answer has values of type {value_type}, which this client does not know")
    convert = _READ.get(value_type)
    if convert is not None:
        values = [None if value is None else convert(value) for value in values]
    return pa.array(values, kind)
