"""Metrics: how well scores agree with what turned out to be true, by name."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf, isfinite
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from upturn.core.errors import NotFound, did_you_mean
from upturn.core.schema import OutputKind
from upturn.improve.measures.arrays import aligned
from upturn.improve.measures.number import (
    MAE,
    MAPE,
    R2,
    RMSE,
    SMAPE,
    WAPE,
    mae,
    median_absolute_error,
    pinball_at,
    rmse,
)
from upturn.improve.measures.probability import (
    ACCURACY,
    BRIER,
    LOG_LOSS,
    accuracy,
    auc,
    average_precision,
    brier,
    calibration_error,
    ece,
    f1_at,
    ks_statistic,
    log_loss,
    mcc_at,
    precision_at,
    recall_at,
)
from upturn.improve.measures.rows import (
    absolute_errors,
    hits,
    log_losses,
    squared_errors,
    symmetric_errors,
)
from upturn.improve.measures.sums import Summed

__all__ = [
    "METRICS",
    "ROW_LOSSES",
    "Floats",
    "MetricDef",
    "accuracy",
    "auc",
    "base_rate",
    "brier",
    "default_metrics",
    "get_metric",
    "log_loss",
    "mae",
    "rmse",
]

Floats = NDArray[np.float64]
MetricFunction = Callable[..., float]


@dataclass(frozen=True, slots=True)
class MetricDef:
    """A metric: `function(labels, scores, weights=None)`, which way is better, and what it judges.

    `kind` is "probability" when labels are 0 or 1 and scores are probabilities of 1, "number" when
    both are numbers. A function returns nan where the metric is not defined: on no rows, or for
    `auc` when a class is missing; nan in gives nan out. `sums` is set where the metric is a
    function of sums over rows; the metric lies within `span`.
    """

    name: str
    function: MetricFunction
    greater_is_better: bool
    kind: Literal["probability", "number"]
    sums: Summed | None = None
    span: tuple[float, float] = (0.0, inf)


# Metrics that are a mean over rows, or the root of one: what each row adds.
ROW_LOSSES: dict[str, Callable[[Floats, Floats], Floats]] = {
    "log_loss": log_losses,
    "brier": squared_errors,
    "accuracy": hits,
    "mae": absolute_errors,
    "rmse": squared_errors,
    "smape": symmetric_errors,
}

_UNIT = (0.0, 1.0)


def _summed(
    name: str,
    sums: Summed,
    kind: Literal["probability", "number"],
    *,
    greater: bool,
    span: tuple[float, float] = (0.0, inf),
) -> MetricDef:
    return MetricDef(name, sums.of, greater_is_better=greater, kind=kind, sums=sums, span=span)


def _unit(name: str, function: MetricFunction, *, greater: bool) -> MetricDef:
    return MetricDef(name, function, greater_is_better=greater, kind="probability", span=_UNIT)


METRICS: dict[str, MetricDef] = {
    metric.name: metric
    for metric in (
        _unit("auc", auc, greater=True),
        _summed("log_loss", LOG_LOSS, "probability", greater=False),
        _summed("brier", BRIER, "probability", greater=False, span=_UNIT),
        _summed("accuracy", ACCURACY, "probability", greater=True, span=_UNIT),
        _unit("average_precision", average_precision, greater=True),
        _summed("f1", f1_at(0.5), "probability", greater=True, span=_UNIT),
        _summed("precision", precision_at(0.5), "probability", greater=True, span=_UNIT),
        _summed("recall", recall_at(0.5), "probability", greater=True, span=_UNIT),
        _summed("mcc", mcc_at(0.5), "probability", greater=True, span=(-1.0, 1.0)),
        _unit("ks", ks_statistic, greater=True),
        _unit("ece", ece, greater=False),
        _unit("calibration_error", calibration_error, greater=False),
        _summed("mae", MAE, "number", greater=False),
        _summed("rmse", RMSE, "number", greater=False),
        _summed("mape", MAPE, "number", greater=False),
        _summed("smape", SMAPE, "number", greater=False, span=(0.0, 2.0)),
        _summed("wape", WAPE, "number", greater=False),
        _summed("r2", R2, "number", greater=True, span=(-inf, 1.0)),
        MetricDef(
            "median_absolute_error", median_absolute_error, greater_is_better=False, kind="number"
        ),
        _summed("pinball", pinball_at(0.5), "number", greater=False),
    )
}
# What takes a number after "@": a threshold, or the quantile that scores are meant as.
_AT: dict[str, Callable[[float], Summed]] = {
    "f1": f1_at,
    "precision": precision_at,
    "recall": recall_at,
    "mcc": mcc_at,
    "pinball": pinball_at,
}


def get_metric(name: str) -> MetricDef:
    """The metric of that name. Raises NotFound, with the nearest one as a hint.

    After "@" comes the threshold of `f1`, `precision`, `recall` and `mcc`, 0.5 otherwise, or the
    quantile that is predicted, of `pinball`.

    >>> get_metric("recall@0.2").function([1, 1, 0], [0.3, 0.1, 0.3])
    0.5
    """
    plain, at, number = name.partition("@")
    if plain not in METRICS or (at and plain not in _AT):
        raise NotFound(f"No metric {name!r}.", hint=did_you_mean(name, METRICS))
    if not at:
        return METRICS[plain]
    try:
        value = float(number)
    except ValueError:
        value = inf
    if not (isfinite(value) and 0 < value < 1):
        raise NotFound(f"No metric {name!r}.", hint=f"Write a number between 0 and 1: {plain}@0.3")
    sums = _AT[plain](value)
    return replace(METRICS[plain], name=name, function=sums.of, sums=sums)


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


def base_rate(labels: ArrayLike, weights: ArrayLike | None = None) -> float:
    """The mean label: of a class, its share.

    >>> base_rate([0, 1, 1, 0])
    0.5
    """
    labels, _, weights = aligned(labels, labels, weights)
    total = float(weights.sum())
    return float((weights * labels).sum()) / total if total > 0 else float("nan")
