"""The page on expressions is true: its examples are evaluated, its limits are those that hold."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np

from actors.derive.expressions.functions import FUNCTIONS
from actors.derive.expressions.node import Operand
from actors.derive.expressions.parsing import parse
from actors.settings import MAX_EXPRESSION_CHARACTERS, MAX_EXPRESSION_DEPTH, MAX_EXPRESSION_TOKENS
from actors.types.values import convert_one, dtype_of, render
from tests.live import ROOT
from timewell.wire import ValueType

PAGE = (ROOT / "docs" / "expressions.md").read_text()
TYPES: dict[str, ValueType] = {
    "amount": "number",
    "n": "integer",
    "country": "string",
    "order-id": "string",
    "at": "timestamp",
    "since": "timestamp",
}
EXAMPLE = re.compile(r"^\| (`.+?`) \| (?:`(\{.*?\})` )?\| `([^`]+)` \|$", re.MULTILINE)


def column(type_: ValueType, value: Any) -> Operand:
    values = np.empty(1, dtype_of(type_))
    if value is not None:
        values[0] = value
    return Operand(values, np.array([value is None]))


def test_the_examples_of_the_page_on_expressions_give_what_it_says() -> None:
    examples = EXAMPLE.findall(PAGE)
    assert len(examples) == PAGE.partition("## Examples")[2].count("\n| ") - 1 > 20
    for quoted, given, told in examples:
        text = re.sub(r"^(`+) ?(.*?) ?\1$", r"\2", quoted)
        row = {
            name: None if value is None else convert_one(TYPES[name], value)
            for name, value in json.loads(given or "{}").items()
        }
        expression = parse(text, TYPES)
        one = expression.row(row)
        values, nulls, _ = expression.column({name: column(TYPES[name], row[name]) for name in row}, 1)
        assert [one] == [None if nulls[0] else values.item(0)], text
        rendered = render(expression.type, values, nulls)[0]
        assert json.loads(told) == rendered, text


def test_the_page_on_expressions_names_all_functions_and_the_limits() -> None:
    assert set(FUNCTIONS) == {name for name in re.findall(r"`(\w+)\(", PAGE) if name in FUNCTIONS}
    for limit in (MAX_EXPRESSION_CHARACTERS, MAX_EXPRESSION_TOKENS, MAX_EXPRESSION_DEPTH):
        assert f" {limit:,} " in PAGE
