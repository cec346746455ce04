"""Bounds that hold at every look: against references, and by how often they err in simulations."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import optimize, stats

from upturn.improve.metrics import METRICS
from upturn.improve.sequential import (
    LEAST_BLOCKS,
    bound,
    compare_latency,
    compare_rates,
    compare_sequential,
    log_e,
    long_run_variance,
    quantile_bounds,
    rate_bounds,
)


def mixture(total: float, time: float, rho2: float) -> float:
    """Robbins's one-sided mixture of a Brownian motion, by its closed form with scipy's normal."""
    inside = time * rho2 + 1
    log = np.log(2) - np.log(inside) / 2 + rho2 * total**2 / (2 * inside)
    return log + stats.norm.logcdf(total * np.sqrt(rho2 / inside))


@pytest.mark.parametrize("count", [12, 40, 160])
@pytest.mark.parametrize("alpha", [0.05, 0.005])
def test_the_bound_is_that_of_the_mixture(count: int, alpha: float) -> None:
    """It is the paper's closed form: a little wider than the exact boundary, never less."""
    values = np.tile([1.0, -1.0], count // 2)  # no neighbours are alike
    variance, _ = long_run_variance(values)
    reach = bound(values, alpha=alpha, planned=40)
    a = -2 * np.log(alpha)
    rho2 = (a + np.log(a) + 1) / 40
    exact = optimize.brentq(
        lambda total: mixture(total, count, rho2) + np.log(alpha), 0.0, 100.0 * np.sqrt(count)
    )
    standard = reach * count / np.sqrt(variance * (count + 1) / (count - 2))
    assert exact <= standard < 1.1 * exact


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
    a = -2 * np.log(0.05)
    rho2 = (a + np.log(a) + 1) / 4000
    inside = 4000 * rho2 + 1
    factor = 2 * inside / (4000 * rho2) * np.log1p(np.sqrt(inside) / 0.1)
    variance = (found.high - found.difference) ** 2 / factor
    assert variance == pytest.approx(delong(labels, one, other), rel=0.06)


@pytest.mark.parametrize("metric", sorted(set(METRICS) - {"mae", "rmse"}))
def test_the_influences_add_up_to_what_the_metric_does(metric: str) -> None:
    labels, one, other = scored(5, 1200)
    found = compare_sequential(metric, labels, one, other, np.arange(1200) // 25, planned=48)
    function = METRICS[metric].function
    assert found.difference == pytest.approx(function(labels, other) - function(labels, one))
    assert found.low < found.difference < found.high
    assert found.blocks == 48


def test_the_jackknife_agrees_with_the_formulas() -> None:
    from upturn.improve.sequential import influence, left_out

    labels, one, _ = scored(9, 1000)
    block = np.arange(1000) // 20
    for metric in ("auc", "log_loss", "brier", "rmse"):
        fast = influence(metric)(labels, one, block, 50)
        slow = left_out(metric, labels, one, block, 50)
        assert np.corrcoef(fast, slow)[0, 1] > 0.999
        assert fast.std() == pytest.approx(slow.std(), rel=0.1)


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


@pytest.mark.parametrize("rate", [0.01, 0.05])
@pytest.mark.parametrize("side", [1, -1])
def test_the_e_process_is_one_on_average(rate: float, side: int) -> None:
    """Exactly, by the binomial distribution: so Ville's inequality holds at every look."""
    others = rate * np.geomspace(1.05, 10, 40) ** side
    for count in (1, 10, 300):
        k = np.arange(count + 1)
        weights = stats.binom.pmf(k, count, rate)
        values = np.exp([log_e(int(one), count, rate, others) for one in k])
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
            wrong += any(log_e(int(count[at]), at + 1, 0.02, others) >= limit for at in looks)
        assert wrong / 400 <= 0.05


def test_a_candidate_that_fails_is_found_early() -> None:
    found = compare_rates("error_rate", (2, 5000), (12, 60))
    assert 0.05 < found.low < found.difference < found.high
    assert not compare_rates("error_rate", (0, 10), (0, 0)).conclusive
    nothing = compare_rates("error_rate", (0, 5000), (0, 5000))
    assert nothing.low < 0 < nothing.high < 0.01
