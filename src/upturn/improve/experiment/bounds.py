"""Bounds: how far an estimate may be from the truth, for each way of looking at an experiment."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from upturn.improve.experiment.spending import boundaries, repeated_p
from upturn.improve.experiment.welch import quantile, two_sided
from upturn.improve.statistics.interval import Interval

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

        One look takes Student's t with `df` degrees of freedom.

        Looking at any time: the asymptotic confidence sequence with a Gaussian mixture
        (Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas 2024, arXiv:2103.06476, theorem 2.2).

        >>> round(Rule("fixed").multiplier(1000), 3), round(Rule().multiplier(10_000), 3)
        (1.96, 3.035)
        """
        alpha = self.alpha if alpha is None else alpha
        if self.method == "anytime":
            grown = n * self._rho2 + 1
            return math.sqrt(2 * grown / (grown - 1) * (0.5 * math.log(grown) - math.log(alpha)))
        if self.method == "group-sequential":
            return boundaries(self.looks, alpha)[self.reached - 1] if self.reached else math.inf
        return quantile(alpha, df)

    def p_value(self, z: float, n: float, df: float = math.inf) -> float:
        """The p-value of an estimate z standard errors away; always valid when looked at any time.

        >>> Rule("fixed").p_value(20, 1000) < 1e-80
        True
        """
        if self.method == "anytime":
            grown = n * self._rho2 + 1
            exponent = 0.5 * math.log(grown) - 0.5 * z * z * (grown - 1) / grown
            return math.exp(min(0.0, exponent))
        if self.method == "group-sequential":
            return repeated_p(self.looks, self.reached - 1, abs(z)) if self.reached else 1.0
        return two_sided(z, df)

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
            return unsaid(estimate, alpha)
        reach = self.multiplier(n, alpha, df) * se
        return Interval(
            estimate=estimate,
            low=estimate - reach,
            high=estimate + reach,
            level=1 - alpha,
            p_value=self.p_value(estimate / se, n, df),
            method=self.label,
        )

    @property
    def label(self) -> str:
        """What its intervals are called."""
        return {
            "anytime": "asymptotic confidence sequence",
            "fixed": "Welch t",
            "group-sequential": "group-sequential",
        }[self.method]

    @property
    def _rho2(self) -> float:
        # Eq. (2.4) there: the ρ² of the narrowest bound at tuned_n.
        log = -2 * math.log(self.alpha)
        return (log + math.log1p(log)) / self.tuned_n


def unsaid(estimate: float = math.nan, alpha: float = 0.05) -> Interval:
    """The interval of what can't be said: everything is possible."""
    return Interval(
        estimate=estimate,
        low=-math.inf,
        high=math.inf,
        level=1 - alpha,
        p_value=math.nan,
        method="none",
    )
