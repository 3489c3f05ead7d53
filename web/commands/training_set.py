"""`timewell training-set`: rows of a file, with what each feature was at each row's own moment."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from web.commands.exits import Failed
from web.commands.load import add_key_columns
from web.commands.options import Subparsers, add_command, add_wanted, file_of, references_of

if TYPE_CHECKING:
    import pyarrow as pa

    from web.client_errors import InvalidInput
    from web.commands.reading import RowsFile
    from web.commands.service import TableClient

ROWS_PER_PART = 50_000
MORE = """\
All columns of the rows are kept as they are, in their order, and the features stand to the right of them. The
fields of a CSV stay the texts that they are, the columns of a Parquet file keep their types. Only ids and moments
leave this machine. The rows are read, sent and saved a part at a time."""


def add(commands: Subparsers) -> None:
    """What it takes."""
    about = "put beside each row what the features were at its moment"
    parser = add_command(commands, "training-set", run, about, MORE)
    parser.add_argument(
        "--rows",
        type=file_of(".parquet", ".csv", ".csv.gz"),
        required=True,
        metavar="FILE",
        help="ends in .parquet, .csv or .csv.gz",
    )
    add_wanted(parser)
    add_key_columns(parser)
    parser.add_argument("--lookback", metavar="DURATION", help="the oldest that a value may be, such as 7d")
    parser.add_argument("--window", metavar="DURATION", help="aggregate over so long up to the row's moment")
    parser.add_argument("--aggregation", help="which aggregate, such as avg or count; needs --window")
    parser.add_argument("--known-at", metavar="MOMENT", help="leave out what arrived later; row: than each row")
    parser.add_argument(
        "-o",
        "--output",
        type=file_of(".parquet", ".csv", ".ndjson"),
        required=True,
        metavar="FILE",
        help="ends in .parquet, .csv or .ndjson",
    )


def run(asked: Namespace) -> None:
    """Make it and save it."""
    from web.commands.output import show_json, show_pairs
    from web.commands.progress import progress
    from web.commands.reading import need, open_rows
    from web.commands.saving import Saved
    from web.commands.service import TableClient

    file = open_rows(asked.rows)
    need(file, (asked.id_column, asked.timestamp_column))
    with TableClient(asked.url, asked.retry_seconds) as client:
        references = references_of(client, asked.features, asked.group)
        json_columns = [one for one in references if client.feature(one).value_type == "json"]
        _check_new(file, references)
        if asked.aggregation not in (None, "latest", "first"):
            json_columns = []
        options = {
            "features": references,
            "lookback": asked.lookback,
            "window": asked.window,
            "aggregation": asked.aggregation,
            "knownAt": asked.known_at,
        }
        client.be_patient()
        with Saved(asked.output, json_columns) as saved, progress(f"filling {asked.rows.name}") as tell:
            for lot in file.lots(ROWS_PER_PART, file.names):
                saved.write(_filled(client, file, lot, saved.rows, asked, options))
                tell(saved.rows, file.share())
    answer = {"file": str(asked.output), "rows": saved.rows, "features": references}
    if asked.json:
        show_json(answer)
    else:
        show_pairs(list((answer | {"features": ", ".join(references)}).items()))


def _check_new(file: RowsFile, references: list[str]) -> None:
    for reference in references:
        if reference in file.names:
            raise Failed(f"{file.path}: {reference!r} is a column of the rows already; ask by another reference")


def _filled(
    client: TableClient,
    file: RowsFile,
    lot: Mapping[str, Any],
    start: int,
    asked: Namespace,
    options: Mapping[str, Any],
) -> pa.Table:
    """A part of the rows with the features on its right."""
    import pyarrow as pa

    from web.client_errors import InvalidInput

    keys = _keys(file, lot, start, asked)
    try:
        filled = client.fill(keys, options)
    except InvalidInput as error:
        raise _blamed(file, error, start, asked) from None
    return pa.table({**lot, **dict(zip(filled.column_names, filled.columns, strict=True))})


def _keys(file: RowsFile, lot: Mapping[str, Any], start: int, asked: Namespace) -> pa.Table:
    """Whom and when the rows are about. Raises Failed that names a bad one."""
    import pyarrow as pa

    from web.commands.columns import BadValue, id_column, time_column

    name = asked.id_column
    try:
        entities = id_column(lot[name])
        name = asked.timestamp_column
        return pa.table({"entityId": entities, "timestamp": time_column(lot[name], asked.timestamp_unit)})
    except BadValue as bad:
        where = "" if bad.index is None else f"row {start + bad.index + 1}, "
        raise Failed(f"{file.path}: {where}column {name!r}: {bad.message}") from None


def _blamed(file: RowsFile, error: InvalidInput, start: int, asked: Namespace) -> Exception:
    """What the service says of a row, by its number in the file; of anything else, as it says it."""
    rows = [fault for fault in error.errors if fault.index is not None and fault.field.startswith("rows.")]
    if not rows:
        return error
    fault = rows[0]
    name = asked.id_column if fault.field == "rows.entityId" else asked.timestamp_column
    return Failed(f"{file.path}: row {start + (fault.index or 0) + 1}, column {name!r}: {fault.message}")
