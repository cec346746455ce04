"""e-values: evidence that multiplies, averages and may be stopped at any time.

An e-value is at least 0 and has a mean of at most 1 while the hypothesis holds; of 20 or more it
rejects at 0.05 (Vovk & Wang, "E-values: calibration, combination and applications", 2021, arXiv
1912.06116). All here are logarithms, so that none is too large.
"""

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from upturn.core.errors import Invalid
from upturn.improve.statistics.fixed import check_alpha

Floats = NDArray[np.float64]


def e_to_p(log_e: float) -> float:
    """The p-value that an e-value is worth: 1 / it, at most 1.

    >>> round(e_to_p(math.log(40)), 3), e_to_p(-1.0)
    (0.025, 1.0)
    """
    return math.exp(min(-log_e, 0.0)) if not math.isnan(log_e) else log_e


def p_to_log_e(p_value: float, kappa: float | None = None) -> float:
    """The log of an e-value that a p-value is worth.

    kappa · p^(kappa − 1) for a kappa in (0, 1); without one its average over all of them,
    (1 − p + p·log p) / (p·(log p)²), which loses little at any p (Vovk & Wang 2021, section 2). A
    p-value that was looked for (the least of many looks) is none and gives none.

    >>> round(math.exp(p_to_log_e(0.01)), 2), round(math.exp(p_to_log_e(0.01, 0.5)), 2)
    (4.45, 5.0)
    """
    if math.isnan(p_value):
        return p_value
    if not 0 <= p_value <= 1:
        raise Invalid(f"{p_value} is no p-value.")
    if p_value == 0:
        return math.inf
    log_p = math.log(p_value)
    if kappa is not None:
        if not 0 < kappa < 1:
            raise Invalid(f"kappa={kappa} is not between 0 and 1.")
        return math.log(kappa) + (kappa - 1) * log_p
    if log_p > -1e-3:  # 1 − p + p·log p by its series about 1
        return math.log(0.5 - log_p / 6 + log_p * log_p / 24)
    over = -math.expm1(log_p) + p_value * log_p
    return math.log(over) - log_p - 2 * math.log(-log_p)


def log_mean(log_es: Sequence[float]) -> float:
    """The log of the mean of e-values: one again, however they depend on each other.

    nan are left out; of none, nan.

    >>> round(math.exp(log_mean([math.log(2), math.log(4)])), 6)
    3.0
    """
    said = [one for one in log_es if not math.isnan(one)]
    if not said:
        return math.nan
    top = max(said)
    if math.isinf(top):
        return top
    return top + math.log(math.fsum(math.exp(one - top) for one in said) / len(said))


def log_product(log_es: Sequence[float]) -> float:
    """The log of the product of e-values: one again if they are independent, or each an e-value
    given those before it. nan are left out.

    >>> round(math.exp(log_product([math.log(2), math.log(4)])), 6)
    8.0
    """
    said = [one for one in log_es if not math.isnan(one)]
    if any(one == -math.inf for one in said):
        return -math.inf  # what is ruled out stays so
    return math.fsum(said)


class Detector(msgspec.Struct, frozen=True, kw_only=True):
    """An e-detector: raises an alarm some time after a change, and seldom before.

    Shin, Ramdas & Rinaldo, "E-detectors: a nonparametric framework for sequential change detection"
    (2024, arXiv 2203.03532). Fed with an e-value of each new window (its mean at most 1 given the
    past while nothing has changed), it sums up (Shiryaev-Roberts) or takes the best (CUSUM) of what
    would have been said had one begun to look at each window. An alarm is when that reaches
    1 / alpha: with no change it takes 1 / alpha windows at least on average until a false one. By
    contrast to a test, that is no promise for ever, and evidence for "still fine" does not pile up.

    >>> quiet = Detector(alpha=0.01).after([-0.1] * 500)
    >>> alarmed = quiet.after([0.5] * 12)
    >>> quiet.alarm, alarmed.alarm
    (False, True)
    """

    alpha: float = 0.001
    cusum: bool = False
    log_statistic: float = -math.inf
    windows: int = 0

    @property
    def alarm(self) -> bool:
        """Whether there is one now."""
        return self.log_statistic >= -math.log(self.alpha)

    def after(self, log_es: Sequence[float]) -> "Detector":
        """The detector after more windows' e-values; of a nan window nothing is known."""
        check_alpha(self.alpha)
        found = self.log_statistic
        for log_e in log_es:
            begun = max(found, 0.0) if self.cusum else _log_plus_one(found)
            found = begun + (0.0 if math.isnan(log_e) else log_e)
        return msgspec.structs.replace(
            self, log_statistic=found, windows=self.windows + len(log_es)
        )


def detector_path(log_es: ArrayLike, *, cusum: bool = False) -> Floats:
    """The log of the detector's statistic after each window; arrays of (…, windows).

    >>> detector_path(np.log([2.0, 0.5, 4.0]), cusum=True).round(3).tolist()
    [0.693, 0.0, 1.386]
    """
    log_e = np.asarray(log_es, dtype=np.float64)
    log_e = np.where(np.isnan(log_e), 0.0, log_e)
    found, now = np.empty_like(log_e), np.full(log_e.shape[:-1], -np.inf)
    for place in range(log_e.shape[-1]):
        now = (np.maximum(now, 0.0) if cusum else np.logaddexp(now, 0.0)) + log_e[..., place]
        found[..., place] = now
    return found


def _log_plus_one(log_value: float) -> float:
    if log_value == -math.inf:
        return 0.0
    return max(log_value, 0.0) + math.log1p(math.exp(-abs(log_value)))
