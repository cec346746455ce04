"""Interval: an estimate with its uncertainty, and the evidence against no effect."""

import math
from typing import Literal

import msgspec

Side = Literal["low", "high"]


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """An estimate and the ends between which the truth lies with probability `level`.

    `p_value` is of the hypothesis that the truth is `null`, two-sided unless `method` says
    otherwise; of an interval that holds at every look it is an always-valid one. An end that is not
    bounded is infinite; what can't be said is nan.
    """

    estimate: float
    low: float
    high: float
    level: float  # 0.95
    p_value: float
    method: str  # 'asymptotic confidence sequence', 'Welch t', …
    null: float = 0.0

    def excludes(self, value: float) -> bool:
        """Whether the value lies outside of the interval."""
        return value < self.low or value > self.high

    @property
    def said(self) -> bool:
        """Whether it says anything: an end is bounded."""
        return math.isfinite(self.low) or math.isfinite(self.high)


def unsaid(estimate: float = math.nan, *, alpha: float, method: str, null: float = 0.0) -> Interval:
    """The interval of what can't be said: everything is possible, and no p-value.

    >>> unsaid(1.0, alpha=0.05, method="Welch t").said
    False
    """
    return Interval(
        estimate=estimate,
        low=-math.inf,
        high=math.inf,
        level=1 - alpha,
        p_value=math.nan,
        method=method,
        null=null,
    )


def around(
    estimate: float,
    reach: float,
    p_value: float,
    *,
    alpha: float,
    method: str,
    null: float = 0.0,
    side: Side | None = None,
) -> Interval:
    """The interval that reaches so far to both sides of an estimate, or to one, not to the other.

    >>> found = around(1.0, 0.5, 0.01, alpha=0.05, method="Welch t", side="low")
    >>> found.low, found.high
    (0.5, inf)
    """
    return Interval(
        estimate=estimate,
        low=-math.inf if side == "high" else estimate - reach,
        high=math.inf if side == "low" else estimate + reach,
        level=1 - alpha,
        p_value=p_value,
        method=method,
        null=null,
    )
