"""Answers on stdout: JSON for machines, tables for people, plain columns if stdout is not a terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

NOTHING = "-"


def show_json(answer: object) -> None:
    """Print an answer as one line of JSON."""
    import msgspec

    print(msgspec.json.encode(answer).decode())


def cell(value: object) -> str:
    """A value as a cell of a table: text as it is, else JSON. Control characters are escaped.

    >>> cell("ada"), cell(5.0), cell(None), cell([1, "a"]), cell("a\\tb")
    ('ada', '5', 'null', '[1,"a"]', '"a\\\\tb"')
    """
    import msgspec

    if isinstance(value, str) and value.isprintable():
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    text = msgspec.json.encode(value).decode()
    return text if text.isprintable() else ascii(text)


def show_table(headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table. `headings` may be empty."""
    texts = [[cell(value) for value in row] for row in rows]
    if sys.stdout.isatty():
        _show_rich(headings, texts)
    else:
        _show_plain(headings, texts)


def show_pairs(pairs: Sequence[tuple[str, Any]]) -> None:
    """Print names with their values, one pair a line."""
    show_table((), pairs)


def _show_plain(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print columns separated by two spaces, never cut."""
    lines = [headings, *rows] if headings else rows
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def _show_rich(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_header=bool(headings))
    for heading in headings or ("", ""):
        table.add_column(Text(heading), overflow="fold")
    for row in rows:
        table.add_row(*(Text(text) for text in row))
    Console().print(table)
