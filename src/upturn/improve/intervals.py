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
from upturn.improve.metrics import MetricDef, get_metric
from upturn.improve.statistics.distributions import t_quantile
from upturn.improve.statistics.interval import Interval, unsaid

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
    the metric can have. It says nothing, and `method` why, where there are fewer than 5
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
    reach = t_quantile((1 + level) / 2, worth - 1) * error
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
    # Sums of whole weights are the same in any order: ties need none, which sorts faster.
    order = np.argsort(scores, kind=None if bool((weights == 1).all()) else "stable")
    block, count = blocks.index[order], blocks.count
    up = np.where(labels[order] > 0.5, weights[order], 0.0)
    down = weights[order] - up
    below, above = _placed(scores[order], np.zeros(len(order), np.intp), up, down)
    won = float((up * below).sum())
    taken = sums_by(block, up * below + down * above, count)
    # Sorted by block, each block's rows are still in the order of their scores.
    small = block.astype(np.int16 if count < 1 << 15 else np.int32)  # radix sort, of 16 bits
    own = np.argsort(small, kind="stable")
    inside, _ = _placed(scores[order][own], block[own], up[own], down[own])
    both = sums_by(block[own], up[own] * inside, count)
    ups, downs = sums_by(block, up, count), sums_by(block, down, count)
    pairs = ratio(won, ups.sum() * downs.sum())
    left = (ups.sum() - ups) * (downs.sum() - downs)
    return float(pairs), ratio(won - taken + both, left)


def _placed(
    scores: Floats, group: NDArray[np.intp], up: Floats, down: Floats
) -> tuple[Floats, Floats]:
    """Of rows sorted by group and score: the weight of negatives below, and of positives above.

    Only those of the row's own group count, and of equal scores half.
    """
    fresh = np.ones(len(scores), np.bool_)
    fresh[1:] = (scores[1:] != scores[:-1]) | (group[1:] != group[:-1])
    heads = np.flatnonzero(fresh)
    tie = np.cumsum(fresh) - 1
    ends = np.append(heads[1:], len(scores))
    begins = np.searchsorted(group, group[heads], side="left")
    stops = np.searchsorted(group, group[heads], side="right")
    lost, won = (np.concatenate(([0.0], np.cumsum(one))) for one in (down, up))
    below = (lost[heads] + lost[ends]) / 2 - lost[begins]
    above = won[stops] - (won[heads] + won[ends]) / 2
    return below[tie], above[tie]


def _unsaid(estimate: float, level: float, why: str) -> Interval:
    return unsaid(estimate, alpha=1 - level, method=f"can't be said: {why}", null=math.nan)
