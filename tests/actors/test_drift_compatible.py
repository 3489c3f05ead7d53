"""The rules of other tools, held against what the tools themselves said.

The numbers are frozen from Evidently 0.7.23 and NannyML 0.13.1 by `python -m tests.studies.drift.golden`, which
says how; the samples are those of tests/studies/drift/recipe.py.
"""

from __future__ import annotations

import math
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pytest
import scipy
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.stats.drift import compatible, evidently, hopsworks, ks_exact, nannyml, sample
from actors.stats.drift.verdict import decide, judge_categories, judge_numbers
from tests.studies.drift.recipe import PAIRS


class Evidently(NamedTuple):
    """`default` is the measure it chooses, `score` and `drift` what it then says."""

    ks_p_value: float
    wasserstein: float
    jensen_shannon: float
    psi: float
    default: str
    score: float
    drift: bool


EVIDENTLY = {
    "normal, small": Evidently(
        0.0557803407, 0.209367609, 0.0851300265, 0.0590651434, "ksPValue", 0.0557803407, False
    ),
    "normal, large": Evidently(
        0.0207398766, 0.100760878, 0.0357079591, 0.0102160615, "wassersteinNormed", 0.100760878, True
    ),
    "normal, one size": Evidently(
        0.112258155, 0.148523936, 0.0520712145, 0.0217644435, "ksPValue", 0.112258155, False
    ),
    "log-normal": Evidently(
        0.38294425, 0.0743708332, 0.0456852259, 0.0139019954, "wassersteinNormed", 0.0743708332, False
    ),
    "outside": Evidently(2.18096723e-36, 1.56505526, 0.401774635, 2.120639, "ksPValue", 2.18096723e-36, True),
    "few steps": Evidently(0.0145665797, 0.195915412, 0.0721021812, 0.0421936912, "ksPValue", 0.0145665797, True),
    "many steps": Evidently(0.0145665797, 0.197777301, 0.0696221539, 0.0391265928, "ksPValue", 0.0145665797, True),
    "four values": Evidently(
        0.0294997649, 0.17377234, 0.061453556, 0.0303396152, "chiSquarePValue", 0.000157617184, True
    ),
    "four values, large": Evidently(
        3.90411209e-05, 0.170927175, 0.0603697157, 0.0292456486, "jensenShannon", 0.0603697157, False
    ),
    "two values": Evidently(0.289855418, 0.148335188, 0.0526338033, 0.0221835782, "zPValue", 0.0515681449, False),
}

# Per chunk of the current values its distance, and which chunks alert.
NANNYML: dict[str, tuple[list[float], list[int]]] = {
    "normal, small": (
        [
            0.11487145,
            0.150689104,
            0.173370468,
            0.183632438,
            0.137262415,
            0.130098816,
            0.134766251,
            0.172607303,
            0.119313825,
            0.211188525,
        ],
        [1, 2, 3, 7, 9],
    ),
    "normal, large": (
        [
            0.0590487246,
            0.0753434991,
            0.0593091203,
            0.053223446,
            0.0644452817,
            0.0586083269,
            0.0576454423,
            0.0738219834,
            0.0644452817,
            0.0605444341,
        ],
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
    ),
    "normal, one size": (
        [
            0.11805036,
            0.101735721,
            0.118562469,
            0.0935263389,
            0.104789836,
            0.11805036,
            0.12308283,
            0.0829955125,
            0.129150172,
            0.126449079,
        ],
        [8],
    ),
    "log-normal": (
        [
            0.0908077838,
            0.118969464,
            0.120426712,
            0.111435918,
            0.0930573295,
            0.122023491,
            0.121761283,
            0.10241107,
            0.0838861421,
            0.113020254,
        ],
        [],
    ),
    "outside": (
        [
            0.506087747,
            0.545454683,
            0.497275016,
            0.52141742,
            0.522660127,
            0.526852972,
            0.507038971,
            0.561424603,
            0.511240972,
            0.525074311,
        ],
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
    ),
    "few steps": (
        [
            0.104335095,
            0.10571956,
            0.135222656,
            0.126565426,
            0.106718661,
            0.101452714,
            0.131514662,
            0.129583482,
            0.13938011,
            0.10369382,
        ],
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
    ),
    "many steps": (
        [
            0.096141668,
            0.102801612,
            0.136645146,
            0.140910531,
            0.0998606994,
            0.0932803606,
            0.131626873,
            0.121809186,
            0.156376224,
            0.101073678,
        ],
        [1, 2, 3, 6, 7, 8],
    ),
    "four values": (
        [
            0.0618969817,
            0.131149528,
            0.0680545994,
            0.0739114244,
            0.0618969817,
            0.0864265156,
            0.0756747371,
            0.0618969817,
            0.131149528,
            0.0849077468,
        ],
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
    ),
    "four values, large": (
        [
            0.0675591269,
            0.0702552489,
            0.0770394252,
            0.0888572921,
            0.0702552489,
            0.072458756,
            0.072458756,
            0.0675591269,
            0.0816315393,
            0.072458756,
        ],
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
    ),
    "two values": (
        [
            0.0546482046,
            0.0833170789,
            0.0262063412,
            0.0833170789,
            0.0546482046,
            0.0833170789,
            0.0262063412,
            0.0833170789,
            0.0546482046,
            0.0833170789,
        ],
        [1, 3, 5, 7, 9],
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_every_score_of_evidently_is_equal_to_a_millionth(name: str) -> None:
    theirs = EVIDENTLY[name]
    ours = evidently.metrics(*map(sample.of, PAIRS[name]))
    assert ours["ksPValue"] == pytest.approx(theirs.ks_p_value, abs=1e-6)
    assert ours["wassersteinNormed"] == pytest.approx(theirs.wasserstein, abs=1e-6)
    assert ours["jensenShannon"] == pytest.approx(theirs.jensen_shannon, abs=1e-6)
    assert ours["psi"] == pytest.approx(theirs.psi, abs=1e-6)
    assert ours["ks"] == pytest.approx(scipy.stats.ks_2samp(*PAIRS[name], method="asymp").statistic, abs=1e-12)


@pytest.mark.parametrize("name", PAIRS)
def test_by_default_evidently_chooses_scores_and_decides_the_same(name: str) -> None:
    theirs = EVIDENTLY[name]
    judgement = judge_numbers(*map(sample.of, PAIRS[name]), method="evidently")
    assert judgement.score == pytest.approx(theirs.score, abs=1e-6)
    assert judgement.drift is theirs.drift
    assert judgement.reasons[0].startswith(f"{theirs.default} is ")
    assert judgement.metrics[theirs.default] == judgement.score


@pytest.mark.parametrize("name", PAIRS)
def test_chunks_have_the_distances_and_alerts_of_nannyml(name: str) -> None:
    reference, current = PAIRS[name]
    distances, alerting = NANNYML[name]
    far = nannyml.from_numbers(reference)
    size = len(current) // 10
    ours = [far(current[start : start + size]) for start in range(0, len(current), size)]
    assert ours == pytest.approx(distances, abs=1e-6)
    alerts = nannyml.alerts(reference, current, far)
    assert [chunk for chunk, alert in enumerate(alerts) if alert] == alerting


@pytest.mark.parametrize(("n", "m"), [(1, 1), (2, 3), (4, 4), (4, 6), (5, 5), (7, 3)])
def test_the_exact_p_value_is_the_share_of_all_orders(n: int, m: int) -> None:
    ranks = np.arange(n + m)
    distances = []
    for chosen in combinations(range(n + m), n):
        mine = np.isin(ranks, chosen)
        distances.append(float(np.abs(np.cumsum(mine) / n - np.cumsum(~mine) / m).max()))
    for distance in sorted(set(distances)):
        share = np.mean([other >= distance - 1e-12 for other in distances])
        assert ks_exact.p_value(distance, n, m) == pytest.approx(share, abs=1e-12)


@pytest.mark.parametrize(("n", "m"), [(40, 40), (40, 60), (37, 1000), (900, 900), (1500, 700)])
def test_the_exact_p_value_of_larger_samples_is_that_of_scipy(n: int, m: int) -> None:
    rng = np.random.default_rng(31)
    first, second = rng.normal(size=n), rng.normal(0.3, 1, size=m)
    theirs = scipy.stats.ks_2samp(first, second, method="exact")
    assert ks_exact.p_value(float(theirs.statistic), n, m) == pytest.approx(theirs.pvalue, abs=1e-9)


def test_the_categorical_tests_of_evidently_are_those_of_scipy() -> None:
    before, after = {"a": 100, "b": 60, "c": 40}, {"a": 120, "b": 90, "c": 90}
    score = evidently.categories(before, after)
    expected = np.array([100, 60, 40]) * 300 / 200
    assert score.measure == "chiSquarePValue"
    assert score.score == pytest.approx(scipy.stats.chisquare([120, 90, 90], expected).pvalue)
    unseen = evidently.categories(before, {**after, "d": 1})
    assert (unseen.score, unseen.drift) == (0.0, True)
    large = evidently.categories({"a": 900, "b": 600}, {"a": 100, "b": 90})
    assert large.measure == "jensenShannon"
    assert evidently.categories({"a": 50}, {"a": 70}).drift is False


def test_hopsworks_psi_is_that_of_ten_equal_bins_of_the_reference() -> None:
    reference, current = np.arange(1000.0), np.arange(1000.0) + 300
    score = hopsworks.numbers(sample.of(reference), sample.of(current))
    edges = [reference[round(step) * 10 + 9] for step in np.linspace(0, 99, 11)]
    shares = [np.histogram(np.clip(side, edges[0], edges[-1]), edges)[0] / 1000 for side in (reference, current)]
    p, q = (share + 1e-9 for share in shares)
    assert score == pytest.approx(float(((q - p) * np.log(q / p)).sum()), rel=1e-3)
    assert hopsworks.numbers(sample.of([1.0] * 40), sample.of([2.0] * 40)) == 0.0
    assert hopsworks.categories({"a": 1, "b": 1}, {"a": 3, "b": 1}) == pytest.approx(0.25 * math.log(3), abs=1e-5)


@pytest.mark.parametrize("method", compatible.METHODS)
def test_a_foreign_rule_has_no_p_value_needs_raw_samples_and_heeds_a_threshold(method: str) -> None:
    reference, current = map(sample.of, PAIRS["outside"])
    judgement = judge_numbers(reference, current, method=method)
    assert (judgement.verdict, judgement.p_value, judgement.severity) == ("drift", None, "low")
    assert decide([judgement]) == [judgement]
    strict = judge_numbers(reference, current, method=method, threshold=0.0 if method == "evidently" else 9.0)
    assert strict.verdict == "stable"
    with pytest.raises(ValueError, match="raw samples"):
        judge_numbers(reference, sample.weighted([1.0, 2.0], [64.0, 64.0]), method=method)
    assert judge_numbers(reference, sample.of([1.0]), method=method).verdict == "insufficient"
    assert judge_categories({"a": 900, "b": 100}, {"a": 100, "b": 900}, method=method).verdict == "drift"


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.floats(allow_nan=False), min_size=1, max_size=6).map(lambda values: values * 30),
    st.lists(st.floats(allow_nan=False), min_size=1, max_size=6).map(lambda values: values * 30),
    st.sampled_from(compatible.METHODS),
)
def test_a_foreign_rule_answers_for_whatever_numbers(
    reference: list[float], current: list[float], method: str
) -> None:
    judgement = judge_numbers(sample.of(reference), sample.of(current), method=method)
    assert (judgement.score is None) is (judgement.verdict == "insufficient")
    assert all(map(math.isfinite, judgement.metrics.values()))
