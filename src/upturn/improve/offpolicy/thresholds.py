"""Thresholds: estimates with large weights cut off, at the cut that balances noise and bias."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upturn.improve.offpolicy.moments import Accumulator, ClusterMoments, RowMoments

Floats = NDArray[np.float64]
GRID = np.array([*(2.0**k for k in range(13)), math.inf])  # 1, 2, 4 … 4096, none


@dataclass(frozen=True, slots=True)
class Cut:
    """An estimate with a threshold: what it is, how it varies, what it may miss."""

    threshold: float
    value: float
    variance: float
    beyond: float  # what is cut off of the policy: of its weight, or of its choices


@dataclass
class Thresholds:
    """For one policy, clipped IPS and switch-DR at each threshold of the grid.

    Clipped (Ionides 2008): the mean of min(w, τ)·r. What is cut off is E[(w − τ)+ · r], so at most
    the mean of (w − τ)+ times the greatest reward. Switch-DR (Wang, Agarwal & Dudík 2017, section
    3.1): the model's answer, corrected by w·(r − q) where w <= τ. What is left uncorrected is the
    policy's choices with w > τ, the mean of w·1(w > τ), times the range of rewards at most. τ
    is that of the least variance + squared bound (their section 3.2).
    """

    clusters: bool
    _parts: Accumulator = field(init=False)
    _beyond: Floats = field(init=False)
    _rows: int = 0

    def __post_init__(self) -> None:
        width = 2 * len(GRID)
        self._parts = ClusterMoments(width) if self.clusters else RowMoments(width, joint=False)
        self._beyond = np.zeros((2, len(GRID)))

    def add(
        self,
        weights: Floats,
        rewards: Floats,
        model: tuple[Floats, Floats],
        clusters: Sequence[Any] | None,
    ) -> None:
        """Take rounds: weights, rewards, and the model's answers: of the policy, of the action."""
        direct, modelled = model
        count, most = len(GRID), float(weights.max(initial=0.0))
        found = np.empty((len(weights), 2 * count), order="F")
        residual = weights * (rewards - modelled)
        whole = weights * rewards, direct + residual
        for place, threshold in enumerate(GRID):
            if threshold >= most:
                found[:, place], found[:, count + place] = whole
                continue
            within = weights <= threshold
            found[:, place] = np.minimum(weights, threshold) * rewards
            found[:, count + place] = direct + residual * within
            self._beyond[0, place] += np.maximum(weights - threshold, 0).sum()
            self._beyond[1, place] += weights[~within].sum()
        self._parts.add(found, clusters)
        self._rows += len(weights)

    def clipped(self, low: float, high: float) -> Cut:
        """The clipped estimate for rewards within [low, high]."""
        return self._best(0, max(abs(low), abs(high)))

    def switched(self, low: float, high: float) -> Cut:
        """The switch-DR estimate for rewards within [low, high]."""
        return self._best(1, high - low)

    def _best(self, which: int, most: float) -> Cut:
        first = which * len(GRID)
        beyond = self._beyond[which] / max(self._rows, 1)
        unit = np.eye(2 * len(GRID))
        variances = [self._parts.variance(unit[first + place]) for place in range(len(GRID))]
        # Of equals the one that cuts least.
        costs = (np.array(variances) + (beyond * most) ** 2)[::-1]
        known = np.where(np.isnan(costs), np.inf, costs)
        place = len(GRID) - 1 - int(np.argmin(known))
        value = float(self._parts.mean[first + place])
        return Cut(float(GRID[place]), value, variances[place], float(beyond[place]))
