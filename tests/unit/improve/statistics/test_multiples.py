"""Rates and quantiles with nothing to tune: e-processes by the binomial, and how often they err."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats

from upturn.improve.statistics.multiples import log_multiples, quantile_bounds, rate_bounds


@pytest.mark.parametrize("rate", [0.01, 0.05])
@pytest.mark.parametrize("side", [1, -1])
def test_the_e_process_is_one_on_average(rate: float, side: int) -> None:
    """Exactly, by the binomial distribution: so Ville's inequality holds at every look."""
    others = rate * np.geomspace(1.05, 10, 40) ** side
    for count in (1, 10, 300):
        k = np.arange(count + 1)
        weights = stats.binom.pmf(k, count, rate)
        values = np.exp([log_multiples(int(one), count, rate, others) for one in k])
        assert weights @ values == pytest.approx(1, rel=1e-9)
        # Of a rate on the other side it is no more than one.
        less = stats.binom.pmf(k, count, rate * (0.8 if side == 1 else 1.2))
        assert less @ values <= 1 + 1e-9


@given(st.lists(st.floats(0.001, 10), min_size=1, max_size=800), st.floats(0.5, 0.99))
def test_bounds_of_a_quantile_enclose_it(values: list[float], quantile: float) -> None:
    ordered = np.sort(values)
    low, high = quantile_bounds(ordered, quantile, 0.05)
    sample = ordered[min(int(np.ceil(quantile * len(ordered))), len(ordered)) - 1]
    assert low <= sample <= high


@given(st.integers(1, 3000), st.floats(0, 1), st.sampled_from([0.05, 0.005]))
@example(rows=508, share=0.998, alpha=0.005)
def test_bounds_of_a_rate_are_wider_than_those_of_one_look(
    rows: int, share: float, alpha: float
) -> None:
    """Than Clopper & Pearson's (1934), by scipy: what holds at every look holds at one."""
    count = round(share * rows)
    low, high = rate_bounds(count, rows, alpha)
    exact = stats.binomtest(count, rows).proportion_ci(1 - 2 * alpha, method="exact")
    assert 0 <= low <= exact.low + 1e-6
    assert exact.high - 1e-6 <= high <= 1


def test_a_rate_is_seldom_ruled_out_at_any_look() -> None:
    random, limit = np.random.default_rng(3), -np.log(0.05)
    for others in (0.02 * np.geomspace(1.05, 49, 40), 0.02 / np.geomspace(1.05, 50, 40)):
        wrong = 0
        for _ in range(400):
            count = (random.random(1500) < 0.02).cumsum()
            looks = range(49, 1500, 50)
            logs = [log_multiples(int(count[at]), at + 1, 0.02, others) for at in looks]
            wrong += max(logs) >= limit
        assert wrong / 400 <= 0.05
