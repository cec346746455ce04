"""Intervals of metrics cover what they claim where rows of a day go together."""

import math

import numpy as np
import pytest
from scipy import stats

from upturn.improve.intervals import Blocks, blocks_of, effective, left_out, metric_interval
from upturn.improve.metrics import METRICS, get_metric

DAY = 86_400_000_000


def days(index: np.ndarray) -> Blocks:
    return Blocks(index, int(index.max()) + 1, "days")


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("weighted", [False, True])
def test_leaving_out_is_computing_without(name: str, weighted: bool) -> None:
    random = np.random.default_rng(1)
    day = random.integers(0, 8, 400)
    labels = (random.random(400) < 0.4).astype(float)
    scores = np.round(0.3 * labels + 0.7 * random.random(400), 2)
    weights = random.integers(1, 4, 400).astype(float) if weighted else np.ones(400)
    metric = METRICS[name]
    whole, without, _ = left_out(metric, labels, scores, weights, days(day))
    assert whole == pytest.approx(metric.function(labels, scores, weights), rel=1e-12)
    for one, found in enumerate(without):
        keep = day != one
        wanted = metric.function(labels[keep], scores[keep], weights[keep])
        assert found == pytest.approx(wanted, rel=1e-9)


def test_of_a_mean_over_equal_days_it_is_the_t_interval_of_the_days_means() -> None:
    random = np.random.default_rng(2)
    labels, scores = (random.random(1000) < 0.4).astype(float), random.random(1000)
    day = np.repeat(np.arange(20), 50)
    found = metric_interval("brier", labels, scores, days(day))
    means = ((labels - scores) ** 2).reshape(20, 50).mean(axis=1)
    low, high = stats.t.interval(0.95, 19, loc=means.mean(), scale=stats.sem(means))
    assert found.estimate == pytest.approx(means.mean(), rel=1e-12)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-9)


def test_what_blocks_there_are() -> None:
    hour = DAY // 24
    assert blocks_of(np.arange(10) * DAY).name == "days"
    assert blocks_of(np.arange(30) * hour).name == "hours"
    batches = blocks_of(np.arange(200)[::-1].copy())
    assert (batches.name, batches.count) == ("batches of rows", 10)
    assert batches.index[0] == 9  # in the order of time
    assert np.bincount(batches.index).tolist() == [20] * 10
    assert blocks_of(np.arange(50)).count == 1
    assert blocks_of(np.empty(0, np.int64)).count == 0


def test_what_cannot_be_said() -> None:
    day = np.repeat(np.arange(10), 5)
    labels = np.tile([0.0, 1.0], 25)
    few = metric_interval("auc", labels[:10], labels[:10], blocks_of(np.arange(10)))
    assert few.estimate == 1.0
    assert math.isnan(few.low)
    assert "too few" in few.method
    perfect = metric_interval("auc", labels, labels, days(day))
    assert perfect.estimate == 1.0
    assert math.isnan(perfect.low)
    assert "same" in perfect.method
    one_class = metric_interval("auc", np.ones(50), labels, days(day))
    assert math.isnan(one_class.low)
    empty = metric_interval("auc", [], [], blocks_of(np.empty(0, np.int64)))
    assert math.isnan(empty.estimate)
    lonely = np.zeros(50)
    lonely[3] = 1  # all positives are of one day
    assert "not defined" in metric_interval("auc", lonely, labels, days(day)).method
    heavy = metric_interval(
        "brier", labels, np.linspace(0, 1, 50), days(day), weights=np.where(day == 0, 1e6, 1)
    )
    assert "a few" in heavy.method
    assert effective(np.zeros(3)) == 0


@pytest.mark.parametrize("name", ["auc", "log_loss", "f1"])
@pytest.mark.parametrize("spread", [0.0, 0.6])
def test_coverage_where_days_differ(name: str, spread: float) -> None:
    """14 days of 60 to 180 rows; each has a shift of its own that the score knows nothing of."""
    metric = get_metric(name)
    random = np.random.default_rng(3)

    def draw(sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        day = np.repeat(np.arange(len(sizes)), sizes)
        logit = random.normal(0, 1.2, len(day))
        shift = random.normal(0, spread, len(sizes))[day]
        labels = (random.random(len(day)) < 1 / (1 + np.exp(-logit - shift))).astype(float)
        return labels, 1 / (1 + np.exp(-logit)), day

    labels, scores, _ = draw(np.full(8000, 100))
    whole = metric.function(labels, scores)
    hits = 0
    for _ in range(600):
        labels, scores, day = draw(random.integers(60, 180, 14))
        found = metric_interval(metric, labels, scores, days(day))
        hits += not found.excludes(whole)
    assert 0.925 <= hits / 600 <= 0.98
