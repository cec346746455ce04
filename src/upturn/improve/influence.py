"""Influence: what each day adds to a metric, so that a metric over days is a sum like any other."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from upturn.improve.metrics import ROW_LOSSES, get_metric

Floats = NDArray[np.float64]


class Daily(NamedTuple):
    """A metric of several policies over the same rows, by day.

    `values` are the policies' metrics over all rows. `phi`, of shape (policies, days), is what each
    day adds to them: drawing days again with counts c changes a metric by phi @ c, up to terms that
    vanish faster (the infinitesimal jackknife: Efron & Tibshirani 1993, chapter 22). Each row of
    phi has the sum 0.
    """

    values: Floats
    phi: Floats


def influence(
    metric: str, truth: Floats, scores: list[Floats], day: NDArray[np.intp], days: int
) -> Daily:
    """The metric of each of several scores of the same rows, and what each day adds to it.

    `truth` and the scores have no nan; `day` is the place of each row's day, below `days`. For a
    mean of rows' losses the terms are those of a ratio estimator (Cochran 1977, section 6.3), for
    the root of one by the delta method, for AUC the placements of DeLong, DeLong & Clarke-Pearson
    (1988), summed by cluster as Obuchowski (1997) does, and for any other metric the jackknife's:
    what is missing without the day. A metric that is not defined is nan, and so are its terms.

    >>> truth, day = np.array([0.0, 1.0, 0.0, 1.0]), np.array([0, 0, 1, 1])
    >>> found = influence("brier", truth, [np.array([0.5, 0.5, 0.0, 1.0])], day, 2)
    >>> found.values, found.phi
    (array([0.125]), array([[ 0.0625, -0.0625]]))
    """
    name = get_metric(metric).name
    found = [_influence(name, truth, one, day, days) for one in scores]
    values = np.array([value for value, _ in found])
    return Daily(values, np.array([phi for _, phi in found]).reshape(len(found), days))


def _mean(
    name: str, truth: Floats, scores: Floats, day: NDArray[np.intp], days: int
) -> tuple[float, Floats]:
    if not len(truth):
        return float("nan"), np.full(days, np.nan)
    losses = ROW_LOSSES[name](truth, scores)
    mean = float(losses.mean())
    phi = np.bincount(day, weights=losses - mean, minlength=days) / len(losses)
    if name != "rmse":
        return mean, phi
    root = float(np.sqrt(mean))
    return root, phi / (2 * root) if root > 0 else np.zeros(days)


def _influence(
    name: str, truth: Floats, scores: Floats, day: NDArray[np.intp], days: int
) -> tuple[float, Floats]:
    if name == "auc":
        return _auc(truth, scores, day, days)
    if name in ROW_LOSSES:
        return _mean(name, truth, scores, day, days)
    return _jackknife(name, truth, scores, day, days)


def _jackknife(
    name: str, truth: Floats, scores: Floats, day: NDArray[np.intp], days: int
) -> tuple[float, Floats]:
    """Any other metric: what is missing without the day, made to add up to 0.

    Times (days − 1) / days it is what a mean's formula gives (Efron & Tibshirani 1993, chapter 11).
    """
    function = get_metric(name).function
    value = float(function(truth, scores)) if len(truth) else float("nan")
    if not np.isfinite(value):
        return float("nan"), np.full(days, np.nan)
    terms = np.zeros(days)
    seen = np.unique(day)
    for place in seen:
        kept = day != place
        terms[place] = value - function(truth[kept], scores[kept]) if kept.any() else np.nan
    return value, (terms - terms.mean()) * (len(seen) - 1) / len(seen)


def _auc(truth: Floats, scores: Floats, day: NDArray[np.intp], days: int) -> tuple[float, Floats]:
    positive = truth > 0.5
    wins, losses = scores[positive], scores[~positive]
    if not len(wins) or not len(losses):
        return float("nan"), np.full(days, np.nan)
    beaten = _below(losses, wins)  # the share of negatives below each positive
    beating = 1 - _below(wins, losses)  # the share of positives above each negative
    value = float(beaten.mean())
    phi = np.bincount(day[positive], weights=beaten - value, minlength=days) / len(wins)
    phi += np.bincount(day[~positive], weights=beating - value, minlength=days) / len(losses)
    return value, phi


def _below(others: Floats, scores: Floats) -> Floats:
    """For each score the share of others below it, ties counting half."""
    others = np.sort(others)
    first = np.searchsorted(others, scores, side="left")
    last = np.searchsorted(others, scores, side="right")
    return (first + last) / (2 * len(others))
