"""The log of a Delta table: commits, checkpoints, and the files that the table consists of.

Timewell itself relies on the records of its files in the journal; the log is for other readers of the history. It
is written here rather than by the deltalake library, which treats a directory as a URL: it panics on `data [1]`,
and takes `repo%2Fbranch` for the directory `branch` in `repo`.
https://github.com/delta-io/delta/blob/master/PROTOCOL.md
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote
from zlib import crc32

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from actors.storage.embedded.layout import SCHEMA
from actors.storage.embedded.run_files import RunFile

Action = dict[str, Any]
Sums = list[tuple[str, int | None]]
KEEP_LOG_SECONDS = 86_400
_HINT = "_last_checkpoint"
_NAMES = {
    pa.string(): "string",
    pa.float64(): "double",
    pa.float32(): "float",
    pa.int64(): "long",
    pa.int32(): "integer",
    pa.int16(): "short",
    pa.int8(): "byte",
    pa.bool_(): "boolean",
    pa.binary(): "binary",
    pa.date32(): "date",
    pa.timestamp("us", "UTC"): "timestamp",
}
"""Arrow's types that Delta has as well; it has none without a sign."""
_PROTOCOL = {"minReaderVersion": 1, "minWriterVersion": 2}
_TEXTS = pa.map_(pa.string(), pa.string())
_LAYOUT = pa.schema(
    {
        "txn": pa.struct({"appId": pa.string(), "version": pa.int64(), "lastUpdated": pa.int64()}),
        "add": pa.struct(
            {
                "path": pa.string(),
                "partitionValues": _TEXTS,
                "size": pa.int64(),
                "modificationTime": pa.int64(),
                "dataChange": pa.bool_(),
                "stats": pa.string(),
                "tags": _TEXTS,
            }
        ),
        "remove": pa.struct(
            {
                "path": pa.string(),
                "deletionTimestamp": pa.int64(),
                "dataChange": pa.bool_(),
                "extendedFileMetadata": pa.bool_(),
                "partitionValues": _TEXTS,
                "size": pa.int64(),
            }
        ),
        "metaData": pa.struct(
            {
                "id": pa.string(),
                "name": pa.string(),
                "description": pa.string(),
                "format": pa.struct({"provider": pa.string(), "options": _TEXTS}),
                "schemaString": pa.string(),
                "partitionColumns": pa.list_(pa.string()),
                "createdTime": pa.int64(),
                "configuration": _TEXTS,
            }
        ),
        "protocol": pa.struct({"minReaderVersion": pa.int32(), "minWriterVersion": pa.int32()}),
    }
)
"""The schema of a checkpoint file."""


def now() -> int:
    """The wall clock in milliseconds, as used in the log."""
    return time.time_ns() // 1_000_000


def _kind(of: pa.DataType) -> str | dict[str, Any]:
    """The type of a column as Delta writes it. Raises TypeError for one that Delta does not have."""
    if pa.types.is_list(of):
        return {"type": "array", "elementType": _kind(of.value_type), "containsNull": True}
    if of not in _NAMES:
        raise TypeError(f"a Delta table cannot have a column of {of}")
    return _NAMES[of]


def new_table() -> str:
    """The metadata of a table created now, as JSON."""
    fields = [
        {"name": name, "type": kind, "nullable": True, "metadata": {}}
        for name, kind in [*((field.name, _kind(field.type)) for field in SCHEMA), ("run", "long")]
    ]
    return json.dumps(
        {
            "id": str(uuid.uuid4()),
            "format": {"provider": "parquet", "options": {}},
            "schemaString": json.dumps({"type": "struct", "fields": fields}),
            "partitionColumns": ["run"],
            "createdTime": now(),
            "configuration": {
                "delta.logRetentionDuration": "interval 1 day",
                "delta.dataSkippingStatsColumns": "feature,entity_id,event_timestamp",
            },
        }
    )


def stats_of(table: pa.Table) -> str:
    """The statistics of a file for the log, as JSON: of the key columns only, as no query uses those of values."""
    bounds = {name: pc.min_max(table[name]).as_py() for name in ("feature", "entity_id")}
    times = pc.min_max(table["event_timestamp"])
    bounds["event_timestamp"] = {end: _text(times[end]) for end in ("min", "max")}
    return json.dumps(
        {
            "numRecords": table.num_rows,
            "minValues": {name: bound["min"] for name, bound in bounds.items()},
            "maxValues": {name: bound["max"] for name, bound in bounds.items()},
            "nullCount": dict.fromkeys(bounds, 0),
        },
        ensure_ascii=False,
    )


def _text(moment: pa.Scalar) -> str:
    """A moment as text, rounded down to the millisecond as the protocol requires."""
    whole = pc.floor_temporal(moment, unit="millisecond").cast(pa.timestamp("ms", "UTC"))
    return str(pc.strftime(whole, "%Y-%m-%dT%H:%M:%SZ"))


def begun(metadata: str) -> list[Action]:
    """The first actions of a table."""
    return [{"protocol": _PROTOCOL}, {"metaData": json.loads(metadata)}]


def added(file: RunFile) -> Action:
    """The action that adds a file."""
    return {
        "add": {
            "path": quote(file.path, safe="/="),
            "partitionValues": {"run": str(file.run)},
            "size": file.size,
            "modificationTime": file.modified,
            "dataChange": True,
            "stats": file.stats,
        }
    }


def removed(file: RunFile) -> Action:
    """The action that removes a file."""
    return {
        "remove": {
            "path": quote(file.path, safe="/="),
            "deletionTimestamp": file.removed,
            "dataChange": True,
            "extendedFileMetadata": True,
            "partitionValues": {"run": str(file.run)},
            "size": file.size,
        }
    }


def commit(log: Path, version: int, operation: str, actions: Sequence[Action]) -> Sums:
    """Write one more version to stable storage. Returns the checksums of the files written."""
    about = {"commitInfo": {"timestamp": now(), "operation": operation, "engineInfo": "timewell"}}
    lines = [json.dumps(action, ensure_ascii=False) for action in (about, *actions)]
    return [_put(log / f"{version:020}.json", "\n".join(lines).encode())]


def checkpoint(
    log: Path, version: int, metadata: str, files: Iterable[RunFile], keep_seconds: float = KEEP_LOG_SECONDS
) -> Sums:
    """Write a checkpoint of the log at a version, and delete older files of the log that are no longer needed.

    Returns the checksums of files written, and None for files deleted.
    """
    path = log / f"{version:020}.checkpoint.parquet"
    changed: Sums = []
    if not path.exists():
        actions = [removed(file) if file.removed is not None else added(file) for file in files]
        rows = [_as_columns(action) for action in (*begun(metadata), *actions)]
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(rows, _LAYOUT), sink, store_schema=False)
        changed.append(_put(path, sink.getvalue().to_pybytes()))
        _put(log / _HINT, json.dumps({"version": version, "size": len(rows)}).encode())
    for old in log.iterdir():
        if is_before(old, version) and old.stat().st_mtime < time.time() - keep_seconds:
            old.unlink()
            changed.append((old.name, None))
    return changed


def _as_columns(action: Action) -> Action:
    """An action with its maps as lists of pairs, as Arrow needs them."""
    maps = ("partitionValues", "options", "configuration")

    def columns(value: Any, name: str) -> Any:
        if not isinstance(value, dict):
            return value
        return list(value.items()) if name in maps else {key: columns(one, key) for key, one in value.items()}

    return {name: columns(body, name) for name, body in action.items()}


def version_of(path: Path) -> int | None:
    """The version that a file of the log belongs to; None if it has none."""
    return int(path.name[:20]) if path.name[:20].isdigit() else None


def is_before(path: Path, version: int) -> bool:
    """Whether a file of the log belongs to an earlier version than this."""
    its_version = version_of(path)
    return its_version is not None and its_version < version


def files_added(path: Path) -> list[str]:
    """The files that a commit added; none if it was not written completely."""
    adds = [action["add"] for action in _actions(path) if "add" in action]
    return [unquote(str(add["path"])) for add in adds]


def _actions(path: Path) -> list[Action]:
    found: list[Action] = []
    for line in path.read_text(errors="replace").splitlines():
        with suppress(ValueError):
            found.append(json.loads(line))
    return found


def read(log: Path, version: int) -> tuple[str, dict[str, Mapping[str, Any]]]:
    """The metadata of the table at a version as JSON, and the `add` action of each of its files, by path.

    Raises ValueError if the log has no metadata.
    """
    summed_up = [path for path in log.glob("*.checkpoint.parquet") if not is_before(path, 0)]
    known = [found for path in summed_up if (found := version_of(path)) is not None and found <= version]
    start = max(known, default=-1)
    actions: list[Action] = []
    if start >= 0:
        actions += pq.read_table(log / f"{start:020}.checkpoint.parquet").to_pylist()
    for after in range(start + 1, version + 1):
        actions += _actions(log / f"{after:020}.json")
    metadata, files = None, dict[str, Mapping[str, Any]]()
    for action in actions:
        if (add := action.get("add")) is not None:
            files[unquote(add["path"])] = {**add, "partitionValues": dict(add["partitionValues"])}
        elif (remove := action.get("remove")) is not None:
            files.pop(unquote(remove["path"]), None)
        elif (found := action.get("metaData")) is not None:
            metadata = {
                **found,
                "configuration": dict(found["configuration"]),
                "format": {"provider": "parquet", "options": {}},
            }
    if metadata is None:
        raise ValueError("its log does not say what it is made of")
    return json.dumps(metadata), files


def need_sound(log: Path, sums: Mapping[str, int]) -> None:
    """Raise ValueError if a file of the log does not match its checksum.

    A missing file is not reported: either it was no longer needed, and a crash kept that from being noted, or it
    will be missed when the log is read.
    """
    for name, sum_ in sums.items():
        if (log / name).exists() and crc32((log / name).read_bytes()) != sum_:
            raise ValueError(f"{name} is not what was written")


def hint_is_sound(log: Path) -> bool:
    """Whether the pointer to the last checkpoint is absent or as it was written. May raise any error of Arrow."""
    if not (log / _HINT).exists():
        return True
    said = (log / _HINT).read_bytes()
    version = int(json.loads(said)["version"])
    rows = pq.read_metadata(log / f"{version:020}.checkpoint.parquet").num_rows
    return said == json.dumps({"version": version, "size": rows}).encode()


def _put(path: Path, data: bytes) -> tuple[str, int]:
    """Write a file atomically and to stable storage. Returns its name and checksum."""
    started = path.with_name(f".{path.name}.part")
    with started.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    started.replace(path)
    sync(path.parent)
    return path.name, crc32(data)


def sync(path: Path) -> None:
    """fsync a file or a directory."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
