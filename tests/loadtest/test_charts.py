"""Charts are well-formed, and lines go where their values are."""

from __future__ import annotations

import math
from itertools import pairwise
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from loadtest.openloop.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Chart, Series, svg

TAG = "{http://www.w3.org/2000/svg}"
POINTS = st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(1e-6, 1e9) | st.just(math.nan) | st.just(0.0)))


def polylines(document: str) -> list[list[tuple[float, float]]]:
    """The places of each line, read back with a parser."""
    found = ElementTree.fromstring(document).iter(f"{TAG}polyline")
    return [
        [(float(x), float(y)) for x, _, y in (place.partition(",") for place in line.attrib["points"].split())]
        for line in found
    ]


@given(POINTS, st.booleans(), st.text(st.characters(codec="utf-8", exclude_categories=["C"])))
def test_whatever_is_drawn_is_well_formed_and_within_its_frame(
    points: list[tuple[float, float]], logarithmic: bool, name: str
) -> None:
    document = svg([Chart(name, "x", "y", [], [Series(name, points)], logarithmic)])
    drawn = [place for line in polylines(document) for place in line]
    assert len(drawn) == sum(math.isfinite(y) and y > 0 for _, y in points)
    assert all(
        LEFT - 0.1 <= x <= WIDTH - RIGHT + 0.1 and TOP - 0.1 <= y <= HEIGHT - BOTTOM + 0.1 for x, y in drawn
    )


def test_larger_values_are_higher_and_later_ones_further_right() -> None:
    for logarithmic in (True, False):
        ((first, second),) = polylines(
            svg([Chart("t", "x", "y", [], [Series("s", [(0, 1), (1, 7)])], logarithmic)])
        )
        assert first[0] < second[0]
        assert first[1] > second[1]


def test_decades_are_evenly_apart() -> None:
    (line,) = polylines(svg([Chart("t", "x", "y", [], [Series("s", [(0, 1), (1, 10), (2, 100)])])]))
    steps = [before[1] - after[1] for before, after in pairwise(line)]
    assert math.isclose(steps[0], steps[1], abs_tol=0.2)


def test_what_is_missing_breaks_the_line() -> None:
    points = [(0.0, 1.0), (1.0, 2.0), (2.0, math.nan), (3.0, 3.0), (4.0, 4.0)]
    assert [len(line) for line in polylines(svg([Chart("t", "x", "y", [], [Series("s", points)])]))] == [2, 2]


def test_words_are_escaped() -> None:
    document = svg([Chart("a < b & c", "x", "y", [(0.0, "<0>")], [])])
    texts = [one.text for one in ElementTree.fromstring(document).iter(f"{TAG}text")]
    assert "a < b & c" in texts
    assert "<0>" in texts
