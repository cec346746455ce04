"""Power: how many rows a test takes, and what it finds, before the start.

For one look by the normal distribution; for looks at any time by the boundary of the confidence
sequence itself, integrated over looks as a group-sequential test is.
"""

import math
from functools import lru_cache

import msgspec
import numpy as np

from upturn.core.errors import Invalid
from upturn.improve.statistics.distributions import normal_isf, normal_sf
from upturn.improve.statistics.fixed import check_alpha
from upturn.improve.statistics.group_sequential import crossing_probabilities
from upturn.improve.statistics.sequences import tuned_rho2, two_sided_z


class SequencePower(msgspec.Struct, frozen=True, kw_only=True):
    """What a confidence sequence that is looked at all the time does with an effect."""

    power: float  # the chance to have found it by the last row
    expected_n: float  # rows until it is found or they are all there, on average
    median_n: float  # rows until it is found in half of all runs; infinite if in fewer


def fixed_power(effect: float, se: float, *, alpha: float = 0.05, sides: int = 2) -> float:
    """The chance that one look finds an effect whose estimate has that standard error.

    >>> round(fixed_power(0.28, 0.1), 3)
    0.8
    """
    _check(alpha, 0.5, sides)
    if not se > 0:
        raise Invalid(f"A standard error of {se} is none.")
    z = normal_isf(alpha / sides)
    shift = effect / se
    return normal_sf(z - shift) + (normal_sf(z + shift) if sides == 2 else 0.0)


def detectable(se: float, *, alpha: float = 0.05, power: float = 0.8, sides: int = 2) -> float:
    """The least effect that one look finds with that power.

    >>> round(detectable(0.1), 4)
    0.2802
    """
    _check(alpha, power, sides)
    return (normal_isf(alpha / sides) + normal_isf(1 - power)) * se


def fixed_n(
    effect: float,
    variance: float,
    *,
    share: float = 0.5,
    alpha: float = 0.05,
    power: float = 0.8,
    sides: int = 2,
) -> int:
    """How many rows, of both arms together, find a difference of means at one look.

    `variance` is of one row, alike in both arms; `share` is the second arm's of the rows.

    >>> fixed_n(0.1, 1.0)
    3140
    """
    _check(alpha, power, sides)
    worth = variance * (1 / share + 1 / (1 - share)) if 0 < share < 1 else math.nan
    if not (effect != 0 and math.isfinite(effect) and worth > 0):
        raise Invalid(
            f"An effect of {effect} on rows of variance {variance} can't be planned for.",
            hint="Neither may be 0, and share= has to be between 0 and 1.",
        )
    z = normal_isf(alpha / sides) + normal_isf(1 - power)
    return math.ceil(z * z * worth / (effect * effect) - 1e-9)


def fixed_n_proportions(
    base: float,
    new: float,
    *,
    share: float = 0.5,
    alpha: float = 0.05,
    power: float = 0.8,
    sides: int = 2,
) -> int:
    """How many rows, of both arms together, tell two proportions apart at one look.

    Each arm has its own variance, as in Welch's test and Newcombe's interval (Fleiss, Levin & Paik
    2003, section 4.2, unpooled).

    >>> fixed_n_proportions(0.10, 0.12)
    7677
    """
    _check(alpha, power, sides)
    if not (0 < base < 1 and 0 < new < 1 and base != new and 0 < share < 1):
        raise Invalid(f"Proportions of {base} and {new} can't be planned for.")
    worth = new * (1 - new) / share + base * (1 - base) / (1 - share)
    z = normal_isf(alpha / sides) + normal_isf(1 - power)
    return math.ceil(z * z * worth / (new - base) ** 2 - 1e-9)


def ratio_variance(
    top_mean: float, bottom_mean: float, top_var: float, bottom_var: float, covariance: float
) -> float:
    """The variance of a unit's influence on a ratio of means, by the delta method.

    Plan with it as `variance` for the difference of two arms' ratios.

    >>> round(ratio_variance(2.0, 10.0, 4.0, 9.0, 3.0), 6)
    0.0316
    """
    if not bottom_mean:
        raise Invalid("A ratio to a mean of 0 can't be planned for.")
    ratio = top_mean / bottom_mean
    found = top_var - 2 * ratio * covariance + ratio * ratio * bottom_var
    return found / (bottom_mean * bottom_mean)


def sequence_power(
    effect: float,
    variance: float,
    n: float,
    *,
    alpha: float = 0.05,
    tuned_n: float,
    first_n: float = 50.0,
    looks: int = 60,
) -> SequencePower:
    """What `asymptotic_interval` finds of an effect within n rows, looked at all the time.

    `variance` is that of one row's influence: for a difference of arms that each get a share of the
    rows, the variance of a row times 1 / share + 1 / (1 − share), n counting the rows of both. The
    looks stand for all: more of them find little more.

    >>> found = sequence_power(0.1, 4.0, 6000, tuned_n=3000)
    >>> round(found.power, 2), round(found.expected_n, -2), round(found.median_n, -2)
    (0.84, 3500.0, 3400.0)
    """
    _check(alpha, 0.5, 2)
    if not (variance > 0 and 0 < first_n < n and looks >= 2):
        raise Invalid(
            f"{looks} looks from {first_n} to {n} rows of variance {variance} can't be planned for."
        )
    at = np.geomspace(first_n, n, looks)
    rho2 = tuned_rho2(alpha, tuned_n)
    bounds = [two_sided_z(one * rho2, alpha) for one in at.tolist()]
    found = np.array(
        crossing_probabilities(
            (at / n).tolist(), bounds, drift=effect / math.sqrt(variance / n), sides=2
        )
    )
    by = found.cumsum()
    half = np.flatnonzero(by >= 0.5)
    power = float(by[-1])
    return SequencePower(
        power=power,
        expected_n=float(found @ at) + (1 - power) * n,
        median_n=float(at[half[0]]) if len(half) else math.inf,
    )


def sequence_n(effect: float, variance: float, *, alpha: float = 0.05, power: float = 0.8) -> int:
    """How many rows `asymptotic_interval` takes at most to find an effect with that power.

    Tuned to that number, and looked at from a fiftieth of it on. Most runs that find it stop
    before: half of them within some two thirds of the rows (`sequence_power`).

    >>> round(sequence_n(0.1, 4.0) / fixed_n(0.1, 1.0), 2)
    1.76
    """
    _check(alpha, power, 2)
    if not (effect != 0 and math.isfinite(effect) and 0 < variance < math.inf):
        raise Invalid(f"An effect of {effect} on rows of variance {variance} can't be planned for.")
    return math.ceil(_sequence_drift(alpha, power) ** 2 * variance / (effect * effect))


@lru_cache(maxsize=64)
def _sequence_drift(alpha: float, power: float) -> float:
    """The effect in standard errors at the last row that is found with that power by then."""
    low, high = 0.0, 60.0
    while high - low > 1e-3:
        middle = (low + high) / 2
        found = sequence_power(middle, 1.0, 1.0, alpha=alpha, tuned_n=1.0, first_n=0.02, looks=40)
        low, high = (low, middle) if found.power >= power else (middle, high)
    return high


def _check(alpha: float, power: float, sides: int) -> None:
    check_alpha(alpha)
    if not 0 < power < 1:
        raise Invalid(f"A power of {power} can't be had.", hint="0.8 finds it in 8 of 10 runs.")
    if sides not in (1, 2):
        raise Invalid(f"A test has 1 or 2 sides, not {sides}.")
