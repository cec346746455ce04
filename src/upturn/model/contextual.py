"""Contextual choice: rows as a linear policy sees them, and each one's probabilities of arms."""

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upturn.core.linear_policy import Encoded, LinearPolicy

Floats = NDArray[np.float64]
_CLIP = 6.0  # scales; one row far out must not rule what is learned
_REACH, _STEPS = 8.0, 161  # of the integral over an arm's normal distribution
_ROWS = 256  # at once


def encoded(inputs: Sequence[Encoded], column: Callable[[Encoded], Any], rows: int) -> Floats:
    """The rows as (rows, 1 + columns), the first of them the intercept's 1.

    `column` gives an input's values: numbers with nan for null, or texts with None.

    >>> age, plan = (
    ...     Encoded(name="age", mean=40.0, scale=10.0),
    ...     Encoded(name="plan", values=("pro",)),
    ... )
    >>> rows = {"age": np.array([50.0, np.nan]), "plan": ["pro", "free"]}
    >>> encoded([age, plan], lambda one: rows[one.name], 2).tolist()
    [[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]]
    """
    columns: list[Floats] = []
    for one in inputs:
        values = column(one)
        if one.values is None:
            scaled = (np.asarray(values, np.float64) - one.mean) / one.scale
            columns.append(np.clip(np.nan_to_num(scaled, nan=0.0), -_CLIP, _CLIP))
        else:
            texts = np.asarray(values, object)
            columns += [(texts == value).astype(np.float64) for value in one.values]
    return np.column_stack([np.ones(rows), *columns])


def probabilities(policy: LinearPolicy, rows: Floats) -> Floats:
    """The probability of each arm for each encoded row: (rows, arms), in the policy's order."""
    means = rows @ np.array([arm.mean for arm in policy.arms]).T
    spread = np.stack([_spread(rows, np.array(arm.covariance)) for arm in policy.arms], 1)
    if policy.kind == "LinUCB":
        best = np.zeros(means.shape)
        best[np.arange(len(rows)), (means + spread).argmax(1)] = 1.0
    else:
        best = best_of_normals(means, spread)
    return floored(best, policy.least)


def best_of_normals(means: Floats, spread: Floats) -> Floats:
    """The probability that each of independent normals is the largest: (rows, arms) all.

    Of two by Φ(difference / its standard deviation), of more by the trapezoidal rule over each
    one's distribution; the rows sum to 1.

    >>> best_of_normals(np.array([[0.0, 1.0]]), np.array([[0.6, 0.8]])).round(4).tolist()
    [[0.1587, 0.8413]]
    """
    # Without spread the choice is that of the mean; equal ones share.
    spread = np.maximum(spread, 1e-9 * (1.0 + np.abs(means)))
    if means.shape[1] == 2:
        gap = (means[:, 0] - means[:, 1]) / np.hypot(spread[:, 0], spread[:, 1])
        first = _normal_cdf(gap)
        return np.column_stack([first, 1.0 - first])
    parts = range(0, len(means), _ROWS)
    return np.concatenate([_integrated(means[at:][:_ROWS], spread[at:][:_ROWS]) for at in parts])


def _integrated(means: Floats, spread: Floats) -> Floats:
    z = np.linspace(-_REACH, _REACH, _STEPS)
    weight = np.exp(-z * z / 2)
    found = np.empty(means.shape)
    for arm in range(means.shape[1]):
        x = means[:, arm, None] + spread[:, arm, None] * z  # (rows, steps)
        below = np.broadcast_to(weight, x.shape).copy()
        for other in range(means.shape[1]):
            if other != arm:
                gap = (x - means[:, other, None]) / spread[:, other, None]
                below *= _normal_cdf(gap)
        found[:, arm] = below.sum(1)
    return found / found.sum(1, keepdims=True)


@cache
def _table() -> tuple[Floats, Floats]:
    points = np.linspace(-9.0, 9.0, 9001)
    return points, np.array([0.5 * math.erfc(-z / math.sqrt(2)) for z in points])


def _normal_cdf(z: Floats) -> Floats:
    """Φ, linear between the points of a table: right to 1e-7."""
    return np.interp(z, *_table())


def _spread(rows: Floats, covariance: Floats) -> Floats:
    return np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", rows, covariance, rows), 0.0))


def floored(best: Floats, least: float) -> Floats:
    """Probabilities (rows, arms) none below `least`; the others keep their proportions.

    >>> floored(np.array([[0.99, 0.008, 0.002]]), 0.05).round(12).tolist()
    [[0.9, 0.05, 0.05]]
    """
    low = np.zeros(best.shape, bool)
    found = best
    for _ in range(best.shape[1]):
        rest = np.where(low, 0.0, best).sum(1, keepdims=True)
        free = 1.0 - least * low.sum(1, keepdims=True)
        found = np.where(low, least, best * (free / np.where(rest > 0, rest, 1.0)))
        below = (found < least) & ~low
        if not below.any():
            break
        low |= below
    found = np.maximum(found, least)
    return found / found.sum(1, keepdims=True)
