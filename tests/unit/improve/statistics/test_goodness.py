"""Goodness of fit: scipy's Kolmogorov distribution and test, and values that are not uniform."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from upturn.improve.statistics.goodness import kolmogorov_sf, uniform_p


@given(st.floats(0, 18))
def test_kolmogorovs_tail_is_scipys(x: float) -> None:
    assert kolmogorov_sf(x) == pytest.approx(stats.kstwobign.sf(x), rel=1e-9, abs=1e-300)


@given(st.integers(0, 2**32), st.integers(20, 500), st.floats(0.7, 1.5))
def test_uniformity_is_scipys_test(seed: int, n: int, power: float) -> None:
    values = np.random.default_rng(seed).random(n) ** power
    wanted = stats.kstest(values, "uniform", method="exact").pvalue
    assert uniform_p(values) == pytest.approx(wanted, rel=0.1, abs=0.004)


def test_what_is_not_uniform_and_nothing() -> None:
    assert uniform_p(np.full(50, 0.5)) < 1e-9
    assert math.isnan(uniform_p([]))
