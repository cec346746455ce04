"""Whether a share has grown: exact tails, and days that differ."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from upturn.improve.monitor.shares import fisher_upper, grown, share_interval


@given(st.integers(0, 50), st.integers(0, 300), st.integers(0, 40), st.integers(0, 500))
def test_fisher_is_what_scipy_says(count: int, rest: int, other: int, others: int) -> None:
    rows, other_rows = count + rest, other + others
    assume(rows + other_rows > 0)
    wanted = stats.hypergeom.sf(count - 1, rows + other_rows, count + other, rows)
    assert fisher_upper(count, rows, other, other_rows) == pytest.approx(wanted, rel=1e-8)


def test_tails_are_right_far_out() -> None:
    # All 40 of 80 marked rows are here: 1 / C(80, 40) where nothing else is possible.
    assert fisher_upper(40, 40, 0, 40) == pytest.approx(1 / math.comb(80, 40), rel=1e-10)
    assert 0 < fisher_upper(300, 1000, 0, 1000) < 1e-90
    assert fisher_upper(0, 0, 0, 10) == 1.0


@given(st.integers(0, 30), st.integers(0, 30))
def test_wilson(count: int, rest: int) -> None:
    found = share_interval(count, count + rest)
    if not count + rest:
        assert math.isnan(found.estimate)
        return
    low, high = proportion_confint(count, count + rest, method="wilson")
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-9)


@pytest.mark.parametrize("spread", [0.0, 0.5])
def test_days_that_differ_do_not_cry_wolf(spread: float) -> None:
    """Log odds of a day vary by `spread`, in the baseline of 60 days too."""
    random = np.random.default_rng(1)
    rows = np.full(14, 2000)
    wrong = 0
    for _ in range(2000):
        odds = np.exp(random.normal(-4, spread, 74))
        counts = random.binomial(2000, odds / (1 + odds))
        found = grown(counts[:14], rows, counts[14:].sum(), 60 * 2000)
        wrong += found.p_value < 0.01
    assert wrong / 2000 < 0.018


def test_what_there_is_to_see() -> None:
    found = grown(np.array([30, 20, 25]), np.array([1000, 1000, 1000]), 100, 100_000)
    assert found.p_value < 1e-20
    assert (found.before, found.now) == (0.001, 0.025)
    assert grown(np.array([0, 0]), np.array([10, 10]), 0, 100).p_value == 1.0
    assert math.isnan(grown(np.array([]), np.array([]), 1, 10).p_value)
    assert math.isnan(grown(np.array([1]), np.array([2]), 0, 0).p_value)
