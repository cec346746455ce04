"""OffPolicy: what other policies would have earned by a log, and how far that can be said."""

import msgspec

from upturn.core.errors import NotFound
from upturn.improve.statistics.interval import Interval


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """A policy's value by one estimator. What can't be said is nan, and `why` says why."""

    estimator: str  # 'IPS', 'clipped', 'SNIPS', 'DM', 'DR', 'SNDR', 'switch-DR'
    interval: Interval  # for one look at the log
    anytime: Interval  # holds at every look while the log grows
    se: float
    bootstrap: Interval | None = None
    threshold: float | None = None  # where weights were cut
    bias_bound: float | None = None  # by how much the cut can be wrong at most: in the interval
    why: str = ""


class PolicyValue(msgspec.Struct, frozen=True, kw_only=True):
    """What one policy would have earned a round, and what that rests on."""

    name: str
    rounds: int
    best: str  # the estimator that says it: 'DR' with a reward model, 'SNIPS' without
    estimates: dict[str, Estimate]
    effective_rounds: float  # Kish: as many rounds of its own would say as much
    max_weight: float
    mean_weight: Interval  # 1 where the propensities are true and nothing lacks support
    unsupported: dict[str, float]  # actions that it takes and the log never took: how often
    bounded: Interval | None = None  # of IPS at every look, with no approximation
    warnings: tuple[str, ...] = ()

    @property
    def value(self) -> Interval:
        """The interval of the best estimator."""
        return self.estimates[self.best].interval

    @property
    def says(self) -> str:
        """One sentence with its numbers."""
        found = self.value
        shown = f"{self.name} would earn {found.estimate:.4g} a round"
        if found.low != found.low:  # nan
            why = self.estimates[self.best].why
            return f"{shown}; how sure that is can't be said: {why}"
        return (
            f"{shown} ({found.level:.0%} between {found.low:.4g} and {found.high:.4g}, "
            f"{self.best}), by what {self.effective_rounds:,.0f} rounds of its own would show."
        )


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """What one policy would earn more than another, on the same rounds."""

    name: str
    than: str  # another policy's name, or 'the log': what the log's own policy earned
    interval: Interval
    anytime: Interval

    @property
    def says(self) -> str:
        """One sentence with its numbers."""
        found = self.interval
        if found.low != found.low:  # nan
            return f"Whether {self.name} would earn more than {self.than} can't be said."
        ends = f"{found.estimate:+.4g}, {found.level:.0%} between {found.low:+.4g} and "
        ends += f"{found.high:+.4g}"
        if not found.excludes(0.0):
            return f"{self.name} is not shown to differ from {self.than} ({ends})."
        word = "more" if found.estimate > 0 else "less"
        return f"{self.name} would earn {word} than {self.than} ({ends})."


class OffPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What the policies would have earned by a log."""

    rounds: int
    waiting: int  # rounds without a reward, left out
    logged: Estimate  # what the log's own policy earned
    policies: dict[str, PolicyValue]
    differences: tuple[Difference, ...]
    warnings: tuple[str, ...] = ()  # about the log itself
    by: dict[str, "OffPolicy"] = {}  # the same for each value of a column

    def difference(self, name: str, than: str = "the log") -> Difference:
        """What one policy would earn more than another, or than the log's own. NotFound if none."""
        for one in self.differences:
            if (one.name, one.than) == (name, than):
                return one
        known = ", ".join(f"{one.name!r} than {one.than!r}" for one in self.differences)
        raise NotFound(f"No difference of {name!r} and {than!r}.", hint=f"There is: {known}.")

    @property
    def says(self) -> str:
        """A few sentences: what was earned, what each policy would have earned, what to fear."""
        found = self.logged.interval
        parts = [f"The log earned {found.estimate:.4g} a round in {self.rounds:,} rounds."]
        for name, one in self.policies.items():
            parts += [one.says, self.difference(name).says, *one.warnings]
        # What is said of a log that is not what it claims to be comes after that.
        doubts = ["Don't read it.", *self.warnings] if self.warnings else []
        return " ".join([*doubts, *parts])
