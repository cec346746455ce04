"""Batch means: the uncertainty of a metric, from how it varies between stretches of time."""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec
import numpy as np

from upturn.improve.metrics import Floats
from upturn.improve.statistics.distributions import t_quantile
from upturn.improve.statistics.interval import Interval

METHOD = "batch means"
_BATCHES, _FEWEST, _ROWS = 20, 5, 20


class CalibrationBin(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of like scores: their mean score, the share that came true, and its interval."""

    predicted: float
    observed: float
    low: float
    high: float
    rows: int


def metric_interval(
    function: Callable[[Floats, Floats], float],
    labels: Floats,
    scores: Floats,
    *,
    level: float = 0.95,
    estimate: float | None = None,
) -> Interval | None:
    """An interval for a metric of rows in the order of time, each with a label and a score.

    The rows are cut into up to 20 batches of consecutive ones; the metric of each is taken as one
    observation of Student's t (batch means: Schmeiser 1982, Operations Research 30(3)). Rows that
    depend on others near by are in one batch with them, so that no independence of rows is needed,
    only that of batches. `estimate` is the metric of all rows, where that is known already. None if
    it can't be said: fewer than 5 batches of 20 rows, or a batch in which the metric is undefined.

    >>> from upturn.improve.metrics import brier
    >>> scores = np.full(1000, 0.5)
    >>> metric_interval(brier, scores.round(), scores).estimate
    0.25
    >>> metric_interval(brier, scores[:50], scores[:50]) is None
    True
    """
    count = min(_BATCHES, len(labels) // _ROWS)
    if count < _FEWEST:
        return None
    ends = np.linspace(0, len(labels), count + 1).astype(np.int64)
    pairs = zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)
    found = np.array([function(labels[a:b], scores[a:b]) for a, b in pairs])
    if not np.isfinite(found).all():
        return None
    estimate = function(labels, scores) if estimate is None else estimate
    reach = t_quantile((1 + level) / 2, count - 1) * float(found.std(ddof=1)) / math.sqrt(count)
    return Interval(
        estimate=estimate,
        low=estimate - reach,
        high=estimate + reach,
        level=level,
        p_value=math.nan,  # no hypothesis is asked about
        method=METHOD,
    )


def calibration_bins(
    labels: Floats, scores: Floats, *, bins: int = 10, z: float = 1.959963984540054
) -> tuple[CalibrationBin, ...]:
    """Probabilities in bins of equal width, against what came true, with Wilson's interval.

    The interval (Wilson 1927; `z` for 95 %) takes rows for independent. Empty bins, and rows
    without a label or with a score outside of [0, 1], are left out.

    >>> calibration_bins(np.array([0.0, 1.0]), np.array([0.55, 0.55]))[0].observed
    0.5
    """
    known = np.isfinite(labels) & (scores >= 0) & (scores <= 1)
    labels, scores = labels[known], scores[known]
    places = np.minimum((scores * bins).astype(np.int64), bins - 1)
    rows = np.bincount(places, minlength=bins)
    positive = np.bincount(places, weights=labels, minlength=bins)
    summed = np.bincount(places, weights=scores, minlength=bins)
    return tuple(
        _bin(float(summed[place]), float(positive[place]), int(rows[place]), z)
        for place in range(bins)
        if rows[place]
    )


def _bin(summed: float, positive: float, rows: int, z: float) -> CalibrationBin:
    p, shrink = positive / rows, 1 + z * z / rows
    middle = (p + z * z / (2 * rows)) / shrink
    reach = z * math.sqrt(p * (1 - p) / rows + z * z / (4 * rows * rows)) / shrink
    return CalibrationBin(
        predicted=summed / rows,
        observed=p,
        low=max(0.0, middle - reach),
        high=min(1.0, middle + reach),
        rows=rows,
    )
