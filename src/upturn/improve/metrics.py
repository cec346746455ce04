"""Metrics: how well scores agree with what turned out to be true, as pure functions of arrays."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from upturn.core.errors import NotFound, did_you_mean
from upturn.core.schema import OutputKind

Floats = NDArray[np.float64]
MetricFunction = Callable[..., float]

_CLIP = 1e-15  # a certain prediction that is wrong costs 34.5 nats, not infinity


@dataclass(frozen=True, slots=True)
class MetricDef:
    """A metric: `function(labels, scores, weights=None)`, which way is better, and what it judges.

    `kind` is "probability" when labels are 0 or 1 and scores are probabilities of 1, "number" when
    both are numbers. A function returns nan where the metric is not defined: on no rows, or for
    `auc` when a class is missing; nan in gives nan out.
    """

    name: str
    function: MetricFunction
    greater_is_better: bool
    kind: Literal["probability", "number"]


def auc(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """The probability that a positive row scores above a negative one, ties counting half.

    Computed from ranks (Hanley & McNeil 1982). nan when a class is missing.

    >>> auc([0, 0, 1, 1], [0.1, 0.4, 0.4, 0.8])
    0.875
    """
    labels, scores, weights = _aligned(labels, scores, weights)
    if not len(labels) or _has_nan(labels, scores):
        return float("nan")
    positive = labels > 0.5
    negatives = scores[~positive]
    order = np.argsort(negatives, kind="stable")
    below = np.concatenate(([0.0], np.cumsum(weights[~positive][order])))
    # Half of the weight up to and half of the weight before the ties: a tie counts half.
    first = np.searchsorted(negatives[order], scores[positive], side="left")
    last = np.searchsorted(negatives[order], scores[positive], side="right")
    won = float(weights[positive] @ (below[first] + below[last])) / 2
    pairs = float(weights[positive].sum()) * float(below[-1])
    return won / pairs if pairs > 0 else float("nan")


def log_loss(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """The mean negative log likelihood in nats, probabilities clipped to [1e-15, 1 - 1e-15].

    >>> round(log_loss([1, 0], [0.9, 0.1]), 6)
    0.105361
    """
    return _mean(log_losses, labels, scores, weights)


def brier(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """The mean squared difference of probability and outcome (Brier 1950).

    >>> round(brier([1, 0], [0.9, 0.1]), 6)
    0.01
    """
    return _mean(squared_errors, labels, scores, weights)


def accuracy(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """The share of rows on the right side of a probability of one half; a half says 1."""
    return _mean(hits, labels, scores, weights)


def mae(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """The mean absolute error, in the unit of the labels."""
    return _mean(absolute_errors, labels, scores, weights)


def rmse(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """The root of the mean squared error, in the unit of the labels."""
    return float(np.sqrt(_mean(squared_errors, labels, scores, weights)))


def base_rate(labels: ArrayLike, weights: ArrayLike | None = None) -> float:
    """The mean label: of a class, its share.

    >>> base_rate([0, 1, 1, 0])
    0.5
    """
    labels, _, weights = _aligned(labels, labels, weights)
    total = float(weights.sum())
    return float(weights @ labels) / total if total > 0 else float("nan")


def log_losses(labels: Floats, scores: Floats) -> Floats:
    """Each row's negative log likelihood."""
    scores = np.clip(scores, _CLIP, 1 - _CLIP)
    return -np.log(np.where(labels > 0.5, scores, 1 - scores))


def squared_errors(labels: Floats, scores: Floats) -> Floats:
    """Each row's squared error."""
    return np.square(scores - labels)


def absolute_errors(labels: Floats, scores: Floats) -> Floats:
    """Each row's absolute error."""
    return np.abs(scores - labels)


def hits(labels: Floats, scores: Floats) -> Floats:
    """1 where the score is on the label's side of one half, else 0; nan where the score is."""
    return np.where(np.isnan(scores), np.nan, (scores >= 0.5) == (labels > 0.5))


# Metrics that are a mean over rows, or the root of one: what each row adds.
ROW_LOSSES: dict[str, Callable[[Floats, Floats], Floats]] = {
    "log_loss": log_losses,
    "brier": squared_errors,
    "accuracy": hits,
    "mae": absolute_errors,
    "rmse": squared_errors,
}

METRICS: dict[str, MetricDef] = {
    metric.name: metric
    for metric in (
        MetricDef("auc", auc, greater_is_better=True, kind="probability"),
        MetricDef("log_loss", log_loss, greater_is_better=False, kind="probability"),
        MetricDef("brier", brier, greater_is_better=False, kind="probability"),
        MetricDef("accuracy", accuracy, greater_is_better=True, kind="probability"),
        MetricDef("mae", mae, greater_is_better=False, kind="number"),
        MetricDef("rmse", rmse, greater_is_better=False, kind="number"),
    )
}


def get_metric(name: str) -> MetricDef:
    """The metric of that name. Raises NotFound, with the nearest one as a hint."""
    if name not in METRICS:
        raise NotFound(f"No metric {name!r}.", hint=did_you_mean(name, METRICS))
    return METRICS[name]


def default_metrics(output: OutputKind) -> tuple[str, ...]:
    """The metrics that fit what a model answers.

    >>> default_metrics("number")
    ('mae', 'rmse')
    """
    match output:
        case "probability":
            return ("auc", "log_loss", "brier", "accuracy")
        case "number":
            return ("mae", "rmse")
        case "label" | "scores":
            return ("accuracy",)
        case "json":
            return ()


def _mean(
    rows: Callable[[Floats, Floats], Floats],
    labels: ArrayLike,
    scores: ArrayLike,
    weights: ArrayLike | None,
) -> float:
    labels, scores, weights = _aligned(labels, scores, weights)
    total = float(weights.sum())
    if total <= 0 or _has_nan(labels, scores):
        return float("nan")
    return float(weights @ rows(labels, scores)) / total


def _aligned(
    labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None
) -> tuple[Floats, Floats, Floats]:
    labels = np.asarray(labels, dtype=np.float64)
    scores = np.asarray(scores, dtype=np.float64)
    if weights is None:
        weights = np.ones(len(labels))
    weights = np.asarray(weights, dtype=np.float64)
    if not labels.shape == scores.shape == weights.shape or labels.ndim != 1:
        raise ValueError(f"shapes differ: {labels.shape}, {scores.shape}, {weights.shape}")
    return labels, scores, weights


def _has_nan(labels: Floats, scores: Floats) -> bool:
    return bool(np.isnan(labels).any() or np.isnan(scores).any())
