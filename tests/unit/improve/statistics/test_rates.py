"""Rates and counts at every look: published values, integrals, and how often they err."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from upturn.core.errors import Invalid
from upturn.improve.statistics import rates


def counted(most: int) -> st.SearchStrategy[tuple[int, int]]:
    """Events, and the rows of which they are."""
    return st.integers(1, most).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


ALPHAS = st.floats(1e-4, 0.3)


def test_published_values_of_the_beta_binomial() -> None:
    """Howard's confseq, test/uniform_boundaries_unittest.cpp: v = 100, s = 10, g = 0.2, h = 0.8.

    That is 135 of 625 rows, against a rate of 0.2, where 125 are expected.
    """
    both = 12.60056 / 0.16 - 1
    assert rates.log_rate_mixture(135, 625, 0.2, both) == pytest.approx(-0.6941012, abs=1e-6)
    log = -2 * math.log(0.1)
    one = 100 / (log + math.log1p(log)) / 0.16 - 1
    found = rates.log_rate_half_mixture(135, 625, 0.2, one, "low")
    assert found == pytest.approx(-0.07134019, abs=1e-7)
    # Its bounds at 1 / 0.05 are 31.4308 to both sides and 28.41238 to one.
    assert rates.log_rate_mixture(125 + 31.4308, 625, 0.2, both) == pytest.approx(
        math.log(20), abs=1e-4
    )
    assert rates.log_rate_half_mixture(125 + 28.41238, 625, 0.2, one, "low") == pytest.approx(
        math.log(20), abs=1e-4
    )


@pytest.mark.parametrize(("k", "n", "rate"), [(3, 10, 0.5), (0, 30, 0.1), (50, 60, 0.7)])
def test_mixtures_are_averages_of_likelihood_ratios(k: int, n: int, rate: float) -> None:
    prior = stats.beta(8 * rate, 8 * (1 - rate))

    def integrand(other: float) -> float:
        log = k * math.log(other / rate) + (n - k) * math.log((1 - other) / (1 - rate))
        return math.exp(log) * float(prior.pdf(other))

    both, _ = integrate.quad(integrand, 0, 1, points=[rate])
    above, _ = integrate.quad(integrand, rate, 1)
    below, _ = integrate.quad(integrand, 0, rate)
    assert math.exp(rates.log_rate_mixture(k, n, rate, 8)) == pytest.approx(both, rel=1e-6)
    low = math.exp(rates.log_rate_half_mixture(k, n, rate, 8, "low"))
    high = math.exp(rates.log_rate_half_mixture(k, n, rate, 8, "high"))
    assert low == pytest.approx(above / prior.sf(rate), rel=1e-6)
    assert high == pytest.approx(below / prior.cdf(rate), rel=1e-6)


@pytest.mark.parametrize(("count", "expected", "shape"), [(0, 3.0, 2.0), (12, 5.0, 4.0)])
def test_a_counts_mixture_is_an_average_too(count: int, expected: float, shape: float) -> None:
    ratio, _ = integrate.quad(
        lambda times: (
            math.exp(count * math.log(times) - (times - 1) * expected)
            * stats.gamma.pdf(times, shape, scale=1 / shape)
        ),
        1e-12,
        np.inf,
    )
    found = math.exp(rates.log_count_mixture(count, expected, shape))
    assert found == pytest.approx(ratio, rel=1e-6)


@given(counted(2000), ALPHAS, st.floats(0.01, 0.99))
def test_intervals_hold_the_rates_that_are_not_ruled_out(
    seen: tuple[int, int], alpha: float, null: float
) -> None:
    k, n = seen
    both = rates.rate_interval(k, n, alpha=alpha, tuned_n=500, null=null)
    low = rates.rate_bound(k, n, alpha=alpha, tuned_n=500, null=null)
    high = rates.rate_bound(k, n, alpha=alpha, tuned_n=500, null=null, side="high")
    for found in (both, low, high):
        assert 0 <= found.low <= k / n <= found.high <= 1
        assert abs(found.p_value / alpha - 1) < 1e-6 or found.excludes(null) == (
            found.p_value < alpha
        )


@settings(max_examples=30)
@given(counted(300), counted(300))
def test_a_difference_holds_the_pairs_that_are_not_ruled_out(
    first: tuple[int, int], second: tuple[int, int]
) -> None:
    (k, n), (j, m) = first, second
    found = rates.compare_rates((k, n), (j, m), tuned_n=200)
    worth = rates.prior_worth(0.05, 200)
    grid = np.linspace(0.005, 0.995, 34).tolist()
    for one in grid:
        for other in grid:
            log_e = rates.log_rate_mixture(k, n, one, worth)
            log_e += rates.log_rate_mixture(j, m, other, worth)
            if log_e < math.log(20):
                assert found.low - 1e-9 <= other - one <= found.high + 1e-9
    turned = rates.compare_rates((j, m), (k, n), tuned_n=200)
    assert turned.low == pytest.approx(-found.high, abs=1e-6)
    assert turned.p_value == pytest.approx(found.p_value, rel=1e-4)
    assert found.excludes(0.0) == (found.p_value < 0.05) or abs(found.p_value - 0.05) < 1e-4


def test_a_difference_is_narrower_than_half_of_alpha_on_either_arm() -> None:
    found = rates.compare_rates((30, 1000), (70, 1000), tuned_n=1000)
    one, other = (rates.rate_interval(k, 1000, alpha=0.025, tuned_n=1000) for k in (30, 70))
    assert found.high - found.low < 0.85 * (other.high - one.low - (other.low - one.high))


@given(st.integers(0, 5000), st.integers(0, 5000))
def test_equal_counts_say_least_at_their_mean(first: int, second: int) -> None:
    found = rates.equal_counts_log_e(first, second, tuned_count=100)
    shape = 1 / rates.tuned_rho2(0.05, 100)
    middle = (first + second) / 2
    for common in (0.9 * middle, 0.99 * middle, 1.01 * middle, 1.1 * middle + 0.1):
        log_e = rates.log_count_mixture(first, common, shape)
        log_e += rates.log_count_mixture(second, common, shape)
        assert log_e >= found - 1e-6


def test_errors_at_every_row_and_instant() -> None:
    draw = np.random.default_rng(4)
    looks = [int(at) for at in np.unique(np.geomspace(1, 400, 40).astype(int))]
    swinging = 0.2 * (1 + np.sin(np.arange(400) / 20))  # arrivals at each of 400 instants
    expected = swinging.cumsum()
    worth, shape = rates.prior_worth(0.05, 100), 1 / rates.tuned_rho2(0.05, 50)
    wrong = {"rate": 0, "bound": 0, "count": 0, "ratio": 0, "equal": 0}
    for _ in range(300):
        k = (draw.random(400) < 0.1).cumsum().tolist()
        one, other, canary = (draw.poisson(swinging * by).cumsum().tolist() for by in (1, 1, 0.5))
        said = {
            "rate": [rates.log_rate_mixture(k[n - 1], n, 0.1, worth) for n in looks],
            "bound": [rates.log_rate_half_mixture(k[n - 1], n, 0.1, worth, "low") for n in looks],
            "count": [
                rates.log_count_mixture(one[n - 1], float(expected[n - 1]), shape) for n in looks
            ],
            "ratio": [
                rates.log_rate_mixture(canary[n - 1], one[n - 1] + canary[n - 1], 1 / 3, worth)
                for n in looks
            ],
            "equal": [
                rates.equal_counts_log_e(one[n - 1], other[n - 1], tuned_count=50) for n in looks
            ],
        }
        for name, log_es in said.items():
            wrong[name] += max(log_es) >= math.log(20)
    assert all(count / 300 <= 0.05 for count in wrong.values()), wrong


def test_power_of_a_canary() -> None:
    found = rates.count_ratio(950, 100, exposure=5 / 95, tuned_count=500)
    assert found.low > 1.3
    log_e = rates.log_rate_mixture(100, 1050, 0.05, rates.prior_worth(0.05, 500))
    assert found.p_value == pytest.approx(math.exp(-log_e))
    assert found.p_value < 1e-6


def test_ends_and_refusals() -> None:
    assert (
        rates.rate_interval(0, 9, tuned_n=9).low,
        rates.rate_interval(9, 9, tuned_n=9).high,
    ) == (
        0.0,
        1.0,
    )
    assert not rates.rate_interval(0, 0, tuned_n=9).said
    assert not rates.rate_bound(0, 0, tuned_n=9).said
    assert not rates.compare_rates((0, 0), (1, 2), tuned_n=9).said
    assert not rates.count_ratio(0, 0, tuned_count=9).said
    assert rates.count_ratio(0, 5, tuned_count=9).high == math.inf
    assert rates.count_interval(0, tuned_count=9).low == 0
    for wrong in (
        lambda: rates.rate_interval(3, 2, tuned_n=9),
        lambda: rates.count_ratio(1, 1, exposure=0, tuned_count=9),
        lambda: rates.count_interval(-1, tuned_count=9),
        lambda: rates.rate_interval(1, 2, tuned_n=-9),
    ):
        with pytest.raises(Invalid):
            wrong()
