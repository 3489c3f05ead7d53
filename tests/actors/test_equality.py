"""Numbers in place of texts and vectors: equal where the values are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.table import equality
from actors.table.equality import numbered
from actors.types.type import Array

TEXTS = st.lists(st.sampled_from([None, "", "a", "b", "ab", "\0"]), max_size=30)
VECTORS = st.lists(st.tuples(*[st.sampled_from([0.0, -0.0, 1.0, 2.0])] * 2), max_size=30)


def of_texts(texts: list[Any]) -> Array:
    return np.array([*texts, None], object)[:-1]


def same_pairs(keys: list[Any]) -> list[list[bool]]:
    return [[one == other for other in keys] for one in keys]


@given(TEXTS, st.integers(1, 5), st.integers(1, 3))
@settings(deadline=None)
def test_texts_have_one_number_exactly_where_they_are_equal(texts: list[Any], step: int, hashes: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(equality, "VALUES_AT_ONCE", step)
        patch.setattr(equality, "hash", lambda text: hash(text) % hashes, raising=False)
        numbers = numbered(np.arange(len(texts)), of_texts(texts).__getitem__)
    assert same_pairs(numbers.tolist()) == same_pairs(texts)


@given(VECTORS, st.integers(1, 40), st.integers(1, 3))
@settings(deadline=None)
def test_vectors_have_one_number_exactly_where_they_are_equal(
    vectors: list[tuple[float, float]], size: int, hashes: int
) -> None:
    values = np.array(vectors, np.float32).reshape(-1, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(equality, "BYTES_AT_ONCE", size)
        patch.setattr(equality, "hash", lambda row: hash(row) % hashes, raising=False)
        numbers = numbered(np.arange(len(values)), values.__getitem__)
    assert same_pairs(numbers.tolist()) == same_pairs(vectors)


def test_no_values_have_no_numbers() -> None:
    assert len(numbered(np.arange(0), of_texts([]).__getitem__)) == 0
