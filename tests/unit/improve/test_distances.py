"""Distances of distributions, against scipy and by their properties."""

import math
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import jensenshannon

from upturn.improve.monitor.distances import (
    chi_square,
    exact_distances,
    hellinger,
    jensen_shannon,
    ks,
    psi,
    total_variation,
    wasserstein,
)

ALL = [total_variation, hellinger, jensen_shannon]
COUNTS = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), min_size=2, max_size=20)
SAMPLE = st.lists(
    st.one_of(st.integers(-3, 3).map(float), st.floats(-1e6, 1e6)), min_size=1, max_size=40
)


def scipys_ks(before: Any, after: Any) -> float:
    with warnings.catch_warnings():  # of the p-value, which is not asked for
        warnings.simplefilter("ignore", RuntimeWarning)
        return stats.ks_2samp(before, after).statistic


@pytest.mark.parametrize("distance", ALL)
@given(pairs=COUNTS)
def test_bounded_symmetric_and_no_greater_when_bins_are_merged(distance, pairs):
    before, after = np.array(pairs, np.int64).T
    found = distance(before, after)
    if not before.sum() or not after.sum():
        assert math.isnan(found)
        return
    assert 0 <= found <= 1 + 1e-12
    assert found == pytest.approx(distance(after, before), abs=1e-7)
    assert distance(before, before) == pytest.approx(0, abs=1e-7)
    merged = [np.concatenate(([one[0] + one[1]], one[2:])) for one in (before, after)]
    assert distance(*merged) <= found + 1e-7


def test_jensen_shannon_is_scipys():
    before, after = np.array([5, 0, 70, 25]), np.array([0, 10, 300, 90])
    assert jensen_shannon(before, after) == pytest.approx(jensenshannon(before, after, base=2))


@given(COUNTS)
def test_psi_is_the_entropy_of_each_to_the_other(pairs: list[tuple[int, int]]) -> None:
    before, after = np.array(pairs, np.int64).T
    some = before + after > 0
    p, q = before[some] + 0.5, after[some] + 0.5
    found, _ = psi(before, after)
    if before.sum() and after.sum():  # scipy makes shares of its arguments itself
        assert found == pytest.approx(stats.entropy(p, q) + stats.entropy(q, p), abs=1e-9)
    else:
        assert math.isnan(found)


@given(st.lists(st.tuples(st.integers(20, 10**5), st.integers(20, 10**5)), min_size=2, max_size=20))
def test_chi_square_is_scipys(pairs: list[tuple[int, int]]) -> None:
    before, after = np.array(pairs, np.int64).T
    expected = stats.contingency.expected_freq(np.array([before, after]))
    found = chi_square(before, after)
    if expected.min() < 5:
        return  # bins are made one
    theirs = stats.chi2_contingency(np.array([before, after]), correction=False)
    assert (found.statistic, found.df) == pytest.approx((theirs.statistic, theirs.dof), rel=1e-9)
    assert found.p_value == pytest.approx(theirs.pvalue, rel=1e-6, abs=1e-280)


def test_chi_square_is_right_far_out_in_the_tail() -> None:
    found = chi_square(np.array([6000, 4000]), np.array([4420, 5580]))
    assert 1e-112 < found.p_value < 1e-107
    assert found.p_value == pytest.approx(stats.chi2.sf(found.statistic, 1), rel=1e-9)


def test_rare_bins_are_made_one_and_too_few_rows_say_nothing() -> None:
    before, after = np.array([1000, 1000, 3, 4, 2, 0]), np.array([1000, 1000, 4, 1, 3, 1])
    found = chi_square(before, after)
    pooled = stats.chi2_contingency([[1000, 1000, 9], [1000, 1000, 9]], correction=False)
    assert (found.df, found.statistic) == (2, pytest.approx(pooled.statistic))
    # What is rare even together goes to the fullest.
    found = chi_square(np.array([1000, 900, 1]), np.array([1000, 950, 0]))
    pooled = stats.chi2_contingency([[900, 1001], [950, 1000]], correction=False)
    assert (found.df, found.statistic) == (1, pytest.approx(pooled.statistic))
    for one, other in (([3, 0], [0, 3]), ([0, 0], [5, 5]), ([100], [100])):
        assert math.isnan(chi_square(np.array(one), np.array(other)).p_value)


@given(SAMPLE, SAMPLE)
def test_exact_distances_are_scipys(before: list[float], after: list[float]) -> None:
    one, other = np.sort(before), np.sort(after)
    distance, area = exact_distances(one, other)
    assert distance == pytest.approx(scipys_ks(one, other), abs=1e-12)
    assert area == pytest.approx(stats.wasserstein_distance(one, other), rel=1e-9, abs=1e-9)


def test_exact_distances_of_what_has_none() -> None:
    assert all(math.isnan(one) for one in exact_distances(np.empty(0), np.ones(3)))
    distance, area = exact_distances(np.array([0.0, 1.0]), np.array([0.0, math.inf]))
    assert distance == 0.5
    assert math.isnan(area)


def binned(sample: Any, edges: Any) -> Any:
    return np.bincount(np.searchsorted(edges, sample, side="left"), minlength=len(edges) + 1)


@given(SAMPLE, SAMPLE, st.lists(st.floats(-1e6, 1e6), max_size=8, unique=True))
def test_the_truth_is_within_the_error_of_bins(
    before: list[float], after: list[float], edges: list[float]
) -> None:
    edges = np.sort(edges)
    one, other = binned(before, edges), binned(after, edges)
    low, high = min(before + after), max(before + after)
    area, error = wasserstein(one, other, edges, low, high)
    truth = stats.wasserstein_distance(before, after)
    slack = 1e-9 * (1 + high - low + np.abs(edges).max(initial=0))
    assert area - error - slack <= truth <= area + error + slack
    distance, lacks = ks(one, other)
    truth = scipys_ks(before, after)
    assert distance - 1e-12 <= truth <= distance + lacks + 1e-12


def test_a_heavy_tail_hides_nothing() -> None:
    """Equal-width bins put all of such a column into one, and say KS 0.02 where it is 0.13."""
    random = np.random.default_rng(4)
    before = random.pareto(1.0, 50_000)
    after = random.pareto(1.0, 50_000) * 1.7
    truth = scipys_ks(before, after)
    assert truth == pytest.approx(0.13, abs=0.01)
    wide = np.linspace(before.min(), before.max(), 21)[1:-1]
    hidden, error = ks(binned(before, wide), binned(after, wide))
    assert hidden < 0.02
    assert hidden + error > truth  # the error says so
    edges = np.quantile(before, np.arange(1, 20) / 20)
    found, error = ks(binned(before, edges), binned(after, edges))
    assert truth - 0.01 < found <= truth <= found + error
    assert error <= 0.051
