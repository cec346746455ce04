"""Intervals by batch means cover what they claim, also where rows depend on those before them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.signal import lfilter
from statsmodels.stats.proportion import proportion_confint

from upturn.improve.metrics import METRICS, accuracy, auc, brier
from upturn.improve.monitor.batches import calibration_bins, metric_interval


def test_it_is_a_t_interval_of_the_batches() -> None:
    random = np.random.default_rng(1)
    labels, scores = (random.random(1000) < 0.4).astype(float), random.random(1000)
    found = metric_interval(brier, labels, scores)
    assert found is not None
    means = ((labels - scores) ** 2).reshape(20, 50).mean(axis=1)
    low, high = stats.t.interval(0.95, 19, loc=means.mean(), scale=stats.sem(means))
    assert found.estimate == pytest.approx(means.mean(), rel=1e-12)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-9)


@pytest.mark.parametrize("memory", [0.0, 0.8])
def test_coverage_of_a_mean_with_and_without_memory(memory: float) -> None:
    random = np.random.default_rng(2)
    noise = random.normal(size=(1500, 2000))
    rows = lfilter([1.0], [1.0, -memory], noise, axis=1)[:, 200:] if memory else noise[:, 200:]
    one = METRICS["mae"].function  # of scores 0 it is the mean of |labels|, made positive below
    truth = 50.0
    zeros = np.zeros(rows.shape[1])
    hits = 0
    for row in rows:
        found = metric_interval(one, row + truth, zeros)
        assert found is not None
        hits += not found.excludes(truth)
    assert 0.925 <= hits / len(rows) <= 0.97


def test_coverage_of_auc() -> None:
    random = np.random.default_rng(3)
    truth = stats.norm.cdf(1 / np.sqrt(2))  # of scores N(1, 1) against N(0, 1)
    hits = 0
    for _ in range(300):
        labels = (random.random(2000) < 0.3).astype(float)
        found = metric_interval(auc, labels, random.normal(size=2000) + labels)
        assert found is not None
        hits += not found.excludes(truth)
    assert 0.91 <= hits / 300 <= 0.985


@pytest.mark.parametrize(
    ("labels", "scores"),
    [
        (np.empty(0), np.empty(0)),
        (np.ones(99), np.ones(99)),
        (np.ones(2000), np.linspace(0, 1, 2000)),
    ],
)
def test_what_can_not_be_said_is_not(labels: np.ndarray, scores: np.ndarray) -> None:
    assert metric_interval(auc, labels, scores) is None


@given(
    rows=st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.floats(0, 1)), min_size=100),
)
def test_the_estimate_is_inside(rows: list[tuple[float, float]]) -> None:
    labels, scores = np.array(rows).T
    found = metric_interval(accuracy, labels, scores)
    assert found is not None
    assert found.low <= found.estimate <= found.high
    assert found.estimate == accuracy(labels, scores)


@given(
    rows=st.lists(
        st.tuples(st.sampled_from([0.0, 1.0, np.nan]), st.floats(0, 1) | st.just(np.nan)),
        max_size=60,
    )
)
def test_calibration_is_wilsons_and_counts_all_rows(rows: list[tuple[float, float]]) -> None:
    labels, scores = np.array(rows, np.float64).reshape(-1, 2).T
    found = calibration_bins(labels, scores)
    assert sum(one.rows for one in found) == np.sum(~np.isnan(labels) & ~np.isnan(scores))
    for one in found:
        ends = proportion_confint(round(one.observed * one.rows), one.rows, method="wilson")
        assert (one.low, one.high) == pytest.approx(ends, abs=1e-9)
