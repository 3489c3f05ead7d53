"""`timewell load`: what it takes, what it refuses, and that nothing is lost or written twice however it ends."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pa_parquet
import pytest
from platformdirs import user_cache_path

from tests.live import LiveServer
from timewell import arrow
from timewell.calls import Retry
from timewell.client import Client
from timewell.commands import load_parts, load_state, reading
from timewell.commands.columns import BadValue, id_column, time_column, value_column
from timewell.commands.reading import open_rows
from timewell.commands.saving import SavedFile
from web.cli import main

TEN, ELEVEN, NOON = (f"2025-11-07T{hour}:00:00Z" for hour in (10, 11, 12))
SCRIPT = str(Path(sys.executable).parent / "timewell")

Load = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def surroundings(shared_server: LiveServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A service, a cache, and a directory to work in."""
    monkeypatch.setenv("TIMEWELL_URL", shared_server.url)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture
def load(capsys: pytest.CaptureFixture[str]) -> Load:
    """Load a file of users; the exit code, and what was said on stdout and stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["load", *arguments, "--entity", "user"])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture
def parts_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows are sent at a time."""
    monkeypatch.setattr(load_parts, "ROWS_PER_PART", 2)


def loaded(result: tuple[int, str, str]) -> dict[str, Any]:
    """What a load that is done answered in JSON."""
    code, out, err = result
    assert (code, err) == (0, "")
    return dict(json.loads(out))


def refused(result: tuple[int, str, str], *words: str) -> str:
    """It failed, in words that have these among them."""
    code, out, err = result
    assert (code, out) == (1, ""), result
    for word in words:
        assert word in err
    return err


def stored(server: LiveServer, name: str) -> int:
    """How many observations the service has ever taken for a feature."""
    return int(server.get(f"/features/{name}/stats").json()["count"])


def states() -> list[Path]:
    """What is remembered of loads under way."""
    return [path for path in Path(os.environ["XDG_CACHE_HOME"]).rglob("*") if path.is_file()]


def save(path: str, rows: list[dict[str, Any]]) -> str:
    """Rows as a file; in CSV a missing value is an empty field."""
    if path.endswith(".parquet"):
        pa_parquet.write_table(pa.Table.from_pylist(rows), path, row_group_size=3)
    elif path.endswith(".ndjson"):
        Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        lines = [",".join("" if cell is None else str(cell) for cell in row.values()) for row in rows]
        Path(path).write_text("\n".join([",".join(rows[0]), *lines]) + "\n")
    return path


def numbered(count: int, name: str, **changed: object) -> list[dict[str, Any]]:
    """Rows of ada, a second apart, with their number as the value; `r3=x` makes x of that of row 3."""
    return [
        {
            "entityId": "ada",
            "timestamp": f"2025-11-07T10:{row // 60:02}:{row % 60:02}Z",
            name: changed.get(f"r{row}", row),
        }
        for row in range(1, count + 1)
    ]


# What it takes


@pytest.mark.parametrize("ending", ["csv", "parquet", "ndjson"])
def test_a_file_becomes_observations_and_missing_values_do_not(
    load: Load, shared_server: LiveServer, name: str, ending: str, parts_of_two: None
) -> None:
    shared_server.register(f"{name}_a")
    shared_server.register(f"{name}_b", "integer", version=2)
    rows: list[dict[str, Any]] = [
        {"user_id": "007", "ts": TEN, f"{name}_a": 1.5, "other": 2**60 + 1},
        {"user_id": "ada", "ts": ELEVEN, f"{name}_a": None, "other": 3},
        {"user_id": "ada", "ts": NOON, f"{name}_a": 2.0, "other": None},
        {"user_id": "ada", "ts": TEN, f"{name}_a": 7.0, "other": 4},
        {"user_id": "eve", "ts": TEN, f"{name}_a": None, "other": None},
    ]
    save(f"rows.{ending}", rows)
    keys = ["--id-column", "user_id", "--timestamp-column", "ts"]
    columns = f"{name}_a, other=user.{name}_b.v2"
    answer = loaded(load(f"rows.{ending}", *keys, "--columns", columns, "--json"))
    assert (answer["rows"], answer["values"], answer["resumedAfter"]) == (5, 6, 0)
    assert answer["features"] == {f"{name}_a": f"user.{name}_a.v1", "other": f"user.{name}_b.v2"}
    served = shared_server.serve(["007", "ada", "eve"], [f"{name}_a", f"{name}_b"], includeMetadata=True)
    assert [list(one["features"].values()) for one in served] == [[1.5, 2**60 + 1], [2, 3], [None, None]]
    assert {one["status"] for one in served[2]["metadata"].values()} == {"missing"}
    assert states() == []


def test_without_columns_all_but_the_keys_are_features(load: Load, shared_server: LiveServer, name: str) -> None:
    for one in ("a", "b"):
        shared_server.register(f"{name}_{one}", "string")
    Path("rows.csv").write_text(
        f'entityId,timestamp,{name}_a,user.{name}_b.v1\nada,{TEN},NA,"x\ny"\nbob,{TEN},"",\n'
    )
    code, out, _ = load("rows.csv")
    assert code == 0
    assert ["values", "3"] in [line.split() for line in out.splitlines()]
    served = shared_server.serve(["ada", "bob"], [f"{name}_a", f"{name}_b"])
    assert [list(one["features"].values()) for one in served] == [["NA", "x\ny"], ["", None]]


def test_text_of_a_csv_is_read_as_its_feature_is_typed(load: Load, shared_server: LiveServer, name: str) -> None:
    kinds = ["number", "integer", "boolean", "timestamp", "vector", "json"]
    for kind in kinds:
        shared_server.register(
            f"{name}_{kind}", kind, **({"schema": {"dimension": 2}} if kind == "vector" else {})
        )
    header = ",".join(f"{name}_{kind}" for kind in kinds)
    Path("rows.csv").write_text(
        f"entityId,timestamp,{header}\n"
        f'1,{TEN}, 1e3 ,5.0,True,{TEN},"[1,2.5]","{{""a"": null}}"\n'
        f"2,{TEN},NaN,NA,null,,None,\n"
        f'3,{TEN},-.5,9007199254740993,0,2025-11-07T10:00:00+01:00,"[0,0]",5\n'
    )
    assert loaded(load("rows.csv", "--json"))["values"] == 12
    served = shared_server.serve(["1", "2", "3"], [f"{name}_{kind}" for kind in kinds])
    assert [list(one["features"].values()) for one in served] == [
        [1000, 5, True, "2025-11-07T10:00:00.000Z", [1, 2.5], {"a": None}],
        [None] * 6,
        [-0.5, 9007199254740993, False, "2025-11-07T09:00:00.000Z", [0, 0], 5],
    ]


def test_typed_columns_of_a_parquet_file_are_taken_as_they_are(
    load: Load, shared_server: LiveServer, name: str
) -> None:
    kinds: dict[str, Any] = {
        "number": pa.array([1.5, float("nan")], pa.float32()),
        "integer": pa.array([1, None], pa.uint8()),
        "string": pa.array(["a", "b"]).dictionary_encode(),
        "timestamp": pa.array([1762509600, None], pa.timestamp("s")),
        "vector": pa.array([[1, 2], None], pa.list_(pa.float64(), 2)),
        "json": pa.array(['{"a": 1}', "5"], pa.large_string()),
    }
    for kind in kinds:
        shared_server.register(
            f"{name}_{kind}", kind, **({"schema": {"dimension": 2}} if kind == "vector" else {})
        )
    keys = {"entityId": pa.array([7, 8]), "timestamp": pa.array([1762509600123456789] * 2, pa.timestamp("ns"))}
    table = pa.table(keys | {f"{name}_{kind}": column for kind, column in kinds.items()})
    pa_parquet.write_table(table, "rows.parquet")
    assert loaded(load("rows.parquet", "--json"))["values"] == 8
    served = shared_server.serve(["7", "8"], [f"{name}_{kind}" for kind in kinds], includeMetadata=True)
    assert [list(one["features"].values()) for one in served] == [
        [1.5, 1, "a", "2025-11-07T10:00:00.000Z", [1, 2], {"a": 1}],
        [None, None, "b", None, None, 5],
    ]
    assert served[0]["metadata"][f"{name}_number"]["timestamp"] == "2025-11-07T10:00:00.123456Z"


def test_files_as_other_tools_write_them_are_taken(load: Load, shared_server: LiveServer, name: str) -> None:
    kinds = {"document": "json", "text": "string", "flag": "boolean", "when": "timestamp", "count": "integer"}
    for column, kind in kinds.items():
        shared_server.register(f"{name}_{column}", kind)
    nothing = pa.array([None], pa.float64())  # as pandas types what has no values
    columns = dict.fromkeys(kinds, nothing)
    columns["document"] = pa.ExtensionArray.from_storage(pa.json_(), pa.array(['{"a":1}']))  # as DuckDB has JSON
    keys = {"entityId": pa.array(["a"]), "timestamp": pa.array([1_704_067_200_000_000], pa.timestamp("us"))}
    table = pa.table({**keys, **{f"{name}_{column}": values for column, values in columns.items()}})
    pa_parquet.write_table(table, "rows.parquet")
    assert loaded(load("rows.parquet", "--json"))["values"] == 1
    served = shared_server.serve(["a"], [f"{name}_{column}" for column in kinds])[0]["features"]
    assert list(served.values()) == [{"a": 1}, None, None, None, None]
    empty = {one: pa.array([], pa.float64()) for one in table.column_names}
    pa_parquet.write_table(pa.table({**empty, "entityId": pa.nulls(0)}), "empty.parquet")
    assert loaded(load("empty.parquet", "--json"))["rows"] == 0


def test_lines_of_json_may_be_blank_and_may_lack_columns(load: Load, shared_server: LiveServer, name: str) -> None:
    shared_server.register(f"{name}_a", "json")
    shared_server.register(f"{name}_b", "vector", schema={"dimension": 2})
    lines = [
        {"entityId": 7, "timestamp": TEN, f"{name}_a": {"x": [1]}},
        {"entityId": "é", "timestamp": TEN, f"{name}_b": [1, 2.5], "ignored": 5},
    ]
    Path("rows.ndjson").write_text("\n\n".join(json.dumps(line) for line in lines) + "\n  \n")
    answer = loaded(load("rows.ndjson", "--columns", f"{name}_a,{name}_b", "--json"))
    assert (answer["rows"], answer["values"]) == (2, 2)
    served = shared_server.serve(["7", "é"], [f"{name}_a", f"{name}_b"])
    assert [list(one["features"].values()) for one in served] == [[{"x": [1]}, None], [None, [1, 2.5]]]


@pytest.mark.parametrize("ending", ["csv", "parquet", "ndjson"])
def test_moments_may_be_numbers_where_their_unit_is_said(
    load: Load, shared_server: LiveServer, name: str, ending: str
) -> None:
    shared_server.register(name)
    file = save(f"rows.{ending}", [{"entityId": name, "timestamp": 1762509600123, name: 5}])
    said = refused(load(file), f"{file}: ", "'timestamp'" if ending == "ndjson" else "column 'timestamp'")
    assert "1762509600123" in said
    assert loaded(load(file, "--timestamp-unit", "ms", "--json"))["values"] == 1
    (served,) = shared_server.serve([name], [name], includeMetadata=True)
    assert served["metadata"][name]["timestamp"] == "2025-11-07T10:00:00.123Z"


def test_rows_that_replace_each_other_are_told_of(load: Load, shared_server: LiveServer, name: str) -> None:
    shared_server.register(name)
    row = {"entityId": name, "timestamp": TEN}
    code, out, err = load(save("rows.csv", [row | {name: number} for number in range(3)]), "--json")
    assert (code, json.loads(out)["overwritten"]) == (0, 2)
    assert err == "timewell: 2 values were replaced by later rows of the same entity and moment\n"
    assert shared_server.serve([name], [name])[0]["features"] == {name: 2}


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "ndjson", "ndjson.gz"])
def test_marks_and_compression_are_taken_off(
    load: Load, shared_server: LiveServer, name: str, ending: str, parts_of_two: None
) -> None:
    shared_server.register(name)
    rows = [row | {"entityId": "00501"} for row in numbered(5, name)]
    content = b"\xef\xbb\xbf" + Path(save(f"rows.{ending.removesuffix('.gz')}", rows)).read_bytes()
    if ending.endswith(".gz"):
        half = content.index(b"\n", len(content) // 2)  # members one after another are one file
        Path(f"rows.{ending}").write_bytes(gzip.compress(content[:half]) + gzip.compress(content[half:]))
    else:
        Path(f"rows.{ending}").write_bytes(content)
    assert loaded(load(f"rows.{ending}", "--json"))["values"] == 5
    assert shared_server.serve(["00501"], [name])[0]["features"] == {name: 5}
    if ending.endswith(".gz"):
        whole = Path(f"rows.{ending}").read_bytes()
        for damaged in (whole[:-20], b"no gzip at all"):
            Path(f"bad.{ending}").write_bytes(damaged)
            refused(load(f"bad.{ending}"), f"bad.{ending}: cannot be")


def test_files_without_rows_are_loaded_at_once(load: Load, shared_server: LiveServer, name: str) -> None:
    shared_server.register(name)
    Path("rows.csv").write_text(f"entityId,timestamp,{name}")
    kinds = pa.schema([("entityId", pa.string()), ("timestamp", pa.string()), (name, pa.float64())])
    pa_parquet.write_table(kinds.empty_table(), "rows.parquet")
    for file in ("rows.csv", "rows.parquet"):
        assert loaded(load(file, "--json"))["rows"] == 0
    refused(load(save("rows.ndjson", [])), "rows.ndjson: there is no column 'entityId'; there are none")


def test_a_dry_run_checks_and_counts_and_writes_nothing(
    load: Load, shared_server: LiveServer, name: str, parts_of_two: None
) -> None:
    shared_server.register(name)
    save("rows.csv", numbered(5, name, r2=None))
    answer = loaded(load("rows.csv", "--dry-run", "--json"))
    assert (answer["rows"], answer["values"], answer["dryRun"]) == (5, 4, True)
    assert "dry run" in load("rows.csv", "--dry-run")[1]
    save("rows.csv", numbered(5, name, r5="x"))
    refused(load("rows.csv", "--dry-run"), "rows.csv: row 5", "'x' is not a number")
    assert stored(shared_server, name) == 0 and states() == []


@pytest.mark.parametrize("ending", ["csv", "parquet", "ndjson"])
def test_only_a_part_of_the_file_is_held(name: str, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "CSV_BLOCK_BYTES", 256)  # of which some are read ahead
    file = reading.open_rows(Path(save(f"rows.{ending}", numbered(3000, name))))
    seen = [(len(lot[name]), round(file.share(), 1)) for lot in file.lots(100, file.names)]
    assert [rows for rows, _ in seen] == [100] * 30
    assert seen[2][1] <= 0.4 and seen[-1][1] == 1.0


def test_wide_rows_go_out_in_parts_of_fewer(
    load: Load, shared_server: LiveServer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_parts, "VALUES_PER_PART", 6)
    monkeypatch.setattr(arrow, "MOST_BYTES", 1)
    for one in ("a", "b"):
        shared_server.register(f"{name}_{one}")
    rows = [row | {f"{name}_b": 5} for row in numbered(7, f"{name}_a")]
    with Client(shared_server.url) as client:
        asked = Namespace(file=Path(save("rows.csv", rows)), entity="user", key=None, columns=None)
        asked.id_column, asked.timestamp_column, asked.timestamp_unit = "entityId", "timestamp", None
        plan = load_parts.make_plan(client, asked)
        assert plan.rows_per_part == 3
        assert [part.start for part in load_parts.parts(plan)] == list(range(7))
    assert loaded(load("rows.csv", "--json"))["values"] == 14
    assert stored(shared_server, f"{name}_a") == 7


# What it refuses


@pytest.mark.parametrize("ending", ["csv", "parquet", "ndjson"])
def test_a_value_that_the_service_refuses_is_named_by_its_row_and_column(
    load: Load, shared_server: LiveServer, name: str, ending: str, parts_of_two: None
) -> None:
    shared_server.register(name, schema={"min": 0})
    file = save(f"rows.{ending}", numbered(8, name, r5=-5, r6=-6))
    said = refused(load(file), f"{file}: row 5, column '{name}': ", "is below the minimum 0\n", f"{file}: row 6,")
    assert said.endswith("timewell: the first 4 rows are written; the same command goes on after them\n")
    assert stored(shared_server, name) == 4


BAD_ROWS = [
    ("csv", "{A},{TEN},1\n,{TEN},1\n", ["row 2", "'entityId'", "is missing"]),
    ("csv", "{A},{TEN},1\n{A},,1\n", ["row 2", "'timestamp'", "is missing"]),
    ("csv", "{A},{TEN},1\n{A},yesterday,1\n", ["row 2", "'timestamp'", "'yesterday'"]),
    ("csv", "{A},{TEN},1\n{A},{TEN},1\n{A},{TEN},one\n", ["row 3", "'{NAME}'", "'one' is not a number"]),
    ("csv", "{A},{TEN},1\n{A},{TEN}\n", ["row 2 has 2 fields, the header has 3"]),
    ("csv", "{A},{TEN},1\na\x07b,{TEN},1\n", ["row 2", "'entityId'"]),
    ("csv", "{A},{TEN},inf\n", ["row 1", "'{NAME}'", "finite"]),
    ("ndjson", '{"entityId":"a","timestamp":"{TEN}","{NAME}":1}\n{"entityId":', ["row 2 is no JSON object"]),
    ("ndjson", '{"entityId":"a","timestamp":"{TEN}","{NAME}":1}\n[]', ["row 2 is no JSON object"]),
    ("ndjson", '{"entityId":"a","timestamp":"{TEN}","{NAME}":"1"}', ["row 1", "'1' is not of type number"]),
    ("ndjson", '{"entityId":"a","timestamp":"{TEN}","{NAME}":true}', ["row 1", "True is not of type number"]),
    ("ndjson", '{"entityId":true,"timestamp":"{TEN}","{NAME}":1}', ["row 1", "'entityId'", "True is neither"]),
    ("ndjson", '{"entityId":"a","timestamp":5,"{NAME}":1}', ["row 1", "'timestamp'", "5 is not an RFC 3339"]),
    (
        "ndjson",
        '{"entityId":"a","timestamp":"{TEN}","{NAME}":1}\n{"entityId":"a","timestamp":"{TEN}","more":1}',
        ["row 2 has more, which row 1 has not"],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("ending", "text", "words"), BAD_ROWS)
def test_a_bad_row_is_named_and_nothing_of_its_part_is_written(
    load: Load, shared_server: LiveServer, name: str, ending: str, text: str, words: list[str]
) -> None:
    shared_server.register(name)
    header = f"entityId,timestamp,{name}\n" if ending == "csv" else ""
    text = text.replace("{A}", "ada").replace("{TEN}", TEN).replace("{NAME}", name)
    Path(f"rows.{ending}").write_text(header + text)
    refused(load(f"rows.{ending}"), f"rows.{ending}: ", *(word.replace("{NAME}", name) for word in words))
    assert stored(shared_server, name) == 0


def test_a_file_that_does_not_fit_the_features_is_refused_before_anything_is_sent(
    load: Load, shared_server: LiveServer, name: str
) -> None:
    shared_server.register(name)
    shared_server.register(f"{name}_item", entity="item")
    save("rows.csv", numbered(2, name))
    refused(load("rows.csv", "--columns", "none"), "rows.csv: there is no column 'none'; there are entityId,")
    refused(load("rows.csv", "--id-column", "user"), "rows.csv: there is no column 'user'")
    refused(load("rows.csv", "--columns", f"{name}=none"), f"rows.csv: column '{name}'", "user.none")
    refused(load("rows.csv", "--columns", f"{name}=item.{name}_item"), "is not about user")
    refused(load("rows.csv", "--columns", f"{name},timestamp={name}"), f"another column is user.{name}.v1 too")
    Path("keys.csv").write_text(f"entityId,timestamp\nada,{TEN}\n")
    refused(load("keys.csv"), "keys.csv: there is no column for a feature")
    Path("bad.parquet").write_text("no parquet")
    refused(load("bad.parquet"), "bad.parquet: this is no Parquet file")
    Path("bad.csv").write_bytes(b"\xff\xfe,a\n")
    refused(load("bad.csv"), "bad.csv: the header is not in UTF-8")
    Path("late.csv").write_bytes(f"entityId,timestamp,{name}\nada,{TEN},1\n".encode() + b"\xff,x,1\n")
    refused(load("late.csv"), "late.csv: ", "UTF8")
    pa_parquet.write_table(pa.table({"entityId": ["a"], "timestamp": [TEN], name: ["x"]}), "text.parquet")
    refused(load("text.parquet"), f"text.parquet: column '{name}'", "a column of string cannot be")
    pa_parquet.write_table(pa.table({"entityId": [1.5], "timestamp": [TEN], name: [1]}), "ids.parquet")
    refused(load("ids.parquet"), "ids.parquet: column 'entityId'", "not double")
    pa_parquet.write_table(pa.table({"entityId": ["a"], "timestamp": [5], name: [1]}), "times.parquet")
    refused(load("times.parquet"), "times.parquet: row 1, column 'timestamp'", "unless its unit is said")
    assert stored(shared_server, name) == 0 and states() == []


@pytest.mark.parametrize(
    ("value_type", "column", "index"),
    [
        ("integer", [1, 2**70], 1),
        ("integer", [1.5], 0),
        ("vector", [[1, 2], [1, "x"]], 1),
        ("boolean", pa.array(["true", "perhaps"]), 1),
        ("integer", pa.array(["1", "1.5"]), 1),
        ("integer", pa.array(["1", "0x10"]), 1),
        ("number", pa.array(["1", "", "0x10"]), 2),
        ("number", pa.array([".5", "5.", "-1e-3", "+2E+4", "x"]), 4),
        ("vector", pa.array(["[1]", "[1,"]), 1),
    ],
)
def test_a_value_that_cannot_be_of_its_type_is_found(value_type: str, column: Any, index: int) -> None:
    with pytest.raises(BadValue) as bad:
        value_column(value_type, column, True)
    assert bad.value.index == index


@pytest.mark.parametrize("value_type", ["json", "string", "number"])
def test_a_column_of_bytes_is_refused_before_it_becomes_another_text(
    load: Load, shared_server: LiveServer, name: str, value_type: str
) -> None:
    shared_server.register(name, value_type)
    for values in (pa.array([b"ada"]), pa.array([[b"ada"]]), pa.array([{"a": b"ada"}])):
        table = pa.table({"entityId": ["a"], "timestamp": [TEN], name: values})
        pa_parquet.write_table(table, "bytes.parquet")
        refused(load("bytes.parquet"), f"bytes.parquet: column '{name}'", "is no text before it is decoded")
    pa_parquet.write_table(pa.table({"entityId": [b"a"], "timestamp": [TEN], name: ["x"]}), "ids.parquet")
    refused(load("ids.parquet"), "ids.parquet: column 'entityId'", "not binary")


def test_keys_are_found_wrong_by_their_row() -> None:
    for find, column in ((id_column, ["a", None]), (time_column, [TEN, None]), (time_column, [TEN, "noon"])):
        with pytest.raises(BadValue) as bad:
            find(column)
        assert bad.value.index == 1


# How it goes on


def test_a_mended_file_goes_on_after_the_rows_that_are_written(
    load: Load, shared_server: LiveServer, name: str, parts_of_two: None
) -> None:
    shared_server.register(name)
    refused(load(save("rows.csv", numbered(9, name, r6="six"))), "row 6", "the first 4 rows are written")
    assert (stored(shared_server, name), len(states())) == (4, 1)
    answer = loaded(load(save("rows.csv", numbered(9, name)), "--json"))
    assert (answer["rows"], answer["values"], answer["resumedAfter"]) == (9, 9, 4)
    assert (stored(shared_server, name), states()) == (9, [])


def test_a_file_that_changed_before_where_it_stopped_is_not_gone_on_with(
    load: Load, shared_server: LiveServer, name: str, parts_of_two: None
) -> None:
    shared_server.register(name)
    refused(load(save("rows.csv", numbered(9, name, r6="six"))), "row 6")
    for changed in (numbered(9, name, r1=100), numbered(3, name), numbered(2, name)):
        save("rows.csv", changed)
        said = refused(load("rows.csv"), "are not what they were; --restart writes all rows anew")
        assert "goes on" not in said
    assert stored(shared_server, name) == 4
    assert loaded(load(save("rows.csv", numbered(9, name, r1=100)), "--restart", "--json"))["resumedAfter"] == 0
    assert (stored(shared_server, name), states()) == (13, [])


def test_rows_loaded_again_are_written_once_unless_told_to_restart(
    load: Load, shared_server: LiveServer, name: str, parts_of_two: None
) -> None:
    shared_server.register(name)
    save("rows.csv", numbered(5, name))
    for _ in range(2):
        assert loaded(load("rows.csv", "--json"))["values"] == 5
    assert stored(shared_server, name) == 5
    load("rows.csv", "--restart")
    assert stored(shared_server, name) == 10


def test_rows_of_an_entity_that_was_erased_are_said_to_be_loaded_already_and_how_to_load_them_anew(
    load: Load, shared_server: LiveServer, name: str, parts_of_two: None
) -> None:
    shared_server.register(name)
    save("rows.csv", [row | {"entityId": name} for row in numbered(3, name)])
    assert loaded(load("rows.csv", "--json"))["alreadyLoaded"] == 0
    assert shared_server.http.delete(f"/entities/user/{name}").status_code == 200
    again = loaded(load("rows.csv", "--json"))
    assert (again["values"], again["alreadyLoaded"]) == (3, 3)
    code, out, _ = load("rows.csv")
    assert code == 0
    assert "already loaded  3 of the values were loaded before and not written again; --restart writes" in out
    assert shared_server.serve([name], [name])[0]["features"] == {name: None}
    assert loaded(load("rows.csv", "--restart", "--json"))["alreadyLoaded"] == 0
    assert shared_server.serve([name], [name])[0]["features"] == {name: 3}


@pytest.mark.parametrize("ending", ["csv", "parquet", "ndjson"])
def test_missing_values_are_counted_and_written_as_nulls_where_that_is_asked_for(
    load: Load, shared_server: LiveServer, name: str, ending: str, parts_of_two: None
) -> None:
    shared_server.register(name)
    shared_server.register(f"{name}_text", "string")
    rows = [row | {f"{name}_text": "x" if place else None} for place, row in enumerate(numbered(4, name, r4=None))]
    file = save(f"rows.{ending}", rows)
    for more in (["--dry-run"], []):
        answer = loaded(load(file, "--json", *more))
        assert (answer["values"], answer["skipped"]) == (6, 2)
    assert shared_server.serve(["ada"], [name])[0]["features"] == {name: 3}
    assert "2 missing; --nulls write writes them as nulls" in load(file)[1]
    for more in (["--dry-run"], []):
        answer = loaded(load(file, "--nulls", "write", "--json", *more))
        assert (answer["values"], answer["skipped"]) == (8, 0)
    assert answer["alreadyLoaded"] == 0
    (ada,) = shared_server.serve(["ada"], [name], includeMetadata=True)
    assert (ada["features"], ada["metadata"][name]["status"]) == ({name: None}, "null")
    assert shared_server.get(f"/features/{name}_text/stats").json()["nullCount"] == 1


def test_what_is_remembered_of_a_load_is_for_its_user_alone(
    load: Load, shared_server: LiveServer, name: str, parts_of_two: None
) -> None:
    shared_server.register(name)
    refused(load(save("rows.csv", numbered(5, name, r5="x"))), "row 5")
    (state,) = states()
    assert (state.stat().st_mode & 0o077, state.parent.stat().st_mode & 0o077) == (0, 0)


def test_a_feature_that_was_registered_anew_gets_its_rows_again(
    load: Load, shared_server: LiveServer, name: str
) -> None:
    for _ in range(2):
        id_ = shared_server.register(name)["id"]
        assert loaded(load(save("rows.csv", numbered(3, name)), "--json"))["values"] == 3
        assert stored(shared_server, name) == 3
        assert shared_server.http.delete(f"/features/{id_}").status_code == 204


def test_a_state_that_cannot_be_read_is_a_beginning(
    load: Load, shared_server: LiveServer, name: str, parts_of_two: None
) -> None:
    shared_server.register(name)
    refused(load(save("rows.csv", numbered(5, name, r5="x"))), "row 5")
    (state,) = states()
    state.write_text("{")
    assert loaded(load(save("rows.csv", numbered(5, name)), "--json"))["resumedAfter"] == 0
    assert stored(shared_server, name) == 5


def test_states_are_kept_where_the_platform_keeps_caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    path = load_state.StateFile("a load").path
    assert path.parent == user_cache_path("timewell", appauthor=False) / "load"
    assert path.is_relative_to(tmp_path)


def test_what_lies_under_nulls_is_no_part_of_the_digest() -> None:
    def digest(under: float, valid: int) -> str:
        buffers = [pa.py_buffer(bytes([valid])), pa.array([1.0, under]).buffers()[1]]
        return load_state.Chain("seed").add(pa.table({"a": pa.Array.from_buffers(pa.float64(), 2, buffers)}))

    assert digest(5.0, 0b01) == digest(6.0, 0b01)
    assert len({digest(5.0, 0b01), digest(5.0, 0b11), digest(6.0, 0b11), digest(5.0, 0b10)}) == 4


# How it ends


class Gate(ThreadingHTTPServer):
    """Stands before a service. At the batch numbered `at` it calls `strike`, before or after passing it on."""

    daemon_threads = True

    def __init__(self, url: str) -> None:
        super().__init__(("127.0.0.1", 0), _Passing)
        self.service = url
        self.batches = 0
        self.at = 0
        self.passes_first = False
        self.strike: Callable[[], object] = int
        self.lock = Lock()

    def strike_again(self) -> None:
        """The next batch gets no answer either."""
        self.at += 1

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"


class _Passing(BaseHTTPRequestHandler):
    """Passes requests on, and answers back."""

    protocol_version = "HTTP/1.1"
    server: Gate

    def do_GET(self) -> None:
        self._answer(self._pass_on())

    def do_POST(self) -> None:
        with self.server.lock:
            self.server.batches += 1
            strikes = self.server.batches == self.server.at
        if not strikes:
            self._answer(self._pass_on())
            return
        if self.server.passes_first:
            assert self._pass_on().status_code == 200
        self.close_connection = True
        self.server.strike()

    def _pass_on(self) -> httpx.Response:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
        return httpx.request(
            self.command, self.server.service + self.path, headers=headers, content=body, timeout=30
        )

    def _answer(self, answer: httpx.Response) -> None:
        self.send_response(answer.status_code)
        self.send_header("Content-Type", answer.headers["Content-Type"])
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture
def gate(shared_server: LiveServer) -> Iterator[Gate]:
    with Gate(shared_server.url) as made:
        thread = Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def killed_at(gate: Gate, batch: int, how: signal.Signals, passes_first: bool, file: str) -> tuple[int, str]:
    """Load a file in a process that gets a signal while it waits for the answer to a batch."""
    command = [SCRIPT, "load", file, "--entity", "user", "--url", gate.url]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as child:
        gate.at, gate.passes_first = batch, passes_first

        def strike() -> None:
            child.send_signal(how)
            child.wait(timeout=30)

        gate.strike = strike
        assert child.stderr is not None
        said = child.stderr.read()
    return child.returncode, said


@pytest.fixture(scope="module")
def long_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120,000 rows of two columns: three parts."""
    path = tmp_path_factory.mktemp("long") / "rows.parquet"
    rows = 120_000
    times = pa.array(range(1762509600, 1762509600 + rows)).cast(pa.timestamp("s", "UTC"))
    ids = pa.array([f"u{row % 500}" for row in range(rows)])
    pa_parquet.write_table(pa.table({"entityId": ids, "timestamp": times, "value": range(rows)}), path)
    return path


@pytest.mark.parametrize("passes_first", [False, True], ids=["before it is written", "after it is written"])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_load_that_was_ended_in_the_middle_goes_on_and_writes_nothing_twice(
    load: Load,
    shared_server: LiveServer,
    name: str,
    long_file: Path,
    gate: Gate,
    how: signal.Signals,
    passes_first: bool,
) -> None:
    shared_server.register(name, "integer")
    table = pa_parquet.read_table(long_file).rename_columns(["entityId", "timestamp", name])
    pa_parquet.write_table(table, "rows.parquet")
    code, said = killed_at(gate, 2, how, passes_first, "rows.parquet")
    assert code == (130 if how == signal.SIGINT else -signal.SIGKILL)
    assert ("the first 50,000 rows are written" in said) == (how == signal.SIGINT)
    assert "Traceback" not in said
    assert stored(shared_server, name) == (100_000 if passes_first else 50_000)
    assert len(states()) == 1
    answer = loaded(load("rows.parquet", "--url", gate.url, "--json"))
    assert (answer["rows"], answer["values"], answer["resumedAfter"]) == (120_000, 120_000, 50_000)
    assert (stored(shared_server, name), states()) == (120_000, [])


def test_a_broken_connection_in_the_middle_of_a_batch_is_not_noticed(
    load: Load, shared_server: LiveServer, name: str, gate: Gate, parts_of_two: None
) -> None:
    shared_server.register(name)
    gate.at, gate.passes_first = 2, True
    assert loaded(load(save("rows.csv", numbered(5, name)), "--url", gate.url, "--json"))["values"] == 5
    assert (stored(shared_server, name), gate.batches) == (5, 4)


def test_a_service_that_goes_away_exits_with_3_and_is_gone_on_with(
    load: Load,
    shared_server: LiveServer,
    name: str,
    gate: Gate,
    parts_of_two: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shared_server.register(name)
    monkeypatch.setattr("timewell.commands.service.PATIENT", Retry(attempts=2))
    gate.at = 2
    gate.strike = gate.strike_again
    code, out, err = load(save("rows.csv", numbered(5, name)), "--url", gate.url)
    assert (code, out) == (3, "")
    assert f"{gate.url}: no answer" in err and "the first 2 rows are written" in err
    gate.at = 0
    assert loaded(load("rows.csv", "--url", gate.url, "--json"))["resumedAfter"] == 2
    assert stored(shared_server, name) == 5


@pytest.mark.parametrize("name", ["s3:rows", "file:rows", "a%20b [1]", "x#?"])
@pytest.mark.parametrize("ending", ["csv", "parquet", "ndjson"])
def test_a_file_whose_name_looks_like_a_url_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, ending: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path(f"{name}.{ending}")
    with SavedFile(path, []) as saved:
        saved.write(pa.table({"a": [1.5]}))
    assert sorted(path.name for path in tmp_path.glob("*.*")) == [path.name]
    (lot,) = open_rows(path).lots(10, ["a"])
    assert [float(value) for value in pa.array(lot["a"]).to_pylist()] == [1.5]
