"""Calibration is what statsmodels says, and its intervals cover where days differ."""

import math

import numpy as np
import pytest
import statsmodels.api as sm
from statsmodels.stats.proportion import proportion_confint

from upturn.improve.intervals import Blocks
from upturn.improve.monitor.calibration import (
    calibration,
    calibration_bins,
    calibration_symptoms,
    spiegelhalter,
)


def rows(
    random: np.random.Generator, days: int, *, tilt: float = 1.0, shift: float = 0.0
) -> tuple[np.ndarray, np.ndarray, Blocks]:
    day = np.repeat(np.arange(days), 120)
    logit = random.normal(-0.5, 1.2, len(day))
    own = random.normal(0, 0.25, days)[day]
    labels = (random.random(len(day)) < 1 / (1 + np.exp(-tilt * logit - shift - own))).astype(float)
    return labels, 1 / (1 + np.exp(-logit)), Blocks(day, days, "days", 1.0)


def test_slope_and_intercept_are_those_of_statsmodels() -> None:
    labels, scores, blocks = rows(np.random.default_rng(1), 25, tilt=0.7)
    found = calibration(labels, scores, blocks)
    design = sm.add_constant(np.log(scores / (1 - scores)))
    fit = sm.GLM(labels, design, family=sm.families.Binomial()).fit(
        cov_type="cluster", cov_kwds={"groups": blocks.index, "use_correction": True}
    )
    assert (found.intercept.estimate, found.slope.estimate) == pytest.approx(fit.params, rel=1e-7)
    half = (found.slope.high - found.slope.low) / 2 / 2.0638985616  # of Student's t with 24
    assert half == pytest.approx(fit.bse[1], rel=0.01)


def test_bins_are_of_equal_weight_with_wilsons_interval() -> None:
    labels, scores, _ = rows(np.random.default_rng(2), 10)
    bins = calibration_bins(labels, scores)
    assert [one.rows for one in bins] == [120] * 10
    order = np.argsort(scores)
    for place, one in enumerate(bins):
        mine = order[120 * place : 120 * (place + 1)]
        assert one.predicted == pytest.approx(scores[mine].mean())
        low, high = proportion_confint(labels[mine].sum(), 120, method="wilson")
        assert (one.low, one.high) == pytest.approx((low, high), abs=1e-9)
    twice = calibration_bins(labels, scores, weights=np.full(1200, 2.0))
    assert [one.low for one in twice] == pytest.approx([one.low for one in bins])
    assert len(calibration_bins(labels, np.full(1200, 0.3))) == 1
    assert calibration_bins(np.array([np.nan]), np.array([0.5])) == ()


def test_coverage_and_false_alarms() -> None:
    random = np.random.default_rng(3)
    # Days shift the log odds by chance, so that a little less than scores say comes true.
    labels, scores, _ = rows(random, 4000)
    truth = labels.sum() / scores.sum()
    covered, slopes, alarms = 0, 0, 0
    for _ in range(400):
        found = calibration(*rows(random, 14))
        covered += not found.ratio.excludes(truth)
        slopes += not found.slope.excludes(0.985)
        alarms += calibration_symptoms(found)[0].severity != "fine"
    assert 0.92 <= covered / 400 <= 0.98
    assert 0.92 <= slopes / 400 <= 0.98
    assert alarms <= 15


def test_spiegelhalter_is_standard_normal_when_calibrated() -> None:
    random = np.random.default_rng(4)
    scores = random.beta(2, 3, (2000, 300))
    labels = (random.random(scores.shape) < scores).astype(float)
    found = [spiegelhalter(y, s) for y, s in zip(labels, scores, strict=True)]
    assert np.mean(found) == pytest.approx(0, abs=0.1)
    assert np.std(found) == pytest.approx(1, abs=0.06)
    assert math.isnan(spiegelhalter(np.ones(3), np.full(3, 0.5)))


def test_what_is_said() -> None:
    random = np.random.default_rng(5)
    low = calibration(*rows(random, 20, shift=1.0))
    (symptom,) = calibration_symptoms(low)
    assert (symptom.name, symptom.severity) == ("performance/calibration", "critical")
    assert low.ratio.low > 1.2
    (far,) = calibration_symptoms(calibration(*rows(random, 30, tilt=0.4, shift=-0.3)))
    assert far.severity != "fine"
    assert "too far out" in far.says


@pytest.mark.filterwarnings("error")
def test_what_cannot_be_said() -> None:
    day = Blocks(np.repeat(np.arange(10), 5), 10, "days", 1.0)
    labels = np.tile([0.0, 1.0], 25)
    parted = calibration(labels, 0.25 + labels / 2, day)
    assert not parted.slope.said
    assert "part the labels" in parted.slope.method
    alike = calibration(np.ones(50), np.full(50, 0.5), day)
    assert "alike" in alike.slope.method
    zeros = calibration(labels, np.zeros(50), day)
    assert math.isnan(zeros.ratio.estimate)
    assert calibration_symptoms(zeros) == []
    nothing = calibration(np.empty(0), np.empty(0), Blocks(np.empty(0, np.intp), 0, ""))
    assert (nothing.rows, nothing.bins) == (0, ())
    out = calibration(labels, np.full(50, 7.0), day)
    assert out.rows == 0
