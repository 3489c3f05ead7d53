"""`timewell training-set` with `--spine`, `--save` and `--from`: rows that the service makes or keeps."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from timewell.commands.exits import Misused
from timewell.commands.options import columns_of

if TYPE_CHECKING:
    from timewell.commands.service import TableClient
    from timewell.rows_wire import TrainingSetRecord


def add(parser: ArgumentParser, source: Any) -> None:
    """Add the arguments; those that say where rows come from to the group `source`."""
    source.add_argument("--spine", metavar="FEATURE", help="a row for each observation of this feature")
    source.add_argument(
        "--from", dest="kept", metavar="NAME", help="the training set that is kept under this name"
    )
    parser.add_argument("--start", metavar="MOMENT", help="with --spine: only observations from this timestamp on")
    parser.add_argument("--end", metavar="MOMENT", help="with --spine: only observations up to this timestamp")
    parser.add_argument(
        "--save", metavar="NAME", help="keep the training set under this name; with --rows up to 256 KiB of them"
    )


def check(asked: Namespace) -> None:
    """Raise Misused for arguments that do not go together."""
    wanted = asked.features or asked.group or asked.service
    if asked.kept is None and not wanted:
        raise Misused("one of --features, --group and --service is needed")
    if asked.kept is not None and wanted:
        raise Misused("--from has the features that it was kept with")
    if asked.output is None and asked.save is None:
        raise Misused("-o FILE is needed")
    if asked.kept is not None and asked.save is not None:
        raise Misused("--save goes with --spine or --rows")
    for name in ("start", "end"):
        if getattr(asked, name) is not None and asked.spine is None:
            raise Misused(f"--{name} goes with --spine")


def run(asked: Namespace, keep: Callable[[TableClient, dict[str, Any]], TrainingSetRecord] | None = None) -> None:
    """Keep the training set, or save its rows, or both. `keep`: how, where it has rows of a file."""
    from timewell.commands.output import show_json, show_pairs
    from timewell.commands.saving import SavedFile
    from timewell.commands.service import TableClient

    answer = dict[str, Any]()
    with TableClient(asked.url, asked.retry_seconds) as client:
        if asked.save is not None:
            options = _options(asked)
            kept = client.keep_training_set(asked.save, **options) if keep is None else keep(client, options)
            answer = {
                "name": kept.name,
                "rows": kept.rows,
                "contentHash": kept.content_hash,
                "knownAt": kept.known_at,
            }
        if asked.output is not None:
            name = asked.save or asked.kept
            table = client.rows_of_spine(_options(asked)) if name is None else client.kept_rows(name)
            with SavedFile(asked.output, _json_columns(client, asked, name), table.column_names) as saved:
                saved.write(table)
            answer |= {"file": str(asked.output), "rows": saved.rows}
    show_json(answer) if asked.json else show_pairs(list(answer.items()))


def _json_columns(client: TableClient, asked: Namespace, kept: str | None) -> list[str]:
    """The columns that hold JSON text."""
    if kept is None:
        columns = {} if asked.aggregation not in (None, "latest", "first") else columns_of(client, asked)
    else:
        features = client.kept_training_set(kept).definition["features"]
        plain = [one for one in features if one.get("aggregation") in (None, "latest", "first")]
        columns = {one["as"]: one["ref"] for one in plain}
    return [name for name, one in columns.items() if client.feature(one).value_type == "json"]


def _options(asked: Namespace) -> dict[str, Any]:
    return {
        "features": asked.features,
        "group": asked.group,
        "service": asked.service,
        "spine": asked.spine,
        "start": asked.start,
        "end": asked.end,
        "lookback": asked.lookback,
        "window": asked.window,
        "aggregation": asked.aggregation,
        "known_at": asked.known_at,
    }
