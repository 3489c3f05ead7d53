"""The text of an expression as tokens.

Python's parser knows the precedence of operators, but shall not see what is not of this language. So a text is
scanned first, and each name, number and text in it is replaced by a single letter and spaces: the positions stay,
keywords of Python are ordinary names, and what is left are operators and parentheses.
"""

from __future__ import annotations

import ast
import math
import re
from typing import NamedTuple

from actors.errors import Fault, InvalidInput
from actors.settings import MAX_EXPRESSION_CHARACTERS, MAX_EXPRESSION_DEPTH, MAX_EXPRESSION_TOKENS

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]+)
    | (?P<name>[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*)
    | (?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?(?![\w.'"`]))
    | `(?P<quoted>[^`\n]+)`
    | (?P<text>'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")
    | (?P<operator>\*\*|==|!=|<=|>=|[-+*/%<>(),])""",
    re.VERBOSE,
)
_OPERATORS = frozenset({"and", "or", "not", "in", "is", "if", "else"})
_CONSTANTS = {"true": True, "false": False, "null": None}
_ESCAPE = re.compile(r"\\(.)")
_ESCAPED = {"\\": "\\", "'": "'", '"': '"', "n": "\n", "t": "\t", "r": "\r"}
_INSTEAD = {"=": "equality is written ==", "!": "negation is written not", "&": "write and", "|": "write or"}
_FIRST_LETTER = 0x4E00  # from here on there are 20,992 letters, each of which is an identifier to Python
_SHOWN = 40
LARGEST_WRITTEN = 2**63
"""An integer literal may be this large only with a minus before it."""


class Name(NamedTuple):
    """The name of a field or a function."""

    name: str


class Literal(NamedTuple):
    """A literal: a number, a text, true, false or null."""

    value: bool | int | float | str | None


class ScannedText(NamedTuple):
    """A text and what its letters stand for. `field`: what errors call the text."""

    text: str
    field: str
    letters: dict[str, Name | Literal]
    lengths: dict[str, int]
    """How long the tokens are that letters stand for."""
    masked: str
    lead: int
    """How many characters of space were taken away before it: Python would take them for an indentation."""

    def wrong(self, position: int, reason: str) -> InvalidInput:
        """An error at a position, counted in characters from 0."""
        message = f"column {self.lead + position + 1}: {reason}"
        return InvalidInput(f"{self.field}, {message}", [Fault(self.field, message)])

    def position(self, node: ast.expr) -> int:
        """Where a node begins, in characters: Python counts bytes."""
        return len(self.masked.encode()[: node.col_offset].decode())

    def source(self, node: ast.expr) -> str:
        """The text of a node, shortened if it is long."""
        end = len(self.masked.encode()[: node.end_col_offset].decode())
        end += self.lengths.get(self.masked[end - 1], 1) - 1
        return shortened(self.text[self.position(node) : end].strip())

    def parsed(self) -> ast.expr:
        """Parse the operators. Raises InvalidInput."""
        try:
            return ast.parse(self.masked, mode="eval").body
        except SyntaxError as error:
            raise self._unreadable(error) from None
        except (RecursionError, MemoryError, ValueError):
            raise self.wrong(0, "nested too deeply") from None

    def _unreadable(self, error: SyntaxError) -> InvalidInput:
        position = (error.offset or 0) - 1
        told = error.msg if error.msg.isascii() and not error.msg.startswith("invalid syntax") else ""
        if not 0 <= position < len(self.text.rstrip()):
            return self.wrong(len(self.text.rstrip()), told or "something is missing at the end")
        return self.wrong(position, told or f"cannot be read from here on: {shortened(self.text[position:])!r}")


def shortened(text: str) -> str:
    """A part of an expression for a message."""
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def scanned(text: str, field: str) -> ScannedText:
    """Scan a text. Raises InvalidInput for what is no token, and beyond the limits."""
    stripped = text.lstrip(" \t\r\n")
    found = ScannedText(stripped, field, {}, {}, "", len(text) - len(stripped))
    if len(text) > MAX_EXPRESSION_CHARACTERS:
        raise found.wrong(0, f"longer than {MAX_EXPRESSION_CHARACTERS:,} characters")
    try:
        stripped.encode()
    except UnicodeEncodeError as error:
        raise found.wrong(error.start, "half of a surrogate pair is no character") from None
    parts, position, tokens, depth = list[str](), 0, 0, 0
    while position < len(stripped):
        match = _TOKEN.match(stripped, position)
        if match is None:
            raise found.wrong(position, _why_no_token(stripped, position))
        tokens += match.lastgroup != "space"
        depth += {"(": 1, ")": -1}.get(match[0], 0)
        if tokens > MAX_EXPRESSION_TOKENS:
            raise found.wrong(position, f"more than {MAX_EXPRESSION_TOKENS:,} names, values and operators")
        if depth > MAX_EXPRESSION_DEPTH:
            raise found.wrong(position, f"nested more than {MAX_EXPRESSION_DEPTH} levels deep")
        parts.append(_masked(found, match))
        position = match.end()
    if not tokens:
        raise found.wrong(0, "is empty")
    return found._replace(masked="".join(parts))


def _masked(found: ScannedText, match: re.Match[str]) -> str:
    """What Python's parser sees in place of a token, as long as the token."""
    token = match[0]
    if match.lastgroup == "space":
        return " " * len(token)
    if match.lastgroup == "operator" or token in _OPERATORS:
        return token
    letter = chr(_FIRST_LETTER + len(found.letters))
    found.letters[letter] = _leaf(found, match)
    found.lengths[letter] = len(token)
    return letter.ljust(len(token))


def _leaf(found: ScannedText, match: re.Match[str]) -> Name | Literal:
    token = match[0]
    if match.lastgroup == "number":
        return Literal(_number(found, match.start(), token))
    if match.lastgroup == "text":
        return Literal(_unescaped(found, match.start(), token))
    if token in _CONSTANTS:
        return Literal(_CONSTANTS[token])
    return Name(match["quoted"] or token)


def _number(found: ScannedText, position: int, token: str) -> int | float:
    if not token.isdigit():
        number = float(token)
        if math.isinf(number):
            raise found.wrong(position, f"{shortened(token)} is not a finite float64")
        return number
    digits = token.lstrip("0") or "0"
    if len(digits) > 19 or int(digits) > LARGEST_WRITTEN:
        raise found.wrong(
            position, f"{shortened(token)} does not fit in 64 bits; 1e30 is written with an exponent"
        )
    return int(digits)


def _unescaped(found: ScannedText, position: int, token: str) -> str:
    for match in _ESCAPE.finditer(token):
        if match[1] not in _ESCAPED:
            reason = f"no escape {match[0]}; there are {' '.join(chr(92) + one for one in _ESCAPED)}"
            raise found.wrong(position + match.start(), reason)
    return _ESCAPE.sub(lambda match: _ESCAPED[match[1]], token[1:-1])


def _why_no_token(text: str, position: int) -> str:
    letter = text[position]
    if letter in "'\"`":
        return (
            f"{letter} is not closed, or is empty"
            if letter == "`"
            else f"the text that begins with {letter} is not closed"
        )
    if letter in _INSTEAD:
        return _INSTEAD[letter]
    if letter.isdigit():
        return f"{shortened(text[position:])!r} begins with a digit, but is no number"
    if letter.isalpha():
        return f"a name with {letter!r} is written in backticks"
    return f"{letter!r} is not part of the language"
