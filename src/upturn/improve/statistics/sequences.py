"""Confidence sequences of means: intervals that hold at every look at once, however often.

A normal mixture is behind all of them (Robbins 1970): the likelihood ratio of an effect against
none, averaged over effects from a normal distribution, is a martingale while there is none, and by
Ville's inequality passes 1 / alpha at any look at all with probability alpha at most. The interval
holds the effects that it has not ruled out; the always-valid p-value is 1 / the ratio. `tuned_n` or
`tau2` have to be chosen before the data are seen, and kept.
"""

import math

from upturn.core.errors import Invalid
from upturn.improve.statistics.distributions import normal_log_sf
from upturn.improve.statistics.fixed import check_alpha
from upturn.improve.statistics.interval import Interval, Side, around, unsaid
from upturn.improve.statistics.special import solve

ASYMPTOTIC = "asymptotic confidence sequence"
_LOG_2 = math.log(2)


def asymptotic_interval(
    estimate: float,
    variance: float,
    n: float,
    *,
    alpha: float = 0.05,
    tuned_n: float,
    null: float = 0.0,
) -> Interval:
    """The interval of a mean of n independent influence values with that variance (of one value).

    Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas, "Time-uniform central limit theory and asymptotic
    confidence sequences" (arXiv 2103.06476), theorem 2.2; it is narrowest, relative to what one
    look would give, at `tuned_n`. As the central limit theorem it holds as n grows: begin to look
    when the smaller arm has `least_rows` of its values.

    >>> found = asymptotic_interval(0.2, 1.0, 400, tuned_n=400)
    >>> round(found.low, 3), round(found.high, 3), round(found.p_value, 4)
    (0.048, 0.352, 0.0024)
    """
    check_alpha(alpha)
    if not usable(estimate, variance, n):
        return unsaid(estimate, alpha=alpha, method=ASYMPTOTIC, null=null)
    x = n * tuned_rho2(alpha, tuned_n)
    return _interval(
        estimate, math.sqrt(variance / n), x, alpha=alpha, null=null, method=ASYMPTOTIC
    )


def running_mean_interval(
    estimate: float,
    variance: float,
    n: float,
    *,
    alpha: float = 0.05,
    tuned_variance: float,
    null: float = 0.0,
) -> Interval:
    """The interval of the mean so far, where what is meant may drift and depend on the past.

    The Lyapunov-type confidence sequence of arXiv 2103.06476: of values that each have a mean of
    their own given those before, it holds the mean of these means at all looks. `variance` is the
    values' own around their means, on average so far; taken around one common mean it is too large
    while they drift, and the interval wider than it need be. `tuned_variance` is n · variance, the
    variance of the sum, where it is to be narrowest: it is this that the boundary counts by, so
    that it may come unevenly.

    >>> found = running_mean_interval(0.2, 4.0, 400, tuned_variance=1600)
    >>> round(found.low, 3), round(found.high, 3)
    (-0.104, 0.504)
    """
    check_alpha(alpha)
    method = f"{ASYMPTOTIC} of a running mean"
    if not usable(estimate, variance, n):
        return unsaid(estimate, alpha=alpha, method=method, null=null)
    x = n * variance * tuned_rho2(alpha, tuned_variance)
    return _interval(estimate, math.sqrt(variance / n), x, alpha=alpha, null=null, method=method)


def asymptotic_bound(
    estimate: float,
    variance: float,
    n: float,
    *,
    alpha: float = 0.05,
    tuned_n: float,
    null: float = 0.0,
    side: Side = "low",
) -> Interval:
    """A lower or an upper bound of a mean that holds at every look, with its one-sided p-value.

    Mixed over the effects on one side alone, by the positive half of a normal distribution (Howard,
    Ramdas, McAuliffe & Sekhon 2021, arXiv 1810.08240; arXiv 2103.06476, appendix B, has a slightly
    wider bound in closed form). A low bound goes with the hypothesis that the truth is `null` or
    less.

    >>> found = asymptotic_bound(0.2, 1.0, 400, tuned_n=400)
    >>> round(found.low, 3), found.high, round(found.p_value, 4)
    (0.062, inf, 0.0013)
    """
    check_alpha(alpha)
    method = f"one-sided {ASYMPTOTIC}"
    if not usable(estimate, variance, n):
        return unsaid(estimate, alpha=alpha, method=method, null=null)
    x = n * tuned_rho2_one_sided(alpha, tuned_n)
    se = math.sqrt(variance / n)
    reach = one_sided_z(x, alpha) * se
    z = (estimate - null) / se
    p_value = math.exp(min(-log_half_mixture(z if side == "low" else -z, x), 0.0))
    return around(estimate, reach, p_value, alpha=alpha, method=method, null=null, side=side)


def mixture_sprt(
    estimate: float,
    variance: float,
    n: float,
    *,
    tau2: float,
    alpha: float = 0.05,
    null: float = 0.0,
) -> Interval:
    """The mixture sequential probability ratio test: effects mixed by a normal of variance `tau2`.

    Robbins (1970); Johari, Koomen, Pekelis & Walsh, "Always valid inference" (arXiv 1512.04922).
    `variance` is that of one value, `estimate` the mean of n; for a difference of arms,
    variance / n is its squared standard error. `tau2` is the variance of the effects that one
    expects; nothing but the width depends on it. With tau2 = rho² · variance it is
    `asymptotic_interval`.

    >>> found = mixture_sprt(0.2, 1.0, 400, tau2=0.01)
    >>> round(found.low, 3), round(found.high, 4), round(found.p_value, 4)
    (0.046, 0.3541, 0.0037)
    """
    check_alpha(alpha)
    if not tau2 > 0:
        raise Invalid(f"tau2={tau2} is no variance of effects.")
    if not usable(estimate, variance, n):
        return unsaid(estimate, alpha=alpha, method="mixture SPRT", null=null)
    se2 = variance / n
    return _interval(
        estimate, math.sqrt(se2), tau2 / se2, alpha=alpha, null=null, method="mixture SPRT"
    )


def t_sequence(
    estimate: float,
    se: float,
    df: float,
    n: float,
    *,
    alpha: float = 0.05,
    tuned_n: float,
    null: float = 0.0,
) -> Interval:
    """The interval of a coefficient of a linear model that holds at every look, for normal errors.

    Lindon, Ham, Tingley & Bojinov, "Anytime-valid linear models and regression adjusted causal
    inference in randomized experiments" (arXiv 2210.08589): the Bayes factor of the t statistic
    with `df` degrees of freedom, where the coefficient is mixed by a normal of variance
    sigma² / phi, is √r · ((1 + t²/df) / (1 + r·t²/df))^((df + 1) / 2) with r = phi / (phi + n).
    For normal errors it is exact from the first degree of freedom on, where `asymptotic_interval`
    errs in the first dozens of rows; for others it is asymptotic too.

    `n` is (sigma / se)²: how many rows the estimate is worth. That is n of a mean, a·b / (a + b) of
    a difference of arms of a and b rows, 1 / (X'X)⁻¹ⱼⱼ of a coefficient. phi is chosen so that the
    interval is narrowest at about `tuned_n` of them.

    >>> found = t_sequence(0.2, 0.05, 398, 100, tuned_n=100)
    >>> round(found.low, 3), round(found.high, 3), round(found.p_value, 4)
    (0.047, 0.353, 0.0028)
    """
    check_alpha(alpha)
    method = "anytime-valid t"
    if not (math.isfinite(estimate) and 0 < se < math.inf and df > 0 and n > 0):
        return unsaid(estimate, alpha=alpha, method=method, null=null)
    log_r = -math.log1p(n * tuned_rho2(alpha, tuned_n))
    log_u = (log_r + 2 * math.log(alpha)) / (df + 1)
    t2 = ((estimate - null) / se) ** 2 / df
    log_e = 0.5 * log_r + (df + 1) / 2 * (math.log1p(t2) - math.log1p(math.exp(log_r) * t2))
    # With so few rows that u <= r, no t statistic would do.
    few = log_u <= log_r
    gap = math.exp(log_r) * math.expm1(log_u - log_r)
    reach = math.inf if few else se * math.sqrt(df * -math.expm1(log_u) / gap)
    p_value = math.exp(min(-log_e, 0.0))
    return around(estimate, reach, p_value, alpha=alpha, method=method, null=null)


def least_rows(skewness: float) -> int:
    """How many rows the smaller arm is to have before asymptotic intervals are looked at.

    50, or 20 times the squared skewness of the values: of a share that is 20 rows of the rarer
    kind. Looked at from there on, arms of 10 : 90 are found to differ in no more than alpha of
    A/A tests; from the first rows on it is a third of them, where values are skewed and arms
    unequal, since the few rows of the small arm seem to have no variance
    (benchmarks/statistics_sequences.py).

    >>> least_rows(0.0), least_rows(9.85)
    (50, 1941)
    """
    return max(50, math.ceil(20 * skewness * skewness)) if math.isfinite(skewness) else 50


# -- the mixtures ----------------------------------------------------------------------------------


def tuned_rho2(alpha: float, tuned_n: float) -> float:
    """The rho² with which a two-sided boundary is narrowest at `tuned_n`.

    n·rho² = x solves x = log(1 + x) − 2·log alpha (2103.06476, appendix B, by Lambert's W).

    >>> round(1000 * tuned_rho2(0.05, 1000), 3)
    8.212
    """
    check_alpha(alpha)
    _check_tuned(tuned_n)
    x = -2 * math.log(alpha)
    for _ in range(200):  # contracts by 1 / (1 + x)
        before, x = x, math.log1p(x) - 2 * math.log(alpha)
        if abs(before - x) <= 1e-15 * x:
            break
    return x / tuned_n


def tuned_rho2_one_sided(alpha: float, tuned_n: float) -> float:
    """The same for a one-sided boundary; close to that of a two-sided one with 2·alpha."""
    _check_tuned(tuned_n)
    return tuned_rho2(min(2 * alpha, 0.999), tuned_n)


def log_mixture(z: float, x: float) -> float:
    """log of the mixture likelihood ratio of an estimate z standard errors from the hypothesis.

    `x` is the variance of the mixed effects in squared standard errors, n·rho².
    """
    return 0.5 * z * z * x / (1 + x) - 0.5 * math.log1p(x)


def log_half_mixture(z: float, x: float) -> float:
    """The same with effects above the hypothesis alone."""
    return log_mixture(z, x) + _LOG_2 + normal_log_sf(-z * math.sqrt(x / (1 + x)))


def mixture_p(z: float, x: float) -> float:
    """The always-valid p-value of an estimate z standard errors from the hypothesis.

    >>> round(mixture_p(3.035, 8.212), 3)
    0.05
    """
    return math.exp(min(-log_mixture(z, x), 0.0))


def two_sided_z(x: float, alpha: float) -> float:
    """The |z| at which the mixture reaches 1 / alpha: how many standard errors wide an interval is.

    >>> round(two_sided_z(8.212, 0.05), 3)
    3.035
    """
    return math.sqrt((1 + x) / x * (math.log1p(x) - 2 * math.log(alpha)))


def one_sided_z(x: float, alpha: float) -> float:
    """The z at which the one-sided mixture reaches 1 / alpha."""
    goal = -math.log(alpha)
    scale = math.sqrt(x / (1 + x))
    half_log_2pi = 0.5 * math.log(2 * math.pi)

    def away(z: float) -> tuple[float, float]:
        y = z * scale
        hazard = math.exp(-0.5 * y * y - half_log_2pi - normal_log_sf(-y))
        return log_half_mixture(z, x) - goal, scale * (y + hazard)

    # The published bound in closed form is above it.
    top = math.sqrt(2 * (1 + x) / x * math.log1p(math.sqrt(1 + x) / (2 * alpha)))
    return solve(away, -10 / scale, 1.001 * top, top)


def usable(estimate: float, variance: float, n: float) -> bool:
    """Whether there is a mean with an uncertainty at all."""
    return math.isfinite(estimate) and 0 < variance < math.inf and n >= 2


def _interval(
    estimate: float, se: float, x: float, *, alpha: float, null: float, method: str
) -> Interval:
    reach = two_sided_z(x, alpha) * se
    p_value = mixture_p((estimate - null) / se, x)
    return around(estimate, reach, p_value, alpha=alpha, method=method, null=null)


def _check_tuned(tuned_n: float) -> None:
    if not 0 < tuned_n < math.inf:
        raise Invalid(
            f"tuned_n={tuned_n} is no number of rows.",
            hint="Give how many there will be when the decision is likely to be made.",
        )
