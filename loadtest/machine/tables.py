"""Tables, headings first: Markdown that is readable in a terminal too."""

from __future__ import annotations

from collections.abc import Sequence

Table = Sequence[Sequence[str]]


def table(rows: Table, left: int = 1) -> str:
    """`left`: how many columns are aligned left; the others are aligned right."""
    widths = [max(3, *map(len, column)) for column in zip(*rows, strict=True)]
    sides = ["<" if at < left else ">" for at in range(len(widths))]
    lines = [
        f"| {' | '.join(f'{cell:{side}{width}}' for cell, side, width in zip(row, sides, widths, strict=True))} |"
        for row in rows
    ]
    rules = ["-" * width + ("-|" if side == "<" else ":|") for side, width in zip(sides, widths, strict=True)]
    return "\n".join([lines[0], "|" + "".join(f"-{rule}" for rule in rules), *lines[1:]])


def number(value: float) -> str:
    """A number with three significant digits, and all digits before the point."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3g}"
