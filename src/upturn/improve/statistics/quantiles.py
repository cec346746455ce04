"""Quantiles at every look: no distribution is assumed, and no density estimated.

Howard & Ramdas, "Sequential estimation of quantiles with applications to A/B testing and best-arm
identification" (2022, arXiv 1906.09712), theorem 1 with the beta-binomial mixture: a value is ruled
out as the q-quantile when the share of rows beyond it is ruled out as the one that it should have.
Rows are taken for independent.
"""

import heapq
import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from upturn.core.errors import Invalid
from upturn.improve.statistics.fixed import check_alpha
from upturn.improve.statistics.interval import Interval, unsaid
from upturn.improve.statistics.rates import log_rate_mixture, prior_worth
from upturn.improve.statistics.special import least_value

Floats = NDArray[np.float64]
METHOD = "quantile confidence sequence"
_LEVELS = 80


def quantile_interval(
    values: ArrayLike, q: float, *, alpha: float = 0.05, tuned_n: float, null: float = math.nan
) -> Interval:
    """The q-quantile of independent values at every look; nan are left out.

    An end that can't be bounded yet is infinite: p99 takes some 450 rows until it is bounded from
    above. The p-value is of the quantile's being `null`.

    >>> found = quantile_interval(np.arange(1000) / 1000, 0.5, tuned_n=1000)
    >>> round(found.low, 3), round(found.estimate, 3), round(found.high, 3)
    (0.452, 0.499, 0.547)
    """
    check_alpha(alpha)
    arm = _arm(values, q, alpha, tuned_n)
    if not arm.n:
        return unsaid(alpha=alpha, method=METHOD, null=null)
    low, high = arm.ends(-math.log(alpha))
    p_value = math.nan if math.isnan(null) else math.exp(min(-arm.log_e(null), 0.0))
    return Interval(
        estimate=arm.quantile,
        low=low,
        high=high,
        level=1 - alpha,
        p_value=p_value,
        method=METHOD,
        null=null,
    )


def quantile_difference(
    first: ArrayLike, second: ArrayLike, q: float, *, alpha: float = 0.05, tuned_n: float
) -> Interval:
    """The difference of two arms' q-quantiles, second less first, at every look.

    Its ends are those of the pairs of values that the two arms' e-processes together do not rule
    out, and its p-value that of equal quantiles: the product of the arms' e-processes is one too.
    `tuned_n` is of one arm.

    >>> draw = np.random.default_rng(1)
    >>> one, other = draw.normal(0, 1, 2000), draw.normal(0.5, 1, 2000)
    >>> found = quantile_difference(one, other, 0.5, tuned_n=2000)
    >>> found.low > 0.2, found.high < 0.75, found.p_value < 1e-9
    (True, True, True)
    """
    check_alpha(alpha)
    one, other = _arm(first, q, alpha, tuned_n), _arm(second, q, alpha, tuned_n)
    if not (one.n and other.n):
        return unsaid(alpha=alpha, method=METHOD)
    limit = -math.log(alpha)
    # A pair that is not ruled out is in one of these steps: against its first value is said no
    # more than the step's upper edge, against its second no more than what that leaves.
    edges = np.linspace(one.least, limit - other.least, _LEVELS + 1).tolist()
    pairs = [(one.ends(upper), other.ends(limit - lower)) for lower, upper in pairwise(edges)]
    return Interval(
        estimate=other.quantile - one.quantile,
        low=min(theirs[0] - ours[1] for ours, theirs in pairs),
        high=max(theirs[1] - ours[0] for ours, theirs in pairs),
        level=1 - alpha,
        p_value=math.exp(min(-_least_in_common(one, other), 0.0)),
        method=METHOD,
    )


@dataclass(frozen=True, slots=True)
class _Arm:
    """An arm's values in order, and what they say against a value as their q-quantile."""

    ordered: Floats
    q: float
    worth: float
    calm: float  # the count of rows below that says least against q, and
    least: float  # how much that is

    @property
    def n(self) -> int:
        return len(self.ordered)

    @property
    def quantile(self) -> float:
        return float(self.ordered[min(max(math.ceil(self.q * self.n) - 1, 0), self.n - 1)])

    def log_e(self, value: float) -> float:
        """The log of the e-value against a value as the quantile.

        Rows that equal it count as below or not, whichever says less (as many as it takes until the
        share below is q itself, would be known; this is no more).
        """
        less, most = (float(np.searchsorted(self.ordered, value, side)) for side in _SIDES)
        return self.of_count(min(max(self.calm, less), most))

    def of_count(self, below: float) -> float:
        return log_rate_mixture(below, self.n, self.q, self.worth)

    def ends(self, limit: float) -> tuple[float, float]:
        """The least and the greatest value against which less than `limit` is said."""
        least, most = self._last(0, limit), self._last(self.n, limit)
        # At least `least` rows are at most as large as the low end, at most `most` below the high.
        low = float(self.ordered[least - 1]) if least else -math.inf
        high = float(self.ordered[most]) if most < self.n else math.inf
        return low, high

    def _last(self, towards: int, limit: float) -> int:
        """The last count of rows below on that side that is not ruled out."""
        if self.of_count(towards) < limit:
            return towards
        inside, outside = round(self.calm), towards
        while abs(outside - inside) > 1:
            half = (inside + outside) // 2
            inside, outside = (half, outside) if self.of_count(half) < limit else (inside, half)
        return inside


_SIDES = ("left", "right")


def _arm(values: ArrayLike, q: float, alpha: float, tuned_n: float) -> _Arm:
    if not 0 < q < 1:
        raise Invalid(f"q={q} is no quantile.", hint="0.5 is the median, 0.99 is p99.")
    found = np.asarray(values, dtype=np.float64)
    ordered, worth = np.sort(found[~np.isnan(found)]), prior_worth(alpha, tuned_n)
    n = len(ordered)
    calm, least = least_value(lambda k: log_rate_mixture(k, n, q, worth), 0.0, float(n))
    return _Arm(ordered, q, worth, calm, least)


def _least_in_common(one: _Arm, other: _Arm) -> float:
    """The least that both arms together say against any common value.

    It lies at a row between the arms' quantiles, where one arm says more and more and the other
    less and less: of a range of rows, no row is better than the one's at its begin and the other's
    at its end. The best range is halved until it is one row.
    """
    if one.quantile > other.quantile:
        one, other = other, one
    low, high = one.quantile, other.quantile
    inside = [arm.ordered[(arm.ordered >= low) & (arm.ordered <= high)] for arm in (one, other)]
    rows = np.unique(np.concatenate(inside))
    heap: list[tuple[float, int, int]] = [(-math.inf, 0, len(rows) - 1)]
    while True:
        bound, begin, end = heapq.heappop(heap)
        if begin == end and bound > -math.inf:
            return bound
        middle = (begin + end) // 2
        halves = [(begin, middle)] + ([(middle + 1, end)] if end > middle else [])
        for start, stop in halves:
            against = one.log_e(float(rows[start])) + other.log_e(float(rows[stop]))
            heapq.heappush(heap, (against, start, stop))
