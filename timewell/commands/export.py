"""`timewell export`: save the observations of all entities, or of some, to a file that `timewell load` takes."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from timewell.commands.exits import Misused
from timewell.commands.options import Subparsers, add_command, columns_of, file_of, names

MORE = """\
The file has a row per entity and timestamp: entityId (or a column for each key of the entity type), timestamp, and
a column per feature, named as asked for.
A field is empty if nothing or a null was written at that time. `timewell load` takes the file as it is."""


def add(commands: Subparsers) -> None:
    """Add the command and its arguments."""
    parser = add_command(commands, "export", run, "save observations to a file", MORE)
    wanted = parser.add_mutually_exclusive_group(required=True)
    wanted.add_argument("features", type=names, nargs="?", metavar="FEATURES", help="features, such as a,b")
    wanted.add_argument("--group", help="the features of a group instead")
    wanted.add_argument("--service", help="the features of a service instead")
    parser.add_argument("--entity", metavar="TYPE", help="only features of this type, if there are several types")
    parser.add_argument(
        "--entity-ids",
        nargs="+",
        metavar="ID",
        help="the entities, by default all; @FILE reads ids from a file, one a line",
    )
    parser.add_argument("--start", help="only observations from this timestamp on")
    parser.add_argument("--end", help="only observations up to this timestamp")
    parser.add_argument(
        "-o",
        "--output",
        type=file_of(".csv", ".parquet", ".ndjson"),
        required=True,
        metavar="FILE",
        help="ends in .csv, .parquet or .ndjson",
    )


def run(asked: Namespace) -> None:
    """Save the observations, some entities at a time."""
    from timewell.commands.output import show_json, show_pairs
    from timewell.commands.progress import progress
    from timewell.commands.saving import SavedFile
    from timewell.commands.service import TableClient

    entities = None if asked.entity_ids is None else _entities(asked.entity_ids)
    with TableClient(asked.url, asked.retry_seconds) as client:
        columns = columns_of(client, asked)
        if asked.entity is not None:
            columns = {name: one for name, one in columns.items() if client.feature(one).entity == asked.entity}
        json_columns = [
            name for name, reference in columns.items() if client.feature(reference).value_type == "json"
        ]
        served = ["timestamp", *columns]
        features = None if asked.service is not None else list(columns)
        pages = client.begin_export(features, asked.service, asked.entity, entities, asked.start, asked.end)
        with (
            SavedFile(asked.output, json_columns, served) as saved,
            progress(f"exporting to {asked.output.name}") as tell,
        ):
            while pages.more:
                saved.write(client.export_page(pages))
                tell(saved.rows, None if entities is None else pages.done / len(entities))
    answer = {"file": str(asked.output), "rows": saved.rows, "entities": pages.done, "features": list(columns)}
    if asked.json:
        show_json(answer)
    else:
        show_pairs(list((answer | {"features": ", ".join(columns)}).items()))


def _entities(given: Sequence[str]) -> list[str]:
    """The distinct ids, with those of the files."""
    found: list[str] = []
    for text in given:
        found += Path(text[1:]).read_text().splitlines() if text.startswith("@") else [text]
    entities = [entity for entity in dict.fromkeys(found) if entity]
    if not entities:
        raise Misused("--entity-ids: there is none")
    return entities
