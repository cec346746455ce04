"""Shares of rows: their intervals, and whether one has grown by more than chance."""

from __future__ import annotations

import math
from statistics import NormalDist

import msgspec
import numpy as np
from numpy.typing import NDArray

from upturn.improve.measures.arrays import Floats
from upturn.improve.statistics.interval import Interval


def share_interval(count: float, rows: float, level: float = 0.95) -> Interval:
    """A share with Wilson's interval (1927), which takes rows for independent; nan of no rows.

    >>> found = share_interval(0, 10)
    >>> found.low, round(found.high, 4)
    (0.0, 0.2775)
    """
    if not rows > 0:
        estimate = low = high = math.nan
    else:
        estimate = count / rows
        z = NormalDist().inv_cdf((1 + level) / 2)
        shrink = 1 + z * z / rows
        middle = (estimate + z * z / (2 * rows)) / shrink
        reach = z / shrink * math.sqrt(estimate * (1 - estimate) / rows + (z / (2 * rows)) ** 2)
        low = 0.0 if count <= 0 else max(0.0, middle - reach)
        high = 1.0 if count >= rows else min(1.0, middle + reach)
    return Interval(
        estimate=estimate, low=low, high=high, level=level, p_value=math.nan, method="Wilson"
    )


class Growth(msgspec.Struct, frozen=True, kw_only=True):
    """A share before and now, and the p-value of its not having grown.

    `dispersion` is how many times more the share varies between days than chance alone explains.
    """

    before: float
    now: float
    rows: int
    p_value: float
    dispersion: float


def grown(
    counts: NDArray[np.int64] | Floats,
    rows: NDArray[np.int64] | Floats,
    count_before: float,
    rows_before: float,
) -> Growth:
    """Whether a share is greater now than before, one-sided; `counts` of `rows`, one each a day.

    Fisher's exact test: given how many there are in all, their number among the rows of now is
    hypergeometric. Where the share varies between days by more than chance (Pearson's chi-squared
    over its degrees of freedom, 1 at least), numbers are divided by that, as with quasi-likelihood
    (Wedderburn 1974). With fewer than 3 days that can't be seen, and is taken as 1. nan without
    rows.

    >>> grown(np.array([30, 31]), np.full(2, 100), 10, 1000).p_value < 1e-20
    True
    >>> grown(np.array([1, 1]), np.array([100, 100]), 10, 1000).p_value > 0.5
    True
    """
    counts, rows = np.asarray(counts, np.float64), np.asarray(rows, np.float64)
    some = rows > 0
    counts, rows = counts[some], rows[some]
    total, of = float(counts.sum()), float(rows.sum())
    if not of or not rows_before > 0:
        return Growth(before=math.nan, now=math.nan, rows=int(of), p_value=math.nan, dispersion=1.0)
    share = total / of
    spread = _dispersion(counts, rows, share)
    p_value = fisher_upper(
        math.floor(total / spread + 1e-9),
        math.ceil(of / spread - 1e-9),
        math.ceil(count_before / spread - 1e-9),
        math.floor(rows_before / spread + 1e-9),
    )
    return Growth(
        before=count_before / rows_before,
        now=share,
        rows=int(of),
        p_value=p_value,
        dispersion=spread,
    )


def fisher_upper(count: int, rows: int, other: int, other_rows: int) -> float:
    """P(at least `count` of all are among these rows), the numbers of all and of rows being given.

    The upper tail of the hypergeometric distribution, summed from ratios of terms, so that it is
    right down to 1e-300.

    >>> round(fisher_upper(3, 10, 1, 10), 4)
    0.291
    """
    everything, marked = rows + other_rows, count + other
    least, most = max(0, marked - other_rows), min(rows, marked)
    if count <= least:
        return 1.0
    if count > most:
        return 0.0
    x = np.arange(count, most, dtype=np.float64)
    steps = (marked - x) * (rows - x) / ((x + 1) * (everything - marked - rows + x + 1))
    # Far beyond the mode terms fall fast; what is below the first one by e-50 adds nothing.
    logs = np.concatenate(([0.0], np.cumsum(np.log(steps))))
    top = float(logs.max())
    tail = float(np.exp(logs - top).sum())
    first = (
        _log_choose(marked, count)
        + _log_choose(everything - marked, rows - count)
        - _log_choose(everything, rows)
    )
    return min(1.0, math.exp(min(0.0, first + top + math.log(tail))))


def _log_choose(of: int, some: int) -> float:
    return math.lgamma(of + 1) - math.lgamma(some + 1) - math.lgamma(of - some + 1)


def _dispersion(counts: Floats, rows: Floats, share: float) -> float:
    if len(rows) < 3 or not 0 < share < 1:
        return 1.0
    expected = rows * share
    chi2 = float((np.square(counts - expected) / (expected * (1 - share))).sum())
    return max(1.0, chi2 / (len(rows) - 1))
