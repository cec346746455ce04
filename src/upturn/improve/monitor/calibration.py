"""Calibration: whether of rows with like probabilities as many come true as they say."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from upturn.improve.intervals import FEWEST, Blocks, effective, interval_of
from upturn.improve.measures.arrays import Floats, sums_by
from upturn.improve.measures.probability import calibration_error, ece, equal_bins
from upturn.improve.monitor.symptom import Severity, Symptom
from upturn.improve.statistics.distributions import t_quantile
from upturn.improve.statistics.fixed import wilson
from upturn.improve.statistics.interval import Interval, unsaid

_CLIP = 1e-6  # of scores, before their log odds
_STEPS, _STEEPEST = 50, 50.0
_MINOR, _MAJOR = 0.1, 0.25  # of what came true over what was said
_FLAT = 0.2  # a slope so far from 1 matters


class CalibrationBin(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of like scores: their mean score, the share that came true, and its interval."""

    predicted: float
    observed: float
    low: float
    high: float
    rows: int


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """How well probabilities are calibrated, over labelled rows.

    - `ratio`: what came true over what was said, Σy / Σs; above 1 scores are too low.
    - `slope`, `intercept` of the log odds of coming true in those of the scores (Cox 1958): 1 and 0
      when calibrated; a slope below 1 means scores that are too far out.
    - `ece`, `calibration_error`: see measures/probability.py; the latter is debiased.
    - `z`: Spiegelhalter's (1986), standard normal when calibrated and rows are independent.
    """

    bins: tuple[CalibrationBin, ...]
    rows: int
    ratio: Interval
    slope: Interval
    intercept: Interval
    ece: float
    calibration_error: float
    z: float


def calibration(
    labels: Floats, scores: Floats, blocks: Blocks, *, weights: Floats | None = None, bins: int = 10
) -> Calibration:
    """The calibration of scores in [0, 1] by labels of 0 and 1; other rows are left out.

    Intervals of the ratio are by the jackknife over blocks (see intervals.py), those of slope and
    intercept by clusters of blocks (Liang & Zeger 1986, times G / (G - 1)), with Student's t.
    """
    known = np.isfinite(labels) & (scores >= 0) & (scores <= 1)
    weights = np.ones(len(labels)) if weights is None else weights
    labels, scores, weights = (labels[known] > 0.5).astype(float), scores[known], weights[known]
    blocks = Blocks(blocks.index[known], blocks.count, blocks.name, blocks.days)
    slope, intercept = _recalibrated(labels, scores, weights, blocks)
    return Calibration(
        bins=calibration_bins(labels, scores, weights=weights, bins=bins),
        rows=len(labels),
        ratio=_ratio(labels, scores, weights, blocks),
        slope=slope,
        intercept=intercept,
        ece=ece(labels, scores, weights),
        calibration_error=calibration_error(labels, scores, weights),
        z=spiegelhalter(labels, scores),
    )


def calibration_bins(
    labels: Floats,
    scores: Floats,
    *,
    weights: Floats | None = None,
    bins: int = 10,
    level: float = 0.95,
) -> tuple[CalibrationBin, ...]:
    """Probabilities in bins of equal weight, against what came true, with Wilson's interval.

    The interval (Wilson 1927) takes rows for independent; of rows with weights it is that of Kish's
    effective number of them. Rows without a label or with a score outside of [0, 1] are left out.

    >>> calibration_bins(np.array([0.0, 1.0]), np.array([0.55, 0.55]))[0].observed
    0.5
    """
    weights = np.ones(len(labels)) if weights is None else weights
    known = np.isfinite(labels) & (scores >= 0) & (scores <= 1) & (weights > 0)
    labels, scores, weights = labels[known], scores[known], weights[known]
    if not len(labels):
        return ()
    place, count = equal_bins(scores, weights, bins)
    rows = np.bincount(place, minlength=count)
    weight = sums_by(place, weights, count)
    came = sums_by(place, weights * labels, count) / weight
    said = sums_by(place, weights * scores, count) / weight
    worth = weight**2 / sums_by(place, weights**2, count)
    made: list[CalibrationBin] = []
    for one in range(count):
        share = wilson(float(came[one] * worth[one]), float(worth[one]), alpha=1 - level)
        made.append(
            CalibrationBin(
                predicted=float(said[one]),
                observed=float(came[one]),
                low=share.low,
                high=share.high,
                rows=int(rows[one]),
            )
        )
    return tuple(made)


def spiegelhalter(labels: Floats, scores: Floats) -> float:
    """Spiegelhalter's z: Σ(y - s)(1 - 2s) / √Σ(1 - 2s)² s(1 - s) (1986, Statistics in Medicine 5).

    How far the Brier score is from what calibrated scores would have, in standard errors of
    independent rows. nan where all scores are 0, 1 or a half.

    >>> round(spiegelhalter(np.array([1.0, 0.0]), np.array([0.9, 0.2])), 3)
    -0.589
    """
    tilt = 1 - 2 * scores
    variance = float(np.square(tilt) @ (scores * (1 - scores)))
    return float((labels - scores) @ tilt) / math.sqrt(variance) if variance > 0 else math.nan


def calibration_symptoms(found: Calibration) -> list[Symptom]:
    """'performance/calibration': whether scores are too high, too low, or too far out.

    A warning where the interval of the ratio leaves out 1 and it is 10 % off, or that of the slope
    does and it is beyond [0.8, 1.25]; critical where the ratio is 25 % off. Nothing is said where
    there are no intervals.
    """
    ratio, slope = found.ratio, found.slope
    if not math.isfinite(ratio.low):
        return []
    severity: Severity = "fine"
    off = max(ratio.estimate, 1 / max(ratio.estimate, 1e-9)) - 1
    if ratio.excludes(1.0) and off >= _MINOR:
        severity = "critical" if off >= _MAJOR else "warning"
    steep = math.isfinite(slope.low) and slope.excludes(1.0)
    steep = steep and not 1 - _FLAT <= slope.estimate <= 1 / (1 - _FLAT)
    if steep and severity == "fine":
        severity = "warning"
    says = (
        f"{ratio.estimate:.3g} times as much comes true as scores say "
        f"({ratio.low:.3g} to {ratio.high:.3g})"
    )
    if steep:
        which = "too far out" if slope.estimate < 1 else "too near to the base rate"
        says += f"; scores are {which}: slope {slope.estimate:.3g}"
    facts: dict[str, Any] = {"calibration_error": found.calibration_error, "rows": found.rows}
    return [
        Symptom(
            name="performance/calibration",
            severity=severity,
            says=says + ".",
            value=ratio.estimate,
            limit=1.0,
            facts={name: value for name, value in facts.items() if value == value},
        )
    ]


def _ratio(labels: Floats, scores: Floats, weights: Floats, blocks: Blocks) -> Interval:
    came = sums_by(blocks.index, weights * labels, blocks.count)
    said = sums_by(blocks.index, weights * scores, blocks.count)
    sizes = sums_by(blocks.index, weights, blocks.count)
    total = float(said.sum())
    if not total > 0 or blocks.count < FEWEST:
        value = float(came.sum()) / total if total > 0 else math.nan
        return _none(value, "too few rows")
    with np.errstate(divide="ignore", invalid="ignore"):
        without = (came.sum() - came) / (said.sum() - said)
    return interval_of(float(came.sum()) / total, without, sizes, (0.0, math.inf), name=blocks.name)


def _recalibrated(
    labels: Floats, scores: Floats, weights: Floats, blocks: Blocks
) -> tuple[Interval, Interval]:
    """Slope and intercept of a logistic regression on the scores' log odds, by Newton's steps."""
    clipped = np.clip(scores, _CLIP, 1 - _CLIP)
    design = np.stack([np.ones(len(scores)), np.log(clipped) - np.log1p(-clipped)])
    spread = len(scores) > 2 and float(np.ptp(design[1])) > 1e-9
    if not spread or not 0 < float(weights @ labels) < float(weights.sum()):
        why = "labels or scores are all alike"
        return _none(math.nan, why), _none(math.nan, why)
    fitted = _newton(design, labels, weights)
    if fitted is None:
        why = "the scores part the labels"
        return _none(math.nan, why), _none(math.nan, why)
    beta, bread, residual = fitted
    if blocks.count < FEWEST or not blocks.name:
        return _none(float(beta[1]), "too few rows"), _none(float(beta[0]), "too few rows")
    parts = np.stack(
        [sums_by(blocks.index, weights * residual * one, blocks.count) for one in design]
    )
    worth = effective(sums_by(blocks.index, weights, blocks.count))
    groups = max(2.0, worth)
    cover = bread @ (parts @ parts.T) @ bread * groups / (groups - 1)
    reach = t_quantile(0.975, groups - 1)
    made = [
        Interval(
            estimate=float(beta[place]),
            low=float(beta[place] - reach * math.sqrt(cover[place, place])),
            high=float(beta[place] + reach * math.sqrt(cover[place, place])),
            level=0.95,
            p_value=math.nan,
            method=f"logistic regression, clusters of {blocks.name}",
            null=float(place),
        )
        for place in (1, 0)
    ]
    return made[0], made[1]


def _newton(
    design: Floats, labels: Floats, weights: Floats
) -> tuple[Floats, NDArray[np.float64], Floats] | None:
    """Coefficients, the inverse of the information, and residuals; None when it does not settle."""
    beta = np.array([0.0, 1.0])
    for _ in range(_STEPS):
        chance = 1 / (1 + np.exp(-np.clip(beta @ design, -500, 500)))
        curve = weights * chance * (1 - chance)
        information = (design * curve) @ design.T
        if not np.linalg.cond(information) < 1e12:
            return None
        step = np.linalg.solve(information, design @ (weights * (labels - chance)))
        beta = beta + np.clip(step, -5, 5)
        if np.abs(beta).max() > _STEEPEST:
            return None
        if np.abs(step).max() < 1e-10:
            return np.asarray(beta, np.float64), _inverse(information), labels - chance
    return None


def _inverse(matrix: Floats) -> Floats:
    return np.asarray(np.linalg.inv(matrix), dtype=np.float64)


def _none(value: float, why: str) -> Interval:
    return unsaid(value, alpha=0.05, method=f"can't be said: {why}", null=math.nan)
