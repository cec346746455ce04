"""Spending: the bounds of a test that is looked at a planned number of times."""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_NORMAL = NormalDist()
_NODES = 96  # of Gauss-Legendre: bounds are right to six digits
_LEAST_P = 1e-12
_FAR = 37.0  # standard deviations: beyond lies 1e-300


@lru_cache(maxsize=4096)
def boundaries(looks: tuple[float, ...], alpha: float) -> tuple[float, ...]:
    """The two-sided z bounds at looks that are rising shares of the information, 1 the last.

    On each side, α/2 is spent as 2 − 2Φ(z(1 − α/4) / √t), which is close to O'Brien & Fleming's
    bounds (Lan & DeMets 1983, α₁*); the densities between looks are integrated numerically
    (Armitage, McPherson & Rowe 1969).

    >>> [round(z, 3) for z in boundaries((0.2, 0.4, 0.6, 0.8, 1.0), 0.05)]
    [4.877, 3.357, 2.68, 2.29, 2.031]
    """
    z = -_NORMAL.inv_cdf(alpha / 4)
    spent = [2 * math.erfc(z / math.sqrt(2 * t)) for t in looks]
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    bounds = [-_NORMAL.inv_cdf(spent[0] / 2) if spent[0] > 1e-300 else _FAR]
    end = bounds[0] * math.sqrt(looks[0])
    at, mass = nodes * end, weights * end * _density(nodes * end, looks[0])
    for place in range(1, len(looks)):
        step = looks[place] - looks[place - 1]
        end = _bound(at, mass, step, spent[place] - spent[place - 1])
        bounds.append(end / math.sqrt(looks[place]))
        new = nodes * end
        mass = weights * end * (_density(new[:, None] - at[None, :], step) @ mass)
        at = new
    return tuple(bounds)


@lru_cache(maxsize=4096)
def repeated_p(looks: tuple[float, ...], reached: int, z: float) -> float:
    """The least alpha whose bound at that look (0 the first) is crossed by z: at least 1e-12.

    The p-value that belongs to repeated confidence intervals (Jennison & Turnbull 1989).

    >>> round(repeated_p((0.5, 1.0), 1, 1.9686), 2)
    0.05
    """
    low, high = math.log(_LEAST_P), 0.0
    if z >= boundaries(looks, math.exp(low))[reached]:
        return _LEAST_P
    if z <= boundaries(looks, 1 - 1e-9)[reached]:
        return 1.0
    for _ in range(30):
        middle = (low + high) / 2
        crossed = z >= boundaries(looks, min(math.exp(middle), 1 - 1e-9))[reached]
        low, high = (low, middle) if crossed else (middle, high)
    return math.exp(high)


def _bound(at: Array, mass: Array, step: float, spend: float) -> float:
    """The end beyond which the paths that are still in lie with that probability."""
    scale = 1 / math.sqrt(2 * step)
    low, high = 0.0, float(at.max()) + 40 * math.sqrt(step)
    while high - low > 1e-8:
        middle = (low + high) / 2
        beyond = [
            math.erfc((middle - one) * scale) + math.erfc((middle + one) * scale)
            for one in at.tolist()
        ]
        out = 0.5 * float(np.dot(mass, beyond))
        low, high = (middle, high) if out > spend else (low, middle)
    return high


def _density(x: Array, variance: float) -> Array:
    return np.exp(-0.5 * x * x / variance) / math.sqrt(2 * math.pi * variance)
