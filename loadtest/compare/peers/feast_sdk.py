"""`python -m loadtest.compare.peers.feast_sdk PORT`: Feast's Python library, called from another process.

Definitions, loads and training sets over XML-RPC. It runs in Feast's environment.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from xmlrpc.server import SimpleXMLRPCServer

feast: Any = importlib.import_module("feast")
pandas: Any = importlib.import_module("pandas")
ENTITY = "user"
MOMENT = "event_timestamp"
ROWS_A_WRITE = 2_000


def _view(entities: Sequence[Any], name: str, features: Sequence[str], source: Any, online: bool) -> Any:
    types = importlib.import_module("feast.types")
    return feast.FeatureView(
        name=name,
        entities=entities,
        ttl=timedelta(0),
        schema=[feast.Field(name=feature, dtype=types.Float64) for feature in features],
        source=source,
        online=online,
    )


def define(
    repository: str,
    views: Mapping[str, Sequence[str]],
    files: Mapping[str, str],
    online: bool,
    keys: Mapping[str, Sequence[str]],
) -> None:
    """Register feature views over Parquet files, each with its own push source if they are served.

    `keys`: the entities of views whose entity is not the user.
    """
    named = dict.fromkeys([ENTITY, *(key for found in keys.values() for key in found)])
    entities = {key: feast.Entity(name=key, join_keys=[key], value_type=feast.ValueType.STRING) for key in named}
    objects = [*entities.values()]
    for name, features in views.items():
        of = [entities[key] for key in keys.get(name, [ENTITY])]
        source = feast.FileSource(name=f"{name}_file", path=files[name], timestamp_field=MOMENT)
        if online:
            source = feast.PushSource(name=f"{name}_push", batch_source=source)
        objects += [source, _view(of, name, features, source, online)]
    feast.FeatureStore(repo_path=repository).apply(objects)


def load(repository: str, view: str, file: str) -> int:
    """Write the rows of a Parquet file to the online store; how many rows."""
    store = feast.FeatureStore(repo_path=repository)
    frame = pandas.read_parquet(file)
    for start in range(0, len(frame), ROWS_A_WRITE):
        store.write_to_online_store(view, frame.iloc[start : start + ROWS_A_WRITE])
    return len(frame)


def training_set(repository: str, file: str, features: Sequence[str], answer: str) -> dict[str, float]:
    """The time from a frame (the rows of a Parquet file) to the joined frame, which is written to `answer`."""
    store = feast.FeatureStore(repo_path=repository)
    rows = pandas.read_parquet(file)
    began, spent = time.perf_counter(), time.process_time()
    frame = store.get_historical_features(entity_df=rows, features=list(features)).to_df()
    took = {"seconds": time.perf_counter() - began, "processor_seconds": time.process_time() - spent}
    frame.to_parquet(Path(answer))
    return took


def main(port: int) -> None:
    with SimpleXMLRPCServer(("127.0.0.1", port), logRequests=False, allow_none=True) as server:
        server.register_introspection_functions()
        functions: list[Any] = [define, load, training_set]
        for function in functions:
            server.register_function(function)
        server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]))
