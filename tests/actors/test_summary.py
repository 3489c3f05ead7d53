"""A summary of a stream is what numpy makes of the whole of it, in whatever pieces and order it came."""

from __future__ import annotations

import json
import random
import string
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from datasketches import frequent_strings_sketch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from actors.domain import VALUE_TYPES
from actors.stats.components import MOST, Components
from actors.stats.distinct import EXACT_LIMIT
from actors.stats.distribution import BINS, Distribution
from actors.stats.quantiles import Quantiles
from actors.stats.state import decode, encode
from actors.stats.summary import (
    EXACT_LIMIT_OF_A_WINDOW,
    Accepted,
    Summary,
    merge_states,
    of_a_window,
    of_all,
)
from actors.stats.top_values import LOG2_ENTRIES, LOG2_ENTRIES_OF_A_WINDOW, LONGEST_BYTES, TopValues, cut

SHARES = [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99]
NOON = 1_762_516_800_000_000
LARGEST_STATE = 32 * 1024
SIZES = st.sampled_from([1, 2, 30, 300, 2_000, 9_000])
Generator = np.random.Generator


def objects(texts: list[str | None]) -> NDArray[Any]:
    column = np.empty(len(texts), object)
    column[:] = texts
    return column


# Streams: each takes a source of chance and a length


def numbers(chance: Generator, count: int) -> NDArray[Any]:
    mixed = np.where(chance.random(count) < 0.5, chance.normal(50, 1e4, count), chance.integers(0, 9, count))
    return chance.permutation(mixed)


def integers(chance: Generator, count: int) -> NDArray[Any]:
    return chance.integers(-(2**63), 2**63, count, np.int64)


def texts(chance: Generator, count: int) -> NDArray[Any]:
    """Few are frequent, many are rare."""
    ranks = np.minimum(chance.zipf(1.3, count), 10**6)
    return objects([f"{string.ascii_letters[rank % 7]}{'é' * (rank % 5)}{rank}" for rank in ranks.tolist()])


def booleans(chance: Generator, count: int) -> NDArray[Any]:
    return chance.random(count) < 0.3


def timestamps(chance: Generator, count: int) -> NDArray[Any]:
    return chance.integers(NOON, NOON + 10**9, count, np.int64)


def vectors(chance: Generator, count: int) -> NDArray[Any]:
    return chance.normal(3, 2, (count, 6)).astype(np.float32)


def documents(chance: Generator, count: int) -> NDArray[Any]:
    return objects([json.dumps({"n": n % 700}) for n in chance.integers(0, 10**6, count).tolist()])


STREAMS: dict[str, Callable[[Generator, int], NDArray[Any]]] = {
    "number": numbers,
    "integer": integers,
    "string": texts,
    "boolean": booleans,
    "timestamp": timestamps,
    "vector": vectors,
    "json": documents,
}


def accepted(values: NDArray[Any], chance: Generator, null_share: float = 0.1) -> Accepted:
    """The values as they came, some of them null, some of them early."""
    count = len(values)
    nulls = chance.random(count) < null_share
    if values.dtype == object:
        values[nulls] = None
    times = NOON + chance.integers(0, 3_600_000_000, count)
    return Accepted(times, times + chance.integers(-(10**6), 10**8, count), values, nulls)


def stream(value_type: str, seed: int, count: int) -> Accepted:
    chance = np.random.default_rng(seed)
    return accepted(STREAMS[value_type](chance, count), chance)


def put_together(seen: Accepted, seed: int, empty: Callable[[int], Summary] = of_all) -> Summary:
    """The summary of a stream that came in any order and in any pieces, merged in any order, saved in between."""
    chance = random.Random(seed)
    rows = np.random.default_rng(seed).permutation(len(seen.times))
    cuts = sorted(chance.randrange(len(rows)) for _ in range(chance.randrange(6)))
    parts = [empty(1)]
    for piece in np.split(rows, cuts):
        if chance.random() < 0.5:
            parts.append(empty(1))
        if len(piece):
            chance.choice(parts).add(seen.take(piece))
    while len(parts) > 1:
        one, other = (parts.pop(chance.randrange(len(parts))) for _ in range(2))
        if chance.random() < 0.5:
            one, other = restored(one), restored(other)
        one.merge(other)
        parts.append(one)
    return parts[0]


def restored(summary: Summary) -> Summary:
    return decode(encode(summary), Summary)


def figures(window: Summary) -> Summary:
    """What a window's summary says once it is looked at."""
    summary = of_all(window.created)
    summary.merge(restored(window))
    return summary


def present(seen: Accepted) -> NDArray[Any]:
    return seen.values[~seen.nulls]


# What numpy says


def check_distribution(found: Distribution, values: NDArray[Any]) -> None:
    moments = found.moments
    assert moments.count == len(values)
    if len(values) == 0:
        assert (moments.std, moments.min, moments.max) == (None, None, None)
        assert found.quantiles.at(SHARES) == []
        return
    assert (moments.min, moments.max) == (values.min().item(), values.max().item())
    floats = values.astype(np.float64)
    largest = float(np.abs(floats).max())
    assert moments.mean == pytest.approx(np.mean(floats), rel=1e-9, abs=1e-12 * largest)
    assert moments.std == pytest.approx(np.std(floats), rel=1e-9, abs=1e-7 * largest)
    check_quantiles(found.quantiles, floats)


def check_quantiles(found: Quantiles, values: NDArray[np.float64]) -> None:
    if found.exact:
        assert found.rank_error == 0
        assert found.at(SHARES) == pytest.approx(np.quantile(values, SHARES).tolist(), rel=1e-12)
        return
    assert 0 < found.rank_error < 0.05
    allowed = 2 * found.rank_error
    for share, value in zip(SHARES, found.at(SHARES), strict=True):
        below, up_to = np.mean(values < value), np.mean(values <= value)
        assert below - allowed <= share <= up_to + allowed, (share, below, up_to)


def check_histogram(found: Distribution, values: NDArray[np.float64]) -> None:
    histogram = found.histogram()
    assert histogram is not None
    assert len(histogram.edges) == len(histogram.counts) + 1
    assert sum(histogram.counts) == len(values)
    assert (histogram.edges[0], histogram.edges[-1]) == (values.min(), values.max())
    assert histogram.edges == sorted(histogram.edges)
    if found.quantiles.exact and len(histogram.counts) == BINS:
        assert histogram.counts == np.histogram(values, histogram.edges)[0].tolist()


def check_distinct(summary: Summary, truth: int, limit: int = EXACT_LIMIT) -> None:
    assert summary.distinct.exact == (truth <= limit)
    if summary.distinct.exact:
        assert summary.distinct.estimate() == truth
    else:
        assert summary.distinct.estimate() == pytest.approx(truth, rel=0.05)


def check_top(found: TopValues, counts: Counter[str], log2_entries: int = LOG2_ENTRIES) -> None:
    total = counts.total()
    most = found.most()
    if found.exact:
        assert most == sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        return
    allowed = frequent_strings_sketch.get_epsilon_for_lg_size(log2_entries) * total
    shown = dict(most)
    assert all(abs(count - counts[text]) <= allowed for text, count in shown.items())
    assert {text for text, count in counts.items() if count > allowed} <= set(shown)
    assert [count for _, count in most] == sorted(shown.values(), reverse=True)


def check_stream(summary: Summary, seen: Accepted) -> None:
    """What every type has."""
    assert summary.count == len(seen.times)
    assert summary.null_count == np.count_nonzero(seen.nulls)
    assert (summary.oldest, summary.newest) == (seen.times.min(), seen.times.max())
    assert summary.last_updated == seen.arrived.max()
    due = seen.times[seen.times <= seen.arrived]
    assert summary.newest_due == (due.max() if len(due) else None)
    check_distribution(summary.lateness, (seen.arrived - seen.times) / 1e6)


@given(st.integers(0, 10**6), SIZES)
@settings(deadline=None, max_examples=25, derandomize=True)
@pytest.mark.parametrize("value_type", ["number", "integer", "timestamp"])
def test_a_summary_of_numbers_is_numpys(value_type: str, seed: int, count: int) -> None:
    seen = stream(value_type, seed, count)
    summary = put_together(seen, seed)
    check_stream(summary, seen)
    check_distribution(summary.numbers, present(seen))
    check_distinct(summary, len(np.unique(present(seen))))
    assert summary.top.most() == []
    assert summary.components.count == 0


@given(st.integers(0, 10**6), SIZES)
@settings(deadline=None, max_examples=25, derandomize=True)
@pytest.mark.parametrize("value_type", ["string", "json"])
def test_a_summary_of_texts_counts_them_and_their_lengths(value_type: str, seed: int, count: int) -> None:
    seen = stream(value_type, seed, count)
    summary = put_together(seen, seed)
    counts = Counter(present(seen).tolist())
    check_stream(summary, seen)
    check_distribution(summary.numbers, np.array([len(text) for text in present(seen)], np.int64))
    check_distinct(summary, len(counts))
    check_top(summary.top, counts)
    assert summary.top.exact == (len(counts) <= 512)


@given(st.integers(0, 10**6), SIZES)
@settings(deadline=None, max_examples=25, derandomize=True)
def test_a_summary_of_booleans_counts_both(seed: int, count: int) -> None:
    seen = stream("boolean", seed, count)
    summary = put_together(seen, seed)
    counts = Counter(str(value).lower() for value in present(seen).tolist())
    check_stream(summary, seen)
    check_distinct(summary, len(counts))
    assert summary.top.counts == counts
    assert summary.numbers.moments.count == 0


@given(st.integers(0, 10**6), SIZES)
@settings(deadline=None, max_examples=25, derandomize=True)
def test_a_summary_of_vectors_has_their_norms_and_components(seed: int, count: int) -> None:
    seen = stream("vector", seed, count)
    summary = put_together(seen, seed)
    rows = present(seen).astype(np.float64)
    check_stream(summary, seen)
    check_distribution(summary.numbers, np.sqrt((rows**2).sum(axis=1)))
    check_distinct(summary, len(np.unique(rows, axis=0)))
    assert summary.components.count == len(rows)
    if len(rows):
        assert summary.components.means() == pytest.approx(rows.mean(axis=0), rel=1e-9)
        assert summary.components.variances() == pytest.approx(rows.var(axis=0), rel=1e-9, abs=1e-9)


@given(st.integers(0, 10**6), st.sampled_from([1, 5, 250, 256, 257, 400, 3_000]))
@settings(deadline=None, max_examples=14, derandomize=True)
@pytest.mark.parametrize("value_type", VALUE_TYPES)
def test_a_window_counts_as_well_as_a_whole_stream_within_smaller_limits(
    value_type: str, seed: int, count: int
) -> None:
    seen = stream(value_type, seed, count)
    summary = figures(put_together(seen, seed, of_a_window))
    check_stream(summary, seen)
    values: list[Any] = list(map(bytes, present(seen))) if value_type == "vector" else present(seen).tolist()
    check_distinct(summary, len(set(values)), EXACT_LIMIT_OF_A_WINDOW)
    if value_type in ("string", "json"):
        check_top(summary.top, Counter(values), LOG2_ENTRIES_OF_A_WINDOW)


@pytest.mark.parametrize("value_type", VALUE_TYPES)
def test_what_is_restored_is_what_was_saved_and_goes_on(value_type: str) -> None:
    one, two = stream(value_type, 1, 5_000), stream(value_type, 2, 5_000)
    kept = of_all(1)
    kept.add(one)
    again = restored(kept)
    assert again.top.most() == kept.top.most()
    assert again.components == kept.components
    for which in ("numbers", "lateness"):
        assert getattr(again, which).quantiles.at(SHARES) == getattr(kept, which).quantiles.at(SHARES)
    for summary in (kept, again):
        summary.add(two)
    for figure in ("count", "null_count", "oldest", "newest", "newest_due", "last_updated"):
        assert getattr(again, figure) == getattr(kept, figure)
    assert again.numbers.moments == kept.numbers.moments
    assert again.distinct.estimate() == pytest.approx(kept.distinct.estimate(), rel=0.05)


@pytest.mark.parametrize("value_type", VALUE_TYPES)
def test_saved_summaries_merge_as_the_summaries_do(value_type: str) -> None:
    seen = stream(value_type, 3, 500)
    states = []
    for rows in np.array_split(np.arange(500), 4):
        part = of_a_window(1)
        part.add(seen.take(rows))
        states.append(encode(part))
    summary = figures(decode(merge_states(states), Summary))
    check_stream(summary, seen)
    assert summary.created == 1
    assert summary.distinct.exact


def test_nothing_merged_with_nothing_is_nothing_and_changes_nothing() -> None:
    empty = of_all(1)
    empty.merge(of_a_window(1))
    assert (empty.count, empty.null_count, empty.distinct.estimate()) == (0, 0, 0)
    assert empty.oldest is empty.newest is empty.newest_due is empty.last_updated is None
    assert empty.numbers.histogram() is None
    seen = stream("number", 4, 50)
    empty.merge(put_together(seen, 4, of_a_window))
    empty.merge(restored(of_all(1)))
    check_stream(empty, seen)


def test_only_nulls_are_counted_and_have_a_lateness() -> None:
    chance = np.random.default_rng(5)
    seen = accepted(texts(chance, 20), chance, null_share=1.0)
    summary = put_together(seen, 5)
    check_stream(summary, seen)
    assert summary.null_count == 20
    assert (summary.distinct.estimate(), summary.top.most(), summary.numbers.moments.count) == (0, [], 0)


def test_the_figures_of_the_natural_numbers() -> None:
    summary = of_all(1)
    times = np.full(100, NOON)
    summary.add(Accepted(times, times + 2_500_000, np.arange(1.0, 101.0), np.zeros(100, np.bool_)))
    moments = summary.numbers.moments
    assert (moments.mean, moments.std, moments.min, moments.max) == (50.5, 28.86607004772212, 1.0, 100.0)
    assert summary.numbers.quantiles.at(SHARES) == [1.99, 5.95, 25.75, 50.5, 75.25, 95.05, 99.01]
    histogram = summary.numbers.histogram()
    assert histogram is not None
    assert histogram.counts == [5] * 20
    assert (summary.lateness.moments.mean, summary.lateness.moments.std) == (2.5, 0.0)


def test_what_comes_from_the_future_is_the_newest_but_was_never_due() -> None:
    summary = of_all(1)
    times = np.array([NOON - 1, NOON, NOON + 1])
    summary.add(Accepted(times, np.full(3, NOON), np.zeros(3), np.zeros(3, np.bool_)))
    assert (summary.newest, summary.newest_due) == (NOON + 1, NOON)


# Histograms


@given(st.integers(0, 10**6), SIZES)
@settings(deadline=None, max_examples=40, derandomize=True)
@pytest.mark.parametrize("value_type", ["number", "integer", "timestamp"])
def test_the_counts_of_a_histogram_add_up_to_the_count_however_it_was_put_together(
    value_type: str, seed: int, count: int
) -> None:
    seen = stream(value_type, seed, count)
    summary = put_together(seen, seed)
    if summary.numbers.moments.count:
        check_histogram(summary.numbers, present(seen).astype(np.float64))
        check_histogram(summary.lateness, (seen.arrived - seen.times) / 1e6)
    else:
        assert summary.numbers.histogram() is None


@pytest.mark.parametrize("count", [150, 1_000, 5_000])
def test_what_is_kept_of_two_merged_streams_stands_for_all_of_both(count: int) -> None:
    found, other = Quantiles(100), Quantiles(100)
    found.add(np.arange(count, dtype=np.float64))
    other.add(1e6 + np.arange(count, dtype=np.float64))
    found.merge(other)
    kept = found.weighted()
    assert kept.weights.sum() == 2 * count
    assert kept.weights[kept.values < 1e6].sum() == pytest.approx(count, rel=0.1)


# The edges of what numbers can be


@given(st.floats(1e-300, 1e300), st.integers(1, 40))
@settings(deadline=None, max_examples=300, derandomize=True)
def test_neighbouring_numbers_have_a_histogram_too(low: float, steps: int) -> None:
    values = np.array([low, *np.arange(steps)])
    for step in range(steps):
        values[step + 1] = np.nextafter(values[step], np.inf)
    found = Distribution()
    found.add(values)
    check_histogram(found, values)


def test_a_histogram_of_large_neighbouring_integers_has_every_one_of_them() -> None:
    values = 2**60 + 256 * np.arange(10)
    found = Distribution()
    found.add(values)
    check_histogram(found, values.astype(np.float64))


@pytest.mark.parametrize("values", [[-1.7e308, 1.7e308], [-1.7e308, 0.0, 1.7e308], [1.7e308, 1.7e308]])
def test_the_quantiles_of_the_largest_numbers_lie_between_them(values: list[float]) -> None:
    found = Quantiles()
    found.add(np.array(values))
    quantiles = found.at(SHARES)
    assert quantiles == sorted(quantiles)
    assert all(values[0] <= quantile <= values[-1] for quantile in quantiles)


@pytest.mark.parametrize("values", [[-1.7e308, 1.7e308], [0.0, 1.7e308], [1.6e308, 1.7e308]])
def test_the_largest_numbers_have_a_histogram_too(values: list[float]) -> None:
    found = Distribution()
    found.add(np.array(values))
    check_histogram(found, np.array(values))


# Texts of any kind


TROUBLE = ["", "\x00", "a\x00b", "\U0001f600", "é" * 31, "é" * 32, "é" * 33, "x" * 64, "x" * 65, "x" * 60_000]


def test_empty_strange_and_long_texts_are_counted_and_come_back() -> None:
    found, counts = TopValues(), Counter({cut(text): number for number, text in enumerate(TROUBLE, 1)})
    found.add(counts)
    check_top(decode(encode(found), TopValues), counts)
    filler = {f"filler {number}": 1 for number in range(600)}
    found.add(filler)
    assert not found.exact
    check_top(decode(encode(found), TopValues), counts + Counter(filler))


@given(st.text(max_size=100))
def test_a_text_is_cut_to_what_fits_and_only_where_it_does_not(text: str) -> None:
    assert len(cut(text).encode()) <= LONGEST_BYTES
    assert (cut(text) == text) == (len(text.encode()) <= LONGEST_BYTES)


def test_long_texts_that_begin_alike_are_told_apart() -> None:
    assert len({cut("x" * 100 + str(number)) for number in range(1_000)}) == 1_000


# Vectors of many dimensions


def test_folded_vectors_keep_the_distance_between_their_means() -> None:
    chance = np.random.default_rng(6)
    near, far = chance.normal(0, 1, (50, 4_000)), chance.normal(0.5, 1, (60, 4_000))
    one, other = Components(), Components()
    one.add(near.astype(np.float32))
    for half in np.array_split(far.astype(np.float32), 2):
        other.add(half)
    assert len(one.means()) == len(other.variances()) == MOST
    truth = np.linalg.norm(near.mean(axis=0) - far.mean(axis=0))
    assert np.linalg.norm(one.means() - other.means()) == pytest.approx(truth, rel=0.1)


# The size of a window


def in_pieces(values: NDArray[Any], pieces: int = 20) -> Summary:
    """A window's summary, in the pieces in which the monitor folds."""
    chance = np.random.default_rng(7)
    summary = of_a_window(1)
    for part in np.array_split(values, pieces):
        seen = accepted(part, chance, null_share=0.0)
        piece = of_all(1)
        piece.add(seen)
        summary.merge(piece)
        assert len(encode(summary)) <= LARGEST_STATE
    return summary


def check_size(summary: Summary, count: int = 100_000) -> None:
    assert figures(summary).count == count
    assert len(encode(summary)) <= LARGEST_STATE


@pytest.mark.parametrize("value_type", ["number", "integer", "boolean", "timestamp", "json"])
def test_a_window_of_a_hundred_thousand_values_stays_small(value_type: str) -> None:
    check_size(in_pieces(STREAMS[value_type](np.random.default_rng(8), 100_000)))


@pytest.mark.parametrize("shape", ["{:064d}", "\U0001f600" * 14 + "{:08d}", "\U0001f600" * 40 + "{}"])
def test_a_window_of_distinct_wide_texts_stays_small(shape: str) -> None:
    check_size(in_pieces(objects([shape.format(number) for number in range(100_000)])))


@pytest.mark.parametrize("distinct", [128, 192, 700, 1_000, 1_024])
def test_a_window_of_wide_texts_that_come_again_and_again_stays_small(distinct: int) -> None:
    check_size(in_pieces(objects([f"{number % distinct:064d}" for number in range(100_000)])))


def test_a_window_of_wide_texts_of_all_lengths_of_which_few_are_frequent_stays_small() -> None:
    chance = np.random.default_rng(9)
    ranks = np.where(chance.random(100_000) < 0.9, chance.integers(0, 180, 100_000), 180)
    ranks = np.where(ranks == 180, chance.integers(180, 1_024, 100_000), ranks)
    lengths = chance.integers(0, 2_000, 1_024).tolist()
    check_size(in_pieces(objects([f"{rank:064d}{'x' * lengths[rank]}" for rank in ranks.tolist()])))


@pytest.mark.parametrize("dimension", [1_024, 4_000])
def test_a_window_of_wide_distinct_vectors_stays_small(dimension: int) -> None:
    vectors = np.random.default_rng(10).normal(size=(500, dimension)).astype(np.float32)
    summary = of_a_window(1)
    chance = np.random.default_rng(11)
    for _ in range(10):
        vectors[:, 0] = chance.normal(size=500)
        summary.add(accepted(vectors, chance, null_share=0.0))
        assert len(encode(summary)) <= LARGEST_STATE
    check_size(summary, 5_000)


@pytest.mark.parametrize("dimension", [1_024, 4_000])
def test_a_window_of_a_thousand_wide_vectors_that_come_again_and_again_stays_small(dimension: int) -> None:
    chance = np.random.default_rng(12)
    batch = of_a_window(1)
    vectors = chance.normal(size=(1_000, dimension)).astype(np.float32)
    batch.add(accepted(vectors, chance, null_share=0.0))
    window = of_a_window(1)
    for _ in range(100):
        window.merge(batch)
    check_size(window)
