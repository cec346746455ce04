"""Bounds of a policy's value that hold at every round, without any approximation."""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LowerBound:
    """A lower bound for the mean of values, at every row at once, without any approximation.

    The values have the same conditional mean given the past, and none is below 0. That is what
    importance weighted rewards in [0, 1] are; weights need no bound. Predictable plug-in empirical
    Bernstein of Waudby-Smith, Wu, Ramdas, Karampatziakis & Mineiro (2210.10768, section 2), after
    Howard, Ramdas, McAuliffe & Sekhon (2021): with y = value − m for a guess m in [0, 1] made from
    the past alone, exp(λ·y − ψ(λ)·y²) <= 1 + λ·y, where ψ(λ) = −log(1 − λ) − λ and 0 <= λ < 1,
    since y >= −1; so the product of exp(λ·(value − mean) − ψ(λ)·y²) is a supermartingale, and
    Ville's inequality bounds it by 1 / alpha. By contrast to `statistics.bounded` the values, being
    weighted, have no upper end, and they come in parts that are not kept.
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
