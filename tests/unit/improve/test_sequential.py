"""Bounds that hold at every look: against references, and by how often they err in simulations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from upturn.improve.metrics import METRICS
from upturn.improve.sequential import (
    LEAST_BLOCKS,
    bound,
    compare_latency,
    compare_rates,
    compare_sequential,
    long_run_variance,
)
from upturn.improve.statistics.sequences import (
    asymptotic_bound,
    one_sided_z,
    tuned_rho2_one_sided,
)


@pytest.mark.parametrize("count", [12, 40, 160])
@pytest.mark.parametrize("alpha", [0.05, 0.005])
def test_the_bound_is_that_of_the_mixture(count: int, alpha: float) -> None:
    values = np.tile([1.0, -1.0], count // 2)  # no neighbours are alike
    variance, _ = long_run_variance(values)
    variance *= (count + 1) / (count - 2)
    exact = asymptotic_bound(0.0, variance, count, alpha=alpha, tuned_n=40)
    assert bound(values, alpha=alpha, planned=40) == pytest.approx(-exact.low)


def crossed(alpha: float, hours: int, *, correlated: float = 0.0, every: int = 1) -> float:
    """How often a bound lies above a truth of zero at any look of a stage."""
    random, runs = np.random.default_rng(7), 600
    hits = 0
    for _ in range(runs):
        noise = random.normal(size=hours)
        for hour in range(1, hours):
            noise[hour] = correlated * noise[hour - 1] + np.sqrt(1 - correlated**2) * noise[hour]
        hits += any(
            noise[:look].mean() - bound(noise[:look], alpha=alpha, planned=hours) > 0
            for look in range(LEAST_BLOCKS, hours + 1, every)
        )
    return hits / runs


def test_a_stage_errs_no_more_often_than_it_says_however_often_it_looks() -> None:
    # 600 stages: a rate of 0.05 gives 0.05 ± 0.018 (two standard errors).
    assert crossed(0.05, 48) <= 0.068
    assert crossed(0.05, 72, correlated=0.5, every=24) <= 0.068


def test_a_bound_for_one_look_would_err_far_more_often() -> None:
    noise = np.random.default_rng(7).normal(size=(400, 48))
    hits = np.zeros(400, dtype=bool)
    for look in range(LEAST_BLOCKS, 49):
        t = noise[:, :look].mean(1) / noise[:, :look].std(1, ddof=1) * np.sqrt(look)
        hits |= t > stats.t.ppf(0.95, look - 1)
    assert hits.mean() > 0.12


def test_neighbouring_hours_that_are_alike_widen_the_bound() -> None:
    random = np.random.default_rng(3)
    noise = random.normal(size=4000)
    for hour in range(1, 4000):
        noise[hour] = 0.5 * noise[hour - 1] + np.sqrt(0.75) * noise[hour]
    variance, own = long_run_variance(noise)
    assert own == pytest.approx(1, abs=0.1)
    assert variance == pytest.approx(3, abs=0.4)  # (1 + 0.5) / (1 − 0.5)


def scored(seed: int, rows: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = (random.random(rows) < 0.3).astype(float)
    one, other = np.round(1 / (1 + np.exp(1 - labels - random.normal(size=(2, rows)))), 2)
    return labels, one, other


def delong(labels: np.ndarray, one: np.ndarray, other: np.ndarray) -> float:
    """The variance of a difference of AUCs by midranks (Sun & Xu 2014), with scipy's ranks."""
    positive = labels > 0.5
    m, n = int(positive.sum()), int((~positive).sum())
    parts = []
    for scores in (one, other):
        ranks = stats.rankdata(scores)
        first = (ranks[positive] - stats.rankdata(scores[positive])) / n
        second = 1 - (ranks[~positive] - stats.rankdata(scores[~positive])) / m
        parts.append((first, second))
    (a, c), (b, d) = parts
    return np.var(a - b, ddof=1) / m + np.var(c - d, ddof=1) / n


def test_the_influence_of_single_rows_gives_delongs_variance() -> None:
    labels, one, other = scored(1, 4000)
    order = np.random.default_rng(2).permutation(4000)  # no neighbours are alike
    labels, one, other = labels[order], one[order], other[order]
    found = compare_sequential("auc", labels, one, other, np.arange(4000), planned=4000)
    factor = one_sided_z(4000 * tuned_rho2_one_sided(0.05, 4000), 0.05)
    variance = ((found.high - found.difference) / factor) ** 2
    assert variance == pytest.approx(delong(labels, one, other), rel=0.06)


@pytest.mark.parametrize("metric", sorted(set(METRICS) - {"mae", "rmse"}))
def test_the_influences_add_up_to_what_the_metric_does(metric: str) -> None:
    labels, one, other = scored(5, 1200)
    found = compare_sequential(metric, labels, one, other, np.arange(1200) // 25, planned=48)
    function = METRICS[metric].function
    assert found.difference == pytest.approx(function(labels, other) - function(labels, one))
    assert found.low < found.difference < found.high
    assert found.blocks == 48


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.floats(0.001, 0.2))
def test_whatever_the_rows_are(seed: int, blocks: int, alpha: float) -> None:
    labels, one, other = scored(seed, 60)
    block = np.random.default_rng(seed).integers(0, blocks, 60)
    found = compare_sequential("auc", labels, one, other, block, alpha=alpha)
    swapped = compare_sequential("auc", labels, other, one, block, alpha=alpha)
    if found.conclusive:
        assert found.low <= found.difference <= found.high
        assert found.low == pytest.approx(-swapped.high)
        wider = compare_sequential("auc", labels, one, other, block, alpha=alpha / 2)
        assert wider.low <= found.low
    assert found.conclusive == swapped.conclusive
    if blocks < LEAST_BLOCKS:
        assert not found.conclusive


def test_what_cannot_be_said_is_not_said() -> None:
    labels, one, other = scored(1, 100)
    hour = np.arange(100) // 5
    assert not compare_sequential("auc", np.zeros(100), one, other, hour).conclusive
    assert not compare_sequential("auc", [], [], [], []).conclusive
    assert not compare_sequential("auc", labels, one, other, np.zeros(100)).conclusive
    nan = np.full(100, np.nan)
    assert not compare_sequential("log_loss", labels, nan, other, hour).conclusive
    same = compare_sequential("log_loss", labels, one, one, hour)
    assert (same.low, same.difference, same.high) == (0, 0, 0)


def test_the_latency_bounds_hold_at_every_look() -> None:
    wrong = runs = 0
    for seed in range(150):
        random = np.random.default_rng(seed)
        one, other = random.lognormal(-5, 0.5, 4000), random.lognormal(-5, 0.5, 2000)
        looks = [compare_latency(one[: 2 * at], other[:at]) for at in range(500, 2001, 100)]
        wrong += any(found.low > 0 for found in looks)
        runs += 1
    assert wrong / runs <= 0.05


def test_a_slower_candidate_is_found() -> None:
    random = np.random.default_rng(6)
    one, other = random.lognormal(-5, 0.3, 6000), 1.8 * random.lognormal(-5, 0.3, 1500)
    found = compare_latency(one, other)
    assert found.metric == "latency_p99"
    assert 0.2 < found.low < found.difference < found.high
    assert found.difference == pytest.approx(found.candidate / found.champion - 1)
    assert found.rows == 1500
    assert not compare_latency(one, other[:200]).conclusive
    assert not compare_latency([], []).conclusive
    assert not compare_latency([0.0] * 900, [0.0] * 900).conclusive


def test_a_candidate_that_fails_is_found_early() -> None:
    found = compare_rates("error_rate", (2, 5000), (12, 60))
    assert 0.05 < found.low < found.difference < found.high
    assert not compare_rates("error_rate", (0, 10), (0, 0)).conclusive
    nothing = compare_rates("error_rate", (0, 5000), (0, 5000))
    assert nothing.low < 0 < nothing.high < 0.01
