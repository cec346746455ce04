"""Moments: how many units, the means of their columns and how these vary together; parts add."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Sufficient statistics of k columns over units: all that a mean, ratio or regression needs.

    `mean` has the shape (k,), `scatter` (k, k): the sums of products of deviations from the mean.
    Moments of two parts add up to those of the whole, without the loss that sums of squares have
    (Chan, Golub & LeVeque 1983, eq. 2.1).

    >>> one, two = moments_of(np.array([[1.0], [2.0]])), moments_of(np.array([[6.0]]))
    >>> whole = one + two
    >>> whole.n, whole.mean.tolist(), whole.cov.tolist()
    (3, [3.0], [[7.0]])
    """

    n: int
    mean: Array
    scatter: Array

    def __add__(self, other: Moments) -> Moments:
        if not self.n or not other.n:
            return other if other.n else self
        n = self.n + other.n
        with np.errstate(all="ignore"):
            gap = other.mean - self.mean
            mean = self.mean + gap * (other.n / n)
            scatter = self.scatter + other.scatter + np.outer(gap, gap) * (self.n * other.n / n)
        return Moments(n, mean, scatter)

    @property
    def cov(self) -> Array:
        """The covariances (k, k), with n − 1; nan for fewer than two units."""
        if self.n < 2:
            return np.full_like(self.scatter, np.nan)
        return self.scatter / (self.n - 1)


def empty(k: int) -> Moments:
    """Those of no units."""
    return Moments(0, np.zeros(k), np.zeros((k, k)))


def moments_of(values: Array) -> Moments:
    """Those of an array of (units, columns)."""
    if not len(values):
        return empty(values.shape[1])
    mean = values.mean(axis=0)
    centred = values - mean
    # The mean is rounded: what is left of the centred values is taken off again.
    rest = centred.mean(axis=0)
    scatter = centred.T @ centred - len(values) * np.outer(rest, rest)
    return Moments(len(values), mean + rest, scatter)


def from_sums(n: int, shift: Array, sums: Array, products: Array) -> Moments:
    """Those of sums and sums of products of values less a shift, (k,) and (k, k).

    The nearer the shift is to the mean, the less is lost: see `lost`.
    """
    if not n:
        return empty(len(shift))
    with np.errstate(all="ignore"):  # values too large to be squared: what comes out says so
        offset = sums / n
        return Moments(n, shift + offset, products - n * np.outer(offset, offset))


def lost(n: int, sums: Array, squares: Array) -> NDArray[np.bool_]:
    """For each column, whether its shift was so far from the mean that digits were lost.

    Of the shifted values' mean square, the variance is a share; below one in ten thousand, four of
    the sixteen digits are gone.
    """
    if not n:
        return np.zeros(len(sums), dtype=np.bool_)
    with np.errstate(all="ignore"):
        offset = sums / n
        return offset * offset > 0.9999 * squares / n
