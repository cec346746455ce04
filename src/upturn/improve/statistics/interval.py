"""Interval: an estimate with its uncertainty, and the evidence against no effect."""

import msgspec


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
