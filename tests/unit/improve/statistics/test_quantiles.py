"""Quantiles at every look: by the definition, value by value, and how often they err."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upturn.core.errors import Invalid
from upturn.improve.statistics.quantiles import quantile_difference, quantile_interval
from upturn.improve.statistics.rates import log_rate_mixture, prior_worth

VALUES = st.lists(st.integers(-20, 20).map(float), min_size=1, max_size=60)


def against(values: list[float], x: float, q: float) -> float:
    """The least log e-value against x, over the counts of rows below that ties leave open."""
    less, most = sum(v < x for v in values), sum(v <= x for v in values)
    worth = prior_worth(0.05, 100)
    counts = np.linspace(less, most, 101).tolist()
    return min(log_rate_mixture(k, len(values), q, worth) for k in counts)


@settings(max_examples=25)
@given(VALUES, st.sampled_from([0.1, 0.5, 0.9]))
def test_an_interval_holds_the_values_that_are_not_ruled_out(values: list[float], q: float) -> None:
    found = quantile_interval(values, q, tuned_n=100)
    for x in np.arange(-21, 21.5, 0.5).tolist():
        log_e = against(values, x, q)
        if abs(log_e - math.log(20)) > 0.01:
            assert found.excludes(x) == (log_e > math.log(20)), (x, log_e)
        p_value = quantile_interval(values, q, tuned_n=100, null=x).p_value
        assert p_value == pytest.approx(min(math.exp(-log_e), 1), rel=0.02)


@settings(max_examples=25, deadline=None)
@given(VALUES, VALUES, st.sampled_from([0.2, 0.5, 0.8]))
def test_a_difference_holds_the_pairs_that_are_not_ruled_out(
    first: list[float], second: list[float], q: float
) -> None:
    found = quantile_difference(first, second, q, tuned_n=100)
    grid = np.arange(-22, 22.5, 0.5).tolist()
    one = {x: against(first, x, q) for x in grid}
    other = {x: against(second, x, q) for x in grid}
    for x, said in one.items():
        for y, as_well in other.items():
            if said + as_well < math.log(20) - 0.01:
                assert found.low <= y - x <= found.high
    common = min(one[x] + other[x] for x in grid)
    assert found.p_value == pytest.approx(min(math.exp(-common), 1), rel=0.03)


def test_a_difference_against_half_of_alpha_on_either_arm() -> None:
    draw = np.random.default_rng(0)
    one, other = draw.exponential(1, 4000), draw.exponential(1.2, 4000)
    found = quantile_difference(one, other, 0.9, tuned_n=4000)
    apart = [quantile_interval(arm, 0.9, alpha=0.025, tuned_n=4000) for arm in (one, other)]
    assert found.high - found.low < 0.85 * sum(arm.high - arm.low for arm in apart)
    assert found.low <= 0.2 * math.log(10) <= found.high


def test_errors_at_every_look() -> None:
    draw = np.random.default_rng(11)
    truth, wrong, differing = -math.log(0.1), 0, 0
    looks = [20, 50, 100, 150, 200, 300, 400, 600, 800, 1000]
    for _ in range(120):
        a, b = draw.exponential(1, 1000), draw.exponential(1, 1000)
        wrong += any(
            quantile_interval(a[:n], 0.9, tuned_n=500, null=truth).p_value < 0.05 for n in looks
        )
        differing += any(
            quantile_difference(a[:n], b[:n], 0.9, tuned_n=500).excludes(0.0) for n in looks[3::3]
        )
    assert wrong / 120 <= 0.05
    assert differing / 120 <= 0.05


def test_ends_and_refusals() -> None:
    few = quantile_interval(np.arange(100), 0.99, tuned_n=100)
    assert (few.high, few.estimate) == (math.inf, 98)
    assert quantile_interval([math.nan, 1.0, 2.0], 0.5, tuned_n=10).estimate == 1.0
    assert not quantile_interval([], 0.5, tuned_n=10).said
    assert not quantile_difference([], [1.0], 0.5, tuned_n=10).said
    same = quantile_interval([3.0] * 500, 0.5, tuned_n=500)
    assert (same.low, same.high) == (3.0, 3.0)
    for q in (0.0, 1.0, math.nan):
        with pytest.raises(Invalid):
            quantile_interval([1.0], q, tuned_n=10)
