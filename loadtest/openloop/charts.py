"""Line charts as SVG: a few axes, grid lines and polylines, readable on light and dark pages."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 720, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 28, 40, 44
COLOURS = ("#1f6feb", "#d1242f", "#8250df", "#1a7f37")
Point = tuple[float, float]


class Series(NamedTuple):
    """A line; points whose values are not finite, or not above 0, break it."""

    name: str
    points: Sequence[Point]


class Chart(NamedTuple):
    """`ticks` are places on the x axis with their words. On a logarithmic y axis values are above 0."""

    title: str
    x_label: str
    y_label: str
    ticks: Sequence[tuple[float, str]]
    series: Sequence[Series]
    logarithmic: bool = True


def svg(charts: Sequence[Chart]) -> str:
    """The charts one below the other, as a document."""
    height = HEIGHT * len(charts)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12" fill="#24292f">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    for number, chart in enumerate(charts):
        parts.append(f'<g transform="translate(0 {HEIGHT * number})">')
        parts.extend(_drawn(chart))
        parts.append("</g>")
    return "\n".join([*parts, "</svg>", ""])


def _drawn(chart: Chart) -> list[str]:
    scale = _Scale(chart)
    return [
        _text(LEFT, 18, chart.title, weight="bold"),
        _text(WIDTH - RIGHT, HEIGHT - 8, chart.x_label, anchor="end"),
        _text(8, TOP - 8, chart.y_label),
        *_grid(chart, scale),
        *_lines(chart, scale),
    ]


class _Scale:
    """From values to places."""

    def __init__(self, chart: Chart) -> None:
        points = [point for series in chart.series for point in series.points if _drawable(point)]
        xs = [x for x, _ in points] + [x for x, _ in chart.ticks]
        ys = [y for _, y in points]
        self._measure: Callable[[float], float] = math.log10 if chart.logarithmic else float
        self.ticks = _decades(ys) if chart.logarithmic else _from_zero(ys)
        self._low, self._high = self._measure(self.ticks[0]), self._measure(self.ticks[-1])
        self._first, self._last = min(xs, default=0.0), max(xs, default=1.0)

    def x(self, value: float) -> float:
        """Pixels from the left."""
        share = (value - self._first) / ((self._last - self._first) or 1)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """Pixels from the top."""
        share = (self._measure(value) - self._low) / (self._high - self._low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def _decades(values: Sequence[float]) -> list[float]:
    """Powers of ten from below the least to above the greatest."""
    low = math.floor(math.log10(min(values, default=1.0)))
    high = max(low + 1, math.ceil(math.log10(max(values, default=10.0))))
    return [10.0**power for power in range(low, high + 1)]


def _from_zero(values: Sequence[float]) -> list[float]:
    """0 and three to eight round steps, to above the greatest."""
    greatest = max(values, default=1.0)
    decade = 10.0 ** math.floor(math.log10(greatest))
    step = next(decade * share for share in (0.2, 0.5, 1.0, 2.0) if decade * share * 8 >= greatest)
    return [step * number for number in range(math.ceil(greatest / step) + 1)]


def _grid(chart: Chart, scale: _Scale) -> list[str]:
    parts = []
    for tick in scale.ticks:
        y = scale.y(tick)
        parts.append(_rule(LEFT, y, WIDTH - RIGHT, y))
        parts.append(_text(LEFT - 6, y + 4, f"{tick:g}", anchor="end"))
    for place, words in chart.ticks:
        x = scale.x(place)
        parts.append(_rule(x, TOP, x, HEIGHT - BOTTOM))
        parts.append(_text(x, HEIGHT - BOTTOM + 16, words, anchor="middle"))
    return parts


def _lines(chart: Chart, scale: _Scale) -> list[str]:
    parts = []
    for number, series in enumerate(chart.series):
        colour = COLOURS[number % len(COLOURS)]
        for run in _unbroken(series.points):
            places = " ".join(f"{scale.x(x):.1f},{scale.y(y):.1f}" for x, y in run)
            parts.append(f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        x = WIDTH - RIGHT - 110 * (len(chart.series) - number)
        parts.append(_rule(x, 14, x + 18, 14, colour))
        parts.append(_text(x + 24, 18, series.name))
    return parts


def _drawable(point: Point) -> bool:
    return all(map(math.isfinite, point)) and point[1] > 0


def _unbroken(points: Sequence[Point]) -> list[list[Point]]:
    runs: list[list[Point]] = [[]]
    for point in points:
        if _drawable(point):
            runs[-1].append(point)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _rule(x1: float, y1: float, x2: float, y2: float, colour: str = "#d0d7de") -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def _text(x: float, y: float, words: str, anchor: str = "start", weight: str = "normal") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}">{escape(words)}</text>'
