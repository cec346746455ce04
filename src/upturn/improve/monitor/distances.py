"""Distances of two counts over the same bins: total variation, Hellinger, Jensen-Shannon."""

import numpy as np
from numpy.typing import NDArray


def total_variation(before: NDArray[np.int64], after: NDArray[np.int64]) -> float:
    """Half the sum of |p - q| over bins, 0 to 1; nan if either has no rows.

    >>> total_variation(np.array([50, 50]), np.array([75, 25]))
    0.25
    """
    p, q = _shares(before), _shares(after)
    return float(np.abs(p - q).sum() / 2)


def hellinger(before: NDArray[np.int64], after: NDArray[np.int64]) -> float:
    """The root of half the sum of (√p - √q)² over bins, 0 to 1; nan if either has no rows.

    >>> hellinger(np.array([1, 0]), np.array([0, 1]))
    1.0
    """
    p, q = _shares(before), _shares(after)
    return float(np.sqrt(((np.sqrt(p) - np.sqrt(q)) ** 2).sum() / 2))


def jensen_shannon(before: NDArray[np.int64], after: NDArray[np.int64]) -> float:
    """The root of the Jensen-Shannon divergence in bits, 0 to 1; nan if either has no rows.

    The divergence is of Lin (1991), its root a metric (Endres & Schindelin 2003).

    >>> jensen_shannon(np.array([1, 0]), np.array([0, 1]))
    1.0
    """
    p, q = _shares(before), _shares(after)
    middle = (p + q) / 2
    bits = (_bits(p, middle) + _bits(q, middle)) / 2
    return float(np.sqrt(np.clip(bits, 0.0, 1.0)))


def _shares(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    rows = counts.sum()
    return counts / rows if rows else np.full(len(counts), np.nan)


def _bits(p: NDArray[np.float64], of: NDArray[np.float64]) -> float:
    """The Kullback-Leibler divergence in bits; nan shares stay nan."""
    some = p != 0
    return float(np.sum(p[some] * np.log2(p[some] / of[some])))
