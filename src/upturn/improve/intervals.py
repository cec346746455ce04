"""Intervals of metrics: what they would have been with other days, by leaving days out.

Rows of one day share their weather and their outages, so days are what varies by chance, not rows.
The jackknife leaves out one block of time after the other (Tukey 1958; Efron & Tibshirani 1993,
chapter 11; by clusters it is the CR3 variance of Bell & McCaffrey 2002) and reads the uncertainty
from how the metric moves. Of metrics that are functions of sums, and of AUC by its placements
(DeLong, DeLong & Clarke-Pearson 1988), all blocks are left out in one pass over the rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from upturn.improve.measures.arrays import Floats, aligned, ratio, sums_by, undefined
from upturn.improve.measures.probability import weight_below
from upturn.improve.metrics import MetricDef, get_metric
from upturn.improve.statistics.interval import Interval
from upturn.improve.student import t_quantile

FEWEST = 5  # blocks: a t quantile of fewer says next to nothing
_HOUR, _DAY = 3_600_000_000, 86_400_000_000  # microseconds
_BATCHES, _ROWS = 20, 20
_MOST = 30  # blocks of a metric that has to be computed anew for each of them


@dataclass(frozen=True, slots=True)
class Blocks:
    """The block of each row, numbered from 0 in the order of time, and what the blocks are."""

    index: NDArray[np.intp]
    count: int
    name: str  # 'days', 'hours', 'batches of rows', '' when there are too few rows
    days: float = 0.0  # that a block holds; 0 of those that are shorter

    def merged(self, most: int) -> Blocks:
        """At most so many blocks, of neighbours put together."""
        if self.count <= most:
            return self
        index, days = self.index * most // self.count, self.days * self.count / most
        return Blocks(index, most, f"{most} runs of {self.name}", days)


def blocks_of(at: NDArray[np.int64]) -> Blocks:
    """The blocks of rows at these instants (microseconds since 1970), in any order.

    UTC days where rows are from 5 of them or more, hours if there are at least 5 of those,
    otherwise up to 20 batches of consecutive rows, 20 rows each at least. What differs from day to
    day is not seen in blocks shorter than days.

    >>> blocks_of(np.arange(0, 6 * 86_400_000_000, 3_600_000_000)).name
    'days'
    """
    for length, name in ((_DAY, "days"), (_HOUR, "hours")):
        found, index = np.unique(at // length, return_inverse=True)
        if len(found) >= FEWEST:
            return Blocks(index, len(found), name, float(length == _DAY))
    count = min(_BATCHES, len(at) // _ROWS)
    if count < FEWEST:
        return Blocks(np.zeros(len(at), np.intp), min(1, len(at)), "")
    index = np.empty(len(at), np.intp)
    index[np.argsort(at, kind="stable")] = np.arange(len(at)) * count // len(at)
    return Blocks(index, count, "batches of rows")


def metric_interval(
    metric: str | MetricDef,
    labels: ArrayLike,
    scores: ArrayLike,
    blocks: Blocks,
    *,
    weights: ArrayLike | None = None,
    level: float = 0.95,
) -> Interval:
    """The metric of these rows, and the interval by the jackknife over their blocks.

    Student's t has one degree of freedom less than blocks, of blocks that differ in weight less
    than that: one less than Kish's effective number of them. The interval is cut to the values that
    the metric can have. Its ends are nan, and `method` says why, where there are fewer than 5
    blocks, where the metric is the same whatever block is left out (that says nothing of chance),
    or where it is not defined without one of them. Raises NotFound for an unknown metric.

    >>> day = np.repeat(np.arange(10), 50) * 86_400_000_000
    >>> scores = np.tile([0.2, 0.8], 250)
    >>> labels = (np.arange(500) % 7 < 4).astype(float)
    >>> found = metric_interval("brier", labels, scores, blocks_of(day))
    >>> found.low < found.estimate < found.high, found.method
    (True, 'jackknife over 10 days')
    """
    metric = get_metric(metric) if isinstance(metric, str) else metric
    labels, scores, weights = aligned(labels, scores, weights)
    if undefined(labels, scores, weights):
        return _unsaid(math.nan, level, "no rows with a label")
    if blocks.count < FEWEST:
        estimate = metric.function(labels, scores, weights)
        return _unsaid(estimate, level, f"too few rows: {len(labels)}")
    whole, without, used = left_out(metric, labels, scores, weights, blocks)
    return interval_of(
        whole,
        without,
        sums_by(used.index, weights, used.count),
        metric.span,
        level=level,
        name=used.name,
    )


def interval_of(
    whole: float,
    without: Floats,
    sizes: Floats,
    span: tuple[float, float] = (-math.inf, math.inf),
    *,
    level: float = 0.95,
    name: str = "blocks",
) -> Interval:
    """The interval by a statistic of all blocks, its values without each, and the blocks' sizes."""
    if not (math.isfinite(whole) and np.isfinite(without).all()):
        return _unsaid(whole, level, f"it is not defined without one of the {name}")
    count = len(without)
    error = math.sqrt((count - 1) / count * float(np.square(without - without.mean()).sum()))
    if error <= 1e-12 * max(1.0, abs(whole)):
        return _unsaid(whole, level, f"it is the same whichever of the {name} is left out")
    worth = effective(sizes)
    if worth < FEWEST - 1:
        return _unsaid(whole, level, f"most rows are in a few of the {name}")
    reach = t_quantile((1 + level) / 2, max(1, int(worth + 1e-9) - 1)) * error
    counted = "" if name[:1].isdigit() else f"{count} "
    return Interval(
        estimate=whole,
        low=max(span[0], whole - reach),
        high=min(span[1], whole + reach),
        level=level,
        p_value=math.nan,  # no hypothesis is asked about
        method=f"jackknife over {counted}{name}",
    )


def effective(sizes: Floats) -> float:
    """How many equal blocks, or rows, these weights are worth (Kish 1965): (Σw)² / Σw².

    >>> effective(np.array([1.0, 1.0, 0.0]))
    2.0
    """
    squares = float(np.square(sizes).sum())
    return float(sizes.sum()) ** 2 / squares if squares > 0 else 0.0


def left_out(
    metric: MetricDef, labels: Floats, scores: Floats, weights: Floats, blocks: Blocks
) -> tuple[float, Floats, Blocks]:
    """The metric of all rows, its values without each block, and the blocks that were left out.

    A metric that is neither of sums nor AUC is computed anew for each of at most 30 blocks.
    """
    if metric.sums is not None:
        sums = metric.sums.by_block(labels, scores, weights, blocks.index, blocks.count)
        total = sums.sum(axis=0)
        return float(metric.sums.value(total)), metric.sums.value(total - sums), blocks
    if metric.name == "auc":
        return *_auc_left_out(labels, scores, weights, blocks), blocks
    blocks = blocks.merged(_MOST)
    keep = [blocks.index != place for place in range(blocks.count)]
    found = [metric.function(labels[one], scores[one], weights[one]) for one in keep]
    return metric.function(labels, scores, weights), np.array(found), blocks


def _auc_left_out(
    labels: Floats, scores: Floats, weights: Floats, blocks: Blocks
) -> tuple[float, Floats]:
    """Pairs won in all, less those of which either row is in the block."""
    up, down = (
        _class(labels, scores, weights, blocks, 1),
        _class(labels, scores, weights, blocks, 0),
    )
    below, down_total = weight_below(down.scores, down.weights, up.scores)
    above, up_total = weight_below(-up.scores, up.weights, -down.scores)
    count = blocks.count
    won = float(up.weights @ below)
    of_up = np.bincount(up.block, weights=up.weights * below, minlength=count)
    of_down = np.bincount(down.block, weights=down.weights * above, minlength=count)
    inside = np.array([_won_inside(up.part(one), down.part(one)) for one in range(count)])
    ups = np.bincount(up.block, weights=up.weights, minlength=count)
    downs = np.bincount(down.block, weights=down.weights, minlength=count)
    pairs = ratio(won, up_total * down_total)
    without = ratio(won - of_up - of_down + inside, (up_total - ups) * (down_total - downs))
    return float(pairs), without


@dataclass(frozen=True, slots=True)
class _Class:
    """The rows of one class, ordered by block."""

    scores: Floats
    weights: Floats
    block: NDArray[np.intp]
    ends: NDArray[np.intp]

    def part(self, block: int) -> tuple[Floats, Floats]:
        begin = self.ends[block - 1] if block else 0
        return self.scores[begin : self.ends[block]], self.weights[begin : self.ends[block]]


def _class(labels: Floats, scores: Floats, weights: Floats, blocks: Blocks, which: int) -> _Class:
    rows = np.flatnonzero((labels > 0.5) == bool(which))
    rows = rows[np.argsort(blocks.index[rows], kind="stable")]
    block = blocks.index[rows]
    ends = np.searchsorted(block, np.arange(blocks.count), side="right")
    return _Class(scores[rows], weights[rows], block, ends)


def _won_inside(up: tuple[Floats, Floats], down: tuple[Floats, Floats]) -> float:
    below, _ = weight_below(*down, up[0])
    return float(up[1] @ below)


def _unsaid(estimate: float, level: float, why: str) -> Interval:
    return Interval(
        estimate=estimate,
        low=math.nan,
        high=math.nan,
        level=level,
        p_value=math.nan,
        method=f"can't be said: {why}",
    )
