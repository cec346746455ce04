"""Estimates: each arm's value of a metric, adjusted by covariates, and their uncertainty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from upturn.improve.experiment.metrics import Linear, Ratio
from upturn.improve.experiment.moments import Moments

Array = NDArray[np.float64]
Adjustment = Literal["pooled", "interacted"]
_COLLINEAR = 1e-9  # of the largest direction of standardised covariates; what is less is left out


@dataclass(frozen=True, slots=True, eq=False)
class Estimates:
    """The values of A arms and their covariances, of a metric; batches go before the arms' axis.

    `raw` and `raw_variance` are those before the adjustment.
    """

    n: Array  # (…, A) units
    value: Array  # (…, A)
    cov: Array  # (…, A, A) of the values
    raw: Array  # (…, A)
    raw_variance: Array  # (…, A) of the raw values
    covariates: int = 0


def estimate(
    metric: Linear, arms: Sequence[Moments], adjustment: Adjustment = "pooled"
) -> Estimates:
    """The metric in each arm, from the arms' moments."""
    widths = {len(one.mean) for one in arms if one.n}
    k = max(widths, default=len(metric.outcomes))
    full = [one if one.n else Moments(0, np.full(k, np.nan), np.zeros((k, k))) for one in arms]
    n = np.array([one.n for one in full], dtype=np.float64)
    mean = np.stack([one.mean for one in full])
    cov = np.stack([one.cov for one in full])
    return estimate_arrays(n, mean, cov, ratio=isinstance(metric, Ratio), adjustment=adjustment)


def estimate_arrays(
    n: Array, mean: Array, cov: Array, *, ratio: bool, adjustment: Adjustment = "pooled"
) -> Estimates:
    """The same from arrays: n (…, A), mean (…, A, k), cov (…, A, k, k); outcomes come first.

    A ratio's value is N̄ / D̄, with the gradient of the delta method (Deng, Knoblich & Lu 2018,
    arXiv:1803.06336, §2). The adjusted value is R − θ'(x̄ − x̄ of all arms). With "pooled", θ is one
    for all arms, that of least variance of their difference: CUPED with several covariates (Deng,
    Xu, Kohavi & Walker 2013), weighted for arms of unequal size (Lin 2013, §3, "tyranny of the
    minority"). With "interacted", θ is each arm's own: the regression with all interactions (Lin
    2013, arXiv:1208.2301), which can't be worse for arms of any size. The covariances are those of
    the linear combinations of arm means that the values are, the noise of x̄ included.
    """
    outcomes = 2 if ratio else 1
    k = mean.shape[-1]
    with np.errstate(all="ignore"):
        raw, gradient = _raw(mean, ratio)
        spread = cov / n[..., None, None]  # of the arms' means
        outer = np.einsum("...aij,...ai->...aj", spread[..., :outcomes, :], gradient)
        raw_variance = np.einsum("...aj,...aj->...a", outer[..., :outcomes], gradient)
        if k == outcomes:
            diagonal = raw_variance[..., :, None] * np.eye(raw.shape[-1])
            return Estimates(n, raw, diagonal, raw, raw_variance)
        theta = _theta(spread[..., outcomes:, outcomes:], outer[..., outcomes:], adjustment)
        covariate = mean[..., outcomes:]
        share = n / n.sum(axis=-1, keepdims=True)
        overall = np.einsum("...a,...ak->...k", share, covariate)
        away = covariate - overall[..., None, :]
        value = raw - np.einsum("...ak,...ak->...a", theta, away)
        joint = _joint(spread, gradient, theta, share)
    return Estimates(n, value, joint, raw, raw_variance, k - outcomes)


def _raw(mean: Array, ratio: bool) -> tuple[Array, Array]:
    if not ratio:
        return mean[..., 0], np.ones_like(mean[..., :1])
    below = mean[..., 1]
    value = mean[..., 0] / below
    return value, np.stack([1 / below, -value / below], axis=-1)


def _theta(xx: Array, xy: Array, adjustment: Adjustment) -> Array:
    """The coefficients (…, A, p) from the spreads of covariates (…, A, p, p) and with outcomes."""
    if adjustment == "pooled":
        one = _solved(np.nansum(xx, axis=-3), np.nansum(xy, axis=-2))
        return np.broadcast_to(one[..., None, :], xy.shape)
    return _solved(xx, xy)


def _solved(matrix: Array, vector: Array) -> Array:
    # In units of their standard deviations, so that a covariate's scale says nothing about
    # whether it is collinear with others; one that is constant, or a copy, is left out.
    scale = np.sqrt(np.diagonal(matrix, axis1=-2, axis2=-1))
    known = scale > 0
    inverse = np.where(known, 1 / np.where(known, scale, 1.0), 0.0)
    standard = matrix * inverse[..., :, None] * inverse[..., None, :]
    usable = np.asarray(np.isfinite(standard).all(axis=(-2, -1)))
    standard = np.where(usable[..., None, None], standard, 0.0)
    solution = np.linalg.pinv(standard, rcond=_COLLINEAR, hermitian=True)
    return np.einsum("...ij,...j->...i", solution, vector * inverse) * inverse


def _joint(spread: Array, gradient: Array, theta: Array, share: Array) -> Array:
    """The covariances of the adjusted values, which are linear in the arms' means (…, A, k)."""
    arms = gradient.shape[-2]
    own = np.concatenate([gradient, -theta], axis=-1)  # by an arm's own mean
    common = np.concatenate([np.zeros_like(gradient), theta], axis=-1)  # by x̄ of all arms
    same = np.eye(arms)[:, :, None]
    # [a, b]: how arm a's value moves with arm b's means
    moves = same * own[..., :, None, :] + share[..., None, :, None] * common[..., :, None, :]
    return np.einsum("...abi,...bij,...cbj->...ac", moves, spread, moves)


def difference(found: Estimates, arm: int, control: int) -> tuple[Array, Array]:
    """The difference of two arms' values and its variance."""
    cov = found.cov
    with np.errstate(all="ignore"):
        gap = found.value[..., arm] - found.value[..., control]
        variance = cov[..., arm, arm] + cov[..., control, control] - 2 * cov[..., arm, control]
        return gap, np.maximum(variance, 0.0)
