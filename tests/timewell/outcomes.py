"""How commands end in tests: the exit code, and what was printed on stdout and stderr."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

Command = Callable[..., tuple[int, str, str]]


def said(result: tuple[int, str, str]) -> Any:
    """What a command that is done answered in JSON."""
    code, out, err = result
    assert (code, err) == (0, "")
    return json.loads(out)


def lines(result: tuple[int, str, str]) -> list[list[str]]:
    """The words of each line of what a command that is done printed."""
    code, out, err = result
    assert (code, err) == (0, "")
    return [line.split() for line in out.splitlines()]


def refused(result: tuple[int, str, str], code: int, *words: str) -> None:
    """It ended so, in one line that has these words."""
    assert result[0] == code, result
    assert result[1] == ""
    assert len(result[2].splitlines()) == 1, result[2]
    for word in ("timewell: ", *words):
        assert word in result[2]
