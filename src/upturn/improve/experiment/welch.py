"""Welch: Student's t for any degrees of freedom, and how many a difference of two arms has."""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

_NORMAL = NormalDist()
_MANY = 1e9  # degrees of freedom from which the normal distribution is as good
_TINY = 1e-300


def two_sided(t: float, df: float) -> float:
    """P(|T| >= |t|) for Student's t: the incomplete beta function I(df / (df + t²); df/2, 1/2).

    By its continued fraction in logarithms (DLMF 8.17.22), so small values are right.

    >>> round(two_sided(2.228, 10), 4), two_sided(40.0, 1000) < 1e-200
    (0.05, True)
    """
    if not df < _MANY:
        return math.erfc(abs(t) / math.sqrt(2))
    if t == 0:
        return 1.0
    a, square = df / 2, t * t
    x, rest = df / (df + square), square / (df + square)
    front = a * math.log(x) + 0.5 * math.log(rest) - _log_beta(a)
    if x < (a + 1) / (a + 2.5):
        return min(1.0, math.exp(front) * _fraction(x, a, 0.5) / a)
    return max(0.0, 1 - math.exp(front) * _fraction(rest, 0.5, a) / 0.5)


@lru_cache(maxsize=4096)
def quantile(alpha: float, df: float) -> float:
    """The t beyond which, to both sides, Student's t lies with probability alpha.

    >>> round(quantile(0.05, 10), 3), round(quantile(0.05, math.inf), 3)
    (2.228, 1.96)
    """
    t = -_NORMAL.inv_cdf(alpha / 2)
    if not df < _MANY:
        return t
    scale = math.exp(-_log_beta(df / 2)) / math.sqrt(df)
    for _ in range(200):
        # Newton's steps: p is convex in t, so they come from below and never overshoot.
        density = 2 * scale * math.exp(-(df + 1) / 2 * math.log1p(t * t / df))
        step = (two_sided(t, df) - alpha) / density
        t += step
        if abs(step) <= 1e-12 * t:
            break
    return t


def degrees(first: float, second: float, df_first: float, df_second: float) -> float:
    """Those of a difference of two values with these variances (Satterthwaite 1946, Welch 1947).

    >>> degrees(1.0, 1.0, 9, 9)
    18.0
    """
    below = first * first / df_first + second * second / df_second
    return (first + second) ** 2 / below if below > 0 else math.inf


def _log_beta(a: float) -> float:
    return math.lgamma(a) + math.lgamma(0.5) - math.lgamma(a + 0.5)


def _fraction(x: float, a: float, b: float) -> float:
    """The continued fraction of the incomplete beta function, by Lentz's method."""
    c, d = 1.0, 1.0 / (1 - (a + b) * x / (a + 1) or _TINY)
    made = d
    for m in range(1, 100_000):
        for numerator in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1.0 / (1 + numerator * d or _TINY)
            c = 1 + numerator / c or _TINY
            made *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return made
