"""Estimated performance: what metrics are likely to be while the labels are still out.

For probabilities it is confidence-based performance estimation (CBPE; NannyML 2022, "How it works:
performance estimation"): scores are calibrated on rows whose labels are known, and a row counts as
positive with that probability. For numbers it is direct loss estimation (DLE; the same source): a
second model, small boosted trees (measures/trees.py), learns from the features and the score how
great the loss is.

Both know how inputs and scores have moved since, and neither can know that what inputs mean has
changed: a score that came true in 80 of 100 cases is taken to do so still (covariate shift, not
concept shift). Only labels show that; `surprises` compares once they are there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from upturn.core.errors import Invalid
from upturn.core.log import FEATURE_PREFIX
from upturn.core.schema import Signature
from upturn.improve.intervals import FEWEST, Blocks, blocks_of
from upturn.improve.measures.arrays import Floats
from upturn.improve.measures.isotonic import Isotonic, isotonic
from upturn.improve.measures.probability import equal_bins, weight_below
from upturn.improve.measures.trees import Trees, fit_trees
from upturn.improve.metrics import MetricDef, default_metrics, get_metric
from upturn.improve.monitor.answers import arrow_rows
from upturn.improve.monitor.performance import instants, judged, scores, weights_of
from upturn.improve.statistics.interval import Interval
from upturn.improve.student import t_quantile

_GROUPS = 2000  # of scores, that a calibration is fitted on
_BLOCKS, _FOLDS = 20, 5
_FITTED = 50_000  # rows that a model of losses is fitted on
_LEAST = 200  # rows of the reference
_DAY = 86_400_000_000
ASSUMES = (
    "It holds as long as scores and features of one kind come true as often as they did: a change "
    "of what inputs mean (concept shift) can't be seen without labels."
)


class Estimated(msgspec.Struct, frozen=True, kw_only=True):
    """Metrics of rows without labels, as they are likely to be; nan where they can't be estimated.

    `intervals` are where the metric of these very rows is likely to lie once their labels are
    known: they hold the chance in labels, what days have of their own, and the error of what was
    learned. `reference` are the metrics of the labelled rows that it was learned from. `unsaid`
    says why there is none.
    """

    rows: int
    values: dict[str, float]
    intervals: dict[str, Interval]
    reference: dict[str, float]
    reference_rows: int
    method: Literal["CBPE", "DLE"]
    assumes: str = ASSUMES
    unsaid: str = ""


@dataclass(frozen=True, slots=True)
class _Residuals:
    """How far off estimates were on blocks of the reference that they had not learned from."""

    values: Floats
    rows: float  # of a block, on average
    days: float  # of a block; 0 where blocks are no days


@dataclass(frozen=True, slots=True)
class Estimator:
    """What was learned from a reference; `estimate` applies it to rows of any window."""

    method: Literal["CBPE", "DLE"]
    metrics: tuple[MetricDef, ...]
    calibration: Isotonic | None
    losses: Mapping[str, Trees]
    residuals: Mapping[str, _Residuals]
    reference: Mapping[str, float]
    reference_rows: int
    unsaid: str = ""

    def estimate(self, rows: pa.Table, *, level: float = 0.95) -> Estimated:
        """The metrics that these rows of the Log are likely to have; labels are not looked at.

        For a model of losses the rows hold features, as `LogView.joined(features=True)` gives them.
        """
        score = scores(rows)
        use = np.flatnonzero(np.isfinite(score))
        unsaid = self.unsaid or ("" if len(use) else "no rows with a score")
        values = {one.name: math.nan for one in self.metrics}
        intervals: dict[str, Interval] = {}
        if not unsaid:
            weights = weights_of(rows)[use]
            values = self._values(rows.take(arrow_rows(use)), score[use], weights)
            days = len(np.unique(instants(rows)[use] // _DAY))
            for metric in self.metrics:
                residuals = self.residuals.get(metric.name)
                if residuals is not None:
                    intervals[metric.name] = _interval(
                        metric, values[metric.name], residuals, len(use), days, level
                    )
        return Estimated(
            rows=rows.num_rows,
            values=values,
            intervals=intervals,
            reference=dict(self.reference),
            reference_rows=self.reference_rows,
            method=self.method,
            unsaid=unsaid,
        )

    def _values(self, rows: pa.Table, score: Floats, weights: Floats) -> dict[str, float]:
        if self.calibration is not None:
            chance = self.calibration.at(score)
            return {one.name: expected(one, score, chance, weights) for one in self.metrics}
        table = _inputs(rows, score)
        found: dict[str, float] = {}
        for metric in self.metrics:
            losses = self.losses[metric.name].predict(table)
            found[metric.name] = _of_losses(metric, losses, weights)
        return found


def fit_estimator(
    reference: pa.Table,
    *,
    metrics: Sequence[str] | None = None,
    signature: Signature | None = None,
) -> Estimator:
    """Learn from labelled rows how to estimate metrics without labels.

    The reference is a table as LogView.joined returns it, of rows that the model was not trained
    on: a model is surer of those it knows. For numbers it holds features. Of probabilities metrics
    are those of sums, `auc`, `average_precision` and `ks`; of numbers those that are a mean over
    rows, as `mae`, `rmse`, `smape` and `pinball@…`. How far estimates may be off is taken from
    blocks of the reference's days, each estimated from the others. Raises Invalid for another
    metric, or for a model that answers neither probabilities nor numbers.
    """
    output = signature.output if signature else "probability"
    if output not in ("probability", "number"):
        raise Invalid(
            f"Performance can't be estimated for a model that answers {output}.",
            hint="It can for one that answers probabilities or numbers.",
        )
    wanted = tuple(get_metric(name) for name in (metrics or default_metrics(output)))
    for metric in wanted:
        _check(metric, output)
    found = judged(reference, [one.name for one in wanted], signature=signature)
    labels, score = found.labels, scores(reference)[found.rows]
    weights = weights_of(reference)[found.rows]
    blocks = blocks_of(instants(reference)[found.rows]).merged(_BLOCKS)
    known = {name: value for name, value in found.values().items() if name != "base_rate"}
    few = len(labels) < _LEAST
    one_class = output == "probability" and len(np.unique(labels)) < 2
    if few or one_class:
        why = f"{len(labels):,} labelled rows are too few of {_LEAST}" if few else "one class only"
        return Estimator(
            "CBPE" if output == "probability" else "DLE",
            wanted,
            None,
            {},
            {},
            known,
            len(labels),
            unsaid=f"the reference does not serve: {why}",
        )
    if output == "probability":
        return _cbpe(wanted, labels, score, weights, blocks, known)
    table = _inputs(reference.take(arrow_rows(found.rows)), score)
    return _dle(wanted, table, labels, score, weights, blocks, known)


def expected(metric: MetricDef, score: Floats, chance: Floats, weights: Floats) -> float:
    """A metric of rows that are positive with these probabilities.

    Each row counts as a positive one by its probability, and as a negative one by the rest; of AUC
    a row is no pair with itself.

    >>> expected(get_metric("accuracy"), np.array([0.9, 0.2]), np.array([0.8, 0.4]), np.ones(2))
    0.7
    """
    up, down = weights * chance, weights * (1 - chance)
    if metric.name == "auc":
        below, total = weight_below(score, down, score)
        own = float(up @ down)
        pairs = float(up.sum()) * total - own
        return (float(up @ below) - own / 2) / pairs if pairs > 0 else math.nan
    labels = np.repeat([1.0, 0.0], len(score))
    return metric.function(labels, np.tile(score, 2), np.concatenate([up, down]))


def _check(metric: MetricDef, output: str) -> None:
    fits = metric.kind == output and (
        metric.sums is not None or metric.name in ("auc", "average_precision", "ks")
    )
    if output == "number" and metric.sums is not None:
        fits = fits and len(metric.sums.columns(np.ones(1), np.ones(1))) == 2
    if not fits:
        raise Invalid(
            f"{metric.name} can't be estimated without labels.",
            hint="Ask for auc, log_loss, brier, accuracy, f1, precision or recall; mae or rmse.",
        )


def _cbpe(
    wanted: tuple[MetricDef, ...],
    labels: Floats,
    score: Floats,
    weights: Floats,
    blocks: Blocks,
    known: Mapping[str, float],
) -> Estimator:
    group, groups = equal_bins(score, weights, _GROUPS)
    size = blocks.count * groups
    key = blocks.index * groups + group
    count = np.bincount(key, weights=weights, minlength=size).reshape(blocks.count, groups)
    came = np.bincount(key, weights=weights * labels, minlength=size).reshape(blocks.count, groups)
    middle = np.bincount(group, weights=weights * score, minlength=groups) / count.sum(axis=0)

    def fit(without: int | None) -> Isotonic:
        n, k = count.sum(axis=0), came.sum(axis=0)
        if without is not None:
            n, k = n - count[without], k - came[without]
        some = n > 1e-9
        return isotonic(middle[some], k[some] / n[some], n[some])

    def estimate(block: int) -> dict[str, float]:
        mine = blocks.index == block
        chance = fit(block).at(score[mine])
        return {one.name: expected(one, score[mine], chance, weights[mine]) for one in wanted}

    residuals = _residuals(wanted, labels, score, weights, blocks, estimate)
    return Estimator("CBPE", wanted, fit(None), {}, residuals, known, len(labels))


def _dle(
    wanted: tuple[MetricDef, ...],
    table: pa.Table,
    labels: Floats,
    score: Floats,
    weights: Floats,
    blocks: Blocks,
    known: Mapping[str, float],
) -> Estimator:
    names = table.column_names
    losses = {one.name: _losses(one, labels, score) for one in wanted}

    def fit(metric: str, rows: np.ndarray) -> Trees:
        step = max(1, len(rows) // _FITTED)
        rows = rows[::step]
        part = table.take(arrow_rows(rows))
        return fit_trees(part, names, losses[metric][rows], weights[rows])

    # Blocks are held out a fifth of them at a time: a model is dear.
    fold = blocks.index * min(_FOLDS, blocks.count) // max(1, blocks.count)
    predicted = {name: np.empty(len(labels)) for name in losses}
    for one in range(int(fold.max()) + 1 if blocks.count >= FEWEST else 0):
        out = np.flatnonzero(fold == one)
        for name in losses:
            predicted[name][out] = fit(name, np.flatnonzero(fold != one)).predict(
                table.take(arrow_rows(out))
            )

    def estimate(block: int) -> dict[str, float]:
        mine = blocks.index == block
        return {
            one.name: _of_losses(one, predicted[one.name][mine], weights[mine]) for one in wanted
        }

    residuals = _residuals(wanted, labels, score, weights, blocks, estimate)
    trees = {name: fit(name, np.arange(len(labels))) for name in losses}
    return Estimator("DLE", wanted, None, trees, residuals, known, len(labels))


def _losses(metric: MetricDef, labels: Floats, score: Floats) -> Floats:
    assert metric.sums is not None
    return np.asarray(metric.sums.columns(labels, score)[1], np.float64)


def _of_losses(metric: MetricDef, losses: Floats, weights: Floats) -> float:
    assert metric.sums is not None
    sums = np.array([weights.sum(), weights @ np.maximum(losses, 0.0)])
    return float(metric.sums.value(sums))


def _residuals(
    wanted: Sequence[MetricDef],
    labels: Floats,
    score: Floats,
    weights: Floats,
    blocks: Blocks,
    estimate: Callable[[int], dict[str, float]],
) -> dict[str, _Residuals]:
    """Realised less estimated, of each block, for metrics that are defined in every one."""
    if blocks.count < FEWEST or not blocks.name:
        return {}
    off: dict[str, list[float]] = {one.name: [] for one in wanted}
    for block in range(blocks.count):
        mine = blocks.index == block
        guessed = estimate(block)
        for one in wanted:
            real = one.function(labels[mine], score[mine], weights[mine])
            off[one.name].append(real - guessed[one.name])
    found: dict[str, _Residuals] = {}
    for name, values in off.items():
        if np.isfinite(values).all():
            found[name] = _Residuals(np.array(values), len(labels) / blocks.count, blocks.days)
    return found


def _interval(
    metric: MetricDef, value: float, residuals: _Residuals, rows: int, days: int, level: float
) -> Interval:
    """By how far blocks of the reference were off; a shorter window varies more than they did.

    Variances fall with the number of rows if rows vary, with that of days if days do: the greater
    variance is taken. To it adds that of the reference's mean, of which the estimate is made.
    """
    blocks = len(residuals.values)
    spread = float(residuals.values.std(ddof=1))
    parts = residuals.rows / rows
    if residuals.days:
        parts = max(parts, residuals.days / max(1, days))
    reach = t_quantile((1 + level) / 2, blocks - 1) * spread * math.sqrt(parts + 1 / blocks)
    return Interval(
        estimate=value,
        low=max(metric.span[0], value - reach),
        high=min(metric.span[1], value + reach),
        level=level,
        p_value=math.nan,
        method=f"errors of estimates on {blocks} blocks of the reference",
    )


def _inputs(rows: pa.Table, score: Floats) -> pa.Table:
    """The features and the score, as columns for a model of losses."""
    names = [name for name in rows.column_names if name.startswith(FEATURE_PREFIX)]
    table = rows.select(names)
    column = pa.chunked_array([pa.array(score)])
    return table.append_column("score", pc.cast(column, pa.float64()))
