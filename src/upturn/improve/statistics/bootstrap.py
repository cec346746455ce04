"""Bootstrap over time and clusters: draws of totals whose rows depend on each other.

Rows of a day, or of a user, are drawn together; days that depend on those before them are drawn in
blocks. All take sums, one row for each cluster or period in the order of time and one column for
each quantity summed, so that a ratio or a mean of millions of rows costs a table of a few hundred:
divide the drawn columns.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from upturn.core.errors import Invalid
from upturn.improve.statistics.distributions import t_isf, t_two_sided
from upturn.improve.statistics.fixed import check_alpha
from upturn.improve.statistics.interval import Interval, around, unsaid

Floats = NDArray[np.float64]
_CELLS = 4_000_000  # of one chunk


def cluster_draws(sums: ArrayLike, *, draws: int = 1000, seed: int) -> Floats:
    """Totals in which whole clusters are drawn with replacement: (draws, columns).

    Cameron, Gelbach & Miller (2008); Field & Welsh (2007). Clusters have to be independent.

    >>> cluster_draws([[1.0, 2.0], [1.0, 2.0]], draws=3, seed=0).tolist()
    [[2.0, 4.0], [2.0, 4.0], [2.0, 4.0]]
    """
    table = _table(sums)
    n = len(table)
    random = np.random.default_rng(seed)
    counts = random.multinomial(n, np.full(n, 1 / n), size=draws).astype(np.float64)
    return counts @ table


def block_draws(
    sums: ArrayLike, length: int, *, draws: int = 1000, seed: int, circular: bool = True
) -> Floats:
    """Totals in which blocks of `length` periods in a row are drawn with replacement.

    The moving block bootstrap (Künsch 1989); circular, where blocks may go round from the end to
    the begin so that no period is drawn more seldom (Politis & Romano 1992). The last block is cut
    so that as many periods are drawn as there are.

    >>> block_draws(np.ones((10, 1)), 3, draws=2, seed=0).tolist()
    [[10.0], [10.0]]
    """
    table = _table(sums)
    n = len(table)
    if not 1 <= length <= n:
        raise Invalid(f"A block of {length} periods can't be drawn from {n}.")
    whole, rest = divmod(n, length)
    starts = n if circular else n - length + 1
    random = np.random.default_rng(seed)
    found = _windows(table, length)[:starts][random.integers(0, starts, (draws, whole))].sum(axis=1)
    if rest:
        found = found + _windows(table, rest)[random.integers(0, starts, draws)]
    return found


def stationary_draws(
    sums: ArrayLike, mean_length: float, *, draws: int = 1000, seed: int
) -> Floats:
    """Totals in which blocks of random lengths are drawn, so that the drawn series is stationary.

    Politis & Romano (1994): lengths are geometric with this mean, and blocks go round. It depends
    less on the length than fixed blocks do.

    >>> stationary_draws(np.ones((10, 1)), 3, draws=2, seed=0).tolist()
    [[10.0], [10.0]]
    """
    table = _table(sums)
    n = len(table)
    if not 1 <= mean_length < math.inf:
        raise Invalid(f"Blocks of {mean_length} periods on average can't be drawn.")
    random = np.random.default_rng(seed)
    found = np.empty((draws, table.shape[1]))
    step = max(_CELLS // (n * (table.shape[1] + 2)), 1)
    place = np.arange(n)
    for begin in range(0, draws, step):
        size = min(step, draws - begin)
        fresh = random.random((size, n)) < 1 / mean_length
        fresh[:, 0] = True
        first = np.maximum.accumulate(np.where(fresh, place, 0), axis=1)  # where its block began
        starts = np.take_along_axis(random.integers(0, n, (size, n)), first, axis=1)
        drawn = (starts + place - first) % n
        found[begin : begin + size] = table[drawn].sum(axis=1)
    return found


def block_length(values: ArrayLike) -> float:
    """The mean block length that suits a series' dependence, for `stationary_draws`.

    Politis & White (2004) as corrected by Patton, Politis & White (2009): by the autocovariances up
    to where they are negligible. 1 for a series without any, or of fewer than 8 values.

    >>> draw = np.random.default_rng(0).normal(size=400)
    >>> block_length(draw) < 3 < block_length(np.cumsum(draw)[::4])
    True
    """
    x = np.asarray(values, dtype=np.float64)
    x = x[~np.isnan(x)] - np.nanmean(x) if len(x) else x
    n = len(x)
    if n < 8 or not np.ptp(x) > 0:
        return 1.0
    run = max(5, int(math.sqrt(math.log10(n))))
    most = min(math.ceil(math.sqrt(n)) + run, n - 1)
    covariance = np.array([float(x[lag:] @ x[: n - lag]) / n for lag in range(most + 1)])
    small = np.abs(covariance / covariance[0]) < 2 * math.sqrt(math.log10(n) / n)
    calm = [lag for lag in range(1, most - run + 2) if small[lag : lag + run].all()]
    # Up to twice the last lag that counts.
    width = min(2 * max((calm[0] if calm else most) - 1, 1), most)
    lags = np.arange(-width, width + 1)
    taper = np.minimum(1.0, 2 * (1 - np.abs(lags) / width)) if width else np.ones(1)
    along = covariance[np.abs(lags)]
    slope = float((taper * np.abs(lags) * along).sum())
    spectrum = float((taper * along).sum())
    if not spectrum > 0:
        return 1.0
    best = (slope * slope / (spectrum * spectrum)) ** (1 / 3) * n ** (1 / 3)
    return float(min(max(best, 1.0), math.ceil(min(3 * math.sqrt(n), n / 3))))


def interval_length(values: ArrayLike) -> int:
    """The block length of `block_draws` with which an interval covers what it says.

    Three times the one of least mean squared error, or √n if that is more, at most a fifth of the
    series: the least error comes from blocks that are too short, since what they miss of the
    dependence is a bias (benchmarks/statistics_time.py has what they cover). Draw the totals by it
    and say that there are n // length clusters.

    >>> interval_length(np.random.default_rng(0).normal(size=100))
    10
    """
    x = np.asarray(values, dtype=np.float64)
    n = len(x)
    return max(round(min(max(3 * block_length(x), math.sqrt(n)), n / 5)), 1)


def bootstrap_interval(
    estimate: float,
    drawn: ArrayLike,
    *,
    clusters: int,
    alpha: float = 0.05,
    null: float = 0.0,
) -> Interval:
    """The interval estimate ± t·se, se the draws' standard deviation, for a number of clusters.

    `clusters` is how many there are to draw from, or blocks of their length: t has one degree of
    freedom fewer, and se is taken √(G / (G − 1)) times as large, without which few clusters give
    too narrow an interval (Hesterberg 2015). Draws that are no number count for nothing; where more
    than one in twenty is none, nothing can be said.

    >>> drawn = np.random.default_rng(1).normal(5, 1, 4000)
    >>> found = bootstrap_interval(5.0, drawn, clusters=30)
    >>> round(found.low, 1), round(found.high, 1)
    (2.9, 7.1)
    """
    check_alpha(alpha)
    values = np.asarray(drawn, dtype=np.float64)
    usable = values[np.isfinite(values)]
    few = len(usable) < max(0.95 * len(values), 2)
    spread = 0.0 if few else float(usable.std(ddof=1))
    if few or clusters < 2 or not math.isfinite(estimate) or not spread > 1e-14 * abs(estimate):
        return unsaid(estimate, alpha=alpha, method="bootstrap t", null=null)
    se = spread * math.sqrt(clusters / (clusters - 1))
    reach = t_isf(alpha / 2, clusters - 1) * se
    p_value = t_two_sided((estimate - null) / se, clusters - 1)
    return around(estimate, reach, p_value, alpha=alpha, method="bootstrap t", null=null)


def _windows(table: Floats, length: int) -> Floats:
    """The sum of the periods from each on, round the end."""
    if not length:
        return np.zeros_like(table)
    around = np.concatenate([table, table[: length - 1]]) if length > 1 else table
    return np.lib.stride_tricks.sliding_window_view(around, length, axis=0).sum(axis=-1)


def _table(sums: ArrayLike) -> Floats:
    table = np.asarray(sums, dtype=np.float64)
    if table.ndim != 2 or not len(table):
        raise Invalid(
            f"Sums of shape {table.shape} can't be drawn from.",
            hint="Give one row for each cluster or period, and a column for each quantity.",
        )
    return table
