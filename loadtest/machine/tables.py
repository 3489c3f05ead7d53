"""Tables, headings first: for a terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Sequence

Table = Sequence[Sequence[str]]


def aligned(table: Table, left: int = 1) -> str:
    """To be read in a terminal: so many columns to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if at < left else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def piped(table: Table, left: int = 1) -> str:
    """The same as Markdown."""
    head, *rest = [f"| {' | '.join(row)} |" for row in table]
    return "\n".join([head, f"|{'---|' * left}{'---:|' * (len(table[0]) - left)}", *rest])


def number(value: float) -> str:
    """Three digits that count, all of those before the point."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3g}"
