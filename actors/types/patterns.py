"""Regular expressions that users give, in the syntax of RE2, which never backtracks.

Python's own would hold the whole process: over `^(a+)+$` and thirty letters it takes minutes. RE2 takes time
linear in the text, at worst some five nanoseconds for each byte and instruction of the compiled expression; so
both are bounded, and so is what one search may take in all. Few texts are searched by RE2 as it is compiled here,
columns by the RE2 in Arrow, which is told the expression anew each time and needs a sixtieth of the time a text.

An expression that an earlier version took and RE2 does not know stays what it is: `Unusable` is raised where it is
used.
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
"""What RE2 may remember of the states that it has come by."""
_FEW_CHARACTERS = 1_000
_STEPS_OF_A_SLICE = 50_000_000
"""Characters times instructions between two looks at the clock."""
_REPETITION = re.compile(
    r"""\\. | \[\^?\]?(?:\\.|[^\]\\])*\] | \{(?P<least>[0-9]*)(?:,(?P<most>[0-9]+)?)?\}""", re.VERBOSE | re.DOTALL
)
"""Also what has a brace in it and is none: something escaped, a class of characters."""
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
    """Why an expression cannot be searched for."""


def check_pattern(pattern: str, field: str) -> None:
    """Raise InvalidInput that says what is wrong with it and where."""
    try:
        instructions_of(pattern)
    except Unusable as error:
        raise InvalidInput.at(field, str(error)) from None


def instructions_of(pattern: str) -> int:
    """How large the expression is when it is compiled. Raises Unusable."""
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
    """RE2 takes these for the letters that they are written with, which nobody means."""
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
    """RE2 says `what: the part of the pattern`."""
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
    """All searches within take PATTERN_SECONDS together; one that is alone has them for itself."""
    token = _SHARED.set(_Budget())
    try:
        yield
    finally:
        _SHARED.reset(token)


class Search:
    """Searches columns of texts for an expression, for PATTERN_SECONDS of processor time and no longer."""

    def __init__(self, pattern: str) -> None:
        """Raises Unusable."""
        self._compiled = _compiled(pattern)
        self._pattern = pattern
        self._budget = _SHARED.get() or _Budget()

    def misses(self, texts: Sequence[str]) -> Nulls:
        """In which texts the expression is not found. Raises TooLarge once it has taken too long."""
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
    """Texts as an array. Arrow's own ways there and back import pandas when first taken, for a second or two."""
    encoded = [text.encode() for text in texts]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    return pa.LargeStringArray.from_buffers(len(texts), pa.py_buffer(ends), pa.py_buffer(b"".join(encoded)))
