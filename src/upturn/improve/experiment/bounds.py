"""Bounds: how far an estimate may be from the truth, for each way of looking at an experiment."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from upturn.improve.statistics.distributions import t_isf, t_two_sided
from upturn.improve.statistics.group_sequential import boundaries, repeated_p
from upturn.improve.statistics.interval import Interval, around, unsaid
from upturn.improve.statistics.sequences import (
    ASYMPTOTIC,
    mixture_p,
    tuned_rho2,
    two_sided_z,
)

Method = Literal["anytime", "fixed", "group-sequential"]


@dataclass(frozen=True, slots=True)
class Rule:
    """How an experiment is looked at: at any time, once, or at planned shares of `units`.

    `tuned_n` is the number of units at which the bound of looking at any time is tightest. It has
    to be chosen before the data are seen. `reached` is how many of the planned looks there were.
    """

    method: Method = "anytime"
    alpha: float = 0.05
    tuned_n: int = 10_000
    units: int | None = None
    looks: tuple[float, ...] = ()
    reached: int = 0

    def at(self, units: int) -> Rule:
        """The rule when so many units are there, all arms together: at which look that is."""
        if self.method == "anytime" or not self.units:
            return self
        share = units / self.units * (1 + 1e-9)
        return replace(self, reached=sum(one <= share for one in self.looks))

    @property
    def waits(self) -> bool:
        """Whether no planned look is reached yet."""
        return bool(self.looks) and not self.reached

    def multiplier(self, n: float, alpha: float | None = None, df: float = math.inf) -> float:
        """How many standard errors wide the interval is to each side, with n units in all.

        One look takes Student's t with `df` degrees of freedom, looking at any time
        `asymptotic_interval`, planned looks `repeated_interval`.

        >>> round(Rule("fixed").multiplier(1000), 3), round(Rule().multiplier(10_000), 3)
        (1.96, 3.035)
        """
        alpha = self.alpha if alpha is None else alpha
        if self.method == "anytime":
            return two_sided_z(n * self._rho2, alpha)
        if self.method == "group-sequential":
            return boundaries(self._so_far, alpha=alpha)[-1] if self.reached else math.inf
        return t_isf(alpha / 2, df)

    def p_value(self, z: float, n: float, df: float = math.inf) -> float:
        """The p-value of an estimate z standard errors away; always valid when looked at any time.

        >>> Rule("fixed").p_value(20, 1000) < 1e-80
        True
        """
        if self.method == "anytime":
            return mixture_p(z, n * self._rho2)
        if self.method == "group-sequential":
            return repeated_p(z, self._so_far) if self.reached else 1.0
        return t_two_sided(z, df)

    def interval(
        self,
        estimate: float,
        variance: float,
        n: float,
        *,
        alpha: float | None = None,
        df: float = math.inf,
    ) -> Interval:
        """The interval around an estimate with that variance, from n units in all."""
        alpha = self.alpha if alpha is None else alpha
        se = math.sqrt(variance) if variance >= 0 else math.nan
        if not (math.isfinite(estimate) and math.isfinite(se)) or se <= 0 or n < 2:
            return unsaid(estimate, alpha=alpha, method="none")
        reach = self.multiplier(n, alpha, df) * se
        p_value = self.p_value(estimate / se, n, df)
        return around(estimate, reach, p_value, alpha=alpha, method=self.label)

    @property
    def label(self) -> str:
        """What its intervals are called."""
        return {
            "anytime": ASYMPTOTIC,
            "fixed": "Welch t",
            "group-sequential": "group-sequential",
        }[self.method]

    @property
    def _rho2(self) -> float:
        return tuned_rho2(self.alpha, self.tuned_n)

    @property
    def _so_far(self) -> tuple[float, ...]:
        return self.looks[: self.reached]
