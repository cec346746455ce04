"""Checks of a log's propensities and of how much it says of another policy."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upturn.improve.offpolicy.rounds import Rounds
from upturn.improve.statistics.distributions import two_sided

Floats = NDArray[np.float64]
_CERTAIN = 1e-3  # a warning of a healthy log once in a thousand logs
_ENOUGH = 100  # rounds of an action before a normal approximation is believed
FEW = 20  # weighted rewards, before their mean is nearly normal
_SHOWN = 3


@dataclass
class Propensities:
    """For each action, the mean of 1/p over the rounds that took it: 1 where p is true.

    E[1(A = a) / p(a)] = 1 for each action that is always possible, whatever the policy.
    """

    rows: int = 0
    above: int = 0  # propensities greater than 1
    least: float = math.inf
    sums: Floats = field(default_factory=lambda: np.zeros((3, 0)))  # count, 1/p, 1/p²

    def add(self, codes: NDArray[np.int64], propensities: Floats) -> None:
        """Take some rounds."""
        inverse = 1 / propensities
        width = max(int(codes.max(initial=-1)) + 1, self.sums.shape[1])
        grown = np.zeros((3, width))
        grown[:, : self.sums.shape[1]] = self.sums
        for place, values in enumerate((None, inverse, inverse**2)):
            grown[place] += np.bincount(codes, values, minlength=width)
        self.sums = grown
        self.rows += len(codes)
        self.above += int((propensities > 1).sum())
        self.least = min(self.least, float(propensities.min(initial=math.inf)))

    def taken(self, action: int) -> bool:
        """Whether the log took the action."""
        return action < self.sums.shape[1] and self.sums[0, action] > 0

    def z(self) -> Floats:
        """How far each action's mean is from 1, in standard errors; nan of actions too rare."""
        rows = max(self.rows, 1)
        mean = self.sums[1] / rows
        variance = np.maximum(self.sums[2] / rows - mean**2, 0) / rows
        away = mean - 1
        away[np.abs(away) < 1e-9] = 0.0
        with np.errstate(divide="ignore", invalid="ignore"):
            found = np.where(away == 0, 0.0, away / np.sqrt(variance))
        return np.where(self.sums[0] >= _ENOUGH, found, np.nan)

    def warnings(self, names: list[Any], *, independent: bool) -> list[str]:
        """What is wrong with the propensities, each as a sentence."""
        said: list[str] = []
        if self.above:
            said.append(f"{self.above:,} propensities are greater than 1: no probability is.")
        z = self.z()
        tested = int((~np.isnan(z)).sum())
        if not independent or not tested:
            return said
        p_values = np.array([two_sided(one) for one in z.tolist()]) * tested
        wrong = [int(place) for place in np.argsort(p_values) if p_values[place] < _CERTAIN]
        if wrong:
            rows = self.rows
            shown = ", ".join(
                f"{names[place]!r} {self.sums[1, place] / rows:.3f} (z = {z[place]:.1f})"
                for place in wrong[:_SHOWN]
            )
            more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
            said.append(
                "The propensities are not how often the actions were taken: the mean of "
                f"1 / propensity should be 1 and is {shown}{more}. Either they are not those that "
                "acted, or an action was not always to be had."
            )
        return said


def support_warnings(
    name: str,
    unsupported: dict[str, float],
    mean: Any,
    effective: float,
    largest: float,
    few: bool,
) -> tuple[str, ...]:
    """What makes the log say little of a policy, each as a sentence.

    `mean` is the Interval of the mean weight, `largest` the greatest weight's share of all, and
    `few` whether what it earned is that of a few rounds.
    """
    said: list[str] = []
    if unsupported:
        shown = ", ".join(f"{one!r} ({share:.1%})" for one, share in list(unsupported.items())[:5])
        said.append(
            f"{name} takes actions that the log never took: {shown}. "
            "What these would earn is not in the log."
        )
    elif mean.p_value < _CERTAIN:
        said.append(
            f"The weights of {name} have the mean {mean.estimate:.3f}, not 1: it takes actions "
            "where the log could not, or the propensities are not those that acted."
        )
    if effective < _ENOUGH:
        said.append(
            f"The log says of {name} as much as {effective:.0f} rounds of its own would: "
            "too few to trust its interval."
        )
    if largest > 0.1:
        said.append(f"One round has {largest:.0%} of all the weight of {name}.")
    if few:
        said.append(
            f"What {name} would have earned rests on rewards worth fewer than {FEW} rounds: "
            "differences and intervals at every look are less certain than they say."
        )
    return tuple(said)


def few_rewards(total: float, squares: float) -> bool:
    """Whether weighted rewards with this sum and this sum of squares are those of a few rounds."""
    return total**2 < FEW * squares or not squares


def unsupported(
    masses: Floats, seen: Propensities, names: list[Any], rounds: int
) -> dict[str, float]:
    """The actions that a policy takes and the log never took, and how often it does."""
    return {
        str(names[place]): float(mass / rounds)
        for place, mass in enumerate(masses)
        if mass > 0 and not seen.taken(place)
    }


def cells(rounds: Rounds) -> dict[str, NDArray[np.bool_]]:
    """Which rounds have each value of the column that results are asked by."""
    if rounds.by is None:
        return {}
    values = np.array([str(one) for one in rounds.by])
    return {str(one): values == one for one in np.unique(values)}
