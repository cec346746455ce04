"""Distributions: tails and quantiles of the normal, t, χ², F, beta, gamma, binomial and Poisson.

All take and give plain floats; nan gives nan. `cdf` is P(X <= x), `sf` is P(X > x), `quantile` the
inverse of `cdf`, and `isf` that of `sf`: ask for the tail that is small, for 1 − p does not hold
it. Tails are right to ten digits down to 1e-300, and as logarithms beyond. Parameters that are no
such distribution raise ValueError.
"""

import math
from functools import lru_cache

from upturn.improve.statistics.special import (
    beta_tails,
    gamma_tails,
    log_binomial,
    log_poisson,
    log_rest,
    solve,
    stirling_error,
)

_HALF_LOG_2PI = 0.918938533204672741780
_LOG_2 = math.log(2)
_MANY = 1e18  # degrees of freedom from which t is normal to all digits
_FAR = 1e17  # t² / df beyond which the leading term of t's tail is all of it


# -- normal ----------------------------------------------------------------------------------------


def normal_cdf(z: float) -> float:
    """P(Z <= z) for the standard normal distribution.

    >>> normal_cdf(0.0), normal_cdf(-37.0) < 1e-298
    (0.5, True)
    """
    return normal_sf(-z)


def normal_sf(z: float) -> float:
    """P(Z > z) for the standard normal distribution.

    >>> round(normal_sf(1.959963984540054), 6)
    0.025
    """
    return 0.5 * math.erfc(z / math.sqrt(2))


def normal_log_sf(z: float) -> float:
    """log P(Z > z), for any z: from 10 on by Laplace's continued fraction (DLMF 7.9.3).

    >>> round(normal_log_sf(100.0), 4)
    -5005.5242
    """
    if math.isnan(z):
        return z
    if z < -1:
        return math.log1p(-normal_sf(-z))
    if z < 10:
        return math.log(normal_sf(z))
    if z == math.inf:
        return -math.inf
    below = z
    for k in range(50, 0, -1):
        below = z + k / below
    return -z * z / 2 - _HALF_LOG_2PI - math.log(below)


def normal_quantile(p: float) -> float:
    """The z with P(Z <= z) = p, infinite at 0 and 1.

    >>> round(normal_quantile(0.975), 6), round(normal_quantile(1e-300), 4)
    (1.959964, -37.0471)
    """
    _check_p(p)
    return _normal_isf(1 - p) if p > 0.5 else -_normal_isf(p)


@lru_cache(maxsize=4096)
def _normal_isf(p: float) -> float:
    """For p <= 0.5: Hastings' approximation (A & S 1964, 26.2.23), then Newton's steps."""
    if p in (0.0, 0.5):
        return math.inf if p == 0 else 0.0
    log_p = math.log(p)
    t = math.sqrt(-2 * log_p)
    top, bottom = (0.010328 * t + 0.802853) * t + 2.515517, (0.001308 * t + 0.189269) * t + 1.432788
    z = t - top / (bottom * t + 1)
    for _ in range(4):  # the tail's logarithm is all but a parabola
        log_sf = normal_log_sf(z)
        z += (log_sf - log_p) / math.exp(-0.5 * z * z - _HALF_LOG_2PI - log_sf)
    return z


def normal_isf(p: float) -> float:
    """The z with P(Z > z) = p.

    >>> round(normal_isf(0.025), 6)
    1.959964
    """
    return -normal_quantile(p)


def two_sided(z: float) -> float:
    """P(|Z| > |z|): the two-sided p-value of an estimate z standard errors from the hypothesis.

    >>> round(two_sided(-1.959963984540054), 6)
    0.05
    """
    return math.erfc(abs(z) / math.sqrt(2))


# -- Student's t -----------------------------------------------------------------------------------


def t_log_sf(t: float, df: float) -> float:
    """log P(T > t) for Student's t with `df` > 0 degrees of freedom; df may be infinite."""
    _check_positive(df=df)
    if math.isnan(t) or df > _MANY:
        return normal_log_sf(t)
    log_half = _t_log_half(abs(t), df)
    return log_half if t >= 0 else log_rest(log_half)


def t_sf(t: float, df: float) -> float:
    """P(T > t) for Student's t with `df` degrees of freedom (DLMF 8.17, 26.5.27 of A & S 1964).

    >>> round(t_sf(2.015048, 5), 6), t_sf(1e9, 30) > 0
    (0.05, True)
    """
    return math.exp(t_log_sf(t, df))


def t_cdf(t: float, df: float) -> float:
    """P(T <= t).

    >>> round(t_cdf(2.015, 5), 3)
    0.95
    """
    return t_sf(-t, df)


def t_two_sided(t: float, df: float) -> float:
    """P(|T| > |t|): the two-sided p-value of a t statistic.

    >>> round(t_two_sided(2.228, 10), 4), t_two_sided(40.0, 1000) < 1e-200
    (0.05, True)
    """
    return min(2 * t_sf(abs(t), df), 1.0)


@lru_cache(maxsize=4096)
def t_isf(p: float, df: float) -> float:
    """The t with P(T > t) = p.

    >>> round(t_isf(0.025, 10), 3), round(t_isf(0.025, math.inf), 3)
    (2.228, 1.96)
    """
    _check_p(p)
    _check_positive(df=df)
    if math.isnan(p) or p in (0.0, 1.0) or df > _MANY:
        return normal_isf(p)
    if p == 0.5:
        return 0.0
    if p > 0.5:
        return -t_isf(1 - p, df)
    goal, log_p = math.log(p), math.log(p) + _LOG_2
    log_front = math.log(df) / 2 + _log_beta(df / 2, 0.5)
    if log_p < -0.1 and df < 1:  # so heavy a tail is all but a power of t
        start = math.exp(min(-log_p / df, 700.0))
    else:
        start = normal_isf(p)

    def away(log_t: float) -> tuple[float, float]:
        t = math.exp(log_t)
        log_sf = t_log_sf(t, df)
        log_density = -(df + 1) / 2 * _log_1_square(t, df) - log_front
        return log_sf - goal, -math.exp(log_t + log_density - log_sf)

    return math.exp(solve(away, -700.0, 709.0, math.log(start)))


def t_quantile(p: float, df: float) -> float:
    """The t with P(T <= t) = p, for 0 <= p <= 1 and df > 0.

    >>> round(t_quantile(0.95, 1), 3), round(t_quantile(0.95, 13), 3)
    (6.314, 1.771)
    """
    return -t_isf(p, df)


# -- χ² and gamma ----------------------------------------------------------------------------------


def gamma_log_sf(x: float, shape: float, rate: float = 1.0) -> float:
    """log P(X > x) for the gamma distribution with this shape and rate."""
    _check_positive(shape=shape, rate=rate)
    return x if math.isnan(x) else gamma_tails(shape, rate * x)[1]


def gamma_sf(x: float, shape: float, rate: float = 1.0) -> float:
    """P(X > x).

    >>> round(gamma_sf(2.0, 1.0), 6)
    0.135335
    """
    return math.exp(gamma_log_sf(x, shape, rate))


def gamma_cdf(x: float, shape: float, rate: float = 1.0) -> float:
    """P(X <= x)."""
    _check_positive(shape=shape, rate=rate)
    return x if math.isnan(x) else math.exp(gamma_tails(shape, rate * x)[0])


def gamma_quantile(p: float, shape: float, rate: float = 1.0) -> float:
    """The x with P(X <= x) = p.

    >>> round(gamma_quantile(0.5, 1.0), 6)
    0.693147
    """
    return _gamma_inverse(p, shape, upper=False) / rate


def gamma_isf(p: float, shape: float, rate: float = 1.0) -> float:
    """The x with P(X > x) = p."""
    return _gamma_inverse(p, shape, upper=True) / rate


def chi2_log_sf(x: float, df: float) -> float:
    """log P(X > x) for χ² with `df` > 0 degrees of freedom."""
    return gamma_log_sf(x / 2, df / 2)


def chi2_sf(x: float, df: float) -> float:
    """P(X > x) for χ² with `df` > 0 degrees of freedom.

    >>> round(chi2_sf(3.841459, 1), 6), chi2_sf(1400.0, 10) > 0
    (0.05, True)
    """
    return math.exp(chi2_log_sf(x, df))


def chi2_cdf(x: float, df: float) -> float:
    """P(X <= x)."""
    return gamma_cdf(x / 2, df / 2)


def chi2_quantile(p: float, df: float) -> float:
    """The x with P(X <= x) = p.

    >>> round(chi2_quantile(0.95, 10), 3)
    18.307
    """
    return 2 * gamma_quantile(p, df / 2)


def chi2_isf(p: float, df: float) -> float:
    """The x with P(X > x) = p."""
    return 2 * gamma_isf(p, df / 2)


# -- beta and F ------------------------------------------------------------------------------------


def beta_log_sf(x: float, a: float, b: float) -> float:
    """log P(X > x) for the beta distribution."""
    _check_positive(a=a, b=b)
    return x if math.isnan(x) else beta_tails(a, b, x, 1 - x)[1]


def beta_sf(x: float, a: float, b: float) -> float:
    """P(X > x) for the beta distribution.

    >>> round(beta_sf(0.4, 2.0, 3.0), 4)
    0.4752
    """
    return math.exp(beta_log_sf(x, a, b))


def beta_cdf(x: float, a: float, b: float) -> float:
    """P(X <= x).

    >>> round(beta_cdf(0.4, 2.0, 3.0), 4)
    0.5248
    """
    _check_positive(a=a, b=b)
    return x if math.isnan(x) else math.exp(beta_tails(a, b, x, 1 - x)[0])


@lru_cache(maxsize=4096)
def beta_quantile(p: float, a: float, b: float) -> float:
    """The x with P(X <= x) = p.

    >>> round(beta_quantile(0.5248, 2.0, 3.0), 6)
    0.4
    """
    _check_p(p)
    _check_positive(a=a, b=b)
    if math.isnan(p) or p in (0.0, 1.0):
        return p
    upper = p > beta_cdf(a / (a + b), a, b)
    goal = math.log1p(-p) if upper else math.log(p)

    def away(logit: float) -> tuple[float, float]:
        x, y = _from_logit(logit)
        tail = beta_tails(a, b, x, y)[upper]
        # Density with respect to the logit: x·y times that of x.
        log_density = log_binomial(a, b, x, y) + math.log(a) + math.log(b) - math.log(a + b)
        return tail - goal, (-1 if upper else 1) * math.exp(log_density - tail)

    return _from_logit(solve(away, -700.0, 36.0, math.log(a / b)))[0]


def f_log_sf(x: float, d1: float, d2: float) -> float:
    """log P(X > x) for F with d1 and d2 degrees of freedom."""
    _check_positive(d1=d1, d2=d2)
    if math.isnan(x) or x <= 0:
        return x if math.isnan(x) else 0.0
    if x == math.inf:
        return -math.inf
    ratio = d1 / d2 * x
    share, rest = (1 / (1 + ratio), 1 / (1 + 1 / ratio)) if ratio > 1e-300 else (1.0, ratio)
    return beta_tails(d2 / 2, d1 / 2, share, rest)[0]


def f_sf(x: float, d1: float, d2: float) -> float:
    """P(X > x) for F with d1 and d2 degrees of freedom.

    >>> round(f_sf(4.964603, 1, 10), 6)
    0.05
    """
    return math.exp(f_log_sf(x, d1, d2))


def f_isf(p: float, d1: float, d2: float) -> float:
    """The x with P(X > x) = p, by the beta distribution.

    >>> round(f_isf(0.05, 1, 10), 4)
    4.9646
    """
    _check_positive(d1=d1, d2=d2)
    x = beta_quantile(p, d2 / 2, d1 / 2)
    return math.inf if x == 0 else d2 * (1 - x) / (d1 * x)


# -- counts ----------------------------------------------------------------------------------------


def binomial_log_sf(k: float, n: int, p: float) -> float:
    """log P(X > k) for n trials of chance p."""
    _check_p(p)
    if not n >= 0:
        raise ValueError(f"{n} trials are none")
    k = math.floor(k)
    if k < 0:
        return 0.0
    return -math.inf if k >= n else beta_tails(k + 1, n - k, p, 1 - p)[0]


def binomial_sf(k: float, n: int, p: float) -> float:
    """P(X > k) for n trials of chance p.

    >>> round(binomial_sf(8, 10, 0.5) * 1024, 9)
    11.0
    """
    return math.exp(binomial_log_sf(k, n, p))


def binomial_cdf(k: float, n: int, p: float) -> float:
    """P(X <= k) for n trials of chance p."""
    _check_p(p)
    k = math.floor(k)
    if k < 0:
        return 0.0
    return 1.0 if k >= n else math.exp(beta_tails(k + 1, n - k, p, 1 - p)[1])


def poisson_log_sf(k: float, mean: float) -> float:
    """log P(X > k) for a Poisson variable with this mean."""
    if not mean >= 0:
        raise ValueError(f"a mean of {mean} is none")
    k = math.floor(k)
    return 0.0 if k < 0 else gamma_tails(k + 1, mean)[0]


def poisson_sf(k: float, mean: float) -> float:
    """P(X > k) for a Poisson variable with this mean.

    >>> round(poisson_sf(0, 0.1), 6)
    0.095163
    """
    return math.exp(poisson_log_sf(k, mean))


def poisson_cdf(k: float, mean: float) -> float:
    """P(X <= k)."""
    if not mean >= 0:
        raise ValueError(f"a mean of {mean} is none")
    k = math.floor(k)
    return 0.0 if k < 0 else math.exp(gamma_tails(k + 1, mean)[1])


# -- parts -----------------------------------------------------------------------------------------


def _t_log_half(t: float, df: float) -> float:
    """log P(T > t) for t >= 0."""
    if t == 0:
        return -_LOG_2
    root = t / math.sqrt(df)
    if root > math.sqrt(_FAR):  # I_x(a, ½) is x^a / (a·B(a, ½)) there
        a = df / 2
        log_share = -2 * math.log(root) if root < math.inf else -math.inf
        return a * log_share - math.log(a) - _log_beta(a, 0.5) - _LOG_2
    square = root * root
    return beta_tails(df / 2, 0.5, 1 / (1 + square), square / (1 + square))[0] - _LOG_2


def _log_1_square(t: float, df: float) -> float:
    """log(1 + t² / df), where t² may be too large for a float."""
    root = t / math.sqrt(df)
    return math.log1p(root * root) if root < 1e150 else 2 * math.log(root)


def _log_beta(a: float, b: float) -> float:
    """log B(a, b); of large a and b without the cancellation of their logarithms of gamma."""
    if min(a, b) < 0.1 or max(a, b) < 16:
        return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    n = a + b
    errors = stirling_error(a) + stirling_error(b) - stirling_error(n)
    powers = -a * math.log1p(b / a) - b * math.log1p(a / b)
    return errors + powers + 0.5 * (math.log(n) - math.log(a) - math.log(b)) + _HALF_LOG_2PI


def _from_logit(logit: float) -> tuple[float, float]:
    rest = math.exp(-abs(logit))
    large, small = 1 / (1 + rest), rest / (1 + rest)
    return (large, small) if logit > 0 else (small, large)


@lru_cache(maxsize=4096)
def _gamma_inverse(p: float, shape: float, *, upper: bool) -> float:
    _check_p(p)
    _check_positive(shape=shape)
    if math.isnan(p) or p in (0.0, 1.0):
        return p if math.isnan(p) else (0.0 if (p == 0.0) != upper else math.inf)
    # The tail that is asked about, or the other one where that is the smaller.
    other = p > 0.5
    goal = math.log1p(-p) if other else math.log(p)
    sign = 1 if upper == other else -1  # of the slope: the lower tail rises

    def away(log_x: float) -> tuple[float, float]:
        x = math.exp(log_x)
        log_tail = gamma_tails(shape, x)[0 if sign > 0 else 1]
        log_density = log_poisson(shape, x) + math.log(shape)  # with respect to log x
        return log_tail - goal, sign * math.exp(min(log_density - log_tail, 700.0))

    z = normal_quantile(p) if not upper else normal_isf(p)
    cube = shape * (1 - 1 / (9 * shape) + z / (3 * math.sqrt(shape))) ** 3  # Wilson & Hilferty
    start = (
        math.log(cube) if cube > 1e-3 * shape else (math.log(p) + math.lgamma(shape + 1)) / shape
    )
    return math.exp(solve(away, -740.0, 700.0, start))


def _check_p(p: float) -> None:
    if p < 0 or p > 1:
        raise ValueError(f"{p} is no probability")


def _check_positive(**parameters: float) -> None:
    for name, value in parameters.items():
        if not value > 0:
            raise ValueError(f"{name}={value} is not above 0")
