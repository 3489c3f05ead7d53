"""Real data sets from a file to a training set: prices of shares by month, the weather of a city by day.

What comes out is compared with pandas, which reads the same files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from importlib.metadata import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.live import LiveServer
from timewell import Client
from web.cli import main

FEATURES = """
features:
  - {name: price, entity: stock, valueType: number, schema: {min: 0}}
  - {name: precipitation, entity: place, valueType: number}
  - {name: temp_max, entity: place, valueType: number}
  - {name: temp_min, entity: place, valueType: number}
  - {name: wind, entity: place, valueType: number}
  - {name: weather, entity: place, valueType: string, schema: {enum: [drizzle, fog, rain, snow, sun]}}
groups:
  - {name: weather, entity: place, features: [precipitation, temp_max, temp_min, wind, weather]}
"""
WEATHER = ["precipitation", "temp_max", "temp_min", "wind", "weather"]
PRICE = "stock.price.v1"
CACHED_VALUES = 500
"""Less than either data set has: what memory does not hold is read from the history files."""
POLLS = 20_000


def data_set(name: str) -> pd.DataFrame:
    """A table that the package `vega_datasets` carries, with its dates as moments."""
    (path,) = [one for one in files("vega_datasets") or [] if one.name == name]
    frame = pd.read_csv(str(path.locate()))
    frame["date"] = pd.to_datetime(frame["date"], utc=True).dt.as_unit("us")
    return frame


@pytest.fixture(scope="module")
def stocks() -> pd.DataFrame:
    """symbol, date, price: five shares, the first of each month of ten years."""
    return data_set("stocks.csv")


@pytest.fixture(scope="module")
def weather() -> pd.DataFrame:
    """place, date and five measurements: each day of four years."""
    return data_set("seattle-weather.csv").assign(place="seattle")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveServer]:
    """A service of its own, its features registered through the command line."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    settings = {"CHECKPOINT_SECONDS": "0.05", "CACHE_SIZE": str(CACHED_VALUES)}
    with LiveServer(tmp_path / "data", **settings) as live:
        monkeypatch.setenv("TIMEWELL_URL", live.url)
        Path("features.yaml").write_text(FEATURES)
        assert main(["register", "-f", "features.yaml"]) == 0
        yield live


@pytest.fixture
def client(server: LiveServer) -> Iterator[Client]:
    """What reads from it."""
    with Client(server.url) as client:
        yield client


Load = Callable[[pd.DataFrame, str, str], int]


@pytest.fixture
def load(server: LiveServer, capsys: pytest.CaptureFixture[str]) -> Load:
    """Load a frame from a CSV file through the command line, into the history files; how many values it wrote."""

    def run(frame: pd.DataFrame, entity: str, id_column: str) -> int:
        frame.assign(date=frame["date"].dt.strftime("%Y-%m-%dT%H:%M:%SZ")).to_csv("rows.csv", index=False)
        capsys.readouterr()
        keys = ["--id-column", id_column, "--timestamp-column", "date"]
        code = main(["load", "rows.csv", "--entity", entity, *keys, "--json"])
        said = capsys.readouterr()
        assert (code, said.err) == (0, "")
        assert any("timewell_observations_unflushed 0.0" in server.get("/metrics").text for _ in range(POLLS))
        return int(json.loads(said.out)["values"])

    return run


# Shares


def asked_moments(stocks: pd.DataFrame) -> pd.DataFrame:
    """Rows in no order: before the first price, exactly at each, a microsecond before, month ends, twice."""
    tick, before = pd.Timedelta(1, "us"), stocks.groupby("symbol")["date"].min() - pd.Timedelta(1, "D")
    at = stocks[["symbol", "date"]].rename(columns={"date": "ts"})
    early = before.rename("ts").reset_index()
    ends = at.assign(ts=at["ts"] + pd.offsets.MonthEnd(0))
    rows = pd.concat([early, at, at.assign(ts=at["ts"] - tick), ends, at.sample(50, random_state=1)])
    rows = pd.concat([rows, pd.DataFrame({"symbol": ["NONE"], "ts": at["ts"].iloc[:1]})])
    rows = rows.sample(frac=1, random_state=2, ignore_index=True)
    return rows.assign(ts=rows["ts"].dt.as_unit("us"), label=np.arange(len(rows)) % 7)


def as_of(rows: pd.DataFrame, values: pd.DataFrame, by: str, tolerance: str | None = None) -> pd.DataFrame:
    """`merge_asof`, its answer in the order of the rows."""
    joined = pd.merge_asof(
        rows.reset_index().sort_values("ts", kind="stable"),
        values.sort_values("date", kind="stable"),
        left_on="ts",
        right_on="date",
        by=by,
        tolerance=None if tolerance is None else pd.Timedelta(tolerance),
    )
    return joined.set_index("index").sort_index()


def over_windows(rows: pd.DataFrame, stocks: pd.DataFrame, window: str, how: str) -> list[float]:
    """An aggregate of the prices in (ts - window, ts], each row's selected for itself."""
    prices = dict(iter(stocks.groupby("symbol")))
    answers = []
    for symbol, ts in zip(rows["symbol"], rows["ts"], strict=True):
        own = prices.get(symbol, stocks.iloc[:0])
        inside = own["price"][(own["date"] > ts - pd.Timedelta(window)) & (own["date"] <= ts)]
        answers.append(float(inside.agg(how)) if len(inside) or how == "count" else np.nan)
    return answers


def test_prices_are_joined_as_of_each_row(client: Client, load: Load, stocks: pd.DataFrame) -> None:
    assert load(stocks, "stock", "symbol") == len(stocks) > CACHED_VALUES
    rows = asked_moments(stocks)
    wanted: list[Any] = [PRICE, {"ref": "price", "lookback": "15d", "as": "fresh"}]
    got = client.training_set(rows, wanted, id_column="symbol", timestamp_column="ts")
    pd.testing.assert_frame_equal(got[rows.columns], rows)
    np.testing.assert_array_equal(got[PRICE], as_of(rows, stocks, "symbol")["price"])
    np.testing.assert_array_equal(got["fresh"], as_of(rows, stocks, "symbol", "15D")["price"])
    assert 0 < got[PRICE].isna().sum() < got["fresh"].isna().sum() < len(rows)


def test_prices_are_aggregated_over_the_window_before_each_row(
    client: Client, load: Load, stocks: pd.DataFrame
) -> None:
    load(stocks, "stock", "symbol")
    rows = asked_moments(stocks).iloc[:500]
    asked = [("avg", "mean", "90D"), ("max", "max", "365D"), ("min", "min", "31D"), ("count", "count", "31D")]
    wanted = [
        {"ref": PRICE, "aggregation": ours, "window": window.lower(), "as": ours} for ours, _, window in asked
    ]
    got = client.training_set(rows, wanted, id_column="symbol", timestamp_column="ts")
    for ours, theirs, window in asked:
        expected = over_windows(rows, stocks, window, theirs)
        np.testing.assert_allclose(got[ours].astype(float), expected, rtol=1e-12, err_msg=ours)
    assert set(got["count"]) == {0, 1, 2}, "February has less than 31 days, and a window is open at its start"


def test_the_statistics_are_those_of_the_file(
    client: Client, load: Load, stocks: pd.DataFrame, weather: pd.DataFrame
) -> None:
    load(stocks, "stock", "symbol")
    load(weather, "place", "place")
    columns = {PRICE: stocks["price"], **{f"place.{name}.v1": weather[name] for name in WEATHER[:4]}}
    for reference, column in columns.items():
        found, described = client.stats(reference), column.describe()
        assert (found.count, found.null_count, found.unique_values) == (len(column), 0, column.nunique())
        assert (found.min, found.max) == (described["min"], described["max"])
        assert found.mean == pytest.approx(described["mean"], rel=1e-12)
        assert found.std == pytest.approx(column.std(ddof=0), rel=1e-9)


# Weather


def labelled(weather: pd.DataFrame) -> pd.DataFrame:
    """A row for each day at six in the evening, with the next day's weather as its label."""
    rows = pd.DataFrame({"place": weather["place"], "ts": weather["date"] + pd.Timedelta(18, "h")})
    rows["tomorrow"] = weather["weather"].shift(-1)
    return rows.iloc[:-1].sample(frac=1, random_state=3)


def test_days_come_back_whole_with_the_next_day_as_the_label(
    client: Client, load: Load, weather: pd.DataFrame
) -> None:
    assert load(weather, "place", "place") == len(weather) * len(WEATHER)
    rows = labelled(weather)
    got = client.training_set(rows, group="weather", id_column="place", timestamp_column="ts")
    pd.testing.assert_frame_equal(got[rows.columns], rows)
    expected = weather.loc[rows.index, WEATHER]
    pd.testing.assert_frame_equal(got[WEATHER], expected, check_dtype=False)
    assert not expected["weather"].eq(rows["tomorrow"]).all()


def test_what_is_loaded_later_changes_no_answer_about_before(
    client: Client, load: Load, weather: pd.DataFrame
) -> None:
    known, rest = weather.iloc[:700], weather.iloc[700:]
    load(known, "place", "place")
    rows = labelled(known)
    wanted: list[Any] = [*WEATHER, {"ref": "wind", "aggregation": "avg", "window": "7d", "as": "week"}]

    def answer() -> pd.DataFrame:
        frame: pd.DataFrame = client.training_set(rows, wanted, id_column="place", timestamp_column="ts")
        return frame

    before = answer()
    load(rest, "place", "place")
    pd.testing.assert_frame_equal(answer(), before)
    expected = weather["wind"].rolling(7, min_periods=1).mean().loc[rows.index]
    np.testing.assert_allclose(before["week"], expected, rtol=1e-9)
