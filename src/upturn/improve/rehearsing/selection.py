"""Selection: what may be said of the best of many policies, which was picked for looking best."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from upturn.improve.statistics.bootstrap import stationary_counts

Floats = NDArray[np.float64]
_DRAWS = 2000


def superior(
    reference: Floats,
    others: Floats,
    block: float,
    *,
    scale: float = 1.0,
    draws: int = _DRAWS,
    seed: int = 0,
) -> float:
    """The p-value of "none of the others loses less than the reference", by day.

    `reference` has the reference's loss of each day, `others`, (policies, days), theirs. Hansen's
    test for superior predictive ability (2005, section 3), its consistent form: White's reality
    check (2000), studentised, where policies that are clearly worse do not count. Days are drawn in
    blocks of the mean length `block`; `scale` widens the drawn errors, as `blocks.widening` says
    for few blocks. 1 when none of the others lost less, nan when there is nothing to compare or
    no difference varies.

    >>> day = np.arange(60.0)
    >>> ours, theirs = np.cos(day), np.cos(day) - 0.5 + 0.1 * np.sin(3 * day)
    >>> superior(ours, np.array([theirs]), 1.0) < 0.001
    True
    """
    gain = reference - others
    days = gain.shape[1]
    draw = stationary_counts(days, max(1.0, block), draws=draws, seed=seed)
    mean = gain.mean(axis=1)
    drawn = draw @ gain.T / days  # (draws, policies)
    spread = np.sqrt(((drawn - mean) ** 2).mean(axis=0))
    moving = spread > 0
    if not moving.any():
        return float("nan")
    mean, drawn, spread = mean[moving], drawn[:, moving], spread[moving]
    best = max(0.0, float((mean / spread).max()))
    poor = mean < -spread * np.sqrt(2 * np.log(np.log(max(days, 3))))
    centre = np.where(poor, 0.0, mean)
    errors = mean - centre + scale * (drawn - mean)
    largest = np.maximum(0.0, (errors / spread).max(axis=1))
    return float(((largest >= best).sum() + 1) / (draws + 1))


def best_set(
    losses: Floats, block: float, *, scale: float = 1.0, draws: int = _DRAWS, seed: int = 0
) -> Floats:
    """For each policy the p-value of belonging to the best; `losses` are (policies, days).

    The model confidence set of Hansen, Lunde & Nason (2011): the policies with p >= alpha contain
    the best one with probability 1 − alpha at least. By the range statistic, section 3.1.2: while
    all that are left being equal can be rejected, the worst goes. Policies that never differ from
    each other share a p. `scale` widens the drawn errors as in `superior`.

    >>> day = np.arange(100.0)
    >>> losses = np.array([np.sin(day), np.sin(day) + 0.01 * np.cos(5 * day), np.sin(day) + 1])
    >>> [bool(p > 0.05) for p in best_set(losses, 1.0)]
    [True, True, False]
    """
    policies, days = losses.shape
    centred = losses - losses.mean(axis=0)  # levels of days do not matter
    mean = centred.mean(axis=1)
    drawn = stationary_counts(days, max(1.0, block), draws=draws, seed=seed) @ centred.T / days
    error = drawn - mean
    spread = np.sqrt(((error[:, :, None] - error[:, None, :]) ** 2).mean(axis=0))
    with np.errstate(divide="ignore", invalid="ignore"):
        worse = np.where(spread > 0, (mean[:, None] - mean[None, :]) / spread, 0.0)
        scaled = np.where(spread > 0, 1 / spread, 0.0)
    found = np.ones(policies)
    left, p = list(range(policies)), 0.0
    while len(left) > 1:
        pairs = np.ix_(left, left)
        seen = float(worse[pairs].max())
        apart = np.abs(error[:, left][:, :, None] - error[:, left][:, None, :]) * scaled[pairs]
        largest = scale * apart.max(axis=(1, 2))
        p = max(p, float(((largest >= seen).sum() + 1) / (draws + 1)))
        worst = left[int(worse[pairs].max(axis=1).argmax())]
        alike = [one for one in left if spread[worst, one] == 0]
        for one in alike:
            found[one] = p
            left.remove(one)
    return found
