"""Features that are computed on demand, by the client and the commands."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest

from tests.timewell.outcomes import Command, said
from timewell import Client, InvalidInput


@pytest.fixture
def ratio(client: Client, name: str) -> str:
    """The feature `amount / mean` of the entity type `name`, with a mean of 4 for the entity `a`."""
    mean = client.register("mean", name, "number").id
    client.write(mean, "a", 4, "2025-01-01")
    own: dict[str, Any] = {"features": {"mean": mean}, "request": {"amount": "number"}}
    made = client.define("ratio", "amount / mean", entity=name, **own)
    assert (made.value_type, made.expression, made.features) == ("number", "amount / mean", {"mean": mean})
    return made.id


def test_rows_are_served_with_their_fields(client: Client, name: str, ratio: str) -> None:
    rows = [{name: "a", "amount": 6.0}, {name: "a", "amount": None}]
    assert [one.features[ratio] for one in client.serve_rows(rows, [ratio])] == [1.5, None]
    with pytest.raises(InvalidInput, match=r"rows\[0\].amount: is missing"):
        client.serve_rows([{name: "a"}], [ratio])


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame, lambda columns: pl.DataFrame(columns).to_dicts()])
@pytest.mark.parametrize("options", [{}, {"as": "r"}])
def test_a_training_set_sends_the_columns_that_are_said_to_be_fields(
    client: Client, name: str, ratio: str, frame: Any, options: dict[str, str]
) -> None:
    rows = frame({"who": ["a", "a"], "timestamp": ["2024-12-31", "2025-01-02"], "paid": [6.0, 6.0]})
    asked: list[Any] = [{"ref": ratio, **options} if options else ratio]
    made = client.training_set(rows, asked, keys={name: "who"}, fields={"amount": "paid"})
    column = (
        [one[options.get("as", ratio)] for one in made]
        if isinstance(made, list)
        else made[options.get("as", ratio)]
    )
    found = [None if pd.isna(value) else value for value in column]
    assert found == [None, 1.5]
    assert "amount" not in (made[0] if isinstance(made, list) else made.columns)
    with pytest.raises(InvalidInput, match="amount"):
        client.training_set(rows, asked, keys={name: "who"})


@pytest.mark.parametrize("ending", ["csv", "ndjson", "parquet"])
def test_the_command_sends_the_fields_that_the_features_need(
    timewell: Command, client: Client, name: str, ratio: str, ending: str, tmp_path: Path
) -> None:
    client.define("more", "2 * r", entity=name, features={"r": ratio})
    rows = [{"who": "a", "timestamp": "2025-01-02T00:00:00Z", "amount": 6}]
    file = tmp_path / f"rows.{ending}"
    if ending == "ndjson":
        file.write_text(json.dumps(rows[0]))
    else:
        frame = pd.DataFrame(rows)
        frame.to_csv(file, index=False) if ending == "csv" else frame.to_parquet(file)
    wanted = ["--features", f"{name}.more", "--key", f"{name}=who", "-o", "made.csv", "--json"]
    assert said(timewell("training-set", "--rows", str(file), *wanted))["rows"] == 1
    with (tmp_path / "made.csv").open() as made:
        assert [(row["amount"], float(row[f"{name}.more"])) for row in csv.DictReader(made)] == [("6", 3.0)]


def test_a_registration_file_has_definitions_beside_what_they_stand_on(
    timewell: Command, client: Client, name: str, tmp_path: Path
) -> None:
    (tmp_path / "features.yaml").write_text(
        f"""
- name: score
  entity: {name}
  expression: "2 * spend if spend > 0 else 0.0"
  features: {{spend: {name}.spend}}
- {{name: spend, entity: {name}, valueType: number}}
"""
    )
    assert timewell("register", "-f", "features.yaml")[0] == 0
    client.write(f"{name}.spend", "a", 4)
    (served,) = client.serve(["a"], [f"{name}.score"])
    assert served.features == {f"{name}.score": 8}
