"""Curve: few points of many for a plot, as a pure function, so that every peak is still there."""

from itertools import pairwise
from typing import Any


def chosen(values: Any, points: int) -> Any:
    """Which of the values a plot of some `points` shows, as indices in order.

    The first and the last, and of equal parts between them the least and the greatest each. NaN is
    shown only where there is nothing else.

    >>> import numpy as np
    >>> chosen(np.array([0, 1, 9, 1, 2, -5, 3, 4]), 6).tolist()
    [0, 1, 2, 5, 6, 7]
    """
    import numpy as np

    count = len(values)
    if count <= max(points, 4):
        return np.arange(count)
    nan = np.isnan(values)
    lows, highs = np.where(nan, np.inf, values), np.where(nan, -np.inf, values)
    parts = max((points - 2) // 2, 1)
    edges = np.unique(np.linspace(1, count - 1, parts + 1).astype(int)).tolist()
    found = {0, count - 1}
    for start, end in pairwise(edges):
        found.add(start + int(lows[start:end].argmin()))
        found.add(start + int(highs[start:end].argmax()))
    return np.array(sorted(found))
