"""Moments: a weighted mean of dependent rows, its standard error, and how many rows it is worth."""

import math

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class Mean(msgspec.Struct, frozen=True, kw_only=True):
    """A weighted mean of `rows` rows of `units` units."""

    rows: int = 0
    units: int = 0
    mean: float = 0.0
    se: float = 0.0  # by the units; 0 where there is no variance, or one unit
    effective: float = 0.0  # as many independent rows of equal weight say as much
    df: float = 0.0


def weighted_mean(values: Floats, weights: Floats, units: Integers) -> Mean:
    """The mean Σ w·x / Σ w (Hájek 1971) and its standard error with rows of a unit together.

    `units` are codes from 0 on. The variance is that of the linearised ratio, by unit; `effective`
    is (Σ w)² / Σ w² (Kish 1965) over the design effect of the units. Both are those of a plain
    mean where weights are equal and each row is a unit of its own.

    >>> weighted_mean(np.array([0.0, 1.0, 1.0, 0.0]), np.ones(4), np.arange(4)).effective
    4.0
    """
    if not len(values):
        return Mean()
    total = float(weights.sum())
    mean = float(weights @ values) / total
    errors = weights * (values - mean)
    by_unit = np.bincount(units, weights=errors)
    held = np.bincount(units, weights=weights)
    count = int((held > 0).sum())
    kish = total**2 / float(weights @ weights)
    kish_units = total**2 / float(held @ held)
    alone, together = float(errors @ errors), float(by_unit @ by_unit)
    # Rows that are all the same say nothing of how units differ: then units count, not rows.
    constant = alone <= 1e-24 * total**2 * max(1.0, mean * mean)
    effective = kish_units if constant else kish / max(1.0, together / alone)
    variance = 0.0 if constant or count < 2 else together / total**2 * count / (count - 1)
    return Mean(
        rows=len(values),
        units=count,
        mean=mean,
        se=math.sqrt(variance),
        effective=effective,
        df=max(kish_units - 1.0, 1.0),
    )
