"""Many tests at once: p-values adjusted, and which e-values count, when there are many of them.

What can't be said (nan) stays nan and is not counted. Holm keeps the chance of any false finding at
alpha under any dependence; Benjamini & Hochberg the expected share of false ones among the
findings, for independent or positively dependent tests; Benjamini & Yekutieli and the e-values' one
under any dependence.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from upturn.improve.statistics.fixed import check_alpha

Floats = NDArray[np.float64]


def bonferroni(p_values: Sequence[float]) -> list[float]:
    """p-values times their number.

    >>> bonferroni([0.01, 0.2, float("nan")])
    [0.02, 0.4, nan]
    """
    return _adjusted(p_values, lambda p: p * len(p))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted by Holm's step-down procedure (1979): reject those of at most alpha.

    >>> holm([0.01, 0.04, float("nan")])
    [0.02, 0.04, nan]
    """
    return _adjusted(
        p_values, lambda p: np.maximum.accumulate(p * np.arange(len(p), 0, -1, dtype=np.float64))
    )


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for the false discovery rate (Benjamini & Hochberg 1995).

    >>> [round(p, 6) for p in benjamini_hochberg([0.01, 0.04, 0.03])]
    [0.03, 0.04, 0.04]
    """
    return _adjusted(p_values, _step_up)


def benjamini_yekutieli(p_values: Sequence[float]) -> list[float]:
    """The same under any dependence (Benjamini & Yekutieli 2001).

    >>> [round(p, 6) for p in benjamini_yekutieli([0.01, 0.04, 0.03])]
    [0.055, 0.073333, 0.073333]
    """
    return _adjusted(p_values, lambda p: _step_up(p) * float((1 / np.arange(1, len(p) + 1)).sum()))


Correction = Literal["holm", "bh"]


def adjusted(p_values: Sequence[float], how: Correction | None) -> list[float]:
    """p-values adjusted by the procedure of that name, or as they are.

    >>> adjusted([0.01, 0.04, float("nan")], "holm")
    [0.02, 0.04, nan]
    """
    if how is None:
        return list(p_values)
    return holm(p_values) if how == "holm" else benjamini_hochberg(p_values)


def e_benjamini_hochberg(e_values: Sequence[float], alpha: float = 0.05) -> list[bool]:
    """Which hypotheses to reject by their e-values, with a false discovery rate of at most alpha.

    Wang & Ramdas, "False discovery rate control with e-values" (2022, arXiv 2009.02824): the k
    largest, for the greatest k with k · (the k-th largest) >= m / alpha. Under any dependence.

    >>> e_benjamini_hochberg([100.0, 3.0, 45.0], alpha=0.05)
    [True, False, True]
    """
    check_alpha(alpha)
    found = np.asarray(e_values, dtype=np.float64)
    said = found[~np.isnan(found)]
    ordered = np.sort(said)[::-1]
    enough = np.flatnonzero(np.arange(1, len(said) + 1) * ordered >= len(said) / alpha)
    if not len(enough):
        return [False] * len(found)
    return [bool(one) for one in found >= ordered[enough[-1]]]


def family_wise(p_values: Sequence[float], alpha: float = 0.05) -> list[bool]:
    """Which hypotheses Holm's procedure rejects.

    >>> family_wise([0.01, 0.04, 0.03])
    [True, False, False]
    """
    check_alpha(alpha)
    return [p <= alpha for p in holm(p_values)]


def _step_up(p: Floats) -> Floats:
    grown = p * len(p) / np.arange(1, len(p) + 1)
    return np.minimum.accumulate(grown[::-1])[::-1]


def _adjusted(p_values: Sequence[float], by: Callable[[Floats], Floats]) -> list[float]:
    """Adjusted by a function of the p-values that are said, the smallest first."""
    found = np.asarray(p_values, dtype=np.float64)
    said = np.flatnonzero(~np.isnan(found))
    order = said[np.argsort(found[said], kind="stable")]
    found[order] = np.minimum(by(found[order]), 1.0)
    return [float(one) for one in found]
