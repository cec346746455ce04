"""Counts: tails of what is drawn without replacement, and of counts that vary more than by chance.

Those of binomial and Poisson counts are in `distributions`.
"""

import math

import numpy as np

from upturn.improve.statistics.special import beta_tails

_CHUNK = 100_000  # terms of a tail that are summed at once


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


def negative_binomial_cdf(k: float, mean: float, size: float) -> float:
    """P(X <= k) of a count of this mean and the variance mean + mean² / size.

    A Poisson count whose mean itself has a gamma distribution; by the beta one (DLMF 8.17.5).

    >>> round(negative_binomial_cdf(0, 3.0, 1 / 0.3**2), 4)
    0.0702
    """
    k = math.floor(k)
    return 0.0 if k < 0 else math.exp(_negative_binomial_tails(k, mean, size)[0])


def negative_binomial_sf(k: float, mean: float, size: float) -> float:
    """P(X > k).

    >>> round(negative_binomial_sf(0, 3.0, 1 / 0.3**2), 4)
    0.9298
    """
    k = math.floor(k)
    return 1.0 if k < 0 else math.exp(_negative_binomial_tails(k, mean, size)[1])


def _negative_binomial_tails(k: int, mean: float, size: float) -> tuple[float, float]:
    if not (mean >= 0 and 0 < size < math.inf):
        raise ValueError(f"a count of mean {mean} and size {size} is none")
    return beta_tails(size, k + 1, size / (size + mean), mean / (size + mean))


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


def _log_choose(of: int, some: int) -> float:
    return math.lgamma(of + 1) - math.lgamma(some + 1) - math.lgamma(of - some + 1)
