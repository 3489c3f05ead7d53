"""`timewell export`: save the observations of some entities to a file that `timewell load` takes."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from timewell.commands.exits import Misused
from timewell.commands.options import Subparsers, add_command, file_of, names, references_of

if TYPE_CHECKING:
    import pyarrow as pa

    from timewell.commands.service import TableClient

ROWS_PER_LOT = 50_000
MORE = """\
The file has a row per entity and timestamp: entityId, timestamp, and a column per feature, named as asked for.
A field is empty if nothing or a null was written at that time. `timewell load` takes the file as it is."""


def add(commands: Subparsers) -> None:
    """Add the command and its arguments."""
    parser = add_command(commands, "export", run, "save the observations of some entities to a file", MORE)
    wanted = parser.add_mutually_exclusive_group(required=True)
    wanted.add_argument("features", type=names, nargs="?", metavar="FEATURES", help="features, such as a,b")
    wanted.add_argument("--group", help="the features of a group instead")
    parser.add_argument(
        "--entity-ids",
        nargs="+",
        required=True,
        metavar="ID",
        help="the entities; @FILE reads ids from a file, one a line",
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
    """Save the observations, entity by entity."""
    from timewell.commands.output import show_json, show_pairs
    from timewell.commands.progress import progress
    from timewell.commands.saving import Saved
    from timewell.commands.service import TableClient

    entities = _entities(asked.entity_ids)
    with TableClient(asked.url, asked.retry_seconds) as client:
        references = references_of(client, asked.features, asked.group)
        types = {reference: client.feature(reference).value_type for reference in references}
        json_columns = [reference for reference, value_type in types.items() if value_type == "json"]
        with Saved(asked.output, json_columns) as saved, progress(f"exporting to {asked.output.name}") as tell:
            for done, table in _lots(client, entities, references, asked):
                saved.write(table)
                tell(saved.rows, done / len(entities))
    answer = {"file": str(asked.output), "rows": saved.rows, "entities": len(entities), "features": references}
    if asked.json:
        show_json(answer)
    else:
        show_pairs(list((answer | {"features": ", ".join(references)}).items()))


def _entities(given: Sequence[str]) -> list[str]:
    """The distinct ids, with those of the files."""
    found: list[str] = []
    for text in given:
        found += Path(text[1:]).read_text().splitlines() if text.startswith("@") else [text]
    entities = [entity for entity in dict.fromkeys(found) if entity]
    if not entities:
        raise Misused("--entity-ids: there is none")
    return entities


def _lots(
    client: TableClient, entities: Sequence[str], references: Sequence[str], asked: Namespace
) -> Iterator[tuple[int, pa.Table]]:
    """Tables of many rows, each with the number of entities done so far."""
    import pyarrow as pa

    held: list[pa.Table] = []
    for done, entity in enumerate(entities, 1):
        found = [client.observations(reference, entity, asked.start, asked.end) for reference in references]
        held.append(_beside(entity, references, found))
        if done == len(entities) or sum(table.num_rows for table in held) >= ROWS_PER_LOT:
            yield done, pa.concat_tables(held)
            held = []


def _beside(entity: str, references: Sequence[str], found: Sequence[pa.Table]) -> pa.Table:
    """Observations of several features as one table: a row per timestamp that any of them has."""
    import numpy as np
    import pyarrow as pa

    times = [np.asarray(table["timestamp"].cast(pa.int64()).to_numpy()) for table in found]
    moments = np.unique(np.concatenate(times))
    columns = {
        "entityId": pa.array([entity]).take(pa.array(np.zeros(len(moments), np.int64))),
        "timestamp": pa.array(moments).cast(pa.timestamp("us", "UTC")),
    }
    for reference, observed, table in zip(references, times, found, strict=True):
        places = np.searchsorted(observed, moments)
        is_observed = places < len(observed)
        is_observed[is_observed] = observed[places[is_observed]] == moments[is_observed]
        columns[reference] = table["value"].combine_chunks().take(pa.array(places, mask=~is_observed))
    return pa.table(columns)
