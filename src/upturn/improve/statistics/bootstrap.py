"""Bootstrap over time and clusters: draws of totals whose rows depend on each other.

Rows of a day, or of a user, are drawn together; days that depend on those before them are drawn in
blocks. All take sums, one row for each cluster or period in the order of time and one column for
each quantity summed, so that a ratio or a mean of millions of rows costs a table of a few hundred:
divide the drawn columns.
"""

import math
from collections.abc import Iterator

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
    return np.concatenate([one @ table for one in _cluster_counts(len(table), draws, seed)])


def cluster_counts(n: int, *, draws: int = 1000, seed: int) -> Floats:
    """How often each of n clusters is in each of the draws of `cluster_draws`: (draws, n).

    >>> cluster_counts(3, draws=2, seed=0).sum(axis=1).tolist()
    [3.0, 3.0]
    """
    return np.concatenate(list(_cluster_counts(n, draws, seed)))


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
    parts = _stationary_counts(len(table), mean_length, draws, seed)
    return np.concatenate([one @ table for one in parts])


def stationary_counts(n: int, mean_length: float, *, draws: int = 1000, seed: int) -> Floats:
    """How often each of n periods is in each of the draws of `stationary_draws`: (draws, n).

    >>> stationary_counts(5, 2.0, draws=3, seed=1).sum(axis=1)
    array([5., 5., 5.])
    """
    return np.concatenate(list(_stationary_counts(n, mean_length, draws, seed)))


def block_length(values: ArrayLike) -> float:
    """The mean block length that suits a series' dependence, for `stationary_draws`.

    Politis & White (2004, section 3.2) as corrected by Patton, Politis & White (2009): by the
    flat-top estimate from the autocovariances up to where they are negligible,
    (2 G² / D)^(1/3) n^(1/3), at most min(3 √n, n / 3). "Where" is the lag from which on they are,
    as in their code and in Sheppard's arch; one less by the paper's letter. 1 for a series
    without any, or of fewer than 8 values.

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
    width = min(2 * _reach(covariance / covariance[0], n, run), most)
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
    se = draws_error(drawn, clusters)
    if not (math.isfinite(estimate) and se > 1e-14 * abs(estimate)):
        return unsaid(estimate, alpha=alpha, method="bootstrap t", null=null)
    reach = t_isf(alpha / 2, clusters - 1) * se
    p_value = t_two_sided((estimate - null) / se, clusters - 1)
    return around(estimate, reach, p_value, alpha=alpha, method="bootstrap t", null=null)


def draws_error(drawn: ArrayLike, clusters: int) -> float:
    """The standard error by the draws, as `bootstrap_interval` takes it; nan if it can't be said.

    >>> round(draws_error([1.0, 2.0, 3.0], 5), 4)
    1.118
    """
    values = np.asarray(drawn, dtype=np.float64)
    usable = values[np.isfinite(values)]
    if clusters < 2 or len(usable) < max(0.95 * len(values), 2):
        return math.nan
    return float(usable.std(ddof=1)) * math.sqrt(clusters / (clusters - 1))


def _cluster_counts(n: int, draws: int, seed: int) -> Iterator[Floats]:
    """By some draws at a time, which are the same however they are cut."""
    random = np.random.default_rng(seed)
    step = max(_CELLS // max(n, 1), 1)
    for begin in range(0, draws, step):
        size = min(step, draws - begin)
        yield random.multinomial(n, np.full(n, 1 / n), size=size).astype(np.float64)


def _stationary_counts(n: int, mean_length: float, draws: int, seed: int) -> Iterator[Floats]:
    if not 1 <= mean_length < math.inf:
        raise Invalid(f"Blocks of {mean_length} periods on average can't be drawn.")
    random = np.random.default_rng(seed)
    step = max(_CELLS // max(n, 1), 1)
    place = np.arange(n)
    for begin in range(0, draws, step):
        size = min(step, draws - begin)
        fresh = random.random((size, n)) < 1 / mean_length
        fresh[:, 0] = True
        first = np.maximum.accumulate(np.where(fresh, place, 0), axis=1)  # where its block began
        starts = np.take_along_axis(random.integers(0, n, (size, n)), first, axis=1)
        drawn = (starts + place - first) % n + n * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n)
        yield counts.astype(np.float64)


def _reach(correlation: Floats, n: int, run: int) -> int:
    """The lag at which a run of correlations begins that are all within 2 σ of noise's."""
    small = np.abs(correlation[1:]) < 2 * math.sqrt(math.log10(n) / n)
    for lag in range(len(small) - run + 1):
        if small[lag : lag + run].all():
            return lag + 1
    large = np.flatnonzero(~small)
    return int(large[-1]) + 1 if len(large) else 1


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
