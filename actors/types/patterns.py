"""Users' regular expressions, in the syntax of RE2, which never backtracks.

Python's `re` could block the whole process: matching `^(a+)+$` against thirty letters takes minutes. RE2 takes
time linear in the text, at worst about five nanoseconds per byte and instruction of the compiled expression; so
both are bounded, and so is the total time of a search. A few texts are searched by the `re2` package with an
expression that is compiled once, columns by the RE2 in Arrow, which compiles the expression on each call but takes
a sixtieth of the time per text.

A schema that an earlier version accepted may have an expression that RE2 does not support; using it raises
`Unusable`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import re2

from actors.errors import InvalidInput, TooLarge
from actors.settings import MAX_PATTERN_CHARACTERS, MAX_PATTERN_INSTRUCTIONS, PATTERN_SECONDS
from actors.types.type import Nulls

_PATTERNS_KEPT = 128
_BYTES_OF_A_PATTERN = 1 << 20
"""Memory for RE2's cache of states."""
_FEW_CHARACTERS = 1_000
_STEPS_OF_A_SLICE = 50_000_000
"""Characters times instructions that are matched between two readings of the clock."""
_REPETITION = re.compile(
    r"""\\. | \[\^?\]?(?:\\.|[^\]\\])*\] | \{(?P<least>[0-9]*)(?:,(?P<most>[0-9]+)?)?\}""", re.VERBOSE | re.DOTALL
)
"""Matches a counted repetition; also escapes and character classes, in which a brace is no repetition."""
_NAMED = {
    "(?=": "lookahead",
    "(?!": "lookahead",
    "(?<=": "lookbehind",
    "(?<!": "lookbehind",
    "(?P": "a backreference",
    "(?>": "an atomic group",
    "(?(": "a conditional group",
    "(?#": "a comment",
    "\\Z": "\\Z, which is written \\z",
}


class Unusable(ValueError):
    """An expression cannot be used; the message says why."""


def check_pattern(pattern: str, field: str) -> None:
    """Raise InvalidInput, which says what is wrong and where, for an unusable expression."""
    try:
        instructions_of(pattern)
    except Unusable as error:
        raise InvalidInput.at(field, str(error)) from None


def instructions_of(pattern: str) -> int:
    """The number of instructions of the compiled expression. Raises Unusable."""
    return int(_compiled(pattern).programsize)


@lru_cache(maxsize=_PATTERNS_KEPT)
def _compiled(pattern: str) -> re2._Regexp:
    if len(pattern) > MAX_PATTERN_CHARACTERS:
        raise Unusable(f"has {len(pattern)} characters, at most {MAX_PATTERN_CHARACTERS} are taken")
    _check_repetitions(pattern)
    options = re2.Options()
    options.log_errors, options.never_capture, options.max_mem = False, True, _BYTES_OF_A_PATTERN
    try:
        compiled = re2.compile(pattern, options)
    except re2.error as error:
        raise Unusable(_reason(pattern, error.args[0])) from None
    if compiled.programsize > MAX_PATTERN_INSTRUCTIONS:
        raise Unusable(_too_large(f"{compiled.programsize} instructions"))
    return compiled


def _check_repetitions(pattern: str) -> None:
    """Raise Unusable for repetitions that RE2 would silently treat as literal text, such as {,5}."""
    for found in _REPETITION.finditer(pattern):
        if found["most"] is not None and not found["least"]:
            raise Unusable(f"has {found[0]} at character {found.start() + 1}: write {{0,{found['most']}}}")
        if max(len(found["least"] or ""), len(found["most"] or "")) > 4:
            raise Unusable(
                f"has {found[0][:40]} at character {found.start() + 1}: at most 1000 times can be asked for"
            )


def _too_large(size: str) -> str:
    return (
        f"is too large when it is compiled: {size}, at most {MAX_PATTERN_INSTRUCTIONS}; a counted repetition"
        " such as {1,50} multiplies what it repeats, and maxLength costs nothing"
    )


def _reason(pattern: str, told: bytes) -> str:
    """A readable reason from RE2's message `told`, which has the form `what: part of the pattern`."""
    what, _, part = told.decode(errors="replace").partition(": ")
    if what.startswith("pattern too large"):
        return _too_large("more than can be")
    place = pattern.find(part) if part else -1
    at = f" at character {place + 1}" if place >= 0 else ""
    name = _NAMED.get(part)
    if name is None and part[:1] == "\\" and part[1:].isdigit():
        name = "a backreference"
    if name is not None:
        return f"has {name} ({part}){at}, which RE2 does not know"
    return f"is not a regular expression of RE2: {what} {part}{at}"


class _Budget:
    def __init__(self) -> None:
        self.seconds = PATTERN_SECONDS


_SHARED: ContextVar[_Budget | None] = ContextVar("shared", default=None)


@contextmanager
def one_budget() -> Iterator[None]:
    """Have all searches within share one budget of PATTERN_SECONDS, which each has for itself otherwise."""
    token = _SHARED.set(_Budget())
    try:
        yield
    finally:
        _SHARED.reset(token)


class Search:
    """Searches columns of texts for an expression, for at most PATTERN_SECONDS of processor time."""

    def __init__(self, pattern: str) -> None:
        """Compile the expression. Raises Unusable."""
        self._compiled = _compiled(pattern)
        self._pattern = pattern
        self._budget = _SHARED.get() or _Budget()

    def misses(self, texts: Sequence[str]) -> Nulls:
        """Which texts do not contain a match: bool[n]. Raises TooLarge when the time is used up."""
        characters = sum(map(len, texts))
        if characters <= _FEW_CHARACTERS:
            search = self._compiled.search
            return np.fromiter((search(text) is None for text in texts), np.bool_, len(texts))
        at_once = max(1, _STEPS_OF_A_SLICE // self._compiled.programsize // max(map(len, texts)))
        slices = (texts[start : start + at_once] for start in range(0, len(texts), at_once))
        return np.concatenate([self._missed(part) for part in slices])

    def _missed(self, texts: Sequence[str]) -> Nulls:
        if self._budget.seconds <= 0:
            raise TooLarge(f"searching for {self._pattern} takes longer than {PATTERN_SECONDS:g} s")
        began = time.thread_time()
        found = pc.match_substring_regex(arrow_texts(texts), pattern=self._pattern)
        self._budget.seconds -= time.thread_time() - began
        bits = np.frombuffer(found.buffers()[1], np.uint8)
        return ~np.unpackbits(bits, count=len(texts), bitorder="little").astype(np.bool_)


def arrow_texts(texts: Sequence[str]) -> pa.Array:
    """Convert texts to an Arrow array. Arrow's own way first imports pandas, which takes a second or two."""
    encoded = [text.encode() for text in texts]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    return pa.LargeStringArray.from_buffers(len(texts), pa.py_buffer(ends), pa.py_buffer(b"".join(encoded)))
