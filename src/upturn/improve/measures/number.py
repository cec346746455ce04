"""Metrics of numbers: labels and scores are in one unit."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from upturn.improve.measures.arrays import Floats, aligned, ratio, undefined
from upturn.improve.measures.rows import (
    absolute_errors,
    pinball_losses,
    squared_errors,
    symmetric_errors,
)
from upturn.improve.measures.sums import Summed, mean_of, root_mean_of

MAE, RMSE = mean_of(absolute_errors), root_mean_of(squared_errors)
SMAPE = mean_of(symmetric_errors)


def _relative(labels: Floats, scores: Floats) -> tuple[Floats, Floats, Floats]:
    some = labels != 0
    error = np.divide(
        np.abs(scores - labels), np.abs(labels), out=np.zeros(len(labels)), where=some
    )
    return np.ones(len(labels)), some.astype(np.float64), error


def _squares(labels: Floats, scores: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    # From the middle of the labels, so that great ones lose no digits.
    apart = labels - (float(np.median(labels)) if len(labels) else 0.0)
    return np.ones(len(labels)), apart, np.square(apart), np.square(scores - labels)


def _explained(sums: Floats) -> Floats:
    weight, first, second, residual = (sums[..., place] for place in range(4))
    total = second - ratio(np.square(first), weight)
    flat = total <= 1e-12 * np.abs(second)  # all labels are equal
    return 1 - ratio(residual, np.where(flat, 0.0, total))


MAPE = Summed(_relative, lambda sums: ratio(sums[..., 2], sums[..., 1]))
WAPE = Summed(
    lambda labels, scores: (np.ones(len(labels)), np.abs(labels), np.abs(scores - labels)),
    lambda sums: ratio(sums[..., 2], sums[..., 1]),
)
R2 = Summed(_squares, _explained)


def mae(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """The mean absolute error, in the unit of the labels."""
    return MAE.of(labels, scores, weights)


def rmse(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """The root of the mean squared error, in the unit of the labels."""
    return RMSE.of(labels, scores, weights)


def mape(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """The mean of |score - label| / |label| over the rows whose label is not 0; nan without any.

    >>> mape([10, 0], [11, 5])
    0.1
    """
    return MAPE.of(labels, scores, weights)


def wape(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Σ |score - label| / Σ |label|; nan when all labels are 0.

    >>> wape([10, 0], [11, 5])
    0.6
    """
    return WAPE.of(labels, scores, weights)


def r2(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """The share of the labels' variance that is explained; nan when all labels are equal.

    >>> r2([1, 2, 3], [1, 2, 3])
    1.0
    """
    return R2.of(labels, scores, weights)


def pinball_at(quantile: float) -> Summed:
    """The mean pinball loss of scores that are meant as that quantile."""
    return mean_of(lambda labels, scores: pinball_losses(labels, scores, quantile))


def median_absolute_error(
    labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None
) -> float:
    """The median of |score - label|; of an even split the mean of both middle ones.

    >>> median_absolute_error([1, 2, 3, 4], [1, 2, 4, 8])
    0.5
    """
    labels, scores, weights = aligned(labels, scores, weights)
    if undefined(labels, scores, weights):
        return float("nan")
    counted = weights > 0
    errors = np.abs(scores - labels)[counted]
    order = np.argsort(errors, kind="stable")
    summed = np.cumsum(weights[counted][order])
    half = summed[-1] / 2
    near = 1e-12 * summed[-1]
    lower = np.searchsorted(summed, half - near, side="left")
    upper = np.searchsorted(summed, half + near, side="right")
    last = len(errors) - 1
    return float(errors[order][min(lower, last)] + errors[order][min(upper, last)]) / 2
