"""Intervals for the value of a policy that hold at every look, however often one looks."""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from upturn.improve.statistics.interval import Interval

Floats = NDArray[np.float64]


def confidence_sequence(
    estimate: float, se: float, units: int, *, alpha: float, tuned: int, null: float = 0.0
) -> Interval:
    """The interval of an estimate with influence values, valid at every look as rows grow many.

    The Gaussian mixture boundary of Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas (2103.06476,
    theorem 2.2), tightest at `tuned` units by their eq. (18). `se` is the estimate's standard
    error after `units` independent units. Its p-value is the alpha at which `null` is just left
    out, and holds at every look too.

    >>> found = confidence_sequence(0.2, 0.05, 400, alpha=0.05, tuned=400)
    >>> round(found.low, 3), round(found.high, 3), round(found.p_value, 4)
    (0.048, 0.352, 0.0025)
    """
    method = "asymptotic confidence sequence"
    level = 1 - alpha
    if not se > 0 or not math.isfinite(se) or units < 2:
        nan = float("nan")
        return Interval(
            estimate=estimate, low=nan, high=nan, level=level, p_value=nan, method=method, null=null
        )
    rho2 = (-2 * math.log(alpha) + math.log(-2 * math.log(alpha) + 1)) / max(tuned, 2)
    scale = units * rho2 + 1
    # In units of the standard error: se = sd / sqrt(units).
    half = se * math.sqrt(scale / (units * rho2) * (math.log(scale) - 2 * math.log(alpha)))
    z2 = ((estimate - null) / se) ** 2
    log_p = math.log(scale) / 2 - z2 * units * rho2 / scale / 2
    return Interval(
        estimate=estimate,
        low=estimate - half,
        high=estimate + half,
        level=level,
        p_value=math.exp(min(log_p, 0.0)),
        method=method,
        null=null,
    )


@dataclass(frozen=True, slots=True)
class LowerBound:
    """A lower bound for the mean of values, at every row at once, without any approximation.

    The values have the same conditional mean given the past, and none is below 0. That is what
    importance weighted rewards in [0, 1] are; weights need no bound. Predictable plug-in empirical
    Bernstein of Waudby-Smith, Wu, Ramdas, Karampatziakis & Mineiro (2210.10768, section 2), after
    Howard, Ramdas, McAuliffe & Sekhon (2021): with y = value − m for a guess m in [0, 1] made from
    the past alone, exp(λ·y − ψ(λ)·y²) <= 1 + λ·y, where ψ(λ) = −log(1 − λ) − λ and 0 <= λ < 1,
    since y >= −1; so the product of exp(λ·(value − mean) − ψ(λ)·y²) is a supermartingale, and
    Ville's inequality bounds it by 1 / alpha.
    """

    alpha: float  # of this side alone
    tuned: int  # after how many rows it is tightest; not to depend on the values
    rows: int = 0
    total: float = 0.0  # of the values
    squares: float = 0.0  # of value − guess
    weights: float = 0.0  # of λ
    weighted: float = 0.0  # of λ · value
    cost: float = 0.0  # of ψ(λ) · (value − guess)²

    def add(self, values: Floats) -> "LowerBound":
        """The bound after these rows too, in the order in which they came."""
        if not len(values):
            return self
        n = self.rows + np.arange(len(values), dtype=np.float64)  # rows before each
        before = self.total + np.concatenate([[0.0], np.cumsum(values)[:-1]])
        guess = np.minimum((0.5 + before) / (1 + n), 1.0)
        apart = (values - guess) ** 2
        spread = self.squares + np.concatenate([[0.0], np.cumsum(apart)[:-1]])
        variance = (1 + spread) / (1 + n)
        # Steady up to the rows that it is tuned to; then falling, so that the bound goes on rising.
        late = np.maximum((1 + n) / self.tuned, 1)
        rows = self.tuned * late * (1 + np.log(late))
        rate = np.minimum(np.sqrt(2 * math.log(1 / self.alpha) / (variance * rows)), 0.5)
        psi = -np.log1p(-rate) - rate
        return replace(
            self,
            rows=self.rows + len(values),
            total=self.total + float(values.sum()),
            squares=self.squares + float(apart.sum()),
            weights=self.weights + float(rate.sum()),
            weighted=self.weighted + float(rate @ values),
            cost=self.cost + float(psi @ apart),
        )

    @property
    def value(self) -> float:
        """The bound now; 0, below which no mean is, at least."""
        if not self.weights:
            return 0.0
        return max((self.weighted - self.cost - math.log(1 / self.alpha)) / self.weights, 0.0)


@dataclass(frozen=True, slots=True)
class EmpiricalBernstein:
    """A policy's value between two such bounds, for rewards within a range that was known before.

    The upper bound is a lower one for what is missing to the greatest reward: the weighted
    (high − reward) has the mean high − value, since weights have the mean 1. Both ends come out
    wide where weights vary much, and stay true.
    """

    low: float
    high: float
    lower: LowerBound
    upper: LowerBound

    @staticmethod
    def start(low: float, high: float, *, alpha: float, tuned: int) -> "EmpiricalBernstein":
        """Before the first row."""
        side = LowerBound(alpha / 2, max(tuned, 1))
        return EmpiricalBernstein(low, high, side, side)

    def add(self, weights: Floats, rewards: Floats) -> "EmpiricalBernstein":
        """After these rows too, in the order in which they came."""
        share = (rewards - self.low) / (self.high - self.low)
        return replace(
            self,
            lower=self.lower.add(weights * share),
            upper=self.upper.add(weights * (1 - share)),
        )

    def ends(self) -> tuple[float, float]:
        """The interval's ends, within the range."""
        span = self.high - self.low
        return self.low + span * min(self.lower.value, 1.0), self.high - span * min(
            self.upper.value, 1.0
        )
