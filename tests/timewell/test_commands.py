"""The commands that speak to a service: what each prints, for people and for machines, and how each ends."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet
import pytest

import timewell as timewell_client
from tests.live import ROOT, LiveServer
from tests.timewell.outcomes import Command, lines, refused, said
from tests.timewell.test_load import save
from timewell.calls import Request
from timewell.client import Client
from timewell.commands import output, training_set
from timewell.commands.exits import attempt
from timewell.routes import exports
from web.cli import COMMANDS

TEN, ELEVEN, NOON = (f"2025-11-07T{hour}:00:00Z" for hour in (10, 11, 12))
SCRIPT = str(Path(sys.executable).parent / "timewell")


def fill(server: LiveServer, name: str) -> str:
    """A feature with values for ada at ten and eleven, for bob at eleven."""
    id_ = str(server.register(name)["id"])
    server.write((id_, "ada", 1, TEN), (id_, "ada", 2, ELEVEN), (id_, "bob", 3.5, ELEVEN))
    return id_


# Registering and finding


def test_features_lists_what_is_registered_by_filters(
    timewell: Command, shared_server: LiveServer, name: str
) -> None:
    shared_server.register(name, tags=["shop", name], owner="ada", description="how much")
    shared_server.register(f"{name}_other", "string", entity=f"item_{name}")
    assert lines(timewell("features", "--tags", name)) == [
        ["ID", "TYPE", "TAGS", "OWNER", "DESCRIPTION"],
        [f"user.{name}.v1", "number", f"shop,{name}", "ada", "how", "much"],
    ]
    (other,) = said(timewell("features", "--entity", f"item_{name}", "--json"))["features"]
    assert (other["id"], other["valueType"]) == (f"item_{name}.{name}_other.v1", "string")
    assert len(said(timewell("features", "--q", name, "--json"))["features"]) == 2
    assert lines(timewell("features", "--entity", "nobody")) == [["ID", "TYPE", "TAGS", "OWNER", "DESCRIPTION"]]


# Writing and reading


@pytest.mark.parametrize(
    ("value_type", "word", "value"),
    [
        ("number", "5", 5),
        ("number", "-1.5", -1.5),
        ("number", "null", None),
        ("integer", "9007199254740993", 9007199254740993),
        ("string", "012", "012"),
        ("string", "null", "null"),
        ("boolean", "true", True),
        ("timestamp", TEN, "2025-11-07T10:00:00.000Z"),
        ("json", '{"a": [1]}', {"a": [1]}),
    ],
)
def test_a_written_value_is_served(
    timewell: Command, shared_server: LiveServer, name: str, value_type: str, word: str, value: Any
) -> None:
    id_ = shared_server.register(name, value_type)["id"]
    answer = said(timewell("write", name, "ada", word, "--timestamp", TEN, "--json"))
    assert answer["featureId"] == id_
    served = said(timewell("serve-values", "--features", name, "ada", "--json"))
    assert served["results"][0]["features"] == {name: value}


def test_a_null_and_a_vector_are_written(timewell: Command, shared_server: LiveServer, name: str) -> None:
    shared_server.register(name, "vector", schema={"dimension": 2})
    assert lines(timewell("write", name, "ada", "[0.5,1]", "--timestamp", TEN))[-1] == ["value", "[0.5,1]"]
    timewell("write", name, "bob", "--null")
    printed = lines(timewell("serve-values", "--features", name, "ada", "bob", "eve"))
    assert printed == [["ENTITY", name], ["ada", "[0.5,1]"], ["bob", "null"], ["eve", "null"]]
    assert said(timewell("stats", name, "--json"))["nullCount"] == 1


def test_values_are_served_by_group_and_as_of_a_moment(
    timewell: Command, shared_server: LiveServer, name: str
) -> None:
    fill(shared_server, name)
    shared_server.post("/groups", {"name": name, "entity": "user", "features": [name]})
    assert lines(timewell("serve-values", "--group", name, "bob", "ada", "--as-of", TEN)) == [
        ["ENTITY", name],
        ["bob", "null"],
        ["ada", "1"],
    ]


def test_values_that_would_move_the_cursor_are_escaped(
    timewell: Command, shared_server: LiveServer, name: str
) -> None:
    shared_server.register(name, "string")
    timewell("write", name, "ada", "red \x1b[31m\nline")
    assert timewell("serve-values", "--features", name, "ada")[1].splitlines()[1] == (
        'ada     "red \\u001b[31m\\nline"'
    )


def test_stats_are_printed_for_all_time_and_for_a_period(
    timewell: Command, shared_server: LiveServer, name: str
) -> None:
    id_ = fill(shared_server, name)
    printed = lines(timewell("stats", name))
    assert printed[:2] == [["feature", id_], ["count", "3"]]
    assert ["max", "3.5"] in printed and ["p50", "2"] in printed
    assert said(timewell("stats", name, "--start", ELEVEN, "--end", NOON, "--json"))["count"] == 2


def test_stats_show_what_makes_sense_for_the_type(timewell: Command, shared_server: LiveServer, name: str) -> None:
    shared_server.register(name, "boolean")
    timewell("write", name, "ada", "true")
    printed = lines(timewell("stats", name))
    assert ["share", "of", "true", "1"] in printed and ["1", "times", "true"] in printed
    assert not any(line[0] in ("mean", "p50") for line in printed)


def test_drift_compares_two_periods(timewell: Command, shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    rows = [(id_, f"u{at}", at % 10 + 5 * hour, f"2025-11-07T{10 + hour}:{at:02}:00Z") for hour in (0, 1)
            for at in range(60)]  # fmt: skip
    shared_server.write(*rows)
    periods = ["--reference", f"{TEN}/2025-11-07T10:59:00Z", "--current", f"{ELEVEN}/2025-11-07T11:59:00Z"]
    printed = lines(timewell("drift", name, *periods))
    assert ["verdict", "drift"] in printed
    assert any(line[0] == "because" for line in printed)
    answer = said(timewell("drift", name, *periods, "--method", "psi", "--threshold", "0.2", "--json"))
    assert (answer["method"], answer["threshold"], answer["drift"]) == ("psi", 0.2, True)


# Files


def rows_of(path: str) -> list[dict[str, Any]]:
    """The rows of a file of any format, plain."""
    if path.endswith(".parquet"):
        return list(pa_parquet.read_table(path).to_pylist())
    text = Path(path).read_text()
    if path.endswith(".ndjson"):
        return [json.loads(line) for line in text.splitlines()]
    return list(csv.DictReader(text.splitlines()))


def test_export_has_a_row_for_each_moment_of_each_entity(
    timewell: Command, shared_server: LiveServer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "MOST_IDS", 1)
    fill(shared_server, name)
    other = shared_server.register(f"{name}_other", "string")["id"]
    shared_server.write((other, "ada", "x", ELEVEN), (other, "ada", "y", NOON))
    references = f"{name},user.{name}_other"
    answer = said(
        timewell("export", references, "--entity-ids", "ada", "bob", "eve", "ada", "-o", "out.ndjson", "--json")
    )
    assert (answer["rows"], answer["entities"]) == (4, 3)
    found = [(row["entityId"], row["timestamp"][11:13], *list(row.values())[2:]) for row in rows_of("out.ndjson")]
    assert found == [
        ("ada", "10", 1, None),
        ("ada", "11", 2, "x"),
        ("ada", "12", None, "y"),
        ("bob", "11", 3.5, None),
    ]
    Path("ids.txt").write_text("ada\nbob\n")
    period = ["--start", ELEVEN, "--end", ELEVEN]
    printed = lines(timewell("export", references, "--entity-ids", "@ids.txt", *period, "-o", "out.csv"))
    assert ["rows", "2"] in printed and ["features", f"{name},", f"user.{name}_other"] in printed
    assert [row[name] for row in rows_of("out.csv")] == ["2", "3.5"]
    assert sorted(path.name for path in Path().iterdir()) == ["ids.txt", "out.csv", "out.ndjson"]


@pytest.mark.parametrize("given", ["features", "group"])
def test_export_without_ids_is_of_all_entities_in_the_order_of_their_ids(
    timewell: Command, shared_server: LiveServer, name: str, given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "MOST_IDS", 3)
    monkeypatch.setattr(exports, "VALUES_OF_A_PAGE", 5)
    kind = f"kind_{name}_{given}"
    feature = shared_server.register(name, entity=kind, group=kind)["id"]
    written = [(f"e{number:02}", number % 4, f"2025-01-01T0{number % 4}:00:00Z") for number in range(25)]
    shared_server.write(*((feature, entity, value, moment) for entity, value, moment in written))
    what = [feature] if given == "features" else ["--group", kind]
    answer = said(timewell("export", *what, "-o", "out.ndjson", "--json"))
    assert (answer["rows"], answer["entities"]) == (25, 25)
    found = [(row["entityId"], row[answer["features"][0]], row["timestamp"]) for row in rows_of("out.ndjson")]
    assert [(entity, value, moment.replace(".000", "")) for entity, value, moment in found] == written
    late = said(timewell("export", *what, "--start", "2025-01-01T03:00:00Z", "-o", "late.csv", "--json"))
    assert late["rows"] == 6


def test_export_of_nothing_is_a_file_without_rows(timewell: Command, shared_server: LiveServer, name: str) -> None:
    shared_server.register(name)
    for file in ("out.csv", "out.parquet", "out.ndjson"):
        assert said(timewell("export", name, "--entity-ids", "eve", "-o", file, "--json"))["rows"] == 0
        assert rows_of(file) == []
    assert pa_parquet.read_schema("out.parquet").field(name).type == pa.float64()


def test_a_training_set_of_observations_is_kept_and_made_again(
    timewell: Command, shared_server: LiveServer, name: str
) -> None:
    feature = shared_server.register(name)["id"]
    other = shared_server.register(f"{name}_json", "json")["id"]
    shared_server.write((feature, "ada", 1, TEN), (feature, "bob", 2, TEN), (other, "ada", {"a": 1}, TEN))
    made = ["training-set", "--spine", feature, "--features", f"user.{name},user.{name}_json"]
    timewell(*made, "-o", "now.ndjson")
    kept = said(timewell(*made, "--save", name, "-o", "kept.ndjson", "--json"))
    assert (kept["name"], kept["rows"], len(kept["contentHash"])) == (name, 2, 64)
    shared_server.write((feature, "ada", 9, TEN), (feature, "ada", 8, ELEVEN))
    assert said(timewell("training-set", "--from", name, "-o", "again.ndjson", "--json"))["rows"] == 2
    texts = [Path(f"{file}.ndjson").read_text() for file in ("now", "kept", "again")]
    assert texts == [texts[0]] * 3
    assert hashlib.sha256(texts[2].encode()).hexdigest() == kept["contentHash"]
    assert [row[f"user.{name}_json"] for row in rows_of("again.ndjson")] == [{"a": 1}, None]
    within = ["--start", ELEVEN, "--end", NOON]
    assert said(timewell(*made, *within, "-o", "late.csv", "--json"))["rows"] == 1
    refused(timewell(*made, "--save", name), 1, name)
    refused(timewell(*made), 2, "-o")
    refused(timewell("training-set", "--spine", feature, "-o", "o.csv"), 2, "--features")
    refused(timewell("training-set", "--from", name, "--features", feature, "-o", "o.csv"), 2, "--from")
    refused(timewell("training-set", "--from", name, "--save", "x", "-o", "o.csv"), 2, "--save")
    refused(timewell("training-set", "--rows", "r.csv", "--start", TEN, "--features", feature, "-o", "o.csv"), 2)


def test_values_of_every_type_are_written_in_lines_as_the_service_writes_them(
    timewell: Command, shared_server: LiveServer, name: str
) -> None:
    values: dict[str, list[Any]] = {
        "number": [6.0, 0.5, -0.0, 1e300, 2.0**62],
        "integer": [2**60 + 1, -3],
        "string": ["6.0", ""],
        "boolean": [True, False],
        "timestamp": ["2025-01-01T00:00:00.000001Z", "2025-01-02T00:00:00Z"],
        "vector": [[0.1, 2.0], [1e30, -3]],
        "json": [{"a": [1.0, None]}, 5],
    }
    ids = {}
    for value_type, given in values.items():
        schema = {"schema": {"dimension": 2}} if value_type == "vector" else {}
        ids[value_type] = shared_server.register(f"{name}_{value_type}", value_type, entity=name, **schema)["id"]
        shared_server.write(*((ids[value_type], f"e{at}", one, TEN) for at, one in enumerate(given)))
    body = {"features": [*ids.values()]}
    ndjson = {"Accept": "application/x-ndjson"}
    timewell("export", ",".join(ids.values()), "-o", "export.ndjson")
    answer = httpx.post(f"{shared_server.url}/features/export", json=body, headers=ndjson)
    assert Path("export.ndjson").read_text() == answer.text
    made = ["training-set", "--spine", ids["number"], "--features", ",".join(ids.values()), "--save", name]
    kept = said(timewell(*made, "-o", "kept.ndjson", "--json"))
    assert hashlib.sha256(Path("kept.ndjson").read_bytes()).hexdigest() == kept["contentHash"]
    assert len(rows_of("kept.ndjson")) == kept["rows"] == 5


@pytest.mark.parametrize("ending", ["csv", "parquet", "ndjson"])
def test_rows_of_a_file_are_kept_with_their_columns(
    timewell: Command, shared_server: LiveServer, name: str, ending: str
) -> None:
    id_ = fill(shared_server, name)
    rows: list[dict[str, Any]] = [
        {"who": "ada", "ts": NOON, "label": "x"},
        {"who": "bob", "ts": TEN, "label": None},
    ]
    file = save(f"rows.{ending}", rows)
    asked = ["training-set", "--rows", file, "--features", id_, "--timestamp-column", "ts", "--save"]
    kept = said(timewell(*asked, name, "--id-column", "who", "-o", "kept.ndjson", "--json"))
    assert (kept["name"], kept["rows"]) == (name, 2)
    shared_server.write((id_, "bob", 7, TEN))
    timewell("training-set", "--from", name, "-o", "again.ndjson")
    expected = [
        {"entityId": "ada", "timestamp": NOON, "label": "x", id_: 2},
        {"entityId": "bob", "timestamp": TEN, "label": None, id_: None},
    ]
    for made in ("kept.ndjson", "again.ndjson"):
        assert [{**row, "timestamp": row["timestamp"][:19] + "Z"} for row in rows_of(made)] == expected
    assert timewell(*asked, f"{name}2", "--key", "user=who")[0] == 0
    timewell("training-set", "--from", f"{name}2", "-o", "by_key.ndjson")
    assert [row["user"] for row in rows_of("by_key.ndjson")] == ["ada", "bob"]
    large = save(f"large.{ending}", rows * 3_000)
    refused(timewell(*asked[:2], large, *asked[3:], f"{name}3", "--id-column", "who"), 1, large, "256 KiB")
    twice = save(f"twice.{ending}", [{**row, "timestamp": 1} for row in rows])
    refused(timewell(*asked[:2], twice, *asked[3:], f"{name}3", "--id-column", "who"), 1, "'timestamp'")
    odd = save(f"odd.{ending}", [*rows, {"who": "", "ts": TEN, "label": "z"}])
    code, _, err = timewell(*asked[:2], odd, *asked[3:], f"{name}3", "--id-column", "who")
    assert code == 1 and "row 3, column 'who'" in err
    assert shared_server.get(f"/training-sets/{name}3").status_code == 404


@pytest.mark.parametrize("ending", ["csv", "parquet", "ndjson"])
def test_a_training_set_stands_beside_the_rows_it_is_for(
    timewell: Command, shared_server: LiveServer, name: str, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_set, "ROWS_PER_PART", 2)
    fill(shared_server, name)
    shared_server.register(f"{name}_json", "json")
    shared_server.write((f"user.{name}_json", "ada", {"a": 1}, TEN))
    Path("rows.csv").write_text(
        f'label,user,ts,"note"\n1,ada,{NOON},"a, b"\n,ada,{TEN},\n3,bob,2025-11-07T11:00:00+01:00,c\n'
    )
    keys = ["--id-column", "user", "--timestamp-column", "ts"]
    wanted = ["--features", f"{name},{name}_json"]
    answer = said(timewell("training-set", "--rows", "rows.csv", *wanted, *keys, "-o", f"o.{ending}", "--json"))
    assert answer["rows"] == 3
    found = rows_of(f"o.{ending}")
    assert list(found[0]) == ["label", "user", "ts", "note", name, f"{name}_json"]
    nothing = "" if ending == "csv" else None
    assert [row["label"] for row in found] == ["1", nothing, "3"]
    assert [row[name] for row in found] == ([*("2", "1", "")] if ending == "csv" else [2, 1, None])
    shown = {"a": 1} if ending == "ndjson" else '{"a":1}'
    assert [row[f"{name}_json"] for row in found] == [shown, shown, nothing]
    assert found[0]["ts"] == NOON and found[0]["note"] == "a, b"


LABELS = '''\
entityId,timestamp,zip,price,account,"a ""name""",note
ada,2025-11-07T12:00:00+00:00,00501,1.10,12345678901234567890,0x1F,2024-01-01T00:00:00+02:00
007,2025-11-07T12:00:00Z,A12,1e5,-0,"","a, ""b"""
"bob, jr.",2025-11-07T12:00:00Z,,NaN,true,,"two
lines"
'''


@pytest.mark.parametrize("packed", [False, True])
def test_labels_of_a_csv_file_come_back_as_they_stand(
    timewell: Command, shared_server: LiveServer, name: str, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first row is no rule for the others.
    monkeypatch.setattr("timewell.commands.reading.CSV_BLOCK_BYTES", 100)
    id_ = fill(shared_server, name)
    shared_server.write((id_, "007", 5, TEN))
    content = LABELS.encode("utf-8-sig")
    rows = "rows.csv.gz" if packed else "rows.csv"
    Path(rows).write_bytes(gzip.compress(content) if packed else content)
    for file in ("o.csv", "o.parquet", "o.ndjson"):
        timewell("training-set", "--rows", rows, "--features", name, "-o", file)
    filled = ["2", "5", ""]
    expected = LABELS.replace("note\n", f"note,{name}\n").replace("+02:00\n", "+02:00,2\n")
    expected = expected.replace('b"""\n', 'b""",5\n').replace('lines"\n', 'lines",\n')
    assert Path("o.csv").read_text() == expected
    cells = [[cell or None for cell in row] for row in csv.reader(io.StringIO(LABELS))][1:]
    cells[1][5] = ""  # quoted, so that it is a text and not missing
    for file in ("o.parquet", "o.ndjson"):
        numbers = [float(one) if one else None for one in filled]
        assert [list(row.values()) for row in rows_of(file)] == [
            [*row, number] for row, number in zip(cells, numbers, strict=True)
        ]


def test_labels_of_a_parquet_file_keep_their_types(
    timewell: Command, shared_server: LiveServer, name: str
) -> None:
    fill(shared_server, name)
    labels = {
        "city": pa.array(["rome", "oslo"]).dictionary_encode(),
        "price": pa.array([Decimal("1.10"), None], pa.decimal128(10, 2)),
        "nanos": pa.array([1762509600123456789, None], pa.timestamp("ns")),
        "local": pa.array([1762509600000000, None], pa.timestamp("us", "Europe/Berlin")),
        "day": pa.array([20000, None], pa.date32()),
        "large": pa.array([2**64 - 1, None], pa.uint64()),
        "some": pa.array([{"a": [1]}, None]),
    }
    table = pa.table({"entityId": ["ada", "bob"], "timestamp": [NOON, NOON], **labels})
    pa_parquet.write_table(table, "rows.parquet")
    command = ["training-set", "--rows", "rows.parquet", "--features", name, "-o"]
    for file in ("o.parquet", "o.csv", "o.ndjson"):
        assert timewell(*command, file)[0] == 0
    kept = pa_parquet.read_table("o.parquet")
    assert kept.schema.remove(9) == table.schema and kept.drop_columns([name]).equals(table)
    assert Path("o.csv").read_text().splitlines()[1] == (
        f"ada,{NOON},rome,1.10,2025-11-07T10:00:00.123456789,2025-11-07T10:00:00.000000Z,2024-10-04,"
        '18446744073709551615,"{""a"":[1]}",2'
    )
    assert Path("o.ndjson").read_text().splitlines()[0] == (
        f'{{"entityId":"ada","timestamp":"{NOON}","city":"rome","price":"1.10","nanos":"2025-11-07T10:00:00.123456789",'
        '"local":"2025-11-07T10:00:00.000000Z","day":"2024-10-04","large":18446744073709551615,"some":{"a":[1]},'
        f'"{name}":2}}'
    )


def test_labels_in_a_file_of_text_are_said_as_the_service_says_them(
    timewell: Command, shared_server: LiveServer, name: str
) -> None:
    fill(shared_server, name)
    document = pa.ExtensionArray.from_storage(pa.json_(), pa.array(['{"a": 1.0}']))
    labels = {
        "raw": pa.array([b"\x00\xff"]),
        "view": pa.array([b"a"], pa.binary_view()),
        "listed": pa.array([[b"a", None]]),
        "price": pa.array([Decimal("1.10")]),
        "took": pa.array([90_000], pa.duration("s")),
        "at": pa.array([3_600], pa.time32("s")),
        "share": pa.array([0.1], pa.float32()),
        "document": document,
    }
    rows = pa.table({"entityId": ["ada"], "timestamp": [NOON], **labels})
    pa_parquet.write_table(rows, "rows.parquet")
    command = ["training-set", "--rows", "rows.parquet", "--features", name, "-o"]
    for file in ("o.parquet", "o.csv", "o.ndjson"):
        assert timewell(*command, file)[0] == 0
    kept = pa_parquet.read_table("o.parquet").select(rows.column_names)
    assert kept.to_pylist() == rows.to_pylist()
    with pa.BufferOutputStream() as sink:
        with pa.ipc.new_stream(sink, rows.schema) as writer:
            writer.write_table(rows)
        body, kind = bytes(sink.getvalue()), {"Content-Type": "application/vnd.apache.arrow.stream"}
    for file, accept in (("o.ndjson", "application/x-ndjson"), ("o.csv", "text/csv")):
        path = f"/features/training-set?features={name}"
        answer = shared_server.http.post(path, content=body, headers={**kind, "Accept": accept})
        (said,), (ours,) = (_text_rows(text, file) for text in (answer.text, Path(file).read_text()))
        assert {one: ours[one] for one in labels} == {one: said[one] for one in labels}
    assert '"raw":"AP8=","view":"YQ==","listed":["YQ==",null],"price":"1.10"' in Path("o.ndjson").read_text()
    assert '"document":{"a": 1.0}' in Path("o.ndjson").read_text()
    pa_parquet.write_table(
        rows.append_column("far", pa.array([[2**40]], pa.list_(pa.timestamp("s")))), "rows.parquet"
    )
    refused(timewell(*command, "far.csv"), 1, "far.csv", "'far'", "save to .parquet")
    assert not Path("far.csv").exists()


def _text_rows(text: str, file: str) -> list[dict[str, Any]]:
    return list(csv.DictReader(io.StringIO(text))) if file.endswith(".csv") else [json.loads(text)]


LINES = (
    f'{{"entityId":"ada","timestamp":"{NOON}","price":1.10,"big":12345678901234567890,"o":{{"b": [1.0,"x"]}},'
    '"e":""}\n\n'
    f'{{"timestamp":"{NOON}","entityId":7,"big":null,"new":"\\u00e9,\\"","t":true}}\n'
)


@pytest.mark.parametrize("file", ["rows.ndjson", "rows.ndjson.gz"])
def test_labels_of_lines_of_json_come_back_as_they_stand(
    timewell: Command, shared_server: LiveServer, name: str, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_set, "ROWS_PER_PART", 1)
    fill(shared_server, name)
    Path(file).write_bytes(gzip.compress(LINES.encode()) if file.endswith(".gz") else LINES.encode())
    command = ["training-set", "--rows", file, "--features", name, "-o"]
    for saved in ("o.ndjson", "o.csv", "o.parquet"):
        assert timewell(*command, saved)[0] == 0
    assert Path("o.ndjson").read_text() == (
        f'{{"entityId":"ada","timestamp":"{NOON}","price":1.10,"big":12345678901234567890,"o":{{"b": [1.0,"x"]}},'
        f'"e":"","new":null,"t":null,"{name}":2}}\n'
        f'{{"entityId":7,"timestamp":"{NOON}","price":null,"big":null,"o":null,"e":null,"new":"\\u00e9,\\"",'
        f'"t":true,"{name}":null}}\n'
    )
    assert Path("o.csv").read_text() == (
        f"entityId,timestamp,price,big,o,e,new,t,{name}\n"
        f'ada,{NOON},1.10,12345678901234567890,"{{""b"": [1.0,""x""]}}","",,,2\n'
        f'7,{NOON},,,,,"é,""",true,\n'
    )
    assert pa_parquet.read_table("o.parquet")["price"].to_pylist() == ["1.10", None]
    Path(file).unlink()
    Path("rows.ndjson").write_text(f'{{"entityId":"ada","timestamp":"{NOON}"}}\n{{"entityId":"ada"}}\n')
    command[2] = "rows.ndjson"
    refused(timewell(*command, "o.csv"), 1, "rows.ndjson", "row 2", "'timestamp'", "is missing")


def test_moments_of_an_older_parquet_file_are_those_that_were_written(
    timewell: Command, shared_server: LiveServer, name: str
) -> None:
    id_ = shared_server.register(name, "timestamp")["id"]
    far = datetime(9999, 12, 31, tzinfo=UTC)
    table = pa.table({"entityId": ["ada"], "timestamp": [datetime(2025, 1, 1, tzinfo=UTC)], id_: [far]})
    plain = pa.schema([*list(table.schema)[:2], (id_, pa.timestamp("us"))])
    pa_parquet.write_table(table.cast(plain), "rows.parquet", use_deprecated_int96_timestamps=True)
    assert said(timewell("load", "rows.parquet", "--entity", "user", "--json"))["values"] == 1
    (ada,) = shared_server.serve(["ada"], [name])
    assert ada["features"] == {name: "9999-12-31T00:00:00.000Z"}
    assert timewell("training-set", "--rows", "rows.parquet", "--features", name, "-o", "o.parquet")[0] == 0
    assert pa_parquet.read_table("o.parquet")[id_].to_pylist() == [far.replace(tzinfo=None)]


def test_a_training_set_looks_back_as_it_is_told(timewell: Command, shared_server: LiveServer, name: str) -> None:
    fill(shared_server, name)
    shared_server.post("/groups", {"name": name, "entity": "user", "features": [name]})
    at = pa.array([1762513200000000 + 1800000000, 1762509600000000]).cast(pa.timestamp("us", "UTC"))
    table = pa.table({"entityId": ["ada", "bob"], "timestamp": at, "labels": [[1, 2], None]})
    pa_parquet.write_table(table, "rows.parquet")

    def column(*options: str) -> list[Any]:
        command = ["training-set", "--rows", "rows.parquet", "--group", name, "-o", "o.parquet"]
        assert timewell(*command, *options)[0] == 0
        filled = pa_parquet.read_table("o.parquet")
        assert filled.select(table.column_names).to_pylist() == table.to_pylist()
        return list(filled.column(f"user.{name}").to_pylist())

    assert column() == [2, None]
    assert column("--lookback", "60") == [None, None]
    assert column("--window", "2h", "--aggregation", "avg") == [1.5, None]
    assert column("--window", "2h", "--aggregation", "count") == [2, 0]
    assert column("--known-at", "2025-11-08T00:00:00Z") == [None, None]


def test_a_training_set_of_no_rows_has_the_columns(
    timewell: Command, shared_server: LiveServer, name: str
) -> None:
    fill(shared_server, name)
    Path("rows.csv").write_text("entityId,timestamp,label\n")
    for file in ("o.csv", "o.parquet"):
        assert timewell("training-set", "--rows", "rows.csv", "--features", name, "-o", file)[0] == 0
    assert Path("o.csv").read_text() == f"entityId,timestamp,label,{name}\n"
    assert pa_parquet.read_schema("o.parquet").names == ["entityId", "timestamp", "label", name]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("entityId,timestamp\nada,{TEN}\n,{TEN}\n", ["row 2", "'entityId'", "is missing"]),
        ("entityId,timestamp\nada,{TEN}\nada,\n", ["row 2", "'timestamp'", "is missing"]),
        ("entityId,timestamp\nada,{TEN}\nada,{TEN}\nada,noon\n", ["row 3", "'timestamp'", "'noon'"]),
        ("entityId,timestamp\nada,{TEN}\nada,{TEN}\na\tb,{TEN}\n", ["row 3", "'entityId'"]),
        ("entityId,when\nada,{TEN}\n", ["no column 'timestamp'", "entityId, when"]),
        ("entityId,timestamp,{NAME}\nada,{TEN},5\n", ["{NAME}", "column of the rows already"]),
        ("entityId,timestamp\nada,{TEN},5\n", ["row 1 has 3 fields, the header has 2"]),
        ("entityId,entityId\n", ["two columns are named 'entityId'"]),
        ("", ["no header"]),
    ],
)
def test_bad_rows_of_a_training_set_are_named_and_no_file_is_left(
    timewell: Command,
    shared_server: LiveServer,
    name: str,
    rows: str,
    words: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(training_set, "ROWS_PER_PART", 2)
    fill(shared_server, name)
    Path("rows.csv").write_text(rows.replace("{TEN}", TEN).replace("{NAME}", name))
    told = [word.replace("{NAME}", name) for word in words]
    refused(
        timewell("training-set", "--rows", "rows.csv", "--features", name, "-o", "o.csv"), 1, "rows.csv", *told
    )
    assert sorted(path.name for path in Path().iterdir()) == ["rows.csv"]


def test_export_and_load_give_the_same_values_again(
    timewell: Command, shared_server: LiveServer, name: str
) -> None:
    types = {"number": 1.5, "integer": 2**60 + 1, "string": 'a,"b\n', "boolean": False, "json": {"a": [None]},
             "timestamp": "2025-01-01T00:00:00.000001Z", "vector": [0.5, 2]}  # fmt: skip
    for entity in ("user", f"copy_{name}"):
        for kind in types:
            more = {"schema": {"dimension": 2}} if kind == "vector" else {}
            shared_server.register(f"{name}_{kind}", kind, entity=entity, **more)
    shared_server.write(*((f"user.{name}_{kind}", "007", value, TEN) for kind, value in types.items()))
    shared_server.write((f"user.{name}_string", "007", "", ELEVEN), (f"user.{name}_json", "ada", 5, ELEVEN))
    asked = ",".join(f"user.{name}_{kind}" for kind in types)
    columns = ",".join(f"user.{name}_{kind}={name}_{kind}" for kind in types)
    served = []
    for ending in ("csv", "parquet", "ndjson"):
        timewell("export", asked, "--entity-ids", "007", "ada", "-o", f"all.{ending}")
        command = [
            "load",
            f"all.{ending}",
            "--entity",
            f"copy_{name}",
            "--columns",
            columns,
            "--restart",
            "--json",
        ]
        assert said(timewell(*command))["values"] == 9
        copies = [f"copy_{name}.{name}_{kind}" for kind in types]
        served.append(shared_server.serve(["007", "ada"], copies, asOf=ELEVEN))
    originals = shared_server.serve(["007", "ada"], asked.split(","), asOf=ELEVEN)
    assert originals[0]["features"][f"user.{name}_string"] == ""
    for answers in served:
        assert [list(one["features"].values()) for one in answers] == [
            list(one["features"].values()) for one in originals
        ]


# How a command ends


def test_the_service_refuses_with_exit_code_1_and_names_the_input(
    timewell: Command, shared_server: LiveServer, name: str
) -> None:
    shared_server.register(name, schema={"min": 0})
    refused(timewell("write", name, "ada", "-1"), 1, "-1 is below the minimum 0")
    refused(timewell("write", name, "ada", "1", "--timestamp", "noon"), 1, "timestamp", "noon")
    refused(timewell("stats", "none_such"), 1, "none_such")
    refused(timewell("serve-values", "--features", "none_such", "ada"), 1, "none_such")
    refused(timewell("drift", name, "--method", "guess"), 1, "guess")
    refused(timewell("export", "none_such", "--entity-ids", "ada", "-o", "o.csv"), 1, "none_such")
    refused(timewell("export", name, "--entity-ids", "ada", "-o", "none/o.csv"), 1, "none/o.csv")
    refused(timewell("export", name, "--entity-ids", "@none.txt", "-o", "o.csv"), 1, "none.txt: No such file")
    refused(timewell("register", "-f", "none.yaml"), 1, "none.yaml: No such file")
    refused(timewell("load", "none.csv", "--entity", "user"), 1, "none.csv: No such file")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["bake"],
        ["features", "--colour", "red"],
        ["features", "--tags", "a,,b"],
        ["features", "--url", "localhost:3001"],
        ["register"],
        ["write", "f", "ada"],
        ["write", "f", "ada", "1", "--null"],
        ["serve-values", "ada"],
        ["serve-values", "--features", "f", "--group", "g", "ada"],
        ["load", "data.txt", "--entity", "user"],
        ["load", "data.csv"],
        ["load", "data.csv", "--entity", "user", "--columns", "a="],
        ["load", "data.csv", "--entity", "user", "--columns", "a,a"],
        ["export", "f", "--entity-ids", "ada"],
        ["export", "--entity-ids", "ada", "-o", "o.csv"],
        ["training-set", "--rows", "rows.txt", "--features", "f", "-o", "o.csv"],
        ["drift", "f", "--reference", "yesterday"],
        ["drift", "f", "--threshold", "much"],
        ["features", "--retry-seconds", "-1"],
        ["features", "--retry-seconds", "nan"],
    ],
)
def test_a_command_line_that_is_not_understood_exits_with_2(timewell: Command, arguments: list[str]) -> None:
    code, out, err = timewell(*arguments)
    assert (code, out) == (2, "")
    assert "usage: timewell" in err


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["serve-values", "ada", "--group", "a", "--group", "b"], "--group"),
        (["serve-values", "ada", "--features", "a", "--features", "b"], "--features"),
        (["features", "--tags", "a", "--tags=b"], "--tags"),
        (["export", "f", "-o", "o.csv", "--entity-ids", "a", "--entity-ids", "b"], "--entity-ids"),
        (["export", "f", "-o", "o.csv", "--output", "p.csv", "--entity-ids", "a"], "--output"),
        (["load", "f.csv", "--entity", "user", "--columns", "a", "--columns", "b"], "--columns"),
        (["serve", "--port", "1", "--port", "2"], "--port"),
    ],
)
def test_an_option_that_is_given_twice_is_refused(timewell: Command, arguments: list[str], option: str) -> None:
    code, out, err = timewell(*arguments)
    assert (code, out) == (2, "")
    assert option in err and "is given twice" in err


SECRET = "geheim7x"
MISTYPED = [
    "http://ada:{}@", "http:/ada:{}@h", "http//ada:{}@h", "ada:{}@h:3001", "htp://ada:{}@h", "http://ada:{}@h:port",
    "http://ada:{}/x@h", "http://ada:{}?x@h", "http://ada:{}#x@h", "http://ada:{}", " http://ada:{}@h",
    "http://ada:{}@[h", "http://{}@h:99999", "http://ada:x{}@h\n", "//ada:{}@h", "{}@h",
]  # fmt: skip


@pytest.mark.parametrize("form", MISTYPED)
def test_a_password_is_in_nothing_that_a_command_says(
    timewell: Command, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    url = form.format(SECRET)
    results = [timewell("features", "--url", url), timewell("features", url), timewell(url)]
    results.append(timewell("migrate", "--from", url, "--to", url.replace("ada", "eve")))
    results.append(timewell("migrate", "--from", url.replace("http", "postgresql", 1) + "@x:port", "--to", "x"))
    monkeypatch.setenv("TIMEWELL_URL", url)
    results.append(timewell("features"))
    with pytest.raises(ValueError, match="base_url") as refused:
        Client(url)
    assert SECRET not in str(refused.value)
    for code, out, err in results:
        assert code in (1, 2) and err
        assert SECRET not in out + err


def test_a_password_of_an_address_that_is_right_is_sent_and_not_said(
    timewell: Command, server: LiveServer
) -> None:
    url = server.url.replace("http://", f"http://ada:{SECRET}@")
    assert timewell("features", "--url", url)[0] == 0
    assert SECRET not in timewell("features", "--url", url, "--help")[1]
    server.stop()
    refused(timewell("features", "--url", url, "--retry-seconds", "0"), 3, f"{server.url}: no answer")
    with pytest.raises(timewell_client.Unreachable) as away, Client(url, retry_seconds=0) as client:
        client.groups()
    assert SECRET not in str(away.value)


def test_a_source_that_is_not_there_is_no_source_and_is_not_made(timewell: Command) -> None:
    refused(timewell("migrate", "--from", "embedded:typo", "--to", "embedded:new"), 1, "no storage in", "typo")
    assert list(Path().iterdir()) == []


def test_who_may_read_a_file_stays_when_it_is_written_anew(
    timewell: Command, shared_server: LiveServer, name: str
) -> None:
    fill(shared_server, name)
    Path("o.csv").touch(mode=0o600)
    assert timewell("export", name, "--entity-ids", "ada", "-o", "o.csv")[0] == 0
    assert Path("o.csv").stat().st_mode & 0o777 == 0o600


def test_a_value_that_is_none_of_its_feature_exits_with_2(
    timewell: Command, shared_server: LiveServer, name: str
) -> None:
    id_ = shared_server.register(name)["id"]
    refused(timewell("write", name, "ada", "five"), 2, "VALUE", "'five'", "number", id_)
    refused(timewell("export", name, "--entity-ids", "", "-o", "o.csv"), 2, "--entity-ids")


def test_a_service_that_is_not_there_exits_with_3(timewell: Command) -> None:
    away = ["features", "--url", "http://127.0.0.1:1", "--retry-seconds", "0"]
    refused(timewell(*away), 3, "http://127.0.0.1:1: no answer")


def test_a_command_waits_for_a_service_that_restarts_and_says_so(
    timewell: Command, shared_server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    take, time = Client._take, [0.0]

    def restarting(client: Client, step: Any) -> Any:
        if isinstance(step, Request) and time[0] < 7:
            return httpx.ConnectError("refused")
        return take(client, step)

    def sleep(seconds: float) -> None:
        time[0] += seconds

    monkeypatch.setattr("timewell.client.time.sleep", sleep)
    monkeypatch.setattr(Client, "_take", restarting)
    code, _, err = timewell("features")
    assert code == 0
    assert err == f"timewell: {shared_server.url}: away or busy, asking again\n"


class _Busy(BaseHTTPRequestHandler):
    """A service that always has too much to do."""

    def do_GET(self) -> None:
        self.send_response(503)
        self.send_header("Retry-After", "1000")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture
def busy_url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Busy) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_service_that_is_busy_for_too_long_exits_with_1(timewell: Command, busy_url: str) -> None:
    refused(timewell("features", "--url", busy_url), 1, "Service Unavailable")


def test_an_interrupted_command_exits_with_130(
    timewell: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("timewell.client.Client._take", interrupt)
    refused(timewell("features"), 130, "interrupted")


def test_a_bug_is_not_taken_for_a_failure_of_the_service() -> None:
    def fail(_: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        attempt(fail, argparse_namespace())


def argparse_namespace() -> Any:
    from argparse import Namespace

    return Namespace(url="http://localhost:3001")


def test_help_says_what_the_exit_codes_mean(timewell: Command) -> None:
    for command in ((), *((module.__name__.rpartition(".")[2].replace("_", "-"),) for module in COMMANDS)):
        code, out, _ = timewell(*command, "--help")
        assert code == 0
        for word in ("exit codes:", "cannot be reached", "130"):
            assert word in out, command


# Processes


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    code = "import sys; from web.cli import main\ntry: main(sys.argv[1:])\nfinally: print(*sorted(sys.modules))"
    heavy = {"rich", "yaml", "pyarrow", "numpy", "httpx", "quart", "trio"}
    for arguments in (["--version"], ["load", "--help"]):
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert "msgspec" in done.stdout.split()
        assert not heavy & set(done.stdout.split()), arguments


def on_a_terminal(command: list[str], url: str, stream: str) -> tuple[int, str]:
    """Run a command with one of its streams on a terminal; its exit code and what it showed there."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TIMEWELL_URL": url, "TERM": "xterm", "COLUMNS": "120"}
    other = {"stdout": "stderr", "stderr": "stdout"}[stream]
    streams: dict[str, Any] = {stream: theirs, other: subprocess.DEVNULL}
    with subprocess.Popen([SCRIPT, *command], env=environment, **streams) as child:
        os.close(theirs)
        shown = b""
        try:
            while more := os.read(ours, 65536):
                shown += more
        except OSError:  # how Linux says that the other end is closed
            pass
        os.close(ours)
    return child.returncode, shown.decode()


def test_a_terminal_gets_a_table_with_a_rule_below_its_head(shared_server: LiveServer, name: str) -> None:
    shared_server.register(name, description="[bold]not markup[/bold]")
    code, shown = on_a_terminal(["features", "--q", name], shared_server.url, "stdout")
    assert code == 0
    assert "─" in shown and f"user.{name}.v1" in shown and "[bold]not markup[/bold]" in shown
    code, shown = on_a_terminal(["stats", name], shared_server.url, "stdout")
    assert code == 0 and f"user.{name}.v1" in shown


def test_a_terminal_sees_how_far_long_work_is(
    shared_server: LiveServer, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    fill(shared_server, name)
    rows, made, saved = (str(tmp_path / file) for file in ("rows.csv", "made.csv", "saved.csv"))
    pa_csv.write_csv(pa.table({"entityId": ["ada"] * 9, "timestamp": [NOON] * 9}), rows)
    wanted = ["training-set", "--rows", rows, "--features", name, "-o", made]
    exported = ["export", name, "--entity-ids", "ada", "-o", saved]
    loaded = ["load", saved, "--entity", "user"]
    for command, words in (
        (wanted, "filling rows.csv"),
        (exported, "exporting to"),
        (loaded, "loading saved.csv"),
    ):
        code, shown = on_a_terminal(command, shared_server.url, "stderr")
        assert code == 0, shown
        for word in (words, "100%", "rows, ", "/s", "0:00:00"):
            assert word in shown, (word, shown)


def test_a_reader_that_leaves_early_is_no_failure(shared_server: LiveServer, name: str) -> None:
    shared_server.register(name)
    environment = {**os.environ, "TIMEWELL_URL": shared_server.url}
    with subprocess.Popen([SCRIPT, "features"], env=environment, stdout=-1, stderr=-1, text=True) as child:
        assert child.stdout is not None and child.stderr is not None
        child.stdout.close()
        assert child.stderr.read() == ""
    assert child.returncode == 0


def test_cells_of_a_table_are_plain() -> None:
    assert [output.cell(value) for value in ("a b", 5.0, 1e300, True, None, "\u202e")] == [
        "a b", "5", "1e300", "true", "null", "'\"\\u202e\"'",
    ]  # fmt: skip
