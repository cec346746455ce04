"""Estimators of a policy's value, each a function of the means of four columns and its gradient.

The columns of a round, with w the weight (new probability / propensity), ρ the reward less a
constant, q the reward model's answer less the same: w, w·ρ, Σ_a π(a)·q(a), and w·(ρ − q).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from upturn.improve.statistics.distributions import t_isf, t_two_sided
from upturn.improve.statistics.fixed import score_ends
from upturn.improve.statistics.interval import Interval

Floats = NDArray[np.float64]
Method = Literal["IPS", "SNIPS", "DM", "DR", "SNDR"]
WIDTH = 4


def columns(weights: Floats, rewards: Floats, direct: Floats, modelled: Floats) -> Floats:
    """The four columns of some rounds: (rows, 4)."""
    return np.column_stack([weights, weights * rewards, direct, weights * (rewards - modelled)])


@dataclass(frozen=True, slots=True)
class Estimator:
    """How a value follows from the columns' means, and how it moves with them.

    `value` takes means of (…, 4), so that a thousand of them can be asked at once. The variance of
    the value is gradientᵀ · covariance · gradient: the delta method, which is the mean square of
    the influence function over the rows.
    """

    name: str
    value: Callable[[Floats, float], Floats]
    gradient: Callable[[Floats, float], Floats]
    modelled: bool  # whether it needs a reward model


def _ratio(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below != 0)


def _ips(mean: Floats, shift: float) -> Floats:
    return mean[..., 1] + shift * mean[..., 0]


def _ips_gradient(mean: Floats, shift: float) -> Floats:
    return np.array([shift, 1.0, 0.0, 0.0])


def _snips(mean: Floats, shift: float) -> Floats:
    return shift + _ratio(mean[..., 1], mean[..., 0])


def _snips_gradient(mean: Floats, shift: float) -> Floats:
    ratio = _ratio(mean[..., 1], mean[..., 0])
    return np.array([-ratio, 1.0, 0.0, 0.0]) / (mean[0] or math.nan)


def _dm(mean: Floats, shift: float) -> Floats:
    return shift + mean[..., 2]


def _dm_gradient(mean: Floats, shift: float) -> Floats:
    return np.array([0.0, 0.0, 1.0, 0.0])


def _dr(mean: Floats, shift: float) -> Floats:
    return shift + mean[..., 2] + mean[..., 3]


def _dr_gradient(mean: Floats, shift: float) -> Floats:
    return np.array([0.0, 0.0, 1.0, 1.0])


def _sndr(mean: Floats, shift: float) -> Floats:
    return shift + mean[..., 2] + _ratio(mean[..., 3], mean[..., 0])


def _sndr_gradient(mean: Floats, shift: float) -> Floats:
    ratio, weight = _ratio(mean[..., 3], mean[..., 0]), mean[0] or math.nan
    return np.array([-ratio / weight, 0.0, 1.0, 1.0 / weight])


ESTIMATORS: dict[str, Estimator] = {
    # Horvitz & Thompson (1952): unbiased, and noisy where weights vary.
    "IPS": Estimator("inverse propensity", _ips, _ips_gradient, False),
    # Swaminathan & Joachims (2015); its variance as Owen (2013), equation (9.8).
    "SNIPS": Estimator("self-normalised", _snips, _snips_gradient, False),
    # Dudík, Langford & Li (2011), as are the next.
    "DM": Estimator("direct method", _dm, _dm_gradient, True),
    "DR": Estimator("doubly robust", _dr, _dr_gradient, True),
    # Thomas & Brunskill (2016), weighted doubly robust for one step.
    "SNDR": Estimator("self-normalised doubly robust", _sndr, _sndr_gradient, True),
}


def interval(
    estimate: float,
    variance: float,
    *,
    alpha: float,
    clusters: int | None,
    method: str,
    null: float = 0.0,
) -> Interval:
    """Estimate ± normal quantile · se; with clusters Student's t, of one less than there are.

    >>> found = interval(0.5, 0.01, alpha=0.05, clusters=None, method="delta", null=0.3)
    >>> round(found.low, 3), round(found.high, 3), round(found.p_value, 4)
    (0.304, 0.696, 0.0455)
    """
    se = math.sqrt(variance) if variance > 0 else math.nan
    half = quantile(alpha, clusters) * se
    p_value = math.nan
    if not math.isnan(half):
        p_value = t_two_sided((estimate - null) / se, _freedom(clusters))
    return Interval(
        estimate=estimate,
        low=estimate - half,
        high=estimate + half,
        level=1 - alpha,
        p_value=p_value,
        method=method,
        null=null,
    )


def quantile(alpha: float, clusters: int | None) -> float:
    """By how many standard errors a two-sided interval reaches; nan of a single cluster."""
    df = _freedom(clusters)
    return t_isf(alpha / 2, df) if df > 0 else math.nan


def _freedom(clusters: int | None) -> float:
    return math.inf if clusters is None else clusters - 1


def share_ends(
    share: float, variance: float, rounds: float, z: float, *, few: bool = False
) -> tuple[float, float] | None:
    """Wilson's ends for the value of a policy whose rewards are 0 and 1; None where it has none.

    With few rewards estimate ± z · se leaves the truth out far too often (of 7 rewards, 21 times in
    100), since the error is as uncertain as the estimate. Wilson (1927) takes the error at the
    ends instead; the size of sample is the effective one, share · (1 − share) / variance (Korn &
    Graubard 1998; Dean & Pagano 2015), and of no reward at all `rounds`. Of few rewards it is not
    more than `rounds` either: whether they fell to small or to large weights was luck.

    >>> low, high = share_ends(0.25, 0.25 * 0.75 / 40, 0, 1.959964)
    >>> round(low, 4), round(high, 4)  # 10 of 40
    (0.1419, 0.4019)
    """
    if not 0 <= share <= 1 or math.isnan(z):
        return None
    within = 0 < share < 1
    size = share * (1 - share) / variance if within and variance > 0 else rounds
    size = min(size, rounds) if few else size
    if not size > 0 or (within and not variance > 0):
        return None
    return score_ends(share, size, z)
