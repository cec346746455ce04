"""Student's t distribution for whole degrees of freedom, so that a t quantile needs no SciPy."""

import math
from functools import lru_cache


def t_cdf(t: float, df: int) -> float:
    """P(T <= t) for Student's t with `df` degrees of freedom.

    The finite sums of Abramowitz & Stegun (1964), 26.7.3 and 26.7.4.

    >>> round(t_cdf(2.015, 5), 3)
    0.95
    """
    theta = math.atan(t / math.sqrt(df))
    cos2 = math.cos(theta) ** 2
    total, term = 0.0, 1.0
    if df % 2:
        # sin θ · (cos θ + 2/3 cos³ θ + …): terms up to cos^(df-2) θ
        term = math.cos(theta)
        for k in range(1, (df - 1) // 2 + 1):
            total += term
            term *= cos2 * 2 * k / (2 * k + 1)
        return 0.5 + (theta + math.sin(theta) * total) / math.pi
    # sin θ · (1 + 1/2 cos² θ + 3/8 cos⁴ θ + …): terms up to cos^(df-2) θ
    for k in range(1, df // 2 + 1):
        total += term
        term *= cos2 * (2 * k - 1) / (2 * k)
    return 0.5 + math.sin(theta) * total / 2


@lru_cache(maxsize=1024)
def t_quantile(p: float, df: int) -> float:
    """The t below which Student's t lies with probability `p`, for 0 < p < 1 and df >= 1.

    >>> round(t_quantile(0.95, 1), 3), round(t_quantile(0.95, 13), 3)
    (6.314, 1.771)
    """
    if not 0 < p < 1 or df < 1:
        raise ValueError(f"no t quantile for p={p}, df={df}")
    if p < 0.5:
        return -t_quantile(1 - p, df)
    low, high = 0.0, 1.0
    while t_cdf(high, df) < p:
        high *= 2
    for _ in range(80):  # halving: down to the spacing of floats
        middle = (low + high) / 2
        low, high = (middle, high) if t_cdf(middle, df) < p else (low, middle)
    return (low + high) / 2
