"""The expression language: what is refused and where, and what its operators mean, case by case."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.derive.expressions.node import Operand
from actors.derive.expressions.parsing import parse, parse_condition
from actors.errors import InvalidInput
from actors.settings import MAX_EXPRESSION_CHARACTERS, MAX_EXPRESSION_DEPTH, MAX_EXPRESSION_TOKENS
from actors.types.type import no_nulls
from timewell.wire import ValueType

TYPES: dict[str, ValueType] = {
    "amount": "number",
    "n": "integer",
    "ok": "boolean",
    "country": "string",
    "at": "timestamp",
    "embedding": "vector",
    "user.avg_30d": "number",
    "class": "number",
    "not": "number",
    "order-id": "string",
}
HOUR = 3_600_000_000


def of(text: str, **row: Any) -> Any:
    return parse(text, TYPES).row(row)


# What is refused

REFUSED = {
    "amuont > 1": "column 1: 'amuont' is no field; there are amount, n, ok,",
    "1 + amuont": "column 5: 'amuont' is no field",
    "   amuont": "column 4: 'amuont' is no field",
    "n +": "column 4: something is missing at the end",
    "(n + 1": "column 1: '(' was never closed",
    "n + 1)": "column 6: unmatched ')'",
    "n n": "column 3: cannot be read from here on: 'n'",
    "n if ok": "column 1: expected 'else' after 'if' expression",
    "": "column 1: is empty",
    " \n": "column 3: is empty",
    "n = 1": "column 3: equality is written ==",
    "n && ok": "column 3: write and",
    "n // 2": "column 1: there are only the operators + - * / % **: 'n // 2'",
    "n << 2": "column 1: there are only the operators + - * / % **: 'n << 2'",
    "n + country": "column 1: + needs numbers, got a string: 'n + country'",
    "1 + (n + 'long text')": "column 6: + needs numbers, got a string: \"n + 'long text'\"",
    "ok + 1": "column 1: + needs numbers, got a boolean",
    "embedding + 1": "column 1: + needs numbers, got a vector",
    "embedding": "column 1: a vector can only be asked whether it is null",
    "embedding == embedding": "column 1: a vector cannot be compared with a vector",
    "country == 1": "column 1: a string cannot be compared with an integer: 'country == 1'",
    "ok < true": "column 1: < does not apply to booleans",
    "n == null": "column 1: == null is always null; write `is null` or `is not null`: 'n == null'",
    "n is 1": "column 1: only null can stand after is",
    "1 < n < 3": "column 1: comparisons are not chained; write a < b and b < c: '1 < n < 3'",
    "ok and n": "column 1: a condition is needed, and this is an integer",
    "null": "column 1: is always null",
    "null if ok else null": "column 1: all of these are null",
    "1 if ok else 'a'": "column 1: an integer and a string cannot be mixed here",
    "n in (1, amount)": "column 10: a list has only values, no fields: 'amount'",
    "n in ('a')": "column 1: an integer cannot be in a list that has a string",
    "(1, 2)": "column 1: is not part of the language: '(1, 2)'",
    "f(x)": "column 1: 'f' is no function; there are abs, min, max,",
    "`log`(n)(n)": "column 1: is no call of a function",
    "log(**n)": "column 1: is no call of a function",
    "log(*n)": "column 5: is not part of the language: '*n'",
    "min(n)": "column 1: min takes 2 or more arguments, got 1: 'min(n)'",
    "round(n, 1, 2)": "column 1: round takes 1 or 2 arguments, got 3",
    "round(amount, n)": "column 1: the decimals of round are an integer from 0 to 15",
    "lower(n)": "column 1: lower is for texts, and this is an integer",
    "max(country, 'a')": "column 1: max needs numbers or timestamps, got a string",
    "at > 'soon'": "column 1: 'soon' is no timestamp such as 2025-11-07T10:00:00Z",
    "at - '2025-01-01'": "column 1: a timestamp - a string has no meaning; seconds are numbers",
    "5 - at": "column 1: an integer - a timestamp has no meaning",
    "at + at": "column 1: a timestamp + a timestamp has no meaning",
    "'abc": "column 1: the text that begins with ' is not closed",
    "`abc": "column 1: ` is not closed",
    "'a\\d'": "column 3: no escape \\d; there are",
    "'it''s' == country": "column 5: cannot be read from here on: \"'s' == country\"",
    "b'abc'": "column 1: cannot be read from here on",
    "5'a'": "column 1: \"5'a'\" begins with a digit, but is no number",
    "12abc": "column 1: '12abc' begins with a digit, but is no number",
    "é + 1": "column 1: a name with 'é' is written in backticks",
    "1e999": "column 1: 1e999 is not a finite float64",
    "9" * 5_000: "does not fit in 64 bits; 1e30 is written with an exponent",
    "9223372036854775808": "column 1: 9223372036854775808 does not fit in 64 bits",
    "n[0]": "column 2: '[' is not part of the language",
    "n.__class__": "column 1: 'n.__class__' is no field",
    "().__class__": "column 3: '.' is not part of the language",
    "__import__('os')": "column 1: '__import__' is no function",
    "lambda: 1": "column 7: ':' is not part of the language",
    "x for x in n": "column 3: cannot be read from here on: 'for x in n'",
    "n\x00": "column 2: '\\x00' is not part of the language",
    "'\ud800'": "column 2: half of a surrogate pair is no character",
    "n # all": "column 3: '#' is not part of the language",
    "(" * 100 + "n" + ")" * 100: f"nested more than {MAX_EXPRESSION_DEPTH} levels deep",
    "-" * 500 + "n": f"column 65: nested more than {MAX_EXPRESSION_DEPTH} levels deep",
    "not " * 900 + "ok": f"nested more than {MAX_EXPRESSION_DEPTH} levels deep",
    "n" + "+1" * 600: f"more than {MAX_EXPRESSION_TOKENS:,} names, values and operators",
    "n" + "+1" * 100: f"nested more than {MAX_EXPRESSION_DEPTH} levels deep",
    " " * 9_000: f"longer than {MAX_EXPRESSION_CHARACTERS:,} characters",
}


@pytest.mark.parametrize(("text", "told"), REFUSED.items(), ids=lambda given: ascii(given[:30]))
def test_what_is_wrong_is_told_with_its_place(text: str, told: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse(text, TYPES)
    assert told in refused.value.detail and refused.value.detail.startswith("expression, column ")
    assert [fault.field for fault in refused.value.faults] == ["expression"]
    assert len(refused.value.detail) < 400


@given(st.text(max_size=30) | st.text("n1 .+-*/%<>=!()'\"`,\\andortisfelu", max_size=40))
def test_any_text_is_an_expression_or_is_refused(text: str) -> None:
    try:
        parse(text, TYPES)
    except InvalidInput as refused:
        assert refused.faults


def test_a_condition_has_to_be_one() -> None:
    assert parse_condition("n > 1", TYPES).type == "boolean"
    with pytest.raises(InvalidInput, match="where: a condition is needed, and this is an integer"):
        parse_condition("n + 1", TYPES)
    with pytest.raises(InvalidInput, match="where, column 1: 'm' is no field"):
        parse_condition("m > 1", TYPES)


# Names and types


def test_names_are_told_once_in_order_and_may_be_dotted_keywords_or_quoted() -> None:
    text = "n + class + user.avg_30d + n > `not` and `order-id` == 'a'"
    assert parse(text, TYPES).names == ("n", "class", "user.avg_30d", "not", "order-id")
    assert of("`order-id`", **{"order-id": "A7"}) == "A7"
    assert parse("`é 1`", {"é 1": "number"}).names == ("é 1",)


@pytest.mark.parametrize(
    ("text", "type_"),
    [
        ("n + 1", "integer"),
        ("n + 1.0", "number"),
        ("n / 2", "number"),
        ("n ** 2", "number"),
        ("n % 2", "integer"),
        ("amount % 2", "number"),
        ("round(n)", "integer"),
        ("floor(amount)", "number"),
        ("max(n, amount)", "number"),
        ("length(country)", "integer"),
        ("at - at", "number"),
        ("at + 5", "timestamp"),
        ("5 + at", "timestamp"),
        ("n if ok else null", "integer"),
        ("null if ok else country", "string"),
        ("coalesce(null, n, 0.5)", "number"),
        ("coalesce(at, '2025-11-07')", "timestamp"),
        ("embedding is null", "boolean"),
        ("country in ('a', null)", "boolean"),
    ],
)
def test_the_type_of_a_result_is_known_before_any_value(text: str, type_: str) -> None:
    assert parse(text, TYPES).type == type_


# What it means


@pytest.mark.parametrize(
    ("text", "row", "value"),
    [
        ("2 + 3 * 4 ** 2", {}, 50.0),
        ("-2 ** 2", {}, -4.0),
        ("(2 + 3) * 4", {}, 20),
        ("2 ** 3 ** 2", {}, 512.0),
        ("-7 % 3", {}, 2),
        ("7 % -3", {}, -2),
        ("-7.5 % 2", {}, 0.5),
        ("7 / 2", {}, 3.5),
        ("n / 0", {"n": 1}, None),
        ("n % 0", {"n": 1}, None),
        ("amount % 0", {"amount": 1.0}, None),
        ("n + 1", {"n": 2**63 - 1}, None),
        ("n * n", {"n": 2**32}, None),
        ("n * n", {"n": 3_037_000_499}, 3_037_000_499**2),
        ("-9223372036854775808", {}, -(2**63)),
        ("-9223372036854775808.0", {}, -(2.0**63)),
        ("-n", {"n": -(2**63)}, None),
        ("abs(n)", {"n": -(2**63)}, None),
        ("n == 9007199254740992.0", {"n": 2**53 + 1}, False),
        ("n > 9007199254740992.0", {"n": 2**53 + 1}, True),
        ("n < 9223372036854775808.0", {"n": 2**63 - 1}, True),
        ("n in (9007199254740992.0)", {"n": 2**53 + 1}, False),
        ("amount * 10 > 0", {"amount": 1e308}, None),
        ("amount * 10 is null", {"amount": 1e308}, True),
        ("amount", {"amount": float("nan")}, None),
        ("0 * -amount", {"amount": 1.0}, 0.0),
        ("log(0)", {}, None),
        ("log(-1)", {}, None),
        ("sqrt(-1)", {}, None),
        ("exp(1000)", {}, None),
        ("0 ** -1", {}, None),
        ("(-8) ** 0.5", {}, None),
        ("round(0.5)", {}, 0.0),
        ("round(2.5)", {}, 2.0),
        ("round(2.675, 2)", {}, 2.67),
        ("ceil(-0.5)", {}, 0.0),
        ("min(n, 2)", {"n": None}, None),
        ("max(1, 2.5)", {}, 2.5),
        ("coalesce(n, 7)", {}, 7),
        ("ok and false", {"ok": None}, False),
        ("ok and true", {"ok": None}, None),
        ("ok or true", {"ok": None}, True),
        ("ok or false", {"ok": None}, None),
        ("not ok", {"ok": None}, None),
        ("n == 1", {"n": None}, None),
        ("n is null", {"n": None}, True),
        ("n is not null", {"n": None}, False),
        ("not n is null", {"n": None}, False),
        ("1 if ok else 2", {"ok": None}, 2),
        ("1 if ok else 2", {"ok": True}, 1),
        ("n in (1, null)", {"n": 1}, True),
        ("n in (1, null)", {"n": 2}, None),
        ("n not in (1, null)", {"n": 1}, False),
        ("n not in (1, null)", {"n": 2}, None),
        ("n in (1, -2)", {"n": -2}, True),
        ("n in (1)", {"n": None}, None),
        ("country in ('NO', 'SE')", {"country": "SE"}, True),
        ("country < 'Z'", {"country": "a"}, False),
        ("lower(country)", {"country": "NO"}, "no"),
        ("upper('ß')", {}, "SS"),
        ("length('😀a')", {}, 2),
        ("startsWith(country, 'N')", {"country": "NO"}, True),
        ("endsWith(country, 'N')", {"country": "NO"}, False),
        ("contains(country, '')", {"country": "NO"}, True),
        ("'it\\'s\\n' == \"it's\\n\"", {}, True),
        ("at > '2025-01-01'", {"at": 1_735_689_600_000_000 + HOUR}, True),
        ("at == '2025-01-01T01:00:00+00:00'", {"at": 1_735_689_600_000_000 + HOUR}, True),
        ("at in ('2025-01-01')", {"at": 1_735_689_600_000_000}, True),
        ("at + 3600", {"at": 0}, HOUR),
        ("at - 0.0000005", {"at": 10}, 10),
        ("at + 1e300", {"at": 0}, None),
        ("at", {"at": -(2**63)}, None),
        ("n\n  + 1", {"n": 1}, 2),
    ],
)
def test_an_operator_means_what_the_page_says(text: str, row: Mapping[str, Any], value: Any) -> None:
    found = of(text, **row)
    assert (type(found), str(found)) == (type(value), str(value))


# Columns


class CountedText(str):
    """A text that counts how often it is asked for its length."""

    asked = 0

    def __len__(self) -> int:
        CountedText.asked += 1
        return super().__len__()


def test_a_text_of_a_coded_column_is_looked_at_once_and_results_keep_the_codes() -> None:
    distinct = np.empty(2, object)
    distinct[:] = [CountedText("NO"), CountedText("SWE")]
    codes = np.arange(1_000, dtype=np.int32) % 2
    columns = {"country": Operand(distinct, no_nulls(1_000), codes)}
    CountedText.asked = 0
    lengths = parse("length(country)", TYPES).column(columns, 1_000)
    assert CountedText.asked == 2 and lengths.values.tolist() == [2, 3] * 500
    lowered = parse("lower(country)", TYPES).column(columns, 1_000)
    assert lowered.codes is codes and lowered.values.tolist() == ["no", "swe"]


def test_a_constant_is_a_column_of_its_length() -> None:
    assert parse("1 + 1", TYPES).column({}, 3).values.tolist() == [2, 2, 2]
    assert parse("1 / 0", TYPES).column({}, 2).nulls.tolist() == [True, True]
    assert parse("'a'", TYPES).column({}, 2).values.tolist() == ["a", "a"]


def test_columns_given_are_not_changed() -> None:
    given = np.array([1.0, np.nan, -0.0])
    kept = given.copy()
    operand = Operand(given, np.array([False, False, True]))
    for text in ["amount", "amount + 1 if amount > 0 else 0", "coalesce(amount, 1)", "-amount"]:
        parse(text, TYPES).column({"amount": operand}, 3)
    assert given.tobytes() == kept.tobytes() and operand.nulls.tolist() == [False, False, True]


@pytest.mark.parametrize("sign", ["==", "!=", "<", "<=", ">", ">="])
def test_columns_of_integers_and_numbers_are_compared_by_exact_values(sign: str) -> None:
    whole = [0, 1, -1, 5, 2**53, 2**53 + 1, -(2**53) - 1, 2**62, 2**63 - 1, -(2**63)]
    real = [0.5, -0.5, 5.5, 5.0, 2.0**53, -(2.0**53) - 2, 2.0**63, -(2.0**63), -(2.0**63) - 4096, 1e300, -1e300]
    pairs = [(n, amount) for n in whole for amount in real]
    columns = {
        "n": Operand(np.array([n for n, _ in pairs]), no_nulls(len(pairs))),
        "amount": Operand(np.array([amount for _, amount in pairs]), no_nulls(len(pairs))),
    }
    for text in (f"n {sign} amount", f"amount {sign} n"):
        expression = parse(text, TYPES)
        rows = [expression.row({"n": n, "amount": amount}) for n, amount in pairs]
        assert expression.column(columns, len(pairs)).values.tolist() == rows
