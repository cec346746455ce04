"""Arrays of labels, scores and weights: brought into one shape, and told apart when undefined."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def aligned(
    labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None
) -> tuple[Floats, Floats, Floats]:
    """Labels, scores and weights as float64 of one length; weights are 1 if there are none.

    Raises ValueError when their shapes differ.
    """
    labels = np.asarray(labels, dtype=np.float64)
    scores = np.asarray(scores, dtype=np.float64)
    if weights is None:
        weights = np.ones(len(labels))
    weights = np.asarray(weights, dtype=np.float64)
    if not labels.shape == scores.shape == weights.shape or labels.ndim != 1:
        raise ValueError(f"shapes differ: {labels.shape}, {scores.shape}, {weights.shape}")
    return labels, scores, weights


def undefined(labels: Floats, scores: Floats, weights: Floats) -> bool:
    """Whether nothing can be said of these rows: none with a weight, or a nan among them."""
    total = float(weights.sum())
    return not total > 0 or bool(np.isnan(labels).any() or np.isnan(scores).any())


def ratio(over: ArrayLike, under: ArrayLike) -> Floats:
    """over / under, nan where `under` is 0.

    >>> ratio([1.0, 1.0], [2.0, 0.0])
    array([0.5, nan])
    """
    over, under = np.asarray(over, np.float64), np.asarray(under, np.float64)
    shape = np.broadcast_shapes(over.shape, under.shape)
    return np.divide(over, under, out=np.full(shape, np.nan), where=under != 0)


def sums_by(place: NDArray[np.intp], values: Floats, count: int) -> Floats:
    """The sum of the values at each of `count` places.

    >>> sums_by(np.array([0, 2, 2]), np.array([0.5, 1.0, 2.0]), 3)
    array([0.5, 0. , 3. ])
    """
    return np.asarray(np.bincount(place, weights=values, minlength=count), dtype=np.float64)
