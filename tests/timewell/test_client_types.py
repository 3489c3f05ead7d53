"""Every value type has a column in the client, for answers and for files."""

from __future__ import annotations

from typing import Any, get_args

import pyarrow as pa
import pytest

from timewell import arrow
from timewell.commands.columns import BadValue, value_column
from timewell.errors import ServerFailed
from timewell.wire import ValueType

JSON_OF: dict[str, Any] = {
    "number": 0.5,
    "integer": 5,
    "string": "a",
    "boolean": True,
    "timestamp": "2025-01-01T10:00:00Z",
    "vector": [0.5, 1],
    "json": {"a": [1]},
}


@pytest.mark.parametrize("value_type", get_args(ValueType))
def test_every_value_type_is_a_column_of_answers_and_of_ndjson_files(value_type: str) -> None:
    value = JSON_OF[value_type]
    for column in (arrow.column_of(value_type, [value, None]), value_column(value_type, [value, None], False)):
        assert column.is_null().to_pylist() == [False, True]


def test_values_of_an_unknown_type_are_refused_by_its_name() -> None:
    with pytest.raises(ServerFailed, match="of type colour"):
        arrow.column_of("colour", ["red"])
    for given, is_text in ((["red"], False), (pa.array(["red"]), True)):
        with pytest.raises(BadValue) as raised:
            value_column("colour", given, is_text)
        assert "of type colour" in raised.value.message
