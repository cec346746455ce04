"""A comparison covers the truth as often as it says, also where rows of a day are correlated."""

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from upturn.improve.compare import compare_paired, p_beyond
from upturn.improve.evidence import SliceSeen
from upturn.improve.judging import harmed
from upturn.improve.metrics import METRICS
from upturn.improve.rollout import beats
from upturn.improve.statistics.distributions import t_quantile


def two_models(
    random: np.random.Generator, days: int, rows: int, *, better: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Labels, two models' scores and days: on each day, luck favours one of the two models."""
    day = np.repeat(np.arange(days), rows)
    labels = (random.random(days * rows) < 0.3).astype(float)
    skill = np.repeat(random.normal(1.0, 0.4, size=(2, days)), rows, axis=1)
    noise = random.normal(size=(2, days * rows))
    skill[1] += better
    one, other = 1 / (1 + np.exp(1 - skill * labels - noise))
    return labels, one, other, day


def misses(metric: str, days: int, *, simulations: int = 300) -> tuple[float, float]:
    """How often each bound is on the wrong side of the truth, which is 0: both are equally good."""
    low = high = 0
    for seed in range(simulations):
        labels, one, other, day = two_models(np.random.default_rng(seed), days, 40)
        found = compare_paired(metric, labels, one, other, day, alpha=0.05, draws=300, seed=seed)
        low += found.low > 0
        high += found.high < 0
    return low / simulations, high / simulations


@pytest.mark.parametrize("metric", ["auc", "log_loss"])
@pytest.mark.parametrize("days", [5, 14])
def test_each_bound_errs_one_time_in_twenty(metric: str, days: int) -> None:
    # 300 simulations: a true rate of 0.05 gives 0.05 ± 0.025 (two standard errors).
    low, high = misses(metric, days)
    assert 0.01 <= low <= 0.09
    assert 0.01 <= high <= 0.09


def test_taking_rows_for_independent_would_be_far_too_sure() -> None:
    wrong = 0
    for seed in range(100):
        labels, one, other, _ = two_models(np.random.default_rng(seed), 14, 200)
        rows = np.arange(len(labels))
        found = compare_paired("log_loss", labels, one, other, rows, draws=200, seed=seed)
        wrong += found.low > 0 or found.high < 0
    assert wrong / 100 > 0.25  # 0.10 is what the level promises


def test_a_better_model_is_found() -> None:
    labels, one, other, day = two_models(np.random.default_rng(1), 14, 400, better=0.8)
    found = compare_paired("auc", labels, one, other, day, seed=1)
    assert 0 < found.low < found.difference < found.high
    assert found.difference == pytest.approx(found.candidate - found.champion)
    assert found.champion == pytest.approx(METRICS["auc"].function(labels, one))
    assert (found.rows, found.blocks, found.level) == (5600, 14, 0.95)


def test_for_a_mean_over_equal_days_it_is_the_t_test_on_the_days() -> None:
    labels, one, other, day = two_models(np.random.default_rng(2), 12, 50)
    found = compare_paired("brier", labels, one, other, day, draws=20_000, seed=5)
    losses = (np.square(scores - labels).reshape(12, 50).mean(axis=1) for scores in (other, one))
    interval = stats.ttest_rel(*losses).confidence_interval(0.90)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=0.03)


def test_the_same_seed_gives_the_same_interval() -> None:
    rows = two_models(np.random.default_rng(3), 10, 30)
    first = compare_paired("auc", *rows, seed=4)
    assert first == compare_paired("auc", *rows, seed=4)
    assert first.low != compare_paired("auc", *rows, seed=5).low


@pytest.mark.parametrize("days", [0, 1])
def test_fewer_than_two_days_are_not_enough(days: int) -> None:
    labels, one, other, day = two_models(np.random.default_rng(3), days, 30)
    found = compare_paired("auc", labels, one, other, day)
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert not found.conclusive
    assert (found.rows, found.blocks) == (30 * days, days)


def test_a_missing_class_is_not_enough() -> None:
    found = compare_paired("auc", np.zeros(40), np.ones(40), np.ones(40), np.arange(40) // 10)
    assert not found.conclusive
    # One late flight in four days: a third of the draws would not have it.
    labels = np.zeros(40)
    labels[0] = 1
    scores = np.linspace(0, 1, 40)
    assert not compare_paired("auc", labels, scores, scores, np.arange(40) // 10).conclusive
    assert compare_paired("brier", labels, scores, scores, np.arange(40) // 10).conclusive


def test_rows_without_label_or_score_are_left_out() -> None:
    labels, one, other, day = two_models(np.random.default_rng(3), 10, 30)
    holes = [np.append(values, 0.5) for values in (labels, one, other)]
    for values in holes:
        gap = [np.where(np.arange(301) == 300, np.nan, v) if v is values else v for v in holes]
        with_gap = compare_paired("auc", *gap, np.append(day, 0), seed=1)
        assert with_gap == compare_paired("auc", labels, one, other, day, seed=1)


def test_a_p_value_is_that_of_the_paired_t_test() -> None:
    """With days of one row each, of a mean: the bootstrap's error, scipy's distribution."""
    random = np.random.default_rng(4)
    labels = (random.random(60) < 0.4).astype(float)
    one, other = np.clip(random.random((2, 60)), 0.05, 0.95)
    found = compare_paired("brier", labels, one, other, np.arange(60), draws=20_000)
    paired = stats.ttest_rel((other - labels) ** 2, (one - labels) ** 2, alternative="greater")
    assert p_beyond(found, 0.0, more=True) == pytest.approx(paired.pvalue, abs=0.01)
    assert p_beyond(found, 0.0, more=False) == pytest.approx(1 - paired.pvalue, abs=0.01)
    assert p_beyond(found, 10.0, more=True) > 0.999
    nothing = compare_paired("brier", [], [], [], [])
    assert math.isnan(p_beyond(nothing, 0.0, more=True))


@pytest.mark.parametrize("df", [1, 2, 3, 4, 9, 30, 364])
def test_t_quantiles_are_scipys(df: int) -> None:
    for p in (0.01, 0.5, 0.9, 0.95, 0.999):
        assert t_quantile(p, df) == pytest.approx(stats.t.ppf(p, df), rel=1e-8, abs=1e-8)


def test_a_thousand_draws_of_fifteen_thousand_rows_take_about_half_a_second() -> None:
    rows = two_models(np.random.default_rng(3), 14, 15_000 // 14)
    began = time.process_time()
    compare_paired("auc", *rows, draws=1000)
    assert time.process_time() - began < 2  # a busy machine has some slack


def test_parts_that_are_not_harmed_are_seldom_said_to_be() -> None:
    """Of gates over five parts, one in twenty at most names one (Holm 1979)."""
    gate, wrong = beats("log_loss", alpha=0.05), 0
    for seed in range(120):
        seen: list[SliceSeen] = []
        for part in range(5):
            random = np.random.default_rng([seed, part])
            found = compare_paired("log_loss", *two_models(random, 12, 20), draws=200, seed=seed)
            p_harm = p_beyond(found, 0.0, more=True)
            seen.append(SliceSeen(name=f"{part}", rows=240, comparison=found, p_harm=p_harm))
        wrong += bool(harmed(gate, tuple(seen)))
    assert wrong / 120 <= 0.09  # 0.05 and two standard errors


@pytest.mark.usefixtures("frozen")
@settings(max_examples=30)
@given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=12), st.sampled_from([0.01, 0.05, 0.2]))
def test_harm_is_named_as_holms_procedure_rejects(ps: list[float], alpha: float) -> None:
    seen = tuple(SliceSeen(name=f"{at}", rows=1, p_harm=p) for at, p in enumerate(ps))
    rejected = multipletests(ps, alpha, method="holm")[0]
    named = {one.name for one in harmed(beats("auc", alpha=alpha), seen)}
    assert named == {f"{at}" for at, said in enumerate(rejected) if said}
