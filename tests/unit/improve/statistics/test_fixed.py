"""Intervals for one look: scipy's, statsmodels' and Newcombe's own, and how often they cover."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import (
    confint_proportions_2indep,
    proportion_confint,
    proportions_ztest,
)

from upturn.core.errors import Invalid
from upturn.improve.statistics import fixed

NUMBERS = st.floats(-1e6, 1e6)
ALPHAS = st.floats(1e-6, 0.5)


@given(st.integers(2, 60), st.integers(2, 60), st.integers(0, 2**32), st.floats(0.1, 10))
def test_welch_is_scipys(n_a: int, n_b: int, seed: int, spread: float) -> None:
    draw = np.random.default_rng(seed)
    a, b = draw.normal(1, 1, n_a), draw.normal(0, spread, n_b)
    ours = fixed.welch((a.mean(), a.var(ddof=1), n_a), (b.mean(), b.var(ddof=1), n_b), alpha=0.1)
    scipys = stats.ttest_ind(b, a, equal_var=False)
    ends = scipys.confidence_interval(0.9)
    assert ours.p_value == pytest.approx(scipys.pvalue, rel=1e-8)
    assert (ours.low, ours.high) == pytest.approx((ends.low, ends.high), rel=1e-8)


@given(st.integers(0, 500), st.integers(1, 500), ALPHAS)
def test_proportions_are_statsmodels(k: int, n: int, alpha: float) -> None:
    assume(k <= n)
    wilson = fixed.wilson(k, n, alpha=alpha)
    exact = fixed.clopper_pearson(k, n, alpha=alpha)
    theirs = proportion_confint(k, n, alpha, method="wilson")
    assert (wilson.low, wilson.high) == pytest.approx(theirs, abs=1e-9)
    theirs = proportion_confint(k, n, alpha, method="beta")
    assert (exact.low, exact.high) == pytest.approx(theirs, abs=1e-9)
    assert exact.low <= k / n <= exact.high


@given(st.integers(0, 40), st.integers(1, 40), st.floats(0.02, 0.98))
def test_a_wilson_interval_holds_what_its_score_test_lets_stand(
    k: int, n: int, null: float
) -> None:
    assume(k <= n)
    found = fixed.wilson(k, n, alpha=0.1, null=null)
    assume(abs(found.p_value - 0.1) > 1e-9)
    assert found.excludes(null) == (found.p_value < 0.1)


def test_exact_p_values_are_of_the_binomial() -> None:
    found = fixed.clopper_pearson(3, 20, null=0.4)
    assert found.p_value == pytest.approx(2 * stats.binom.cdf(3, 20, 0.4))


@pytest.mark.parametrize(
    ("first", "second", "ends"),
    [  # Newcombe (1998), Statistics in Medicine 17, table II, method 10: theta = p1 - p2
        ((48, 80), (56, 70), (0.0524, 0.3339)),
        ((3, 10), (9, 10), (0.1705, 0.8090)),
        ((2, 7), (6, 7), (0.0582, 0.8062)),
        ((0, 29), (5, 56), (-0.0381, 0.1926)),
        ((0, 10), (0, 10), (-0.2775, 0.2775)),
        ((0, 20), (0, 10), (-0.1611, 0.2775)),
        ((0, 20), (10, 10), (0.6791, 1.0000)),
        ((0, 10), (10, 10), (0.6075, 1.0000)),
    ],
)
def test_newcombes_table(
    first: tuple[int, int], second: tuple[int, int], ends: tuple[float, float]
) -> None:
    found = fixed.newcombe(first, second)
    assert (found.low, found.high) == pytest.approx(ends, abs=5.1e-5)


@given(st.integers(1, 100), st.integers(1, 100), st.data())
def test_newcombe_is_statsmodels(n_a: int, n_b: int, data: st.DataObject) -> None:
    k_a, k_b = data.draw(st.integers(0, n_a)), data.draw(st.integers(0, n_b))
    found = fixed.newcombe((k_a, n_a), (k_b, n_b))
    theirs = confint_proportions_2indep(k_b, n_b, k_a, n_a, method="newcomb", compare="diff")
    assert (found.low, found.high) == pytest.approx(theirs, abs=1e-9)
    assert -1 - 1e-9 <= found.low <= found.estimate <= found.high <= 1 + 1e-9
    if 0 < k_a + k_b < n_a + n_b:
        assert found.p_value == pytest.approx(proportions_ztest([k_a, k_b], [n_a, n_b])[1])
    else:
        assert found.p_value == 1.0


@given(st.floats(5, 50), st.floats(-50, 50), st.floats(0.01, 3), st.floats(0.01, 3))
def test_fieller_holds_the_ratios_that_the_test_lets_stand(
    base: float, new: float, se_base: float, se_new: float
) -> None:
    covariance = 0.3 * se_base * se_new
    found = fixed.fieller_lift(base, new, se_base**2, se_new**2, covariance=covariance, df=12)
    if not found.said:
        assert base / se_base < stats.t.isf(0.025, 12)
        return
    for end in (found.low, found.high):
        ratio = 1 + end
        se = math.sqrt(se_new**2 - 2 * ratio * covariance + ratio**2 * se_base**2)
        t = (new - ratio * base) / se
        assert 2 * stats.t.sf(abs(t), 12) == pytest.approx(0.05, rel=1e-5)
    assert found.low <= found.estimate <= found.high


def test_fieller_says_nothing_of_a_base_that_may_be_zero() -> None:
    found = fixed.fieller_lift(1.0, 5.0, 0.5, 0.5)
    assert not found.said
    assert found.p_value < 0.05  # that they differ is another matter


@given(st.floats(20, 100), st.floats(0.9, 1.1), st.floats(0.001, 0.02))
def test_the_delta_method_agrees_with_fieller_far_from_zero(
    base: float, ratio: float, cv: float
) -> None:
    var = (cv * base) ** 2
    one = fixed.fieller_lift(base, ratio * base, var, var)
    other = fixed.delta_lift(base, ratio * base, var, var)
    assert (one.low, one.high) == pytest.approx((other.low, other.high), abs=8 * cv * cv)


@given(NUMBERS, st.floats(1e-3, 1e3), st.floats(1, 1e5), ALPHAS, st.floats(0, 10))
def test_a_bound_is_the_end_of_an_interval_at_twice_alpha(
    estimate: float, se: float, df: float, alpha: float, margin: float
) -> None:
    both = fixed.t_interval(estimate, se, df, alpha=alpha)
    low = fixed.t_bound(estimate, se, df, alpha=alpha / 2, side="low")
    high = fixed.t_bound(estimate, se, df, alpha=alpha / 2, side="high")
    assert (low.low, high.high) == pytest.approx((both.low, both.high))
    assert both.p_value == pytest.approx(2 * min(low.p_value, high.p_value))
    found = fixed.non_inferiority(estimate, se, margin, df, alpha=alpha)
    assume(abs(found.p_value - alpha) > 1e-9)
    assert found.excludes(-margin) == (found.p_value < alpha)
    other = fixed.non_inferiority(-estimate, se, margin, df, alpha=alpha, good="down")
    assert other.p_value == pytest.approx(found.p_value)


def test_what_can_not_be_said() -> None:
    for found in [
        fixed.normal_interval(1.0, 0.0),
        fixed.normal_interval(math.nan, 1.0),
        fixed.normal_interval(1.0, math.inf),
        fixed.t_interval(1.0, 1.0, 0),
        fixed.t_bound(1.0, math.nan),
        fixed.welch((1.0, 0.0, 10), (2.0, 0.0, 10)),
        fixed.welch((1.0, 1.0, 1), (2.0, 1.0, 10)),
        fixed.welch((math.nan, math.nan, 0), (2.0, 1.0, 10)),
        fixed.wilson(0, 0),
        fixed.clopper_pearson(0, 0),
        fixed.newcombe((0, 0), (1, 2)),
        fixed.fieller_lift(0.0, 1.0, 1.0, 1.0),
        fixed.delta_lift(0.0, 1.0, 1.0, 1.0),
        fixed.fieller_lift(math.nan, 1.0, 1.0, 1.0),
    ]:
        assert not found.said
        assert not found.excludes(0.0)
        assert math.isnan(found.p_value) or found.method == "Fieller"


def test_what_is_refused() -> None:
    for wrong in (
        lambda: fixed.normal_interval(1.0, 1.0, alpha=0.0),
        lambda: fixed.wilson(3, 2),
        lambda: fixed.wilson(-1, 2),
        lambda: fixed.non_inferiority(0.0, 1.0, margin=-0.1),
    ):
        with pytest.raises(Invalid):
            wrong()


def test_coverage_of_proportions_and_lifts() -> None:
    draw = np.random.default_rng(5)
    pairs = zip(draw.binomial(60, 0.1, 3000), draw.binomial(80, 0.15, 3000), strict=True)
    held = [not fixed.newcombe((a, 60), (b, 80)).excludes(0.05) for a, b in pairs]
    assert 0.94 < np.mean(held) < 0.965
    base, new = draw.normal(10, 2, 3000), draw.normal(11, 2, 3000)
    lifts = [fixed.fieller_lift(a, b, 4.0, 4.0) for a, b in zip(base, new, strict=True)]
    assert 0.94 < np.mean([not one.excludes(0.1) for one in lifts]) < 0.96
