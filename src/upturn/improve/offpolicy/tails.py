"""Tails of Student's t distribution on both sides, right down to where floats end."""

import math
from functools import lru_cache

_TINY = 1e-300


def t_two_sided(t: float, df: float) -> float:
    """P(|T| >= |t|) for Student's t with `df` > 0 degrees of freedom.

    The regularised incomplete beta function I_x(df / 2, 1 / 2) at x = df / (df + t²), by Lentz's
    continued fraction (Press et al. 2007, section 6.4), its factor taken in logarithms.

    >>> round(t_two_sided(2.0452296421327, 29), 10), t_two_sided(1e9, 30) > 0
    (0.05, True)
    """
    x = df / (df + t * t)
    a, b = df / 2, 0.5
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(b, a, t * t / (df + t * t))
    return _incomplete_beta(a, b, x)


@lru_cache(maxsize=1024)
def t_reach(alpha: float, df: float) -> float:
    """The t that |T| reaches with probability `alpha`, to the spacing of floats.

    >>> round(t_reach(0.05, 29), 4)
    2.0452
    """
    low, high = 0.0, 1.0
    while t_two_sided(high, df) > alpha:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if t_two_sided(middle, df) > alpha else (low, middle)
    return high


def _incomplete_beta(a: float, b: float, x: float) -> float:
    if x <= 0:
        return 0.0
    factor = (
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    c, d = 1.0, 1 / _off_zero(1 - (a + b) * x / (a + 1))
    found = d
    for m in range(1, 500):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        step = 1.0
        for term in (even, odd):
            d = 1 / _off_zero(1 + term * d)
            c = _off_zero(1 + term / c)
            step = c * d
            found *= step
        if abs(step - 1) < 1e-15:
            break
    return math.exp(factor) * found / a


def _off_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
