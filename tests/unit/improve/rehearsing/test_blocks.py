"""Blocks of days, the best of many, and what a day adds: against references and by simulation.

The figures of `arch` are of version 8.0.0 (Sheppard, arch.bootstrap): MCS with the range statistic,
stationary blocks of mean length 6 and 100,000 draws.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from upturn.improve.compare import compare_paired
from upturn.improve.influence import influence
from upturn.improve.metrics import METRICS, ROW_LOSSES
from upturn.improve.rehearsing.blocks import (
    behind,
    block_for,
    reach,
    sum_error,
    widening,
)
from upturn.improve.rehearsing.selection import best_set, superior
from upturn.improve.statistics.bootstrap import stationary_counts


def noise(k: int) -> np.ndarray:
    """The same numbers in [-0.5, 0.5) on every machine, much as random ones."""
    return np.sin(12.9898 * (np.arange(200) + 1.0) * k + 78.233) * 43758.5453 % 1 - 0.5


def series() -> np.ndarray:
    """Five losses of 200 days, each day like the one before, worse from one to the next."""
    rows = []
    for k in range(5):
        own, shocks = np.zeros(200), noise(k + 1)
        for day in range(1, 200):
            own[day] = 0.7 * own[day - 1] + shocks[day]
        rows.append(own)
    return np.array(rows) + noise(9) + np.array([0, 0.1, 0.25, 0.35, 0.5])[:, None]


def test_the_error_is_that_of_infinitely_many_draws() -> None:
    terms = series()
    for block in (1.0, 6.0, 15.0):
        drawn = (stationary_counts(200, block, draws=20_000, seed=2) @ terms.T).std(axis=0)
        unbiased = np.sqrt(200 / (200 - 2 * block + 1))
        assert sum_error(terms, block) == pytest.approx(drawn * unbiased, rel=0.02)


def test_single_days_give_the_standard_error_of_a_mean() -> None:
    terms = noise(3)[None, :]
    error = sum_error(terms, 1.0)[0] / 200
    assert error == pytest.approx(terms.std(ddof=1) / np.sqrt(200), rel=1e-9)


def test_too_few_blocks_say_nothing() -> None:
    assert np.isnan(sum_error(np.ones((1, 10)), 3.0)).all()
    assert np.isnan(reach(3.0, 10))
    found = behind(np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0]]), 0, 1.0)
    assert np.isnan(found.low[1])


def autocorrelated(random: np.random.Generator, shape: tuple[int, ...], like: float) -> np.ndarray:
    found = random.normal(size=shape)
    for day in range(1, shape[-1]):
        found[..., day] = like * found[..., day - 1] + np.sqrt(1 - like**2) * found[..., day]
    return found


def test_intervals_hold_together_whichever_policy_looked_best() -> None:
    random = np.random.default_rng(4)
    missed = 0
    for run in range(300):
        losses = autocorrelated(random, (6, 200), 0.3)  # all policies are equal
        best = int(losses.sum(axis=1).argmin())
        block = block_for([losses[one] - losses[best] for one in range(6)], 200)
        found = behind(losses, best, block, draws=400, seed=run)
        missed += bool((found.low > 0).any())
    assert missed / 300 < 0.08  # 5 % are claimed, and days that are alike cost a little


def test_of_two_policies_the_interval_is_that_of_their_difference() -> None:
    losses = series()[:2]
    found = behind(losses, 0, 6.0, draws=20_000)
    alone = reach(6.0, 200) * sum_error(losses[1:] - losses[:1], 6.0)[0]
    assert (found.high - found.low)[1] / 2 == pytest.approx(alone, rel=0.03)


def test_the_best_set_is_that_of_arch() -> None:
    found = best_set(series(), 6.0, draws=20_000, seed=3)
    # arch 8.0.0: 1, 0.04427, 0.04427, 0.00038, 0
    assert found == pytest.approx([1, 0.04427, 0.04427, 0.00038, 0], abs=0.006)


def test_the_best_set_holds_the_best_policy_and_what_never_differs_from_it() -> None:
    random = np.random.default_rng(5)
    means = np.array([0.0, 0.0, 0.02, 0.3])[:, None]
    lost = 0
    for run in range(200):
        losses = autocorrelated(random, (4, 150), 0.2) + means
        block = block_for([losses[1] - losses[0]], 150)
        scale = widening(block, 150)
        lost += best_set(losses, block, scale=scale, draws=300, seed=run)[0] < 0.05
    assert lost / 200 < 0.08
    twice = np.vstack([series(), series()[4]])
    assert best_set(twice, 6.0, draws=500)[4] == best_set(twice, 6.0, draws=500)[5]


def test_luck_is_counted_when_the_best_of_many_is_picked() -> None:
    random = np.random.default_rng(6)
    found, naive = [], 0
    for run in range(300):
        reference = autocorrelated(random, (120,), 0.2)
        others = autocorrelated(random, (8, 120), 0.2)
        block = block_for([reference - one for one in others], 120)
        scale = widening(block, 120)
        found.append(superior(reference, others, block, scale=scale, draws=300, seed=run))
        gains = (reference - others).sum(axis=1)
        best = int(gains.argmax())
        naive += gains[best] > 1.645 * sum_error((reference - others[best])[None], 3.0)[0]
    assert np.mean(np.array(found) < 0.05) < 0.08
    assert naive / 300 > 0.12  # who picks the best and then tests it alone is wrong far more often


def test_the_test_of_the_best_is_hansens_word_for_word() -> None:
    losses = series()
    reference, others = losses[2], losses[[0, 1, 3, 4]]
    drawn = stationary_counts(200, 6.0, draws=2000, seed=0)
    gains = [reference - one for one in others]
    spread = [float(np.std(drawn @ gain / 200)) for gain in gains]
    statistic = max(0.0, *(g.mean() / s for g, s in zip(gains, spread, strict=True)))
    beyond = 0
    for row in drawn:
        largest = 0.0
        for gain, s in zip(gains, spread, strict=True):
            kept = gain.mean() if gain.mean() >= -s * np.sqrt(2 * np.log(np.log(200))) else 0.0
            largest = max(largest, (float(row @ gain) / 200 - kept) / s)
        beyond += largest > statistic
    found = superior(reference, others, 6.0, draws=2000, seed=0)
    assert found == pytest.approx((beyond + 1) / 2001, abs=0.002)


def test_a_reference_that_nothing_beats_and_policies_that_never_differ() -> None:
    losses = series()
    assert superior(losses[0], losses[1:], 6.0) == 1.0
    assert superior(losses[0], losses[3:], 6.0) == 1.0
    assert np.isnan(superior(losses[0], losses[:1], 6.0))


@given(st.sampled_from(["auc", *ROW_LOSSES]), st.integers(0, 50))
@settings(max_examples=40)
def test_a_metric_is_what_its_days_add_up_to(metric: str, seed: int) -> None:
    """For the metrics that follow rows smoothly; of others, days are left out: see below."""
    random = np.random.default_rng(seed)
    truth = (random.random(90) < 0.4).astype(float)
    day, scores = np.repeat(np.arange(9), 10), random.random(90)
    found = influence(metric, truth, [scores], day, 9)
    assert found.values[0] == pytest.approx(METRICS[metric].function(truth, scores))
    assert found.phi[0].sum() == pytest.approx(0, abs=1e-12)
    # Days that count a little more or less move the metric by what they add.
    weights = 1 + 1e-5 * random.normal(size=9)
    moved = METRICS[metric].function(truth, scores, weights=weights[day])
    assert moved - found.values[0] == pytest.approx(float(found.phi[0] @ (weights - 1)), abs=1e-8)


@pytest.mark.parametrize("metric", sorted(set(METRICS) - set(ROW_LOSSES) - {"auc"}))
def test_any_other_metric_is_what_it_lacks_without_a_day(metric: str) -> None:
    random = np.random.default_rng(1)
    truth = (random.random(300) < 0.5).astype(float)
    day, scores = np.repeat(np.arange(15), 20), np.clip(truth * 0.4 + random.random(300) / 2, 0, 1)
    found = influence(metric, truth, [scores], day, 15)
    function = METRICS[metric].function
    assert found.phi[0].sum() == pytest.approx(0, abs=1e-9)
    lacking = function(truth[day != 4], scores[day != 4]) - function(
        truth[day != 9], scores[day != 9]
    )
    if np.isfinite(found.values[0]):
        assert found.phi[0][9] - found.phi[0][4] == pytest.approx(lacking * 14 / 15)


def test_the_jackknife_agrees_with_the_formulas() -> None:
    random = np.random.default_rng(9)
    truth = (random.random(1000) < 0.3).astype(float)
    day, scores = np.arange(1000) // 20, random.random(1000)
    found = influence("brier", truth, [scores], day, 50)
    brier = METRICS["brier"].function
    lacks = [found.values[0] - brier(truth[day != one], scores[day != one]) for one in range(50)]
    assert found.phi[0] == pytest.approx(np.array(lacks) * 49 / 50)


def test_the_errors_by_influence_are_those_of_drawn_days() -> None:
    random = np.random.default_rng(8)
    day = np.repeat(np.arange(120), 40)
    truth = (random.random(4800) < 0.3).astype(float)
    one = np.clip(0.3 + 0.2 * (truth - 0.3) + 0.1 * random.normal(size=4800), 0.01, 0.99)
    two = np.clip(one + 0.05 * random.normal(size=4800), 0.01, 0.99)
    for metric in ("auc", "log_loss", "brier"):
        found = influence(metric, truth, [one, two], day, 120)
        error = sum_error((found.phi[1] - found.phi[0])[None], 1.0)[0]
        drawn = compare_paired(metric, truth, one, two, day, alpha=0.025, draws=3000)
        reference = (drawn.high - drawn.low) / 2 / reach(1.0, 120)
        assert error == pytest.approx(reference, rel=0.08)


def test_the_error_of_an_auc_of_single_rows_is_delongs() -> None:
    random = np.random.default_rng(9)
    truth = (random.random(300) < 0.5).astype(float)
    scores = truth + random.normal(size=300)
    found = influence("auc", truth, [scores], np.arange(300), 300)
    assert found.values[0] == pytest.approx(roc_auc_score(truth, scores))
    wins, losses = scores[truth == 1], scores[truth == 0]
    placed = (wins[:, None] > losses[None, :]) + 0.5 * (wins[:, None] == losses[None, :])
    delong = placed.mean(axis=1).var(ddof=1) / len(wins)
    delong += placed.mean(axis=0).var(ddof=1) / len(losses)
    assert (found.phi**2).sum() == pytest.approx(delong, rel=0.02)


def test_what_is_not_defined_is_nan_and_no_traceback() -> None:
    empty, day = np.empty(0), np.empty(0, np.intp)
    assert np.isnan(influence("brier", empty, [empty], day, 3).phi).all()
    ones = np.ones(4)
    found = influence("auc", ones, [ones], np.arange(4), 4)
    assert np.isnan(found.values).all()
    assert influence("rmse", ones, [ones], np.arange(4), 4).phi.tolist() == [[0.0] * 4]
