"""Blocks of days: errors of means and sums over time, and of the largest of many of them.

What happens on one day is alike what happens on the next: weather stays, and a model that is a
little worse is so for weeks. So days are drawn in blocks, as long as the days' own dependence asks
for (Politis & White 2004), of random length so that the drawn series is stationary (Politis &
Romano 1994). Policies are compared on the same drawn days.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from upturn.improve.statistics.bootstrap import block_length, stationary_counts
from upturn.improve.statistics.distributions import normal_isf, t_isf

Floats = NDArray[np.float64]
_ENOUGH = 4  # blocks; of fewer nothing can be said


class Simultaneous(NamedTuple):
    """Several estimates with ends that hold together at the level asked for; nan where unknown."""

    estimate: Floats
    low: Floats
    high: Floats


def block_for(series: Iterable[Floats], days: int) -> float:
    """The mean block length for intervals of sums of these series over so many days.

    Twice the longest that `block_length` finds, at least 2 · days^(1/3), at most a sixth of the
    days. What makes the best estimate of a variance makes intervals that are too narrow: for tests
    its bias weighs more than its noise (Sun, Phillips & Jin 2008), so blocks have to be longer.
    """
    found = max((block_length(one) for one in series), default=1.0)
    return max(1.0, min(max(2 * found, 2 * days ** (1 / 3)), days / 6))


def sum_error(terms: Floats, block: float) -> Floats:
    """The standard error of the sum of each row of terms over days, under blocks of that mean.

    `terms` has the shape (rows, days). It is what the stationary bootstrap gives with infinitely
    many draws (Politis & Romano 1994, lemma 1), times √(n / (n − 2 b + 1)) for n days and blocks of
    b, by which it is too small because the mean is taken from the same days. nan for less than four
    blocks.

    >>> terms = np.array([[1.0, -1.0, 1.0, -1.0, 1.0, -1.0]])
    >>> sum_error(terms, 1.0).round(6)
    array([2.683282])
    """
    days, block = terms.shape[1], max(1.0, block)
    if days / block < _ENOUGH:
        return np.full(len(terms), np.nan)
    centred = terms - terms.mean(axis=1, keepdims=True)
    # Autocovariances of all lags at once, by the transform of a series padded with zeros.
    size = 2 ** int(np.ceil(np.log2(2 * days)))
    spectrum = np.abs(np.fft.rfft(centred, size, axis=1)) ** 2
    auto = np.fft.irfft(spectrum, size, axis=1)[:, :days] / days
    lag = np.arange(1, days)
    stay = 1 - 1 / block
    kernel = (1 - lag / days) * stay**lag + (lag / days) * stay ** (days - lag)
    variance = days * (auto[:, 0] + 2 * auto[:, 1:] @ kernel)
    never = (np.abs(centred) <= 1e-12 * np.abs(terms).max(axis=1, keepdims=True)).all(axis=1)
    return np.where(never, 0.0, np.sqrt(np.maximum(0.0, variance)) * _unbiased(block, days))


def reach(block: float, days: int, *, alpha: float = 0.05) -> float:
    """How many standard errors an interval of one figure reaches: Student's t by whole blocks."""
    blocks = days / max(1.0, block)
    if blocks < _ENOUGH:
        return float("nan")
    return t_isf(alpha / 2, int(blocks) - 1)


def widening(block: float, days: int, *, alpha: float = 0.05) -> float:
    """By how much drawn errors are too small at that level: of few blocks, and against Student's t.

    >>> 1.0 < widening(1.0, 300) < 1.01 < widening(10.0, 60)
    True
    """
    wider = reach(block, days, alpha=alpha) / normal_isf(alpha / 2)
    return wider * _unbiased(max(1.0, block), days)


def _unbiased(block: float, days: int) -> float:
    return float(np.sqrt(days / max(1.0, days - 2 * block + 1)))


def behind(
    losses: Floats,
    best: int,
    block: float,
    *,
    alpha: float = 0.05,
    draws: int = 2000,
    seed: int = 0,
) -> Simultaneous:
    """By how much each policy lost more than one of them, with intervals that all hold together.

    `losses` are (policies, days). The ends hold with probability 1 − alpha whichever policy is the
    one: they are as many standard errors away as the largest of the studentised errors of all pairs
    of policies reaches in a draw (Romano & Wolf 2005, for all pairs as Tukey's), widened as
    Student's t is against the normal for as many blocks. So `best` may be picked by the same
    losses. Policies that never differ differ by 0 for certain.

    >>> day = np.arange(60.0)
    >>> found = behind(np.array([np.sin(day), np.cos(3 * day) + 1.0, np.sin(day)]), 0, 1.0)
    >>> bool(found.low[1] > 0), float(found.low[2]), float(found.high[2])
    (True, 0.0, 0.0)
    """
    terms = losses - losses[best]
    totals = terms.sum(axis=1)
    error = sum_error(terms, block)
    width = np.where(error == 0, 0.0, np.nan)
    moving = np.isfinite(error) & (error > 0)
    if moving.any():
        days = losses.shape[1]
        centred = losses - losses.mean(axis=0)
        centred -= centred.mean(axis=1, keepdims=True)
        drawn = stationary_counts(days, max(1.0, block), draws=draws, seed=seed) @ centred.T
        one, other = np.triu_indices(len(losses), 1)
        apart = drawn[:, one] - drawn[:, other]
        spread = apart.std(axis=0)
        real = spread > 1e-12 * max(1.0, float(spread.max()))
        largest = np.abs(apart[:, real] / spread[real]).max(axis=1)
        wider = reach(block, days, alpha=alpha) / normal_isf(alpha / 2)
        width[moving] = float(np.quantile(largest, 1 - alpha)) * wider * error[moving]
    return Simultaneous(totals, totals - width, totals + width)
