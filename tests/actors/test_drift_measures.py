"""The measures of drift against SciPy and against published numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.stats.drift import (
    benjamini_hochberg,
    bins,
    categories,
    chi_square,
    jensen_shannon,
    ks,
    l_infinity,
    mean_shift,
    psi,
    sample,
    tails,
    two_part,
    unseen,
    wasserstein,
)
from actors.stats.drift.categories import names_of
from actors.stats.drift.sample import Floats, Sample
from actors.stats.moments import Moments

NUMBERS = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=40)
TIED = st.lists(st.integers(-3, 3).map(float), min_size=2, max_size=40)
COUNTS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=2, max_size=8)
WEIGHTED = st.lists(st.tuples(st.integers(-5, 5), st.sampled_from([1, 2, 4, 8])), min_size=2, max_size=30)


def floats(*values: float) -> Floats:
    return np.array(values, np.float64)


def pairs(seed: int) -> list[tuple[Floats, Floats]]:
    """Random and tied samples of several sizes and shapes."""
    rng = np.random.default_rng(seed)
    return [
        (rng.normal(size=400), rng.normal(0.2, 1.1, size=300)),
        (rng.lognormal(size=1000), rng.lognormal(0.1, size=1000)),
        (rng.poisson(3, 500).astype(float), rng.poisson(3.2, 250).astype(float)),
        (rng.standard_t(3, 80), rng.standard_t(3, 2000)),
        (rng.integers(0, 2, 100).astype(float), rng.integers(0, 2, 100).astype(float)),
    ]


def expanded(weighted: Sample) -> Sample:
    return sample.of(np.repeat(weighted.values, weighted.weights.astype(int)))


@pytest.mark.parametrize("freedom", [1.0, 2.5, 9.0, 30.0, 999.0, 123456.0, 5e8])
@pytest.mark.parametrize("x", [0.0, 1e-3, 0.5, 1.0, 2.2, 6.0, 30.0])
def test_tails_are_those_of_scipy(x: float, freedom: float) -> None:
    assert tails.normal(x) == pytest.approx(2 * scipy.stats.norm.sf(x), rel=1e-9)
    assert tails.student_t(x, freedom) == pytest.approx(2 * scipy.stats.t.sf(x, freedom), rel=1e-6, abs=1e-12)
    assert tails.chi_square(x, freedom) == pytest.approx(scipy.stats.chi2.sf(x, freedom), rel=1e-8)
    assert tails.kolmogorov(x) == pytest.approx(scipy.stats.kstwobign.sf(x), rel=1e-9, abs=1e-14)
    near = freedom + x * math.sqrt(2 * freedom)
    assert tails.chi_square(near, freedom) == pytest.approx(
        scipy.stats.chi2.sf(near, freedom), rel=1e-6, abs=1e-300
    )


@pytest.mark.parametrize("pair", pairs(1) + pairs(2))
def test_ks_is_that_of_scipy(pair: tuple[Floats, Floats]) -> None:
    reference, current = map(sample.of, pair)
    theirs = scipy.stats.ks_2samp(*pair, method="asymp")
    distance = ks.statistic(reference, current)
    effective = ks.effective_count(reference, current)
    assert distance == pytest.approx(theirs.statistic, abs=1e-12)
    ours = ks.p_value(distance, effective)
    assert ours == pytest.approx(scipy.stats.kstwobign.sf(distance * math.sqrt(effective)), abs=1e-12)
    # SciPy refines for small samples as if one distribution were known, and so gives a little less.
    assert ours == pytest.approx(theirs.pvalue, abs=0.03)
    exact = scipy.stats.ks_2samp(*pair, method="exact").pvalue
    assert exact * 0.97 <= ours <= exact * 1.3 + 0.02


@settings(deadline=None, max_examples=60)
@given(TIED, TIED)
def test_ks_of_tied_samples_is_that_of_scipy(first: list[float], second: list[float]) -> None:
    ours = ks.statistic(sample.of(first), sample.of(second))
    assert ours == pytest.approx(scipy.stats.ks_2samp(first, second, method="asymp").statistic, abs=1e-12)


@pytest.mark.parametrize("first", [NUMBERS, TIED])
def test_wasserstein_is_that_of_scipy(first: Any) -> None:
    @given(first, first)
    @settings(deadline=None, max_examples=50)
    def holds(before: list[float], after: list[float]) -> None:
        ours = wasserstein.distance(sample.of(before), sample.of(after))
        assert ours == pytest.approx(scipy.stats.wasserstein_distance(before, after), rel=1e-9, abs=1e-7)

    holds()


def test_wasserstein_gives_the_examples_of_scipys_documentation() -> None:
    assert wasserstein.distance(sample.of([0, 1, 3]), sample.of([5, 6, 8])) == 5.0
    first, second = sample.weighted([0, 1], [3, 1]), sample.weighted([0, 1], [2, 2])
    assert wasserstein.distance(first, second) == pytest.approx(0.25)
    first = sample.weighted([3.4, 3.9, 7.5, 7.8], [1.4, 0.9, 3.1, 7.2])
    second = sample.weighted([4.5, 1.4], [3.2, 3.5])
    assert wasserstein.distance(first, second) == pytest.approx(4.0781331438047861)


def test_wasserstein_of_a_constant_reference_is_infinite_in_its_standard_deviations() -> None:
    assert wasserstein.normed(sample.of([2.0] * 5), sample.of([3.0] * 5)) == math.inf
    assert wasserstein.normed(sample.of([2.0] * 5), sample.of([2.0] * 9)) == 0.0


@pytest.mark.parametrize("pair", pairs(3))
def test_the_tests_of_the_mean_are_those_of_scipy(pair: tuple[Floats, Floats]) -> None:
    reference, current = (sample.of(values).moments() for values in pair)
    welch, student = (scipy.stats.ttest_ind(*pair, equal_var=equal).pvalue for equal in (False, True))
    assert mean_shift.welch(reference, current) == pytest.approx(welch, rel=1e-8)
    assert mean_shift.student(reference, current) == pytest.approx(student, rel=1e-8)
    assert mean_shift.p_value(reference, current) == pytest.approx(max(welch, student), rel=1e-8)


def test_welch_gives_the_example_of_wikipedia() -> None:
    # "Welch's t-test", example 2: unequal variances and sizes; t = -1.57, nu = 9.9, p = 0.149.
    first = [17.2, 20.9, 22.6, 18.1, 21.7, 21.4, 23.5, 24.2, 14.7, 21.8]
    second = [21.5, 22.8, 21.0, 23.0, 21.6, 23.6, 22.5, 20.7, 23.4, 21.8]
    second += [20.7, 21.7, 21.5, 22.5, 23.6, 21.5, 22.5, 23.5, 21.5, 21.8]
    ours = mean_shift.welch(sample.of(first).moments(), sample.of(second).moments())
    assert ours == pytest.approx(0.149, abs=1e-3)


def test_the_mean_shift_knows_constants_overflow_and_allowances() -> None:
    constant, other = Moments(50, 1.0, 0.0), Moments(50, 2.0, 0.0)
    assert (mean_shift.standardised(constant, other), mean_shift.p_value(constant, other)) == (math.inf, 0.0)
    assert (mean_shift.standardised(constant, constant), mean_shift.p_value(constant, constant)) == (0.0, 1.0)
    assert mean_shift.standardised(constant, other, allowance=1.0) == 0.0
    assert math.isnan(mean_shift.p_value(constant, Moments(50, 1e308, math.inf)))
    assert math.isnan(mean_shift.p_value(constant, Moments(1, 2.0, 0.0)))


def test_chi_square_gives_the_example_of_scipys_documentation() -> None:
    table = np.array([[10.0, 10.0, 20.0], [20.0, 20.0, 20.0]])
    ours = chi_square.homogeneity(*table)
    assert ours.freedom == 2
    assert ours.statistic == pytest.approx(2.7777777777777777)
    assert ours.p_value == pytest.approx(0.24935220877729619)


@settings(deadline=None, max_examples=60)
@given(COUNTS)
def test_chi_square_is_that_of_scipy_after_pooling(counts: list[tuple[int, int]]) -> None:
    before, after = (floats(*side) for side in zip(*counts, strict=True))
    before, after = before + 1, after + 1
    common = chi_square.pooled(before, after)
    assert common[0].sum() == before.sum()
    assert common[1].sum() == after.sum()
    ours = chi_square.homogeneity(before, after)
    if len(common[0]) > 1:
        theirs = scipy.stats.chi2_contingency(np.array(common), correction=False)
        assert theirs.expected_freq.min() >= chi_square.LEAST_EXPECTED - 1e-9
        assert ours.statistic == pytest.approx(theirs.statistic, rel=1e-9, abs=1e-9)
        assert ours.p_value == pytest.approx(theirs.pvalue, rel=1e-8, abs=1e-12)
        assert ours.freedom == theirs.dof
    else:
        assert (ours.freedom, ours.p_value) == (0, 1.0)


def test_cohens_w_of_a_moved_half_is_the_shift_in_standard_deviations() -> None:
    million = 1e6
    ours = chi_square.homogeneity(floats(million, million), floats(1.1 * million, 0.9 * million))
    assert ours.effect == pytest.approx(0.1, abs=1e-3)
    unequal = chi_square.homogeneity(floats(100 * million, 100 * million), floats(1.1 * million, 0.9 * million))
    assert unequal.effect == pytest.approx(0.1, abs=1e-3)


@settings(deadline=None, max_examples=60)
@given(COUNTS)
def test_jensen_shannon_and_l_infinity_are_those_of_scipy(counts: list[tuple[int, int]]) -> None:
    before, after = (floats(*side) for side in zip(*counts, strict=True))
    before[0] += 1
    after[-1] += 1
    theirs = scipy.spatial.distance.jensenshannon(before, after, 2)
    assert jensen_shannon.distance(before, after) == pytest.approx(theirs, abs=1e-7)
    theirs = scipy.spatial.distance.chebyshev(before / before.sum(), after / after.sum())
    assert l_infinity.distance(before, after) == pytest.approx(theirs, abs=1e-12)


def test_jensen_shannon_gives_the_examples_of_scipys_documentation() -> None:
    assert jensen_shannon.distance(floats(1, 0, 0), floats(0, 1, 0)) == 1.0
    assert jensen_shannon.distance(floats(1, 0), floats(0.5, 0.5), math.e) == pytest.approx(0.46450140402245893)
    assert jensen_shannon.distance(floats(1, 0, 0), floats(1, 0, 0)) == 0.0


def test_psi_is_its_definition_where_every_bin_is_full() -> None:
    before, after = floats(2e6, 3e6, 5e6), floats(3e6, 3e6, 4e6)
    expected = 0.1 * math.log(3 / 2) + -0.1 * math.log(4 / 5)
    assert psi.raw(before, after) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("n", "m"), [(300, 300), (1000, 250), (5000, 5000)])
def test_psi_without_drift_is_on_average_what_the_correction_subtracts(n: int, m: int) -> None:
    rng = np.random.default_rng(4)
    raws = []
    for _ in range(300):
        before, after = bins.counts_of(sample.of(rng.normal(size=n)), sample.of(rng.normal(size=m)))
        raws.append(psi.raw(before, after))
    # The bins are at the reference's own quantiles: instead of its counts the edges vary, which comes to the same.
    assert np.mean(raws) == pytest.approx(9 * (1 / n + 1 / m), rel=0.12)


def test_bins_keep_apart_what_lies_on_either_side_of_a_frequent_value() -> None:
    constant = sample.of([5.0] * 100)
    for other in (4.0, 6.0):
        before, after = bins.counts_of(constant, sample.of([other] * 100))
        assert psi.corrected(before, after) > 1
        assert jensen_shannon.distance(before, after) == pytest.approx(1.0)
    before, after = bins.counts_of(constant, constant)
    assert (psi.corrected(before, after), len(before)) == (0.0, 1)


def test_bins_of_continuous_values_hold_equal_shares_of_the_reference() -> None:
    reference = sample.of(np.random.default_rng(5).normal(size=1000))
    assert bins.counts_in(reference, bins.edges_of(reference)).tolist() == pytest.approx([100.0] * 10)


def test_the_two_part_test_sees_what_a_clump_hides() -> None:
    rng = np.random.default_rng(6)
    zeros = np.zeros(900)
    before = sample.of(np.concatenate((zeros, rng.lognormal(0, 1, 100))))
    after = sample.of(np.concatenate((zeros, rng.lognormal(0.8, 1, 100))))
    whole = ks.p_value(ks.statistic(before, after), ks.effective_count(before, after))
    assert whole > 0.3
    assert two_part.p_value(before, after) < 1e-3
    rest = scipy.stats.ks_2samp(before.values[900:], after.values[900:], method="asymp").pvalue
    assert two_part.p_value(before, after) == pytest.approx(rest, abs=1e-3)


def test_unseen_counts_only_what_the_reference_never_had() -> None:
    assert unseen.share({"a": 1, "b": 0}, {"a": 5, "b": 3, "c": 2}) == 0.5
    with pytest.raises(ValueError, match="empty"):
        unseen.share({"a": 1}, {})


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_benjamini_hochberg_is_that_of_scipy(p_values: list[float]) -> None:
    ours = benjamini_hochberg.adjusted(p_values)
    assert ours == pytest.approx(scipy.stats.false_discovery_control(p_values).tolist(), abs=1e-12)


def test_benjamini_hochberg_gives_the_example_of_scipys_documentation() -> None:
    # The p-values of table 1 in Benjamini & Hochberg (1995): four are discoveries at 0.05.
    raw = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344]
    raw += [0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0000]
    ours = benjamini_hochberg.adjusted(raw)
    assert ours[:5] == pytest.approx([0.0015, 0.003, 0.0095, 0.035625, 0.0603])
    assert sum(p_value <= 0.05 for p_value in ours) == 4
    assert benjamini_hochberg.adjusted([]) == []


@settings(deadline=None, max_examples=60)
@given(WEIGHTED, WEIGHTED)
def test_weighted_samples_are_their_expansion(first: list[tuple[int, int]], second: list[tuple[int, int]]) -> None:
    reference, current = (sample.weighted(*map(list, zip(*side, strict=True))) for side in (first, second))
    whole, now = expanded(reference), expanded(current)
    assert reference.count == whole.count
    assert reference.mean == pytest.approx(whole.mean)
    assert reference.std == pytest.approx(whole.std)
    ranks = np.linspace(0, 1, 12)
    assert reference.quantiles(ranks).tolist() == whole.quantiles(ranks).tolist()
    for measure in (ks.statistic, ks.effective_count, wasserstein.distance, wasserstein.normed, two_part.p_value):
        assert measure(reference, current) == pytest.approx(measure(whole, now), abs=1e-9, nan_ok=True)
    ours, theirs = bins.counts_of(reference, current), bins.counts_of(whole, now)
    assert np.array(ours) == pytest.approx(np.array(theirs))


@settings(deadline=None, max_examples=60)
@given(NUMBERS)
def test_a_sample_has_the_moments_and_quantiles_of_numpy(values: list[float]) -> None:
    ours = sample.of(values)
    assert ours.mean == pytest.approx(np.mean(values), rel=1e-9, abs=1e-6)
    assert ours.std == pytest.approx(np.std(values), rel=1e-6, abs=1e-6)
    ranks = [0.0, 0.01, 0.25, 0.5, 0.75, 0.99, 1.0]
    theirs = np.quantile(values, ranks, method="inverted_cdf")
    assert ours.quantiles(ranks).tolist() == pytest.approx(theirs.tolist())


def test_a_sample_refuses_what_it_cannot_order_or_weigh() -> None:
    with pytest.raises(ValueError, match="NaN"):
        sample.of([1.0, math.nan])
    with pytest.raises(ValueError, match="positive weight"):
        sample.weighted([1.0], [0.0])
    with pytest.raises(ValueError, match="positive weight"):
        sample.weighted([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="no quantiles"):
        sample.of([]).quantiles([0.5])
    assert math.isnan(sample.of([]).mean)
    assert math.isnan(sample.of([]).std)


@given(*[st.dictionaries(st.text(max_size=3), st.integers(0, 2), max_size=12)] * 2)
def test_categories_are_in_one_order_however_many(one: dict[str, int], other: dict[str, int]) -> None:
    few = names_of(one, other)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(categories, "SORTED_AT_ONCE", -1)
        assert names_of(one, other) == few
    assert few == sorted(name for name in {*one, *other} if one.get(name, 0) + other.get(name, 0))
