"""Distances of two distributions: of counts over the same bins, and of two samples of numbers."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from upturn.improve.statistics.distributions import chi2_sf

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
_EPSILON = 0.5  # rows added to every bin, so that an empty one costs much but not infinity
_FEW = 5  # rows expected in a cell, below which the chi-square test is no good (Cochran 1954)


class ChiSquare(NamedTuple):
    """The statistic, its degrees of freedom, and the chance of at least as much without drift."""

    statistic: float
    df: int
    p_value: float


class Stability(NamedTuple):
    """The population stability index, and its mean without drift."""

    psi: float
    psi_noise: float

    @property
    def excess(self) -> float:
        """The part that is more than noise, from 0 up."""
        return max(0.0, self.psi - self.psi_noise)


def psi(before: Ints, after: Ints) -> Stability:
    """The population stability index of two counts over the same bins, and its mean without drift.

    Σ (q - p) · ln(q / p) over bins, p and q being shares of before and after with half a row added
    to every bin (Lewis 1994; the symmetric Kullback-Leibler divergence, Jeffreys 1946). Bins that
    are empty in both are left out. If both samples come from one distribution it is about
    (B - 1)·(1/n + 1/m) on average, B bins, n and m rows (Yurdakul & Naranjo 2020), which is
    returned with it. Both are nan if either has no rows.

    >>> index, noise = psi(np.array([50, 50]), np.array([80, 20]))
    >>> round(index, 2), noise
    (0.41, 0.02)
    """
    some = (before + after) > 0
    before, after = before[some], after[some]
    bins, n, m = len(before), int(before.sum()), int(after.sum())
    if not n or not m:
        return Stability(math.nan, math.nan)
    p = (before + _EPSILON) / (n + bins * _EPSILON)
    q = (after + _EPSILON) / (m + bins * _EPSILON)
    index = float(np.sum((q - p) * np.log(q / p)))
    return Stability(index, (bins - 1) * (1 / n + 1 / m))


def ks(before: Ints, after: Ints) -> tuple[float, float]:
    """The Kolmogorov-Smirnov distance of two counts over ordered bins, and how much it may lack.

    The distance is exact at the edges of bins. Inside bin i one function lies between F[i-1] and
    F[i] and the other between G[i-1] and G[i], so their distance is at most
    max(F[i] - G[i-1], G[i] - F[i-1]): the excess of that over the distance at the edges is the
    error, never more than the share of the baseline's fullest bin. Both are nan if either has no
    rows.

    >>> ks(np.array([50, 50]), np.array([75, 25]))
    (0.25, 0.5)
    """
    if not before.sum() or not after.sum():
        return math.nan, math.nan
    (f_before, f), (g_before, g) = _functions(before), _functions(after)
    at_edges = float(np.abs(f - g).max())
    inside = float(np.maximum(f - g_before, g - f_before).max())
    return at_edges, max(0.0, inside - at_edges)


def wasserstein(
    before: Ints, after: Ints, edges: Floats, low: float, high: float
) -> tuple[float, float]:
    """The area between two distribution functions, in the column's unit, and how wrong it may be.

    That is the Wasserstein distance of order 1 (Vallender 1974), of counts over the bins between
    `edges`; `low` and `high` are the least and the greatest value of both. Values are taken to be
    spread evenly within a bin. Whatever they do, the area over a bin is at least its width by how
    far the ranges of the two functions are apart there, and at most by how far they reach from each
    other. Both are nan if either has no rows, or a value is not finite.

    >>> found, error = wasserstein(np.array([1, 1]), np.array([0, 2]), np.array([1.0]), 0.0, 2.0)
    >>> found, error
    (0.5, 1.0)
    """
    if not before.sum() or not after.sum() or not math.isfinite(high - low):
        return math.nan, math.nan
    ends = np.concatenate(([min([low, *edges[:1]])], edges, [max([high, *edges[-1:]])]))
    widths = np.diff(ends)
    (f0, f1), (g0, g1) = _functions(before), _functions(after)
    one, other = f0 - g0, f1 - g1
    # Under a straight line: a trapezium, or two triangles where it crosses.
    crosses = one * other < 0
    apart = np.abs(one) + np.abs(other)
    square = one * one + other * other
    area = np.where(crosses, square / np.where(apart > 0, 2 * apart, 1.0), apart / 2)
    least = np.maximum(0.0, np.maximum(f0, g0) - np.minimum(f1, g1))
    most = np.maximum(f1 - g0, g1 - f0)
    found = float(area @ widths)
    return found, max(found - float(least @ widths), float(most @ widths) - found)


def exact_distances(before: Floats, after: Floats) -> tuple[float, float]:
    """The exact Kolmogorov-Smirnov and Wasserstein distances of two samples that are sorted.

    Both hold no nan. Both distances are nan if either is empty; that of Wasserstein also where a
    value is not finite.

    >>> exact_distances(np.array([0.0, 1.0]), np.array([1.0, 3.0]))
    (0.5, 1.5)
    """
    if not len(before) or not len(after):
        return math.nan, math.nan
    ends = np.concatenate((before[[0, -1]], after[[0, -1]]))
    area = _between(before, after) if np.isfinite(ends).all() else math.nan
    return _greatest(before, after), area


def _greatest(one: Floats, other: Floats) -> float:
    """The greatest distance of two distribution functions: it is at, or just before, a jump."""
    if len(one) > len(other):
        one, other = other, one
    n, m = len(one), len(other)
    place = np.arange(n)
    # Of equal values the last has the greatest F, the first the least one before its jump.
    above = (place + 1) / n - np.searchsorted(other, one, side="right") / m
    below = np.searchsorted(other, one, side="left") / m - place / n
    return max(0.0, float(above.max()), float(below.max()))


def _between(one: Floats, other: Floats) -> float:
    """The area between two distribution functions: the mean distance of their quantiles."""
    n, m = len(one), len(other)
    if n == m:
        return float(np.abs(one - other).mean())
    # Quantiles change at multiples of 1/n and of 1/m: here they are counted in 1/(n·m).
    steps = np.concatenate((np.arange(1, n + 1) * m, np.arange(1, m + 1) * n))
    steps.sort(kind="stable")  # two runs in order: they are merged
    apart = np.abs(one[(steps - 1) // m] - other[(steps - 1) // n])
    return float(np.diff(steps, prepend=0) @ apart) / n / m


def total_variation(before: Ints, after: Ints) -> float:
    """Half the sum of |p - q| over bins, 0 to 1; nan if either has no rows.

    >>> total_variation(np.array([50, 50]), np.array([75, 25]))
    0.25
    """
    p, q = _shares(before), _shares(after)
    return float(np.abs(p - q).sum() / 2)


def hellinger(before: Ints, after: Ints) -> float:
    """The root of half the sum of (√p - √q)² over bins, 0 to 1; nan if either has no rows.

    >>> hellinger(np.array([1, 0]), np.array([0, 1]))
    1.0
    """
    p, q = _shares(before), _shares(after)
    return float(np.sqrt(((np.sqrt(p) - np.sqrt(q)) ** 2).sum() / 2))


def jensen_shannon(before: Ints, after: Ints) -> float:
    """The root of the Jensen-Shannon divergence in bits, 0 to 1; nan if either has no rows.

    The divergence is of Lin (1991), its root a metric (Endres & Schindelin 2003).

    >>> jensen_shannon(np.array([1, 0]), np.array([0, 1]))
    1.0
    """
    p, q = _shares(before), _shares(after)
    middle = (p + q) / 2
    bits = (_bits(p, middle) + _bits(q, middle)) / 2
    return float(np.sqrt(np.clip(bits, 0.0, 1.0)))


def chi_square(before: Ints, after: Ints) -> ChiSquare:
    """Pearson's chi-square test that two counts over the same bins are of one distribution.

    The statistic is n · m · Σ (p - q)² / (before + after) over bins (Pearson 1911). Bins in which
    the smaller sample is expected to have fewer than 5 rows are made one, or joined to the fullest
    if even that has fewer (Cochran 1954). The p-value takes rows for independent, which those of
    one day seldom are: it says that there is a difference, never that it matters. It is nan where
    there are no rows, or one bin is left.

    >>> chi_square(np.array([50, 50]), np.array([80, 20])).p_value < 1e-4
    True
    """
    before, after = _pooled(before, after)
    n, m = int(before.sum()), int(after.sum())
    if not n or not m or len(before) < 2:
        return ChiSquare(math.nan, 0, math.nan)
    apart = np.square(before / n - after / m) / (before + after)
    statistic, df = float(n) * m * float(apart.sum()), len(before) - 1
    return ChiSquare(statistic, df, chi2_sf(statistic, df))


def _pooled(before: Ints, after: Ints) -> tuple[Ints, Ints]:
    some = (before + after) > 0
    before, after = before[some], after[some]
    both = before + after
    total = int(both.sum())
    if not total:
        return before, after
    expected = both / total * min(int(before.sum()), int(after.sum()))
    rare = expected < _FEW
    if not rare.any() or rare.all():
        return (before, after) if not rare.any() else (before[:0], after[:0])
    if expected[rare].sum() < _FEW:
        rare[np.argmax(expected)] = True
    pairs = ((one[~rare], one[rare].sum()) for one in (before, after))
    first, second = (np.append(kept, rest) for kept, rest in pairs)
    return first, second


def _functions(counts: Ints) -> tuple[Floats, Floats]:
    """The distribution function where each bin begins, and where it ends."""
    ends = np.cumsum(counts) / counts.sum()
    return np.concatenate(([0.0], ends[:-1])), ends


def _shares(counts: Ints) -> Floats:
    rows = counts.sum()
    return counts / rows if rows else np.full(len(counts), np.nan)


def _bits(p: Floats, of: Floats) -> float:
    """The Kullback-Leibler divergence in bits; nan shares stay nan."""
    some = p != 0
    return float(np.sum(p[some] * np.log2(p[some] / of[some])))
