"""Metrics of probabilities: labels are 0 or 1, scores are probabilities of 1."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from upturn.improve.measures.arrays import Floats, aligned, ratio, sums_by, undefined
from upturn.improve.measures.rows import hits, log_losses, squared_errors
from upturn.improve.measures.sums import Summed, confusion, mean_of

BINS = 15  # of the calibration errors, of equal weight
LOG_LOSS, BRIER, ACCURACY = mean_of(log_losses), mean_of(squared_errors), mean_of(hits)


def auc(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """The probability that a positive row scores above a negative one, ties counting half.

    Computed from ranks (Hanley & McNeil 1982). nan when a class is missing.

    >>> auc([0, 0, 1, 1], [0.1, 0.4, 0.4, 0.8])
    0.875
    """
    labels, scores, weights = aligned(labels, scores, weights)
    if undefined(labels, scores, weights):
        return float("nan")
    positive = labels > 0.5
    places = scores[positive]
    if bool((weights == 1).all()):
        places.sort()  # found much faster; sums of whole weights are the same in any order
    below, total = weight_below(scores[~positive], weights[~positive], places)
    pairs = float(weights[positive].sum()) * total
    return float((weights[positive] * below).sum()) / pairs if pairs > 0 else float("nan")


def weight_below(values: Floats, weights: Floats, places: Floats) -> tuple[Floats, float]:
    """The weight of the values below each place, half of that at it; and the weight of all.

    >>> weight_below(np.array([1.0, 2.0]), np.array([1.0, 4.0]), np.array([2.0, 3.0]))
    (array([3., 5.]), 5.0)
    """
    ordered, summed = _in_order(values, weights)
    summed = np.concatenate(([0.0], summed))
    first = np.searchsorted(ordered, places, side="left")
    last = np.searchsorted(ordered, places, side="right")
    return (summed[first] + summed[last]) / 2, float(summed[-1])


def _in_order(values: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """The values sorted, and the sums of their weights so far."""
    if bool((weights == weights[:1]).all()):  # plain sorting takes a tenth of the time
        return np.sort(values), np.cumsum(weights)
    order = np.argsort(values, kind="stable")
    return values[order], np.cumsum(weights[order])


def log_loss(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """The mean negative log likelihood in nats, probabilities clipped to [1e-15, 1 - 1e-15].

    >>> round(log_loss([1, 0], [0.9, 0.1]), 6)
    0.105361
    """
    return LOG_LOSS.of(labels, scores, weights)


def brier(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """The mean squared difference of probability and outcome (Brier 1950).

    >>> round(brier([1, 0], [0.9, 0.1]), 6)
    0.01
    """
    return BRIER.of(labels, scores, weights)


def accuracy(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """The share of rows on the right side of a probability of one half; a half says 1."""
    return ACCURACY.of(labels, scores, weights)


def precision_at(threshold: float) -> Summed:
    """Of the rows said to be positive, the share that is: nan when none is said to be."""
    return confusion(lambda tp, fp, fn, tn: ratio(tp, tp + fp), threshold)


def recall_at(threshold: float) -> Summed:
    """Of the positive rows, the share said to be: nan when there are none."""
    return confusion(lambda tp, fp, fn, tn: ratio(tp, tp + fn), threshold)


def f1_at(threshold: float) -> Summed:
    """The harmonic mean of precision and recall: nan when nothing is, or is said, positive."""
    return confusion(lambda tp, fp, fn, tn: ratio(2 * tp, 2 * tp + fp + fn), threshold)


def mcc_at(threshold: float) -> Summed:
    """The correlation of label and decision (Matthews 1975): nan when either is constant."""

    def value(tp: Floats, fp: Floats, fn: Floats, tn: Floats) -> Floats:
        # Roots are taken one by one: a product of four counts of a million overflows nothing so.
        sides = [np.sqrt(np.maximum(one, 0.0)) for one in (tp + fp, tp + fn, tn + fp, tn + fn)]
        under = sides[0] * sides[1] * sides[2] * sides[3]
        return ratio(tp * tn - fp * fn, under)

    return confusion(value, threshold)


def f1(
    labels: ArrayLike,
    scores: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    threshold: float = 0.5,
) -> float:
    """The harmonic mean of precision and recall where scores from `threshold` on say 1.

    >>> f1([1, 1, 0, 0], [0.9, 0.2, 0.8, 0.1])
    0.5
    """
    return f1_at(threshold).of(labels, scores, weights)


def average_precision(
    labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None
) -> float:
    """The precision at each positive row, on average: Σ (recall gained) · precision.

    Rows of equal score are taken together. nan when no row is positive. By chance it is the base
    rate, so it is not compared across different ones.

    >>> round(average_precision([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]), 4)
    0.8333
    """
    labels, scores, weights = aligned(labels, scores, weights)
    if undefined(labels, scores, weights):
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    won = np.cumsum(weights[order] * (labels[order] > 0.5))[ends]
    said = np.cumsum(weights[order])[ends]
    if not won[-1] > 0:
        return float("nan")
    precision = np.divide(won, said, out=np.zeros(len(won)), where=said != 0)
    return float(np.diff(won, prepend=0.0) @ precision / won[-1])


def ks_statistic(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """The largest distance between the distribution functions of the scores of both classes.

    nan when a class is missing.

    >>> ks_statistic([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    0.5
    """
    labels, scores, weights = aligned(labels, scores, weights)
    if undefined(labels, scores, weights):
        return float("nan")
    order = np.argsort(scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    positive = labels[order] > 0.5
    one = np.cumsum(weights[order] * positive)[ends]
    other = np.cumsum(weights[order] * ~positive)[ends]
    if not (one[-1] > 0 and other[-1] > 0):
        return float("nan")
    return float(np.abs(one / one[-1] - other / other[-1]).max())


def equal_bins(scores: Floats, weights: Floats, bins: int) -> tuple[NDArray[np.intp], int]:
    """The bin of each row, of at most `bins` with about equal weight, and how many there are.

    Equal scores are in one bin; bins are numbered by score and none is empty.

    >>> equal_bins(np.array([0.1, 0.9, 0.2, 0.9]), np.ones(4), 2)
    (array([0, 1, 0, 1]), 2)
    """
    ordered, summed = _in_order(scores, weights)
    targets = summed[-1] * np.arange(1, bins) / bins
    ends = np.searchsorted(summed, targets * (1 - 1e-12), side="left")
    edges = np.unique(ordered[np.minimum(ends, len(ordered) - 1)])
    places = np.searchsorted(edges, scores, side="left")
    numbers = np.cumsum(np.bincount(places, minlength=len(edges) + 1) > 0)
    return (numbers - 1)[places], int(numbers[-1]) if len(places) else 0


def ece(
    labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None, *, bins: int = BINS
) -> float:
    """The expected calibration error: mean |share that came true - mean score| over 15 bins.

    Bins hold equal weight. It is never 0 by chance: of calibrated scores it is about
    √(2 · bins · p(1-p) / (π · rows)), so look at `calibration_error` where rows are few
    (Roelofs, Cain, Shlens & Mozer 2022, arXiv 2012.08668).

    >>> ece([0, 1], [0.5, 0.5])
    0.0
    """
    found = _calibration_sums(labels, scores, weights, bins)
    if found is None:
        return float("nan")
    weight, gaps, _ = found
    return float(weight @ np.abs(gaps) / weight.sum())


def calibration_error(
    labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None, *, bins: int = BINS
) -> float:
    """The root of the mean squared calibration error over 15 bins, debiased; 0 if that is negative.

    What chance adds to the square of a bin's gap, ȳ(1-ȳ)/(n-1), is taken off (Bröcker 2012; Ferro &
    Fricker 2012; Kumar, Liang & Ma 2019, arXiv 1909.10155, section 5). Bins hold equal weight; n is
    Kish's effective number of rows where weights differ. Bins of one row say nothing and are left
    out; nan when there are no others.

    >>> calibration_error([0, 1] * 50, [0.5] * 100)
    0.0
    """
    found = _calibration_sums(labels, scores, weights, bins)
    if found is None:
        return float("nan")
    weight, gaps, chance = found
    known = np.isfinite(chance)
    if not known.any():
        return float("nan")
    square = weight[known] @ (np.square(gaps) - chance)[known] / weight[known].sum()
    return float(np.sqrt(max(0.0, square)))


def _calibration_sums(
    labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None, bins: int
) -> tuple[Floats, Floats, Floats] | None:
    """By bin: the weight, observed minus predicted, and what chance adds to that squared."""
    labels, scores, weights = aligned(labels, scores, weights)
    if undefined(labels, scores, weights):
        return None
    counted = weights > 0
    labels, scores, weights = labels[counted] > 0.5, scores[counted], weights[counted]
    place, count = equal_bins(scores, weights, bins)
    weight = sums_by(place, weights, count)
    came = np.bincount(place, weights=weights * labels, minlength=count) / weight
    said = np.bincount(place, weights=weights * scores, minlength=count) / weight
    effective = weight**2 / np.bincount(place, weights=weights**2, minlength=count)
    return weight, came - said, ratio(came * (1 - came), np.maximum(effective - 1, 0.0))
