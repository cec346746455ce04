"""Metrics agree with scikit-learn, and say nan where they are not defined."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as reference

from upturn.core.errors import NotFound
from upturn.improve.metrics import METRICS, base_rate, default_metrics, get_metric


def repeated(function):
    """A reference without weights: a weight of 3 is the row three times."""

    def of(y, s, w):
        times = np.ones(len(y), np.int64) if w is None else w.astype(np.int64)
        return function(np.repeat(y, times), np.repeat(s, times))

    return of


def smape(y, s):
    size = np.abs(y) + np.abs(s)
    return np.mean(np.where(size > 0, 2 * np.abs(s - y) / np.where(size > 0, size, 1), 0))


def mape(y, s):
    return reference.mean_absolute_percentage_error(y[y != 0], s[y != 0])


def kolmogorov(y, s):
    return stats.ks_2samp(s[y > 0.5], s[y < 0.5]).statistic


def pinball(y, s, w):
    return reference.mean_pinball_loss(y, s, alpha=0.5, sample_weight=w)


REFERENCE = {
    "auc": lambda y, s, w: reference.roc_auc_score(y, s, sample_weight=w),
    "log_loss": lambda y, s, w: reference.log_loss(y, s, sample_weight=w, labels=[0, 1]),
    "brier": lambda y, s, w: reference.brier_score_loss(y, s, sample_weight=w),
    "accuracy": lambda y, s, w: reference.accuracy_score(y, s >= 0.5, sample_weight=w),
    "average_precision": lambda y, s, w: reference.average_precision_score(y, s, sample_weight=w),
    "f1": lambda y, s, w: reference.f1_score(y, s >= 0.5, sample_weight=w),
    "precision": lambda y, s, w: reference.precision_score(y, s >= 0.5, sample_weight=w),
    "recall": lambda y, s, w: reference.recall_score(y, s >= 0.5, sample_weight=w),
    "mcc": lambda y, s, w: reference.matthews_corrcoef(y, s >= 0.5, sample_weight=w),
    "ks": repeated(kolmogorov),
    "mae": lambda y, s, w: reference.mean_absolute_error(y, s, sample_weight=w),
    "rmse": lambda y, s, w: reference.root_mean_squared_error(y, s, sample_weight=w),
    "mape": repeated(mape),
    "smape": repeated(smape),
    "wape": repeated(lambda y, s: np.abs(y - s).sum() / np.abs(y).sum()),
    "r2": lambda y, s, w: reference.r2_score(y, s, sample_weight=w),
    "median_absolute_error": repeated(reference.median_absolute_error),
    "pinball": pinball,
}
BINNED = {"ece", "calibration_error"}  # see below


@pytest.mark.parametrize("name", REFERENCE)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ties", [False, True])
def test_a_metric_is_what_scikit_learn_says(name: str, weighted: bool, ties: bool) -> None:
    random = np.random.default_rng(7)
    labels = (random.random(500) < 0.3).astype(float)
    scores = np.clip(0.3 * labels + 0.7 * random.random(500), 0.01, 0.99)
    scores = np.round(scores, 1) if ties else scores
    weights = random.integers(0, 5, 500).astype(float) if weighted else None
    if METRICS[name].kind == "number":
        labels = np.round(10 * (labels + random.normal(size=500)))  # some are 0
        scores = 10 * scores
    expected = REFERENCE[name](labels, scores, weights)
    assert METRICS[name].function(labels, scores, weights) == pytest.approx(expected, rel=1e-12)


def test_there_is_a_reference_for_every_metric() -> None:
    assert set(REFERENCE) | BINNED == set(METRICS)


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


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.8])
def test_thresholds_are_said_after_an_at(threshold: float) -> None:
    random = np.random.default_rng(3)
    labels, scores = (random.random(300) < 0.4).astype(float), np.round(random.random(300), 2)
    for name, function in [
        ("f1", reference.f1_score),
        ("precision", reference.precision_score),
        ("recall", reference.recall_score),
        ("mcc", reference.matthews_corrcoef),
    ]:
        found = get_metric(f"{name}@{threshold}")
        assert found.name == f"{name}@{threshold}"
        assert found.function(labels, scores) == pytest.approx(
            function(labels, scores >= threshold)
        )
    wanted = reference.mean_pinball_loss(labels, scores, alpha=threshold)
    assert get_metric(f"pinball@{threshold}").function(labels, scores) == pytest.approx(wanted)
    for wrong in ("auc@0.5", "f1@", "f1@2", "f1@nan", "f1@x", "@0.5"):
        with pytest.raises(NotFound):
            get_metric(wrong)


def test_what_cannot_be_said_is_nan() -> None:
    def of(name: str, labels: list[float], scores: list[float]) -> float:
        return METRICS[name].function(labels, scores)

    assert math.isnan(of("precision", [1, 0], [0.1, 0.2]))  # nothing is said to be positive
    assert math.isnan(of("recall", [0, 0], [0.9, 0.2]))
    assert math.isnan(of("f1", [0, 0], [0.1, 0.2]))
    assert math.isnan(of("mcc", [1, 1], [0.1, 0.9]))
    assert math.isnan(of("ks", [1, 1], [0.1, 0.9]))
    assert math.isnan(of("average_precision", [0, 0], [0.1, 0.9]))
    assert math.isnan(of("mape", [0, 0], [1, 2]))
    assert math.isnan(of("wape", [0, 0], [1, 2]))
    assert math.isnan(of("r2", [3, 3], [1, 2]))
    assert math.isnan(of("calibration_error", [1], [0.5]))
    assert of("smape", [0, 1], [0, 1]) == 0
    assert of("r2", [1e9, 1e9 + 1, 1e9 + 2], [1e9, 1e9 + 1, 1e9 + 2]) == pytest.approx(1)


def test_calibration_errors_are_of_bins_of_equal_weight() -> None:
    random = np.random.default_rng(5)
    scores = random.random(3000)
    labels = (random.random(3000) < scores**2).astype(float)
    order = np.argsort(scores)
    bins = np.array_split(order, 15)
    gaps = np.array([labels[one].mean() - scores[one].mean() for one in bins])
    chance = np.array([labels[one].var(ddof=1) / len(one) for one in bins])
    assert METRICS["ece"].function(labels, scores) == pytest.approx(np.abs(gaps).mean())
    wanted = math.sqrt((gaps**2 - chance).mean())
    assert METRICS["calibration_error"].function(labels, scores) == pytest.approx(wanted)
    # ∫ (s - s²)² ds = 1/30, bar what happens inside of bins
    assert wanted == pytest.approx(math.sqrt(1 / 30), rel=0.05)


def test_only_the_debiased_error_is_small_by_chance() -> None:
    random = np.random.default_rng(6)
    scores = random.random((400, 500))
    labels = (random.random(scores.shape) < scores).astype(float)
    plain, debiased = (
        np.array(
            [METRICS[name].function(y, s) ** 2 for y, s in zip(labels, scores, strict=True)]
        ).mean()
        for name in ("ece", "calibration_error")
    )
    assert plain > 0.003
    assert debiased < plain / 3


@given(
    st.lists(
        st.tuples(st.booleans(), st.sampled_from([0.0, 0.2, 0.5, 0.7, 1.0]), st.integers(0, 3)),
        min_size=1,
        max_size=30,
    )
)
def test_a_weight_is_that_many_rows(rows: list[tuple[bool, float, int]]) -> None:
    labels, scores, weights = (np.array(one, float) for one in zip(*rows, strict=True))
    times = weights.astype(int)
    many = np.repeat(labels, times), np.repeat(scores, times)
    for name, metric in METRICS.items():
        if name == "calibration_error":
            continue  # chance is less where rows are not just repeated
        one, other = metric.function(labels, scores, weights), metric.function(*many)
        assert one == pytest.approx(other, nan_ok=True, rel=1e-9, abs=1e-12), name
        low, high = metric.span
        assert math.isnan(one) or low - 1e-12 <= one <= high + 1e-12
