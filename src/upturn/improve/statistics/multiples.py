"""Rates and quantiles at every look with nothing to tune: mixtures over multiples of the rate.

By contrast to `rates` and `quantiles`, whose priors are narrow and placed by `tuned_n`, rates of
1.05 to 50 times the hypothesis, or as small parts of it, are mixed here, as many on each side, all
alike. A guard of requests does not know how many there will be: these bounds are up to a quarter
wider than well tuned ones at any number, where bounds tuned to a hundred times as many rows as
there are may be ten times as wide. They are one-sided, and take rows for independent.

The e-process is a mixture of likelihood ratios of Bernoulli rates (Howard & Ramdas, "Sequential
estimation of quantiles", arXiv 1906.09712; Lindon, Sanden & Shirikian, "Rapid regression detection
in software deployments", arXiv 2205.14762, for its use on canaries), and Ville's inequality makes
it hold at every look.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from upturn.improve.statistics.special import edge

Floats = NDArray[np.float64]
_RATES = 40  # alternatives to the rate, on each side of it
_FURTHEST = 50.0  # times the rate, or a share of it: of the alternatives


def log_multiples(k: int, n: int, rate: float, others: Floats) -> float:
    """The log of the e-process against `rate` with k of n: likelihood ratios of `others`, mixed.

    >>> round(log_multiples(30, 1000, 0.01, np.array([0.02, 0.03])), 3)
    12.572
    """
    logs = k * np.log(others / rate) + (n - k) * np.log((1 - others) / (1 - rate))
    top = float(logs.max())
    return top + math.log(float(np.exp(logs - top).mean()))


def rate_bounds(k: int, n: int, alpha: float) -> tuple[float, float]:
    """A lower and an upper bound of a rate by k of n rows, each valid at every look with 1 − alpha.

    The rates that the e-processes against higher and lower ones have not ruled out.

    >>> [round(one, 4) for one in rate_bounds(30, 1000, 0.025)]
    [0.015, 0.0522]
    """
    limit = -math.log(alpha)

    def below(rate: float) -> bool:
        """Whether it is not ruled out that the rate is as low as that."""
        if not 0 < rate < 1:  # a row of either kind rules it out
            return False
        steps = np.geomspace(1.05, max(1.06, min(_FURTHEST, 0.999 / rate)), _RATES)
        return log_multiples(k, n, rate, np.minimum(rate * steps, 0.999999)) < limit

    def above(rate: float) -> bool:
        steps = np.geomspace(1.05, _FURTHEST, _RATES)
        return 0 < rate < 1 and log_multiples(k, n, rate, rate / steps) < limit

    seen = k / n
    return edge(below, seen, 0.0) if k else 0.0, edge(above, seen, 1.0) if k < n else 1.0


def quantile_bounds(ordered: Floats, q: float, alpha: float) -> tuple[float, float]:
    """A lower and an upper bound of the q-quantile, each valid at every look with 1 − alpha.

    `ordered` are the values so far, the smallest first. An end that can't be bounded yet is
    infinite: p99 takes some 500 rows until it is bounded from above.

    >>> quantile_bounds(np.arange(1000.0), 0.9, 0.025)
    (866.0, 929.0)
    """
    count, rate = len(ordered), 1 - q
    steps = np.geomspace(1.05, min(_FURTHEST, 0.5 / rate), _RATES)
    limit = -math.log(alpha)
    # Too many lie beyond a value: the quantile is not below it. Too few: it is not above.
    many = _first(lambda k: log_multiples(k, count, rate, rate * steps) >= limit, count)
    few = _first(lambda k: log_multiples(k, count, rate, rate / steps) < limit, count)
    low = float(ordered[count - many]) if 0 < many <= count else -np.inf
    high = float(ordered[count - few]) if 0 < few <= count else np.inf
    return low, high


def _first(holds: Callable[[int], bool], count: int) -> int:
    """The least k in [0, count] from which on it holds; count + 1 when it never does."""
    low, high = 0, count + 1
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low
