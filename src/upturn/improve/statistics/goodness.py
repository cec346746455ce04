"""Goodness of fit: whether values are spread as a distribution says, such as p-values uniformly."""

import math

import numpy as np
from numpy.typing import ArrayLike


def kolmogorov_sf(x: float) -> float:
    """P(K > x) for Kolmogorov's distribution (1933), the limit of √n times the greatest distance.

    Its alternating series, of which the first term alone is left far out.

    >>> round(kolmogorov_sf(1.3581), 4), 0 < kolmogorov_sf(18.0) < 1e-280
    (0.05, True)
    """
    if x < 0.2:  # below, it is 1 to eleven digits
        return 1.0
    terms = (2 * (-1) ** (j - 1) * math.exp(-2 * j * j * x * x) for j in range(1, 101))
    return min(1.0, max(0.0, math.fsum(terms)))


def uniform_p(values: ArrayLike) -> float:
    """The p-value of Kolmogorov & Smirnov's test that values in [0, 1] are uniform.

    With the correction of Stephens (1970) for how many there are; nan of none.

    >>> uniform_p(np.arange(100) / 100) > 0.99, uniform_p(np.arange(100) / 200) < 1e-9
    (True, True)
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    n = len(ordered)
    if not n:
        return math.nan
    steps = np.arange(1, n + 1) / n
    distance = max(float((steps - ordered).max()), float((ordered - steps + 1 / n).max()))
    return kolmogorov_sf((math.sqrt(n) + 0.12 + 0.11 / math.sqrt(n)) * distance)
