"""Tails of counts: scipy's hypergeometric and negative binomial ones, and whole numbers far out."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from upturn.improve.statistics.counts import (
    fisher_upper,
    negative_binomial_cdf,
    negative_binomial_sf,
)


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


@given(st.integers(-1, 400), st.floats(0.01, 200), st.floats(0.5, 1e4))
def test_a_count_that_varies_more_is_scipys(k: int, mean: float, size: float) -> None:
    share = size / (size + mean)
    low, high = stats.nbinom.cdf(k, size, share), stats.nbinom.sf(k, size, share)
    assert negative_binomial_cdf(k, mean, size) == pytest.approx(low, rel=1e-8, abs=1e-300)
    assert negative_binomial_sf(k, mean, size) == pytest.approx(high, rel=1e-8, abs=1e-300)


def test_the_ends_of_a_count_that_varies_more() -> None:
    # Of size 1 it is geometric.
    assert negative_binomial_sf(999, 1.0, 1.0) == pytest.approx(0.5**1000, rel=1e-9)
    assert negative_binomial_cdf(0, 300.0, 200.0) == pytest.approx(0.4**200, rel=1e-9)
    assert (negative_binomial_cdf(3, 0.0, 5.0), negative_binomial_sf(3, 0.0, 5.0)) == (1, 0)
    for mean, size in [(-1.0, 1.0), (1.0, 0.0), (1.0, math.nan)]:
        with pytest.raises(ValueError, match="is none"):
            negative_binomial_cdf(1, mean, size)
