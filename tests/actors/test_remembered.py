"""What is kept of questions is bounded in bytes."""

from __future__ import annotations

import pytest

from actors.domain import FeatureChange
from actors.errors import TooLarge
from actors.registry import FeatureRegistry
from actors.remembered import Remembered
from web.answers.results import MOST_FIELDS, keyed_by


def test_what_was_kept_last_is_there_and_all_of_it_together_is_bounded() -> None:
    kept = Remembered[str](most_bytes=1_000)
    for number in range(100):
        assert kept.keep(number, f"made {number}", 100) == f"made {number}"
        assert kept.get(number) == f"made {number}"
        assert sum(kept.get(one) is not None for one in range(100)) <= 10
    assert kept.keep("large", "made", 500) == "made"
    assert kept.get("large") is None
    assert kept.get(99) == "made 99"


def test_a_read_of_too_many_names_is_refused_before_anything_is_made_of_it() -> None:
    registry = FeatureRegistry([], [])
    change = FeatureChange(entity="user", name="a", value_type="number")
    registry.apply(registry.registration(change, 1)[0])
    assert registry.select(["a"] * 1_000, None) is registry.select(["a"] * 1_000, None)
    with pytest.raises(TooLarge, match="1001 features"):
        registry.select(["nobody knows"] * 1_001, None)


def test_rows_of_very_many_columns_are_the_same_as_those_of_few() -> None:
    names = tuple(f"n{number}" for number in range(MOST_FIELDS + 1))
    assert keyed_by(names)(*range(len(names))) == dict(zip(names, range(len(names)), strict=True))
    few = names[:3]
    assert keyed_by(few) is keyed_by(few)
