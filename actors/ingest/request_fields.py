"""Fields of the rows of a request that features computed on demand need, from JSON and from Arrow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from actors.derive.computing import Fields
from actors.derive.expressions.node import Operand
from actors.derive.on_demand import Computed
from actors.domain import Feature, ValueType
from actors.errors import Fault, InvalidInput
from actors.ingest.entity_ids import MOST_FAULTS_NAMED
from actors.settings import ROWS_PER_TURN
from actors.turns import Steps
from actors.types.type import NO_FEATURE, Coerced, joined
from actors.types.values import convert, convert_arrow


def fields_of_rows(selected: Computed, rows: Sequence[Mapping[str, Any]]) -> Steps[Fields]:
    """The fields of rows that the features need, in steps.

    Raises InvalidInput that names row, field and feature if a field is missing or of another type.
    """
    found = dict[tuple[str, ValueType], Operand]()
    for (field, value_type), asked in selected.request.items():
        parts, feature = list[Coerced](), _of_type(value_type, asked)
        for start in range(0, max(1, len(rows)), ROWS_PER_TURN):
            lot = rows[start : start + ROWS_PER_TURN]
            missing = [start + index for index, row in enumerate(lot) if field not in row]
            _refuse([(row, f"is missing; {asked} needs it") for row in missing], field)
            part = convert(feature, [row[field] for row in lot])
            _refuse([(start + row, f"{reason}, which {asked} needs") for row, reason in part.refused], field)
            parts.append(part)
            yield
        whole = joined(parts)
        found[field, value_type] = Operand(whole.values, whole.nulls)
    return found


def fields_of_table(selected: Computed, table: pa.Table) -> Fields:
    """The same from an Arrow table whose rows are those of the request. Blocks; for a worker thread."""
    found = dict[tuple[str, ValueType], Operand]()
    for (field, value_type), asked in selected.request.items():
        if field not in table.column_names:
            raise InvalidInput.at(field, f"the rows have no such column; {asked} needs it")
        column = convert_arrow(_of_type(value_type, asked), table[field].combine_chunks(), field)
        _refuse([(row, f"{reason}, which {asked} needs") for row, reason in column.refused], field)
        found[field, value_type] = Operand(column.values, column.nulls)
    return found


def _of_type(value_type: ValueType, asked: str) -> Feature:
    """A stand-in by which values are converted. `asked`: the column that needs them, for messages."""
    return msgspec.structs.replace(NO_FEATURE, id=asked, value_type=value_type)


def _refuse(refused: Sequence[tuple[int, str]], field: str) -> None:
    if refused:
        row, reason = refused[0]
        faults = [Fault(f"rows.{field}", why, place) for place, why in refused[:MOST_FAULTS_NAMED]]
        raise InvalidInput(f"rows[{row}].{field}: {reason}", faults)
