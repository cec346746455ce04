"""Intervals for one look, planned before: means, proportions, differences and relative lifts.

Looked at again and again until they leave out zero, they are wrong far more often than they say;
`sequences` has those that may be. What can't be said (no variance, too few rows, nan) is an
interval with infinite ends and no p-value.
"""

import math
from typing import Literal

from upturn.core.errors import Invalid
from upturn.improve.statistics.distributions import (
    beta_quantile,
    binomial_cdf,
    binomial_sf,
    normal_isf,
    t_isf,
    t_sf,
    t_two_sided,
    two_sided,
)
from upturn.improve.statistics.interval import Interval, Side, around, unsaid


def normal_interval(
    estimate: float, se: float, *, alpha: float = 0.05, null: float = 0.0
) -> Interval:
    """The interval of an estimate with standard error `se`, by the normal distribution.

    >>> found = normal_interval(0.4, 0.1)
    >>> round(found.low, 3), round(found.high, 3), round(found.p_value, 6)
    (0.204, 0.596, 6.3e-05)
    """
    return t_interval(estimate, se, math.inf, alpha=alpha, null=null, method="normal")


def t_interval(
    estimate: float,
    se: float,
    df: float,
    *,
    alpha: float = 0.05,
    null: float = 0.0,
    method: str = "Student t",
) -> Interval:
    """The interval of an estimate whose standard error has `df` degrees of freedom.

    >>> found = t_interval(2.0, 1.0, 10)
    >>> round(found.low, 3), round(found.high, 3)
    (-0.228, 4.228)
    """
    check_alpha(alpha)
    if not _usable(estimate, se, df):
        return unsaid(estimate, alpha=alpha, method=method, null=null)
    reach = t_isf(alpha / 2, df) * se
    p_value = t_two_sided((estimate - null) / se, df)
    return around(estimate, reach, p_value, alpha=alpha, method=method, null=null)


def t_bound(
    estimate: float,
    se: float,
    df: float = math.inf,
    *,
    alpha: float = 0.05,
    null: float = 0.0,
    side: Side = "low",
) -> Interval:
    """A lower or an upper bound alone, and the one-sided p-value of the truth being beyond `null`.

    A low bound goes with the hypothesis that the truth is `null` or less.

    >>> round(t_bound(2.0, 1.0).low, 3), t_bound(2.0, 1.0).high
    (0.355, inf)
    """
    check_alpha(alpha)
    method = f"one-sided {'normal' if df == math.inf else 'Student t'}"
    if not _usable(estimate, se, df):
        return unsaid(estimate, alpha=alpha, method=method, null=null)
    reach = t_isf(alpha, df) * se
    z = (estimate - null) / se
    p_value = t_sf(z if side == "low" else -z, df)
    return around(estimate, reach, p_value, alpha=alpha, method=method, null=null, side=side)


def non_inferiority(
    estimate: float,
    se: float,
    margin: float,
    df: float = math.inf,
    *,
    alpha: float = 0.05,
    good: Literal["up", "down"] = "up",
) -> Interval:
    """Whether an effect is worse than nothing by no more than `margin`, a number above 0.

    The p-value is of the hypothesis that it is worse by the margin or more; non-inferior is what
    has a p-value of at most alpha, or equally a bound that leaves that margin out.

    >>> found = non_inferiority(-0.001, 0.002, margin=0.005)
    >>> round(found.low, 4), round(found.p_value, 4), found.excludes(-0.005)
    (-0.0043, 0.0228, True)
    """
    if not margin >= 0:
        raise Invalid(f"A margin of {margin} is none.", hint="It is how much worse is tolerable.")
    if good == "up":
        return t_bound(estimate, se, df, alpha=alpha, null=-margin, side="low")
    return t_bound(estimate, se, df, alpha=alpha, null=margin, side="high")


def satterthwaite(first: float, second: float, df_first: float, df_second: float) -> float:
    """The degrees of freedom of a difference of two values with these squared standard errors.

    Satterthwaite (1946), Welch (1947).

    >>> satterthwaite(1.0, 1.0, 9, 9)
    18.0
    """
    total = first + second
    if not total > 0:
        return math.inf
    one, other = first / total, second / total
    return 1 / (one * one / df_first + other * other / df_second)


def welch(
    first: tuple[float, float, float],
    second: tuple[float, float, float],
    *,
    alpha: float = 0.05,
    null: float = 0.0,
) -> Interval:
    """The difference of two means, second less first: each is (mean, variance, rows).

    Variances have the divisor n − 1 and need not be equal (Welch 1947).

    >>> found = welch((5.0, 4.0, 20), (6.5, 9.0, 25))
    >>> round(found.low, 3), round(found.high, 3), round(found.p_value, 4)
    (-0.01, 3.01, 0.0515)
    """
    (mean_a, var_a, n_a), (mean_b, var_b, n_b) = first, second
    if not (n_a >= 2 and n_b >= 2):
        return unsaid(mean_b - mean_a, alpha=alpha, method="Welch t", null=null)
    one, other = var_a / n_a, var_b / n_b
    squared = one + other
    return t_interval(
        mean_b - mean_a,
        math.sqrt(squared) if squared >= 0 else math.nan,
        satterthwaite(one, other, n_a - 1, n_b - 1),
        alpha=alpha,
        null=null,
        method="Welch t",
    )


# -- proportions -----------------------------------------------------------------------------------


def wilson(k: float, n: float, *, alpha: float = 0.05, null: float = math.nan) -> Interval:
    """A proportion by k of n independent rows: the values that the score test lets stand.

    Wilson (1927); Brown, Cai & DasGupta (2001) recommend it. Covers well from a handful of rows on,
    and never leaves [0, 1]. The p-value, where a `null` is given, is that of the score test.

    >>> found = wilson(0, 20)
    >>> found.low, round(found.high, 4)
    (0.0, 0.1611)
    """
    check_alpha(alpha)
    check_counts(k, n)
    if n == 0:
        return unsaid(alpha=alpha, method="Wilson", null=null)
    p = k / n
    low, high = score_ends(p, n, normal_isf(alpha / 2))
    score = (p - null) / math.sqrt(null * (1 - null) / n) if 0 < null < 1 else math.nan
    return Interval(
        estimate=p,
        low=0.0 if k == 0 else max(low, 0.0),
        high=1.0 if k == n else min(high, 1.0),
        level=1 - alpha,
        p_value=two_sided(score),
        method="Wilson",
        null=null,
    )


def score_ends(share: float, n: float, z: float) -> tuple[float, float]:
    """Wilson's ends: the shares from which one seen in n rows is z of their standard errors away.

    >>> [round(one, 4) for one in score_ends(0.25, 40, 1.959964)]
    [0.1419, 0.4019]
    """
    shrink = 1 + z * z / n
    middle = (share + z * z / (2 * n)) / shrink
    reach = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / shrink
    return middle - reach, middle + reach


def clopper_pearson(k: int, n: int, *, alpha: float = 0.05, null: float = math.nan) -> Interval:
    """A proportion by the exact binomial test: covers at least what it says, mostly more.

    Clopper & Pearson (1934). The p-value is twice the smaller tail.

    >>> found = clopper_pearson(0, 20)
    >>> found.low, round(found.high, 4)
    (0.0, 0.1684)
    """
    check_alpha(alpha)
    check_counts(k, n)
    if n == 0:
        return unsaid(alpha=alpha, method="Clopper-Pearson", null=null)
    p_value = math.nan
    if 0 <= null <= 1:
        p_value = min(2 * min(binomial_cdf(k, n, null), binomial_sf(k - 1, n, null)), 1.0)
    return Interval(
        estimate=k / n,
        low=beta_quantile(alpha / 2, k, n - k + 1) if k else 0.0,
        high=1 - beta_quantile(alpha / 2, n - k, k + 1) if k < n else 1.0,
        level=1 - alpha,
        p_value=p_value,
        method="Clopper-Pearson",
        null=null,
    )


def newcombe(
    first: tuple[float, float], second: tuple[float, float], *, alpha: float = 0.05
) -> Interval:
    """The difference of two proportions, second less first: each is (how often, of how many).

    The hybrid score interval without continuity correction (Newcombe 1998, method 10), in which
    Wilson's ends take the place of standard errors; it stays within [-1, 1]. The p-value is that of
    the pooled score test, Pearson's χ², and may say otherwise than the interval at its very ends.

    >>> found = newcombe((48, 80), (56, 70))
    >>> round(found.low, 4), round(found.high, 4)
    (0.0524, 0.3339)
    """
    one, other = wilson(*first, alpha=alpha), wilson(*second, alpha=alpha)
    gap = other.estimate - one.estimate
    if not (one.said and other.said):
        return unsaid(gap, alpha=alpha, method="Newcombe")
    pooled = (first[0] + second[0]) / (first[1] + second[1])
    se = math.sqrt(pooled * (1 - pooled) * (1 / first[1] + 1 / second[1]))
    return Interval(
        estimate=gap,
        low=gap - math.hypot(other.estimate - other.low, one.high - one.estimate),
        high=gap + math.hypot(other.high - other.estimate, one.estimate - one.low),
        level=1 - alpha,
        p_value=two_sided(gap / se) if se > 0 else 1.0,
        method="Newcombe",
    )


# -- relative lift ---------------------------------------------------------------------------------


def fieller_lift(
    base: float,
    new: float,
    var_base: float,
    var_new: float,
    *,
    covariance: float = 0.0,
    df: float = math.inf,
    alpha: float = 0.05,
) -> Interval:
    """The relative lift new / base − 1 of two means with these squared standard errors.

    Fieller (1954): the lifts that the t test lets stand, so it agrees with the test of the
    difference, and is right where the delta method is not: base a few standard errors from zero.
    While base can't be told from zero, no lift is ruled out: the ends are infinite.

    >>> found = fieller_lift(10.0, 11.0, 0.04, 0.05)
    >>> round(found.estimate, 4), round(found.low, 4), round(found.high, 4)
    (0.1, 0.0401, 0.1632)
    """
    check_alpha(alpha)
    lift = new / base - 1 if base else math.nan
    squared = var_new + var_base - 2 * covariance
    difference = t_interval(
        new - base, math.sqrt(squared) if squared >= 0 else math.nan, df, alpha=alpha
    )
    reach = t_isf(alpha / 2, df)
    low, high = -math.inf, math.inf
    if difference.said:
        low, high = ratio_ends(base, new, var_base, var_new, covariance, reach)
    return Interval(
        estimate=lift,
        low=low - 1,
        high=high - 1,
        level=1 - alpha,
        p_value=difference.p_value,
        method="Fieller",
    )


def ratio_ends(
    base: float, new: float, var_base: float, var_new: float, covariance: float, reach: float
) -> tuple[float, float]:
    """The ratios new / base for which "new − ratio · base" is within `reach` standard errors of 0.

    Fieller (1954), as in Franz (2007, arXiv:0710.2024), eq. (6): those r with
    (new − r·base)² <= reach²·(var_new − 2·r·covariance + r²·var_base). Infinite while base is
    within reach of zero itself.

    >>> [round(one, 3) for one in ratio_ends(10.0, 11.0, 0.01, 0.01, 0.0, 1.96)]
    [1.071, 1.13]
    """
    square = reach * reach
    a = base * base - square * var_base
    if not a > 0:
        return -math.inf, math.inf
    b = base * new - square * covariance
    c = new * new - square * var_new
    root = math.sqrt(max(b * b - a * c, 0.0))
    return (b - root) / a, (b + root) / a


def delta_lift(
    base: float,
    new: float,
    var_base: float,
    var_new: float,
    *,
    covariance: float = 0.0,
    df: float = math.inf,
    alpha: float = 0.05,
) -> Interval:
    """The relative lift new / base − 1, its standard error by the delta method.

    Close to Fieller's where base is ten standard errors from zero and more; too sure below.

    >>> found = delta_lift(10.0, 11.0, 0.04, 0.05)
    >>> round(found.low, 4), round(found.high, 4)
    (0.0385, 0.1615)
    """
    ratio = new / base if base else math.nan
    squared = (var_new + ratio * ratio * var_base - 2 * ratio * covariance) / (base * base or 1.0)
    se = math.sqrt(squared) if squared >= 0 else math.nan
    return t_interval(ratio - 1, se, df, alpha=alpha, method="delta method")


# -- parts -----------------------------------------------------------------------------------------


def check_alpha(alpha: float) -> None:
    """Raises Invalid unless alpha is a chance of error: above 0, below 1."""
    if not 0 < alpha < 1:
        raise Invalid(f"alpha={alpha} is no chance of error.", hint="0.05 is one in twenty.")


def check_counts(k: float, n: float) -> None:
    """Raises Invalid unless k can have happened in n."""
    if not 0 <= k <= n:
        raise Invalid(f"{k} of {n} is no count.", hint="Give how often, of how many rows.")


def _usable(estimate: float, se: float, df: float) -> bool:
    return math.isfinite(estimate) and 0 < se < math.inf and df > 0
