"""Which arm is best: the probability of it for each arm, from independent posteriors."""

import math
from collections.abc import Sequence
from functools import cache

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_NODES = 16
# How far from the middle panels end, in scales; between them a density is smooth.
_NEAR = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 13.0, 17.0, 22.0, 30.0, 45.0)
_FAR = (70.0, 1e2, 2e2, 4e2, 1e3, 2e3, 5e3, 1e4, 3e4, 1e5, 1e6)  # of tails that fall by a power


class Beta(msgspec.Struct, frozen=True, kw_only=True, tag="beta"):
    """What is believed of a success probability; both parameters are 1 or more."""

    a: float
    b: float

    @property
    def mean(self) -> float:
        """The posterior mean."""
        return self.a / (self.a + self.b)

    @property
    def scale(self) -> float:
        """The standard deviation."""
        total = self.a + self.b
        return math.sqrt(self.a * self.b / (total + 1)) / total

    def panels(self) -> Floats:
        """Where to cut the line for integration."""
        reach = self.scale * np.array(_NEAR)
        ends = np.concatenate([self.mean - reach, self.mean + reach, [0.0, 1.0]])
        return np.clip(ends, 0.0, 1.0)

    def density(self, x: Floats) -> Floats:
        """The density at each x; zero outside of (0, 1)."""
        inside = (x > 0.0) & (x < 1.0)
        safe = np.where(inside, x, 0.5)
        constant = math.lgamma(self.a + self.b) - math.lgamma(self.a) - math.lgamma(self.b)
        log = constant + (self.a - 1) * np.log(safe) + (self.b - 1) * np.log1p(-safe)
        return np.where(inside, np.exp(log), 0.0)


class Student(msgspec.Struct, frozen=True, kw_only=True, tag="student"):
    """What is believed of a mean whose variance is estimated; a scale of 0 is certainty."""

    mean: float
    scale: float
    df: float

    def panels(self) -> Floats:
        """Where to cut the line for integration."""
        reach = self.scale * np.array(_NEAR + _FAR)
        return np.concatenate([self.mean - reach, self.mean + reach])

    def density(self, x: Floats) -> Floats:
        """The density at each x."""
        half = (self.df + 1) / 2
        constant = math.lgamma(half) - math.lgamma(self.df / 2)
        constant -= 0.5 * math.log(self.df * math.pi) + math.log(self.scale)
        z = (x - self.mean) / self.scale
        return np.exp(constant - half * np.log1p(z * z / self.df))


Posterior = Beta | Student


def best_probabilities(posteriors: Sequence[Posterior]) -> list[float]:
    """The probability that each is the largest, P(θ_a > θ_b for all b) = ∫ f_a ∏ F_b (Thompson
    1933, of two arms), by Gauss-Legendre quadrature on panels; they sum to 1.

    The distribution functions come from the same nodes, as the integral of the polynomial through
    them, so all is right to about 1e-9. Arms of which everything is certain share where they tie.

    >>> [round(p, 4) for p in best_probabilities([Beta(a=1, b=1), Beta(a=2, b=1)])]
    [0.3333, 0.6667]
    """
    if len(posteriors) == 1:
        return [1.0]
    if all(one.scale == 0 for one in posteriors):
        means = np.array([one.mean for one in posteriors])
        return (np.equal(means, means.max()) / np.sum(means == means.max())).tolist()
    # Certain arms beside others would need a point mass: a thousandth of the least spread is one.
    least = min(one.scale for one in posteriors if one.scale > 0) / 1000
    spread = [_spread(one, least) for one in posteriors]
    ends = np.unique(np.concatenate([one.panels() for one in spread]))
    nodes, weights, integrals = _rule()
    half = np.diff(ends)[:, None] / 2
    x = (ends[:-1] + ends[1:])[:, None] / 2 + half * nodes
    density = np.stack([one.density(x) for one in spread])  # (arms, panels, nodes)
    panel = (density * weights).sum(2) * half[:, 0]
    before = np.cumsum(panel, 1) - panel
    below = before[:, :, None] + half * (density @ integrals.T)
    total = panel.sum(1)[:, None, None]
    density, below = density / total, np.clip(below / total, 0.0, 1.0)
    found: list[float] = []
    for arm in range(len(spread)):
        others = np.prod(np.delete(below, arm, 0), 0)
        found.append(float((density[arm] * others * weights * half).sum()))
    whole = math.fsum(found)
    return [one / whole for one in found]


def _spread(one: Posterior, least: float) -> Posterior:
    if isinstance(one, Student) and one.scale < least:
        return msgspec.structs.replace(one, scale=least)
    return one


@cache
def _rule() -> tuple[Floats, Floats, Floats]:
    """Nodes and weights on [-1, 1], and the matrix that takes values at the nodes to the integrals
    from -1 to each node of the polynomial through them.
    """
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    # By P_k's antiderivative (P_{k+1} - P_{k-1}) / (2k + 1), which is 0 at -1.
    values = np.polynomial.legendre.legvander(nodes, _NODES)  # (nodes, k)
    rising = np.empty((_NODES, _NODES))
    rising[:, 0] = nodes + 1
    rising[:, 1:] = values[:, 2:] - values[:, : _NODES - 1]
    integrals = 0.5 * rising @ (values[:, :_NODES] * weights[:, None]).T
    return nodes, weights, integrals
