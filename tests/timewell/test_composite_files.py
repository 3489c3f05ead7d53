"""Files whose rows name several entities: loaded, exported, joined and served by the columns of their keys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet
import pytest

from tests.live import LiveServer
from tests.timewell.outcomes import Command, said
from tests.timewell.test_load import save

TEN, ELEVEN, NOON = (f"2025-11-07T{hour}:00:00Z" for hour in (10, 11, 12))
ENDINGS = ["csv", "parquet", "ndjson"]


class House:
    """Users, shops and pairs of them under names of their own."""

    def __init__(self, server: LiveServer, name: str) -> None:
        self.server = server
        self.user, self.shop, self.pair = (f"{name}_{kind}" for kind in ("user", "shop", "pair"))
        server.post("/entities", {"name": self.pair, "keys": [self.user, self.shop]})
        features = [("spend", self.user), ("rating", self.shop), ("visits", self.pair)]
        self.spend, self.rating, self.visits = (server.register(one, entity=kind)["id"] for one, kind in features)
        self.keys = ["--key", f"{self.user}=user_id", "--key", f"{self.shop}=shop_id"]

    def visited(self, *ids: str) -> list[Any]:
        return [one["features"][self.visits] for one in self.server.serve(list(ids), [self.visits])]


@pytest.fixture
def house(shared_server: LiveServer, name: str) -> House:
    return House(shared_server, name)


def refused(result: tuple[int, str, str], code: int = 1) -> str:
    assert (result[0], result[1]) == (code, ""), result
    return result[2]


def read(path: str) -> list[dict[str, Any]]:
    """The rows of a file."""
    if path.endswith(".parquet"):
        return list(pa_parquet.read_table(path).to_pylist())
    if path.endswith(".ndjson"):
        return [json.loads(line) for line in Path(path).read_text().splitlines()]
    return list(pa_csv.read_csv(path).to_pylist())


# Loading


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_file_has_the_parts_of_composite_ids_in_columns_and_comes_back_so(
    timewell: Command, house: House, ending: str
) -> None:
    rows = [
        {"user_id": "u1", "shop_id": 7, "ts": TEN, "visits": 1, "other": "x"},
        {"user_id": 'a"b', "shop_id": 8, "ts": TEN, "visits": None, "other": "y"},
        {"user_id": "u1", "shop_id": 8, "ts": ELEVEN, "visits": 3, "other": "z"},
    ]
    if ending == "csv":
        rows[1]["user_id"] = "ü"
    file = save(f"rows.{ending}", rows)
    command = [
        "load",
        file,
        "--entity",
        house.pair,
        *house.keys,
        "--timestamp-column",
        "ts",
        "--columns",
        "visits",
    ]
    checked = said(timewell(*command, "--dry-run", "--json"))
    assert (checked["rows"], checked["values"], checked["skipped"]) == (3, 2, 1)
    assert house.visited('["u1","7"]') == [None]
    loaded = said(timewell(*command, "--json"))
    assert (loaded["rows"], loaded["values"], loaded["skipped"]) == (3, 2, 1)
    assert house.visited('["u1","7"]', '["u1","8"]', '["ü","8"]') == [1, 3, None]
    again = said(timewell(*command, "--json"))
    assert again["alreadyLoaded"] == 2

    saved = f"saved.{ending}"
    said(timewell("export", house.visits, "-o", saved, "--json"))
    assert {house.user, house.shop, "timestamp"} < set(read(saved)[0])
    house.server.http.delete(f"/entities/{house.pair}/%5B%22u1%22%2C%227%22%5D")
    assert house.visited('["u1","7"]') == [None]
    said(timewell("load", saved, "--entity", house.pair, "--restart", "--json"))
    assert house.visited('["u1","8"]') == [3]


def test_a_key_of_a_type_with_one_is_its_id_column(timewell: Command, house: House) -> None:
    file = save("rows.csv", [{"who": "u1", "timestamp": TEN, "spend": 5}])
    by_key = ["load", file, "--entity", house.user, "--key", f"{house.user}=who"]
    assert said(timewell(*by_key, "--json"))["values"] == 1
    by_column = ["load", file, "--entity", house.user, "--id-column", "who"]
    assert said(timewell(*by_column, "--json"))["alreadyLoaded"] == 1
    assert house.server.serve(["u1"], [house.spend])[0]["features"] == {house.spend: 5}


def test_keys_that_do_not_fit_and_parts_that_are_missing_are_told(timewell: Command, house: House) -> None:
    rows = [{"user_id": "u1", "shop_id": 7, "timestamp": TEN, "visits": 1}]
    file = save("rows.csv", [*rows, {**rows[0], "shop_id": None}])
    load = ["load", file, "--entity", house.pair]
    words = refused(timewell(*load, *house.keys[:2]))
    assert f"--key {house.user}=COLUMN --key {house.shop}=COLUMN" in words
    assert "'nothing'" in refused(timewell(*load, *house.keys[:2], "--key", f"{house.shop}=nothing"))
    assert "row 2, column 'shop_id': is missing" in refused(timewell(*load, *house.keys))
    long = save("long.csv", [{**rows[0], "user_id": "x" * 600}])
    told = refused(timewell("load", long, "--entity", house.pair, *house.keys))
    assert "row 1, column 'user_id': is longer than 512 bytes" in told
    whole = refused(timewell(*load, "--id-column", "user_id", "--columns", "visits"))
    assert "row 1, column 'user_id': must be a compact JSON array" in whole
    assert "'entityId'" in refused(timewell(*load))
    assert "not allowed with" in refused(timewell(*load, *house.keys, "--id-column", "x"), 2)
    assert "user=user_id" in refused(timewell(*load, "--key", "=x"), 2)


# Training sets and serving


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_training_set_names_its_entities_by_columns(timewell: Command, house: House, ending: str) -> None:
    house.server.write(
        (house.spend, "u1", 10, TEN),
        (house.spend, "u1", 11, NOON),
        (house.rating, "7", 4.5, TEN),
        (house.visits, '["u1","7"]', 3, TEN),
    )
    rows: list[dict[str, Any]] = [
        {"label": "a", "user_id": "u1", "shop_id": 7, "ts": ELEVEN},
        {"label": "b", "user_id": "u1", "shop_id": None, "ts": NOON},
        {"label": "c", "user_id": "u1", "shop_id": 8, "ts": NOON},
    ]
    features = [house.visits, {"ref": house.spend, "as": "spend"}, {"ref": house.rating, "as": "rating"}]
    service = house.server.post("/services", {"name": f"{house.pair}_model", "features": features}).json()["id"]
    file, made = save(f"rows.{ending}", rows), f"made.{ending}"
    command = ["training-set", "--rows", file, *house.keys, "--timestamp-column", "ts", "-o", made, "--json"]
    answer = said(timewell(*command, "--service", service))
    assert answer["features"] == [house.visits, "spend", "rating"]
    found = [[row["label"], row[house.visits], row["spend"], row["rating"]] for row in read(made)]
    assert found == [["a", 3, 10, 4.5], ["b", None, 11, None], ["c", None, 11, None]]
    said(timewell(*command, "--features", f"{house.visits},{house.rating}"))
    assert [row[house.rating] for row in read(made)] == [4.5, None, None]


def test_a_training_set_that_lacks_a_key_or_has_a_bad_one_is_told(timewell: Command, house: House) -> None:
    rows: list[dict[str, Any]] = [{"user_id": user, "shop_id": "s", "timestamp": TEN} for user in ("u1", "")]
    file = save("rows.parquet", rows)
    command = ["training-set", "--rows", file, "-o", "o.csv", "--features", f"{house.visits},{house.rating}"]
    assert house.shop in refused(timewell(*command, *house.keys[:2]))
    assert "row 2, column 'user_id': is empty" in refused(timewell(*command, *house.keys))
    assert not Path("o.csv").exists()


def test_an_empty_key_of_a_csv_is_no_entity_with_quotes_or_without(timewell: Command, house: House) -> None:
    house.server.write((house.spend, "u1", 10, TEN))
    Path("rows.csv").write_text(f'user_id,shop_id,timestamp\nu1,,{NOON}\nu1,"",{NOON}\n"",s,{NOON}\n')
    features = f"{house.visits},{house.spend}"
    command = ["training-set", "--rows", "rows.csv", *house.keys, "--features", features, "-o", "made.ndjson"]
    assert said(timewell(*command, "--json"))["rows"] == 3
    assert [row[house.spend] for row in read("made.ndjson")] == [10, 10, None]


def test_values_are_served_by_rows_and_by_services(timewell: Command, house: House) -> None:
    house.server.write((house.spend, "u1", 10, TEN), (house.rating, "7", 4.5, TEN))
    body = {"name": f"{house.pair}_model", "features": [{"ref": house.spend, "as": "spend"}, house.rating]}
    service = house.server.post("/services", body).json()["id"]
    row = f"{house.user}=u1,{house.shop}=7"
    code, out, _ = timewell("serve-values", "--service", service, "--row", row, "--row", row.replace("u1", "x"))
    assert code == 0
    assert [line.split() for line in out.splitlines()] == [
        [house.user, house.shop, "spend", house.rating],
        ["u1", "7", "10", "4.5"],
        ["x", "7", "null", "4.5"],
    ]
    served = said(timewell("serve-values", "--features", house.spend, "--row", f"{house.user}=u1", "--json"))
    assert served["results"][0]["keys"] == {house.user: "u1"}
    assert "either ids or --row" in refused(
        timewell("serve-values", "--features", house.spend, "u1", "--row", row), 2
    )
    assert "user=ada,shop=7" in refused(timewell("serve-values", "--features", house.spend, "--row", "u1"), 2)
