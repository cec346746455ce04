"""Group-sequential tests: bounds for looks that were planned, by spending alpha over them.

Lan & DeMets (1983): how much of alpha is spent by each share of the information is fixed before, so
that neither the number nor the times of the looks need be. The chance to be beyond a bound at a
look and at none before is integrated numerically (Armitage, McPherson & Rowe 1969; Jennison &
Turnbull 2000, chapter 19).
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from upturn.core.errors import Invalid
from upturn.improve.statistics.distributions import normal_isf, normal_sf, two_sided
from upturn.improve.statistics.fixed import check_alpha
from upturn.improve.statistics.interval import Interval, around, unsaid

Floats = NDArray[np.float64]
Spending = Literal["obrien-fleming", "pocock", "hwang-shih-decani"]
_FAR = 37.5  # standard deviations: beyond lies less than 1e-300
_LEAST = 1e-300


def spent(
    fraction: float,
    alpha: float,
    spending: Spending = "obrien-fleming",
    *,
    sides: int = 2,
    gamma: float = -4.0,
) -> float:
    """How much of alpha is spent by a fraction of the information.

    Like O'Brien & Fleming's bounds, strict early: 2 − 2·Phi(z / √t), to each side of a two-sided
    test with half of alpha; like Pocock's, alike throughout: alpha·log(1 + (e − 1)·t) (both Lan &
    DeMets 1983); Hwang, Shih & DeCani (1990): alpha·(1 − exp(−gamma·t)) / (1 − exp(−gamma)), where
    gamma −4 is near the former and 1 near the latter.

    >>> [round(spent(t, 0.05), 5) for t in (0.2, 0.6, 1.0)]
    [0.0, 0.00762, 0.05]
    """
    t = min(fraction, 1.0)
    if spending == "obrien-fleming":
        half = alpha / sides
        return sides * 2 * normal_sf(normal_isf(half / 2) / math.sqrt(t))
    if spending == "pocock":
        return alpha * math.log1p((math.e - 1) * t)
    if gamma == 0:
        return alpha * t
    return alpha * math.expm1(-gamma * t) / math.expm1(-gamma)


def boundaries(
    fractions: Sequence[float],
    *,
    alpha: float = 0.05,
    spending: Spending = "obrien-fleming",
    sides: int = 2,
    gamma: float = -4.0,
) -> tuple[float, ...]:
    """The z bounds at looks that are rising fractions of the information, the last at most 1.

    With `sides` 2, a look finds an effect where |z| is at its bound or beyond; with 1, where z is.

    >>> [round(z, 3) for z in boundaries((0.2, 0.4, 0.6, 0.8, 1.0))]
    [4.877, 3.357, 2.68, 2.29, 2.031]
    """
    check_alpha(alpha)
    _check(fractions, sides)
    return _boundaries(tuple(float(t) for t in fractions), alpha, spending, sides, gamma)


@lru_cache(maxsize=4096)
def _boundaries(
    fractions: tuple[float, ...], alpha: float, spending: Spending, sides: int, gamma: float
) -> tuple[float, ...]:
    paths, bounds, before = _Paths(fractions, sides, 0.0), list[float](), 0.0
    for place, t in enumerate(fractions):
        total = spent(t, alpha, spending, sides=sides, gamma=gamma)
        bounds.append(paths.bound(total - before))
        before = total
        if place < len(fractions) - 1:
            paths.go_on(bounds[-1])
    return tuple(bounds)


def crossing_probabilities(
    fractions: Sequence[float], bounds: Sequence[float], *, drift: float = 0.0, sides: int = 2
) -> tuple[float, ...]:
    """The chance to be beyond the bound at each look and at none before.

    `drift` is what z is expected to be at the whole information: the effect over its final standard
    error. With 0, their sum is the chance of a false finding, of any bounds at all:

    >>> fifths = (0.2, 0.4, 0.6, 0.8, 1.0)
    >>> round(sum(crossing_probabilities(fifths, [1.96] * 5)), 3)
    0.142
    """
    _check(fractions, sides)
    if len(bounds) != len(fractions):
        raise Invalid(f"{len(fractions)} looks have {len(bounds)} bounds.")
    paths, found = _Paths(tuple(fractions), sides, drift), list[float]()
    for place, bound in enumerate(bounds):
        found.append(paths.beyond(bound))
        if place < len(bounds) - 1:
            paths.go_on(bound)
    return tuple(found)


def repeated_interval(
    estimate: float,
    se: float,
    fractions: Sequence[float],
    *,
    alpha: float = 0.05,
    spending: Spending = "obrien-fleming",
    gamma: float = -4.0,
    null: float = 0.0,
) -> Interval:
    """The interval at the last of the looks so far, valid at all of them together.

    `fractions` are those of the looks that there were, this one the last. The repeated confidence
    interval of Jennison & Turnbull (1989), and the p-value that belongs to it.

    >>> found = repeated_interval(0.25, 0.1, (0.5, 1.0))
    >>> round(found.low, 3), round(found.p_value, 4)
    (0.053, 0.0125)
    """
    check_alpha(alpha)
    _check(fractions, 2)
    if not (math.isfinite(estimate) and 0 < se < math.inf):
        return unsaid(estimate, alpha=alpha, method="group-sequential", null=null)
    looks = tuple(float(t) for t in fractions)
    reach = _boundaries(looks, alpha, spending, 2, gamma)[-1] * se
    p_value = repeated_p((estimate - null) / se, looks, spending=spending, gamma=gamma)
    return around(estimate, reach, p_value, alpha=alpha, method="group-sequential", null=null)


def repeated_p(
    z: float,
    fractions: Sequence[float],
    *,
    spending: Spending = "obrien-fleming",
    gamma: float = -4.0,
) -> float:
    """The two-sided p-value at the last of the looks so far, valid at all of them together.

    The least alpha at which this look would have found an effect, z standard errors from the
    hypothesis (Jennison & Turnbull 1989). Of one below 1e-300, 1e-300 is given.

    >>> round(repeated_p(1.9686, (0.5, 1.0)), 2)
    0.05
    """
    _check(fractions, 2)
    return _repeated_p(tuple(float(t) for t in fractions), abs(z), spending, gamma)


@lru_cache(maxsize=4096)
def _repeated_p(fractions: tuple[float, ...], z: float, spending: Spending, gamma: float) -> float:
    def crossed(log_alpha: float) -> bool:
        return z >= _boundaries(fractions, math.exp(log_alpha), spending, 2, gamma)[-1]

    # No look of several asks for less than one alone would.
    low, high = math.log(max(two_sided(z), _LEAST)), math.log(0.999999)
    if not crossed(high):
        return 1.0
    if crossed(low):
        return math.exp(low)
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if crossed(middle) else (middle, high)
    return math.exp(high)


def drift_for_power(
    fractions: Sequence[float], bounds: Sequence[float], *, power: float = 0.8, sides: int = 2
) -> float:
    """The drift that is found at one of the looks with that power; squared, information is like it.

    (drift / (z of alpha + z of power))² is how much more information the looks may take at most
    than one look would: of 5 looks like O'Brien & Fleming's, 2 % more.

    >>> fifths = (0.2, 0.4, 0.6, 0.8, 1.0)
    >>> found = drift_for_power(fifths, boundaries(fifths), power=0.9)
    >>> round((found / (1.959964 + 1.281552)) ** 2, 3)
    1.023
    """
    if not 0 < power < 1:
        raise Invalid(f"A power of {power} can't be had.")
    low, high = 0.0, 50.0
    for _ in range(60):
        middle = (low + high) / 2
        reached = sum(crossing_probabilities(fractions, bounds, drift=middle, sides=sides))
        low, high = (low, middle) if reached >= power else (middle, high)
    return (low + high) / 2


class _Paths:
    """The paths that have crossed no bound so far, as weighted points: those of a random walk."""

    def __init__(self, fractions: tuple[float, ...], sides: int, drift: float) -> None:
        self._fractions, self._sides, self._drift = fractions, sides, drift
        self._look = 0
        self._at, self._mass = np.zeros(1), np.ones(1)

    @property
    def _step(self) -> float:
        before = self._fractions[self._look - 1] if self._look else 0.0
        return self._fractions[self._look] - before

    def beyond(self, bound: float) -> float:
        """The chance to be beyond a bound of z at this look."""
        end, scale = bound * math.sqrt(self._fractions[self._look]), 1 / math.sqrt(2 * self._step)
        moved = self._at + self._drift * self._step
        out = _erfc((end - moved) * scale)
        if self._sides == 2:
            out = out + _erfc((end + moved) * scale)
        return 0.5 * float(self._mass @ out)

    def bound(self, chance: float) -> float:
        """The bound beyond which lies that chance."""
        if chance < _LEAST:
            return _FAR
        low, high = 0.0 if self._sides == 2 else -_FAR, _FAR
        while high - low > 1e-10:
            middle = (low + high) / 2
            low, high = (middle, high) if self.beyond(middle) > chance else (low, middle)
        return high

    def go_on(self, bound: float) -> None:
        """To the next look, with the paths that are within the bound at this one."""
        t, step = self._fractions[self._look], self._step
        moved = self._at + self._drift * step
        reach = 9.5 * math.sqrt(step)
        end = bound * math.sqrt(t)
        high = min(end, float(moved.max()) + max(reach, end if self._drift == 0 else 0.0))
        low = max(-end, float(moved.min()) - reach) if self._sides == 2 else moved.min() - reach
        following = self._fractions[self._look + 1] - t
        count = int(min(max(64, 40 + 5 * (high - low) / math.sqrt(min(step, following))), 900))
        nodes, weights = _nodes(-(-count // 32) * 32)
        at = low + (high - low) * (nodes + 1) / 2
        kernel = np.exp(-0.5 * (at[:, None] - moved[None, :]) ** 2 / step)
        density = kernel @ self._mass / math.sqrt(2 * math.pi * step)
        self._at, self._mass = at, weights * density * (high - low) / 2
        self._look += 1


@lru_cache(maxsize=64)
def _nodes(count: int) -> tuple[Floats, Floats]:
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return nodes, weights


def _erfc(x: Floats) -> Floats:
    return np.array([math.erfc(one) for one in x.tolist()])


def _check(fractions: Sequence[float], sides: int) -> None:
    rising = all(a < b for a, b in zip([0.0, *fractions], fractions, strict=False))
    if not (len(fractions) and rising and fractions[-1] <= 1 + 1e-12):
        raise Invalid(
            f"{tuple(fractions)} are no looks.", hint="Give rising fractions, such as (0.5, 1.0)."
        )
    if sides not in (1, 2):
        raise Invalid(f"A test has 1 or 2 sides, not {sides}.")
