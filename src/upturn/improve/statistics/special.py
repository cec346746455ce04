"""Special functions: both tails of the incomplete gamma and beta functions, as logarithms.

A tail of 1e-300 is as right as one of 0.3: neither is ever made as 1 minus the other where that
loses digits, and the factor in front, in which large terms cancel, is Loader's saddle-point
expansion ("Fast and accurate computation of binomial probabilities", 2000).
"""

import math
from collections.abc import Callable

_TINY = 1e-300
_EPS = 1e-16
_MOST = 10_000_000  # terms of a series or fraction: enough for shapes of 1e11
_HALF_LOG_2PI = 0.918938533204672741780


def stirling_error(n: float) -> float:
    """log Γ(n + 1) less Stirling's formula (n + ½)·log n − n + ½·log 2π, for n > 0."""
    if n < 16:
        return math.lgamma(n + 1) - (n + 0.5) * math.log(n) + n - _HALF_LOG_2PI
    square = n * n
    total = 0.0
    for part in (691 / 360360, 1 / 1188, 1 / 1680, 1 / 1260, 1 / 360, 1 / 12):
        total = part - total / square
    return total / n


def deviance(x: float, mean: float) -> float:
    """x·log(x / mean) + mean − x, without cancellation, for x > 0 and mean > 0."""
    d = (mean - x) / x
    if not abs(d) < 0.5:
        return mean - x - x * (math.log(mean) - math.log(x))
    # d − log(1 + d), where log(1 + d) = 2·artanh(d / (2 + d)).
    r = d / (2 + d)
    square, power, total, k = r * r, 1.0, 0.0, 3
    while power > _EPS:
        total += power / k
        power *= square
        k += 2
    return x * (r * d - 2 * r * square * total)


def log_poisson(x: float, mean: float) -> float:
    """log of mean^x · exp(−mean) / Γ(x + 1), for x > 0 and mean > 0."""
    return -stirling_error(x) - deviance(x, mean) - 0.5 * math.log(x) - _HALF_LOG_2PI


def log_binomial(a: float, b: float, x: float, y: float) -> float:
    """log of Γ(a + b + 1) / (Γ(a + 1)·Γ(b + 1)) · x^a · y^b, with y = 1 − x, for a, b > 0."""
    n = a + b
    errors = stirling_error(n) - stirling_error(a) - stirling_error(b)
    away = deviance(a, n * x) + deviance(b, n * y)
    return errors - away + 0.5 * (math.log(n) - math.log(a) - math.log(b)) - _HALF_LOG_2PI


def log_rest(log_p: float) -> float:
    """log(1 − p) from log p.

    >>> round(log_rest(math.log(1e-20)) * 1e20, 6), round(log_rest(math.log(0.75)), 6)
    (-1.0, -1.386294)
    """
    if log_p >= 0:
        return -math.inf
    return math.log(-math.expm1(log_p)) if log_p > -0.6931 else math.log1p(-math.exp(log_p))


def log_sum(one: float, other: float) -> float:
    """log(p + q) from log p and log q."""
    high, low = max(one, other), min(one, other)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))


def gamma_tails(a: float, x: float) -> tuple[float, float]:
    """log P(a, x) and log Q(a, x): the regularised incomplete gamma function from 0, and from x on.

    The series of P (DLMF 8.11.4) below a + 1, Lentz's continued fraction of Q (DLMF 8.9.2) above.

    >>> [round(one, 6) for one in gamma_tails(1.0, 2.0)]
    [-0.145413, -2.0]
    """
    if x <= 0:
        return -math.inf, 0.0
    if x == math.inf:
        return 0.0, -math.inf
    front = log_poisson(a, x)
    if x < a + 1:
        if a < 1:
            return _small_gamma(a, x)
        log_p = front + math.log(_gamma_series(a, x))
        return log_p, log_rest(log_p)
    log_q = front + math.log(a * _gamma_fraction(a, x))
    return log_rest(log_q), log_q


def _gamma_series(a: float, x: float) -> float:
    total = term = 1.0
    for k in range(1, _MOST):
        term *= x / (a + k)
        total += term
        if term < _EPS * total:
            break
    return total


def _small_gamma(a: float, x: float) -> tuple[float, float]:
    """Both tails where a < 1: x^a / Γ(a + 1) · (1 + a·Σ (−x)^k / (k!·(a + k))) is P."""
    term, total = 1.0, 0.0
    for k in range(1, 60):
        term *= -x / k
        total += term / (a + k)
    log_front = a * math.log(x) - math.lgamma(a + 1)
    q = -math.expm1(log_front) - math.exp(log_front) * a * total
    return log_front + math.log1p(a * total), math.log(q) if q > 0 else -math.inf


def _gamma_fraction(a: float, x: float) -> float:
    b = x + 1 - a
    c, d = 1 / _TINY, 1 / _off_zero(b)
    made = d
    for k in range(1, _MOST):
        numerator = k * (a - k)
        b += 2
        d = 1 / _off_zero(numerator * d + b)
        c = _off_zero(b + numerator / c)
        made *= c * d
        if abs(c * d - 1) < _EPS * 2:
            break
    return made


def beta_tails(a: float, b: float, x: float, y: float) -> tuple[float, float]:
    """log I_x(a, b) and log(1 − I_x(a, b)), the regularised incomplete beta function; y is 1 − x.

    By a continued fraction (DLMF 8.17.22), from the side on which it converges. Both x and y
    are asked for, since where one is close to 1 it does not hold what the other is.

    >>> [round(math.exp(one), 6) for one in beta_tails(2.0, 3.0, 0.4, 0.6)]
    [0.5248, 0.4752]
    """
    if x <= 0:
        return -math.inf, 0.0
    if y <= 0:
        return 0.0, -math.inf
    front = log_binomial(a, b, x, y) + math.log(a) + math.log(b) - math.log(a + b)
    if x <= (a + 1) / (a + b + 2):
        log_p = min(front + math.log(_beta_fraction(a, b, x, y)), 0.0)
        return log_p, log_rest(log_p)
    log_q = min(front + math.log(_beta_fraction(b, a, y, x)), 0.0)
    return log_rest(log_q), log_q


def _beta_fraction(a: float, b: float, x: float, y: float) -> float:
    """I_x(a, b) · B(a, b) / (x^a · y^b), by the even part of the fraction, which keeps its digits.

    Didonato & Morris, "Algorithm 708" (1992), eq. (9), in Lentz's way.
    """
    c, d = 1 / _TINY, 1 / _off_zero(a / (a + 1) * (a * y - b * x + 1))
    made = d
    for m in range(1, _MOST):
        at = a + 2 * m
        share = m * (b - m) * x / (at - 1)
        numerator = (a + m - 1) * (a + b + m - 1) / (at - 1) * share * x
        below = m + share + (a + m) / (at + 1) * (a * y - b * x + 1 + m * (1 + y))
        d = 1 / _off_zero(below + numerator * d)
        c = _off_zero(below + numerator / c)
        made *= c * d
        if abs(c * d - 1) < _EPS * 2:
            break
    return made


def _off_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY


def solve(
    function: Callable[[float], tuple[float, float]], low: float, high: float, start: float
) -> float:
    """Where a monotone function is 0 between `low` and `high`: Newton's steps, kept inside.

    `function` gives the value and the slope. A step that leaves what is known is replaced by
    halving, so it always ends, at the spacing of floats.

    >>> round(solve(lambda x: (x * x - 2, 2 * x), 0, 2, 1), 12)
    1.414213562373
    """
    x = start if low < start < high else (low + high) / 2
    for _ in range(400):
        value, slope = function(x)
        if value == 0:
            return x
        if (value > 0) == (slope > 0):
            high = x
        else:
            low = x
        step = -value / slope if slope and math.isfinite(value) else math.inf
        to = x + step
        if abs(step) <= 4e-16 * abs(x):
            break
        if not low < to < high:
            to = (low + high) / 2
            if to in (low, high):
                break
        x = to
    return x


def log_beta_ratio(a: float, b: float, k: float, rest: float) -> float:
    """log of B(a + k, b + rest) / B(a, b): the chance of k and rest tosses under a beta prior.

    >>> round(math.exp(log_beta_ratio(1, 1, 2, 1)), 6)
    0.083333
    """
    ups = math.lgamma(a + k) - math.lgamma(a) + math.lgamma(b + rest) - math.lgamma(b)
    return ups - (math.lgamma(a + b + k + rest) - math.lgamma(a + b))


def edge(holds: Callable[[float], bool], inside: float, outside: float) -> float:
    """Where it ceases to hold on the way from a value at which it does, or the last one.

    >>> round(edge(lambda x: x * x < 2, 0, 2), 9)
    1.414213562
    """
    if holds(outside):
        return outside
    for _ in range(70):
        middle = (inside + outside) / 2
        if abs(outside - inside) <= 1e-12 * max(abs(inside), abs(outside)):
            break
        inside, outside = (middle, outside) if holds(middle) else (inside, middle)
    return outside


_GOLDEN = (math.sqrt(5) - 1) / 2


def least_value(function: Callable[[float], float], low: float, high: float) -> tuple[float, float]:
    """Where a function with one valley is least between `low` and `high`, and its value there.

    Golden sections (Kiefer 1953).

    >>> at, value = least_value(lambda x: (x - 1) ** 2, 0, 3)
    >>> round(at, 6), round(value, 6)
    (1.0, 0.0)
    """
    one, other = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_one, at_other = function(one), function(other)
    for _ in range(60):
        if at_one < at_other:
            high, other, at_other = other, one, at_one
            one = high - _GOLDEN * (high - low)
            at_one = function(one)
        else:
            low, one, at_one = one, other, at_other
            other = low + _GOLDEN * (high - low)
            at_other = function(other)
        if high - low <= 1e-9 * max(abs(low), abs(high)):
            break
    return (one, at_one) if at_one < at_other else (other, at_other)
