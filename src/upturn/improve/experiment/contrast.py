"""Contrasts: the difference of an arm from the control, and its lift, with intervals that agree."""

from __future__ import annotations

import math

from upturn.improve.experiment.bounds import Rule
from upturn.improve.experiment.estimate import Estimates, difference
from upturn.improve.statistics.fixed import ratio_ends, satterthwaite
from upturn.improve.statistics.interval import Interval, unsaid


def contrast(
    found: Estimates, arm: int, control: int, rule: Rule, *, alpha: float | None = None
) -> tuple[Interval, Interval]:
    """The difference of an arm from the control, and the lift (difference / |control|).

    The difference's interval is by the influence of each unit on the estimate, with the variance
    N · Var for N units of both arms. The lift's is Fieller's (1954) with the same bound: all ratios
    r for which "arm − r · control" has zero in its interval. So both exclude zero together. A
    control that may itself be zero has no lift: its ends are infinite.
    """
    n = float(found.n[arm] + found.n[control])
    gap, variance = difference(found, arm, control)
    df = freedom(found, arm, control)
    absolute = rule.interval(float(gap), float(variance), n, alpha=alpha, df=df)
    if not math.isfinite(absolute.low):
        return absolute, unsaid(alpha=1 - absolute.level, method="none")
    low, high = fieller(
        float(found.value[control]),
        float(found.value[arm]),
        float(found.cov[control, control]),
        float(found.cov[arm, arm]),
        float(found.cov[arm, control]),
        rule.multiplier(n, alpha, df),
    )
    base = abs(float(found.value[control]))
    relative = Interval(
        estimate=float(gap) / base if base else math.nan,
        low=low,
        high=high,
        level=absolute.level,
        p_value=absolute.p_value,
        method=f"Fieller, {rule.label}",
    )
    return absolute, relative


def freedom(found: Estimates, arm: int, control: int) -> float:
    """The degrees of freedom of the difference of two arms, less one for each covariate."""
    pair = [(float(found.cov[one, one]), float(found.n[one])) for one in (arm, control)]
    (first, n_first), (second, n_second) = pair
    if not (math.isfinite(first) and math.isfinite(second)):
        return math.inf
    lost = 1 + found.covariates
    return satterthwaite(first, second, max(1.0, n_first - lost), max(1.0, n_second - lost))


def fieller(
    control: float, arm: float, v_control: float, v_arm: float, cov: float, reach: float
) -> tuple[float, float]:
    """The ends of (arm − control) / |control|, for a bound of `reach` standard errors.

    >>> low, high = fieller(10.0, 11.0, 0.01, 0.01, 0.0, 1.96)
    >>> round(low, 3), round(high, 3)
    (0.071, 0.13)
    >>> fieller(0.1, 11.0, 0.01, 0.01, 0.0, 1.96)
    (-inf, inf)
    """
    low, high = ratio_ends(control, arm, v_control, v_arm, cov, reach)
    return (low - 1, high - 1) if control > 0 else (1 - high, 1 - low)
