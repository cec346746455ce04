"""Shares and counts of rows: whether they are more than chance and days explain."""

from __future__ import annotations

import math

import msgspec
import numpy as np
from numpy.typing import NDArray

from upturn.improve.measures.arrays import Floats
from upturn.improve.statistics.distributions import normal_isf, t_sf

_TRIMMED = 0.3685  # mean of the lower three quarters of a chi-squared of one degree of freedom
_ENOUGH = 7  # steps between days, to know how much days vary
_CHUNK = 100_000  # terms of a tail that are summed at once


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
    hypergeometric. Where the share varies from day to day by more than chance (the mean of the
    lower three quarters of squared standardised steps over that of a chi-squared one, 1 at least),
    numbers are divided by that (quasi-likelihood, Wedderburn 1974), and the tail is that of
    Student's t with one degree of freedom less than days. Of fewer than 8 days the steps that lack
    are taken to be as chance has them. nan without rows.

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
    spread = _dispersion(counts, rows)
    p_value = fisher_upper(
        math.floor(total / spread + 1e-9),
        math.ceil(of / spread - 1e-9),
        math.ceil(count_before / spread - 1e-9),
        math.floor(rows_before / spread + 1e-9),
    )
    if spread > 1:  # it is itself uncertain, by as many days
        p_value = (
            t_sf(normal_isf(p_value), max(len(rows), _ENOUGH + 1) - 1)
            if 0 < p_value < 1
            else p_value
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
    top, tail = _log_sum(count, most, marked, rows, everything)
    first = (
        _log_choose(marked, count)
        + _log_choose(everything - marked, rows - count)
        - _log_choose(everything, rows)
    )
    return min(1.0, math.exp(min(0.0, first + top + math.log(tail))))


def _log_sum(count: int, most: int, marked: int, rows: int, everything: int) -> tuple[float, float]:
    """The terms from `count` on over the first one: the log of a scale, and their sum over that."""
    top, tail, last = 0.0, 1.0, 0.0
    for begin in range(count, most, _CHUNK):
        x = np.arange(begin, min(begin + _CHUNK, most), dtype=np.float64)
        steps = (marked - x) * (rows - x) / ((x + 1) * (everything - marked - rows + x + 1))
        logs = last + np.cumsum(np.log(steps))
        last, high = float(logs[-1]), max(top, float(logs.max()))
        tail = tail * math.exp(top - high) + float(np.exp(logs - high).sum())
        top = high
        if steps[-1] < 1 and last < top - 50:  # from here on terms only fall
            break
    return top, tail


def count_tail(value: float, mean: float, spread: float, worse: str) -> float:
    """P(as few, or as many) of a negative binomial count with variance mean + (spread · mean)².

    >>> round(count_tail(0, 3.0, 0.3, "low"), 4)
    0.0702
    """
    size = 1 / max(spread**2, 1e-6)
    top = int(max(value, mean + 40 * math.sqrt(mean + (spread * mean) ** 2))) + 20
    x = np.arange(min(top, 100_000))
    share = size / (size + mean)
    steps = np.log(size + x[:-1]) - np.log(x[1:]) + math.log1p(-share)
    logs = size * math.log(share) + np.concatenate(([0.0], np.cumsum(steps)))
    chance = np.exp(logs)
    if worse == "low":
        return min(1.0, float(chance[: int(value) + 1].sum()))
    return min(1.0, float(chance[math.ceil(value) :].sum()) or 1e-300)


def _log_choose(of: int, some: int) -> float:
    return math.lgamma(of + 1) - math.lgamma(some + 1) - math.lgamma(of - some + 1)


def _dispersion(counts: Floats, rows: Floats) -> float:
    """From each day to the next, so that a share that has jumped does not hide itself by it."""
    if len(rows) < 3:
        return 1.0
    both = rows[1:] + rows[:-1]
    share = (counts[1:] + counts[:-1]) / both
    expected = share * (1 - share) * (1 / rows[1:] + 1 / rows[:-1])
    steps = np.square(np.diff(counts / rows))
    terms = np.divide(steps, expected, out=np.zeros(len(steps)), where=expected > 0)
    least = np.sort(terms)[: max(1, 3 * len(terms) // 4)]
    seen = float(least.mean()) / _TRIMMED
    few = max(0, _ENOUGH - len(terms))  # steps that are taken to be as chance has them
    return max(1.0, (len(terms) * seen + few) / (len(terms) + few))
