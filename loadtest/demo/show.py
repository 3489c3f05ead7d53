"""Requests and answers, trimmed so that each fits a glance."""

from __future__ import annotations

import json
import sys
from typing import Any

WIDTH = 100
LINES = 14
ITEMS = 2
CHARACTERS = 72


def trimmed(value: Any) -> Any:
    """The value with long lists and texts cut, saying how much is missing."""
    if isinstance(value, dict):
        return {key: trimmed(item) for key, item in value.items()}
    if isinstance(value, list):
        if len(value) <= ITEMS + 1 or all(isinstance(item, int | float) for item in value):
            return [trimmed(item) for item in value]
        return [*map(trimmed, value[:ITEMS]), f"... {len(value) - ITEMS:,} more"]
    if isinstance(value, str) and len(value) > CHARACTERS:
        return value[:CHARACTERS] + "..."
    return value


def laid_out(value: Any, indent: str = "  ") -> list[str]:
    """Lines of JSON, each as full as it may be."""
    flat = indent + json.dumps(value, ensure_ascii=False)
    if len(flat) <= WIDTH or not isinstance(value, dict | list):
        return [flat]
    inner = indent + "  "
    if isinstance(value, dict):
        parts = [_named(key, laid_out(item, inner), inner) for key, item in value.items()]
    else:
        parts = [laid_out(item, inner) for item in value]
    first, last = "{}" if isinstance(value, dict) else "[]"
    return [indent + first, *_filled(_with_commas(parts), inner), indent + last]


def _named(key: str, lines: list[str], indent: str) -> list[str]:
    return [f"{indent}{json.dumps(key)}: {lines[0].removeprefix(indent)}", *lines[1:]]


def _with_commas(parts: list[list[str]]) -> list[list[str]]:
    return [[*part[:-1], part[-1] + ","] for part in parts[:-1]] + parts[-1:]


def _filled(parts: list[list[str]], indent: str) -> list[str]:
    """Neighbours that are short share a line."""
    lines: list[str] = []
    open_ended = False
    for part in parts:
        short = len(part) == 1
        if short and open_ended and len(lines[-1]) + len(part[0]) - len(indent) < WIDTH:
            lines[-1] += " " + part[0].removeprefix(indent)
        else:
            lines += part
        open_ended = short
    return lines


def body(value: Any) -> str:
    """A trimmed body, at most LINES lines of it."""
    lines = laid_out(trimmed(value))
    if len(lines) > LINES:
        lines = [*lines[: LINES - 1], "    ..."]
    return "\n".join(lines)


def strong(text: str) -> str:
    """Bold on a terminal, plain elsewhere."""
    return f"\033[1m{text}\033[0m" if sys.stdout.isatty() else text
