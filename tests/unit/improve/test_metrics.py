"""Metrics agree with scikit-learn, and say nan where they are not defined."""

import math

import numpy as np
import pytest
from sklearn import metrics as reference

from upturn.core.errors import NotFound
from upturn.improve.metrics import METRICS, base_rate, default_metrics, get_metric

REFERENCE = {
    "auc": lambda y, s, w: reference.roc_auc_score(y, s, sample_weight=w),
    "log_loss": lambda y, s, w: reference.log_loss(y, s, sample_weight=w, labels=[0, 1]),
    "brier": lambda y, s, w: reference.brier_score_loss(y, s, sample_weight=w),
    "accuracy": lambda y, s, w: reference.accuracy_score(y, s >= 0.5, sample_weight=w),
    "mae": lambda y, s, w: reference.mean_absolute_error(y, s, sample_weight=w),
    "rmse": lambda y, s, w: reference.root_mean_squared_error(y, s, sample_weight=w),
}


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ties", [False, True])
def test_a_metric_is_what_scikit_learn_says(name: str, weighted: bool, ties: bool) -> None:
    random = np.random.default_rng(7)
    labels = (random.random(500) < 0.3).astype(float)
    scores = np.clip(0.3 * labels + 0.7 * random.random(500), 0.01, 0.99)
    scores = np.round(scores, 1) if ties else scores
    weights = random.integers(0, 5, 500).astype(float) if weighted else None
    expected = REFERENCE[name](labels, scores, weights)
    assert METRICS[name].function(labels, scores, weights) == pytest.approx(expected, rel=1e-12)


def test_there_is_a_reference_for_every_metric() -> None:
    assert set(REFERENCE) == set(METRICS)


@pytest.mark.parametrize("name", METRICS)
def test_no_rows_and_nan_give_nan(name: str) -> None:
    function = METRICS[name].function
    assert math.isnan(function([], []))
    assert math.isnan(function([0, 1], [0.2, math.nan]))
    assert math.isnan(function([0, math.nan], [0.2, 0.3]))
    assert math.isnan(function([0, 1], [0.2, 0.3], [0, 0]))


def test_auc_needs_both_classes() -> None:
    auc = get_metric("auc").function
    assert math.isnan(auc([1, 1], [0.1, 0.2]))
    assert math.isnan(auc([0, 0], [0.1, 0.2]))
    assert math.isnan(auc([0, 1], [0.1, 0.2], [1, 0]))
    assert auc([0, 1], [0.5, 0.5]) == 0.5


def test_being_certain_and_wrong_is_dear_but_finite() -> None:
    assert get_metric("log_loss").function([1], [0.0]) == pytest.approx(-math.log(1e-15))


def test_booleans_are_labels_too() -> None:
    assert get_metric("auc").function(np.array([False, True]), [0.1, 0.2]) == 1.0
    assert base_rate([True, False, False, False]) == 0.25
    assert base_rate([1, 0], weights=[3, 1]) == 0.75


def test_rows_must_match() -> None:
    with pytest.raises(ValueError, match="shapes differ"):
        get_metric("mae").function([1, 2, 3], [1, 2])


def test_an_unknown_metric_gets_a_hint() -> None:
    with pytest.raises(NotFound) as raised:
        get_metric("logloss")
    assert "log_loss" in raised.value.hint


def test_every_default_metric_exists() -> None:
    for output in ("probability", "number", "label", "scores", "json"):
        assert set(default_metrics(output)) <= set(METRICS)
