"""Isotonic: the rising function that fits best, by pooling neighbours that fall."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from upturn.improve.measures.arrays import Floats


@dataclass(frozen=True, slots=True)
class Isotonic:
    """A rising function: linear between its points, flat beyond them."""

    points: Floats
    values: Floats

    def at(self, places: Floats) -> Floats:
        """Its values there; nan where the place is."""
        return np.interp(places, self.points, self.values)


def isotonic(points: Floats, values: Floats, weights: Floats | None = None) -> Isotonic:
    """The rising function with the least weighted sum of squares (Barlow et al. 1972).

    Equal points are taken together. Neighbours that fall are pooled, all runs of them at once,
    until none does. Points with a weight of 0 are left out. Raises ValueError when there are none.

    >>> isotonic(np.array([1.0, 2.0, 3.0]), np.array([0.0, 2.0, 1.0])).values
    array([0. , 1.5, 1.5])
    """
    weights = np.ones(len(points)) if weights is None else weights
    some = weights > 0
    if not some.any():
        raise ValueError("no points to fit")
    x, place = np.unique(points[some], return_inverse=True)
    weight = np.bincount(place, weights=weights[some])
    mean = np.bincount(place, weights=weights[some] * values[some]) / weight
    begins: NDArray[np.intp] = np.arange(len(x))
    while len(mean) > 1:
        rises = np.concatenate(([True], np.diff(mean) >= 0))
        if rises.all():
            break
        heads = np.flatnonzero(rises)
        total = np.add.reduceat(weight, heads)
        mean = np.add.reduceat(weight * mean, heads) / total
        weight, begins = total, begins[heads]
    ends = np.append(begins[1:] - 1, len(x) - 1)
    kept = np.stack([begins, ends], axis=1).ravel()
    double = np.repeat(mean, 2)
    fresh = np.concatenate(([True], np.diff(kept) > 0))
    return Isotonic(x[kept[fresh]], double[fresh])
