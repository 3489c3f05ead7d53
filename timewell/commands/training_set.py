"""`timewell training-set`: join features to the rows of a file, as of each row's timestamp."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from timewell.commands import made_of_observations
from timewell.commands.exits import Failed
from timewell.commands.load import add_key_columns
from timewell.commands.options import Subparsers, add_command, add_wanted, columns_of, fields_of, file_of

if TYPE_CHECKING:
    import pyarrow as pa

    from timewell.commands.reading import RowsFile
    from timewell.commands.service import TableClient
    from timewell.errors import InvalidInput
    from timewell.rows_wire import TrainingSetRecord

ROWS_PER_PART = 50_000
MORE = """\
The output has all columns of the rows unchanged and in their order, then a column per feature. Fields of a CSV
stay text, columns of a Parquet file keep their types. Values of an NDJSON file stay as they are written (1.10,
12345678901234567890); in CSV and Parquet output they are text. What a row lacks is null. In CSV and NDJSON output,
bytes are Base64. Only ids, timestamps and the fields that features are computed from are sent to the service. The
rows are read, sent and saved a part at a time.

Where features are of several entity types, or of one with several keys, --key names the column of each key. A
field that is empty there (in a CSV with quotes or without) means that the row has no such entity.

With --spine, the rows are the observations of a feature. --save keeps such a training set under a name in the
service; --from NAME gives the same rows again, whatever has arrived since. The rows of a file can be kept as well,
up to 256 KiB as JSON, with all their columns; those of ids and timestamps are then named like the keys (or
entityId) and `timestamp`."""


def add(commands: Subparsers) -> None:
    """Add the command and its arguments."""
    about = "join features to the rows of a file, as of each row's timestamp"
    parser = add_command(commands, "training-set", run, about, MORE)
    endings = (".csv", ".csv.gz", ".parquet", ".ndjson", ".ndjson.gz")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--rows",
        type=file_of(*endings),
        metavar="FILE",
        help=f"the rows; the name ends in {', '.join(endings)}",
    )
    made_of_observations.add(parser, source)
    add_wanted(parser, required=False)
    add_key_columns(parser)
    parser.add_argument("--lookback", metavar="DURATION", help="how old a value may be at most, such as 7d")
    parser.add_argument("--window", metavar="DURATION", help="aggregate over this time up to the row's timestamp")
    parser.add_argument("--aggregation", help="the aggregate, such as avg or count; needs --window")
    parser.add_argument(
        "--known-at", metavar="MOMENT", help="leave out what arrived after this; `row`: after each row's timestamp"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=file_of(".parquet", ".csv", ".ndjson"),
        metavar="FILE",
        help="ends in .parquet, .csv or .ndjson; needed but with --save",
    )


def run(asked: Namespace) -> None:
    """Make the training set and save it."""
    made_of_observations.check(asked)
    if asked.rows is None or asked.save is not None:
        made_of_observations.run(asked, None if asked.rows is None else partial(_keep, asked))
        return
    from timewell.commands.output import show_json, show_pairs
    from timewell.commands.progress import progress
    from timewell.commands.reading import need
    from timewell.commands.saving import SavedFile
    from timewell.commands.service import TableClient

    file, as_written, ids = _opened(asked)
    with TableClient(asked.url, asked.retry_seconds) as client:
        columns = columns_of(client, asked)
        fields = fields_of(client, columns.values())
        need(file, fields)
        references = list(columns)
        json_columns = [name for name, one in columns.items() if client.feature(one).value_type == "json"]
        _check_new(file, references)
        if asked.aggregation not in (None, "latest", "first"):
            json_columns = []
        options = _options(asked, references)
        client.be_patient()
        json_columns += file.names if as_written else []
        with (
            SavedFile(asked.output, json_columns, references) as saved,
            progress(f"filling {asked.rows.name}") as tell,
        ):
            for lot in file.lots(ROWS_PER_PART, file.names):
                keys = _keys(file, lot, saved.rows, asked, ids, fields)
                saved.write(_filled(client, file, lot, saved.rows, keys, asked, ids, options))
                tell(saved.rows, file.share())
    answer = {"file": str(asked.output), "rows": saved.rows, "features": references}
    if asked.json:
        show_json(answer)
    else:
        show_pairs(list((answer | {"features": ", ".join(references)}).items()))


def _opened(asked: Namespace) -> tuple[RowsFile, bool, Mapping[str, str]]:
    """The file, whether it gives values as they are written, and the columns of ids by what they are sent as."""
    from timewell.commands.reading import LineRows, need, open_rows

    file = open_rows(asked.rows)
    if isinstance(file, LineRows):
        file.keep_as_written()
    ids = {"entityId": asked.id_column} if asked.key is None else dict(asked.key)
    need(file, (*ids.values(), asked.timestamp_column))
    return file, isinstance(file, LineRows), ids


def _keep(asked: Namespace, client: TableClient, options: Mapping[str, Any]) -> TrainingSetRecord:
    """Keep the rows of the file as a training set, with all their columns."""
    from timewell.commands.reading import need
    from timewell.errors import InvalidInput
    from timewell.rows_wire import MOST_KEPT_BYTES

    file, _, ids = _opened(asked)
    fields = fields_of(client, columns_of(client, asked).values())
    need(file, fields)
    sent = {**ids, "timestamp": asked.timestamp_column}
    others = [name for name in file.names if name not in {*sent.values(), *fields}]
    for name in others:
        if name in sent:
            raise Failed(f"{file.path}: column {name!r} and column {sent[name]!r} would both be kept as {name!r}")
    rows, size = list[dict[str, Any]](), 0
    for lot in file.lots(ROWS_PER_PART, file.names):
        keys = _keys(file, lot, len(rows), asked, ids, fields)
        columns = {name: _values(file, name, keys[name]) for name in keys.column_names}
        columns |= {name: _values(file, name, lot[name]) for name in others}
        part = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        text = msgspec.json.encode(part)
        size += len(text)
        if size > MOST_KEPT_BYTES:
            reason = f"more rows than the {MOST_KEPT_BYTES // 1024} KiB that --save keeps"
            raise Failed(f"{file.path}: {reason}; keep the file, and make the set again with --known-at")
        rows += msgspec.json.decode(text)  # NaN as null, bytes as Base64, as in output of text
    try:
        return client.keep_training_set(asked.save, **options, rows=rows)
    except InvalidInput as error:
        raise _blamed(file, error, 0, sent) from None


def _values(file: RowsFile, name: str, column: Any) -> list[Any]:
    """A column as values of JSON."""
    import pyarrow as pa

    from timewell.arrow_objects import Unsayable, objects
    from timewell.arrow_plain import plain_array

    if isinstance(column, list):
        return list(_read(column))
    try:
        return objects(plain_array(column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column))
    except Unsayable as error:
        raise Failed(f"{file.path}: column {name!r}: {error}") from None


def _options(asked: Namespace, references: list[str]) -> dict[str, Any]:
    return {
        "features": references if asked.service is None else None,
        "service": asked.service,
        "lookback": asked.lookback,
        "window": asked.window,
        "aggregation": asked.aggregation,
        "knownAt": asked.known_at,
    }


def _check_new(file: RowsFile, references: list[str]) -> None:
    for reference in references:
        if reference in file.names:
            raise Failed(f"{file.path}: {reference!r} is a column of the rows already; ask by another reference")


def _filled(
    client: TableClient,
    file: RowsFile,
    lot: Mapping[str, Any],
    start: int,
    keys: pa.Table,
    asked: Namespace,
    ids: Mapping[str, str],
    options: Mapping[str, Any],
) -> pa.Table:
    """A part of the rows with the features on the right."""
    import pyarrow as pa

    from timewell.errors import InvalidInput

    if isinstance(next(iter(lot.values())), list):
        is_json = asked.output.suffix.lower() == ".ndjson"
        lot = {name: _texts(file, name, values, start, is_json) for name, values in lot.items()}
    try:
        filled = client.fill(keys, options)
    except InvalidInput as error:
        raise _blamed(file, error, start, {**ids, "timestamp": asked.timestamp_column}) from None
    return pa.table({**lot, **dict(zip(filled.column_names, filled.columns, strict=True))})


def _texts(file: RowsFile, name: str, values: Sequence[msgspec.Raw | None], start: int, is_json: bool) -> pa.Array:
    """JSON values as they are written; unless for JSON (`is_json`), texts lose their quotes."""
    import pyarrow as pa

    try:
        written = [None if value is None else bytes(value).decode() for value in values]
        if not is_json:
            written = [None if text in (None, "null") else _unquoted(text) for text in written]
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Failed(f"{file.path}: rows from {start + 1}, column {name!r}: {error}") from None
    return pa.array(written, pa.string())


def _unquoted(written: str) -> str:
    return msgspec.json.decode(written, type=str) if written.startswith('"') else written


def _keys(
    file: RowsFile,
    lot: Mapping[str, Any],
    start: int,
    asked: Namespace,
    ids: Mapping[str, str],
    fields: Mapping[str, str],
) -> pa.Table:
    """The ids and timestamps of the rows, and the fields that features are computed from, with their value types.

    Raises Failed, naming a bad row.
    """
    import pyarrow as pa

    from timewell.commands.columns import BadValue, id_column, time_column, value_column
    from timewell.commands.reading import CsvRows

    table, name, is_text = dict[str, pa.Array](), "", isinstance(file, CsvRows)
    try:
        for field, name in ids.items():
            table[field] = id_column(_read(lot[name]), asked.key is not None, is_text)
        name = asked.timestamp_column
        table["timestamp"] = time_column(_read(lot[name]), asked.timestamp_unit)
        for name, value_type in fields.items():
            table[name] = value_column(value_type, _read(lot[name]), is_text)
        return pa.table(table)
    except BadValue as bad:
        where = "" if bad.index is None else f"row {start + bad.index + 1}, "
        raise Failed(f"{file.path}: {where}column {name!r}: {bad.message}") from None


def _read(column: Any) -> Any:
    """A key column; JSON values are decoded."""
    if not isinstance(column, list):
        return column
    return [None if one is None else msgspec.json.decode(one) for one in column]


def _blamed(file: RowsFile, error: InvalidInput, start: int, columns: Mapping[str, str]) -> Exception:
    """The service's error, with the number of the row in the file if it is about a row."""
    rows = [fault for fault in error.errors if fault.index is not None and fault.field.startswith("rows.")]
    if not rows:
        return error
    fault = rows[0]
    field = fault.field.removeprefix("rows.")
    name = columns.get(field, field)
    return Failed(f"{file.path}: row {start + (fault.index or 0) + 1}, column {name!r}: {fault.message}")
