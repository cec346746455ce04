"""Shares and counts of rows: whether they are more than chance and days explain."""

from __future__ import annotations

import math

import msgspec
import numpy as np
from numpy.typing import NDArray

from upturn.improve.measures.arrays import Floats
from upturn.improve.statistics.counts import fisher_upper
from upturn.improve.statistics.distributions import normal_isf, t_sf

_TRIMMED = 0.3685  # mean of the lower three quarters of a chi-squared of one degree of freedom
_ENOUGH = 7  # steps between days, to know how much days vary


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
