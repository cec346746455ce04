"""Sample ratio mismatch: its mixture by integration, its intervals, and how often it errs."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, stats

from upturn.core.errors import Invalid
from upturn.improve.statistics.multinomial import ratio_mismatch

COUNTS = st.lists(st.integers(0, 5000), min_size=2, max_size=5)


@pytest.mark.parametrize(("k", "n", "share", "worth"), [(3, 10, 0.5, 4), (40, 300, 0.2, 50)])
def test_the_e_value_is_an_average_of_likelihood_ratios(
    k: int, n: int, share: float, worth: float
) -> None:
    found = ratio_mismatch([k, n - k], [share, 1 - share], concentration=worth)
    prior = stats.beta(worth * share, worth * (1 - share))
    null = stats.binom.logpmf(k, n, share)
    ratio, _ = integrate.quad(
        lambda other: math.exp(stats.binom.logpmf(k, n, other) - null) * prior.pdf(other), 0, 1
    )
    assert found.e_value == pytest.approx(ratio, rel=1e-6)
    assert found.p_value == pytest.approx(min(1 / ratio, 1), rel=1e-6)


@given(st.integers(1, 8), st.integers(0, 2))
def test_its_mean_is_one_where_the_shares_are_right(n: int, which: int) -> None:
    shares = [[0.5, 0.5], [0.1, 0.9], [0.7, 0.3]][which]
    mean = sum(
        stats.binom.pmf(k, n, shares[0]) * ratio_mismatch([k, n - k], shares).e_value
        for k in range(n + 1)
    )
    assert mean == pytest.approx(1)


@settings(max_examples=50)
@given(COUNTS)
def test_intervals_hold_what_is_not_ruled_out(counts: list[int]) -> None:
    shares = [1.0] * len(counts)
    found = ratio_mismatch(counts, shares, alpha=0.05, concentration=100)
    rows = sum(counts)
    for k, one in zip(counts, found.intervals, strict=True):
        if not rows:
            assert (one.low, one.high) == (0.0, 1.0)
            continue
        assert one.low <= k / rows <= one.high
        # No arm's own share is ruled out unless the whole is.
        assert found.p_value <= one.p_value * (1 + 1e-9)
    if any(one.excludes(1 / len(counts)) for one in found.intervals):
        assert found.p_value < 0.05


def test_an_end_is_where_the_best_of_the_others_is_ruled_out() -> None:
    counts, shares = [50, 30, 20], [0.4, 0.4, 0.2]
    found = ratio_mismatch(counts, shares, concentration=30)
    share = found.intervals[0].high

    def e_value(second: float) -> float:
        thetas = [share, second, 1 - share - second]
        odds = sum(
            k * (math.log(at) - math.log(theta))
            for k, at, theta in zip(counts, shares, thetas, strict=True)
        )
        return math.exp(found.log_e + odds)

    least = optimize.minimize_scalar(
        e_value, bounds=(1e-6, 1 - share - 1e-6), method="bounded", options={"xatol": 1e-10}
    )
    assert least.fun == pytest.approx(20, rel=1e-6)


def test_false_alarms_at_every_look() -> None:
    draw = np.random.default_rng(3)
    wrong = 0
    for _ in range(200):
        looks = draw.multinomial(40, [0.5, 0.3, 0.2], size=80).cumsum(axis=0).tolist()
        wrong += any(
            ratio_mismatch(row, [5, 3, 2], concentration=500).p_value < 0.05 for row in looks
        )
    assert wrong / 200 < 0.05


def test_large_counts_and_refusals() -> None:
    assert ratio_mismatch([10**9, 10**9 + 10**6], [1, 1]).p_value < 1e-90
    assert ratio_mismatch([10**7, 0], [1, 1]).e_value == math.inf
    for counts, shares in [([1], [1]), ([1, 2], [1]), ([-1, 2], [1, 1]), ([1, 2], [0, 1])]:
        with pytest.raises(Invalid):
            ratio_mismatch(counts, shares)
    with pytest.raises(Invalid):
        ratio_mismatch([1, 2], [1, 1], concentration=0)
