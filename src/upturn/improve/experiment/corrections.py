"""Corrections: p-values of many comparisons, adjusted; what can't be said does not count."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def adjusted(p_values: Sequence[float], how: str | None) -> list[float]:
    """The p-values adjusted by "holm", "bh" or not at all; nan stays nan and is not counted.

    Holm (1979) keeps the chance of any false finding below alpha; Benjamini & Hochberg (1995) the
    share of false ones among the findings.

    >>> adjusted([0.01, 0.04, float("nan")], "holm")
    [0.02, 0.04, nan]
    """
    said = [place for place, p in enumerate(p_values) if not math.isnan(p)]
    made = [math.nan] * len(p_values)
    p = np.array([p_values[place] for place in said])
    order = np.argsort(p, kind="stable")
    m = len(p)
    ranks = np.arange(1, m + 1)
    if how == "holm":
        grown = np.maximum.accumulate(p[order] * (m + 1 - ranks))
    elif how == "bh":
        grown = np.minimum.accumulate((p[order] * m / ranks)[::-1])[::-1]
    else:
        grown = p[order]
    for place, value in zip(order, np.minimum(grown, 1.0), strict=True):
        made[said[int(place)]] = float(value)
    return made
