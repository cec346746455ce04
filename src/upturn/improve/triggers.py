"""Triggers: what makes a loop train anew, as values that compose with `|` and `&`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

import msgspec

from upturn.core.errors import Invalid, did_you_mean
from upturn.core.time import duration, spell
from upturn.improve.evidence import DriftSeen, PerformanceSeen


class Signs(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the champion at a tick."""

    now: datetime
    min_rows: int  # fewer say nothing
    trained_until: datetime | None  # where its training data ends
    reference: Mapping[str, float]  # its metrics when it became the champion
    drift: DriftSeen | None = None
    performance: PerformanceSeen | None = None


class Finding(msgspec.Struct, frozen=True):
    """Whether a trigger fires, and one clause that says why or why not."""

    fired: bool
    why: str


class Trigger(msgspec.Struct, frozen=True):
    """A question asked of the champion at every tick; `|` and `&` make one of two."""

    def __or__(self, other: Trigger) -> Trigger:
        return Either(self, other)

    def __and__(self, other: Trigger) -> Trigger:
        return Both(self, other)

    @property
    def needs(self) -> frozenset[str]:
        """The kinds of evidence that the question takes: 'drift', 'performance'."""
        return frozenset()

    @property
    def metrics(self) -> frozenset[str]:
        """The metrics that have to be measured."""
        return frozenset()

    def ask(self, signs: Signs) -> Finding:
        """The answer. Pure: the signs hold all that it rests on."""
        raise NotImplementedError


class Stale(Trigger, frozen=True):
    """Fires when the champion's training data ends longer ago than `after`."""

    after: timedelta

    def ask(self, signs: Signs) -> Finding:
        """Never fires when it is not known what the champion was trained on."""
        if signs.trained_until is None:
            return Finding(False, "it is not known until when the champion's training data goes")
        age = signs.now - signs.trained_until
        fired = age >= self.after
        return Finding(
            fired,
            f"the champion's training data ends {spell(age)} ago,"
            f" {'which is not less' if fired else 'less'} than {spell(self.after)}",
        )


class Drift(Trigger, frozen=True):
    """Fires when a feature or the prediction is distributed otherwise than in training.

    The index of a column is what remains of its population stability index after its noise: what
    so few rows would show if nothing had changed.
    """

    psi: float

    @property
    def needs(self) -> frozenset[str]:
        """The drift of every column."""
        return frozenset({"drift"})

    def ask(self, signs: Signs) -> Finding:
        """Does not fire while there are fewer rows than the loop asks for."""
        seen = signs.drift
        if seen is None or seen.rows < signs.min_rows:
            rows = 0 if seen is None else seen.rows
            return Finding(False, f"{rows:,} rows are too few of {signs.min_rows:,} to judge drift")
        if not seen.covered:
            return Finding(False, "the rows reach back too little to judge drift")
        if not seen.columns:
            return Finding(False, "there is no column whose drift can be measured")
        worst = max(seen.columns, key=lambda column: column.index)
        moved = sum(column.index >= self.psi for column in seen.columns)
        if not moved:
            return Finding(
                False,
                f"no column has drifted: {worst.column!r} the most, by a PSI of {worst.index:.3f}"
                f" after noise, less than {self.psi:g}",
            )
        others = f" and {moved - 1} more" if moved > 1 else ""
        return Finding(
            True,
            f"{worst.column!r}{others} drifted by a PSI of {worst.index:.3f} after noise,"
            f" not less than {self.psi:g}",
        )


class Drop(Trigger, frozen=True):
    """Fires when a metric on recent labels is worse than the champion's reference by `by`."""

    metric: str
    by: float

    @property
    def needs(self) -> frozenset[str]:
        """The champion's performance on the labels that have arrived."""
        return frozenset({"performance"})

    @property
    def metrics(self) -> frozenset[str]:
        """The one metric."""
        return frozenset({self.metric})

    def ask(self, signs: Signs) -> Finding:
        """Does not fire while there are fewer labelled rows than the loop asks for."""
        recent, its = signs.performance, f"the champion's {self.metric}"
        if recent is None or recent.labelled < signs.min_rows:
            rows = 0 if recent is None else recent.labelled
            return Finding(
                False,
                f"{rows:,} labelled rows are too few of {signs.min_rows:,} to judge {self.metric}",
            )
        if not recent.covered:
            return Finding(False, f"the champion has answered too briefly to judge {self.metric}")
        value, reference = recent.values.get(self.metric), signs.reference.get(self.metric)
        if value is None:
            return Finding(False, f"{its} can't be measured on the recent rows")
        if reference is None:
            return Finding(False, f"{its} is {value:.4f}, with no reference yet")
        worse = reference - value if greater_is_better(self.metric) else value - reference
        fired = worse >= self.by
        return Finding(
            fired,
            f"{its} is {value:.4f} on {recent.labelled:,} recent labels, it was"
            f" {reference:.4f}: {'' if fired else 'not '}worse by {self.by:g}",
        )


class Either(Trigger, frozen=True):
    """Fires when one of two does."""

    first: Trigger
    second: Trigger

    @property
    def needs(self) -> frozenset[str]:
        """What the two need."""
        return self.first.needs | self.second.needs

    @property
    def metrics(self) -> frozenset[str]:
        """What the two measure."""
        return self.first.metrics | self.second.metrics

    def ask(self, signs: Signs) -> Finding:
        """The reasons of those that fired, or of both."""
        findings = [self.first.ask(signs), self.second.ask(signs)]
        fired = [finding for finding in findings if finding.fired]
        return Finding(bool(fired), "; ".join(finding.why for finding in fired or findings))


class Both(Trigger, frozen=True):
    """Fires when two do."""

    first: Trigger
    second: Trigger

    @property
    def needs(self) -> frozenset[str]:
        """What the two need."""
        return self.first.needs | self.second.needs

    @property
    def metrics(self) -> frozenset[str]:
        """What the two measure."""
        return self.first.metrics | self.second.metrics

    def ask(self, signs: Signs) -> Finding:
        """The reasons of those that did not fire, or of both."""
        findings = [self.first.ask(signs), self.second.ask(signs)]
        silent = [finding for finding in findings if not finding.fired]
        return Finding(not silent, "; ".join(finding.why for finding in silent or findings))


def stale(after: str | float | timedelta) -> Trigger:
    """A trigger: the champion's training data ends at least `after` ago.

    >>> stale("30d") | drift(psi=0.2)
    Either(first=Stale(after=datetime.timedelta(days=30)), second=Drift(psi=0.2))
    """
    return Stale(duration(after))


def drift(*, psi: float = 0.2) -> Trigger:
    """A trigger: the population stability index of a feature or of the prediction, after noise.

    0.1 is commonly called a small shift and 0.25 a large one (Siddiqi, Credit Risk Scorecards,
    2006). Raises Invalid unless `psi` is positive.
    """
    if not psi > 0:
        raise Invalid(f"drift(psi={psi!r}): a PSI to fire at is positive.", hint="Try psi=0.2.")
    return Drift(psi)


def drop(metric: str, by: float) -> Trigger:
    """A trigger: `metric` on recent labels is worse by `by` than the champion's reference.

    `by` is in the metric's own units, and worse means less of an AUC but more of a loss. Raises
    Invalid unless `by` is positive.
    """
    if not by > 0:
        raise Invalid(f"drop({metric!r}, {by!r}): a drop is positive.", hint="Try 0.03.")
    check_metric(metric)
    return Drop(metric, by)


def check_metric(name: str) -> None:
    """Raise Invalid unless there is a metric of that name."""
    from upturn.improve.metrics import METRICS

    if name not in METRICS:
        raise Invalid(f"There is no metric {name!r}.", hint=did_you_mean(name, METRICS))


def greater_is_better(name: str) -> bool:
    """Whether more of a metric is better: of an AUC, not of a loss or a latency."""
    from upturn.improve.metrics import METRICS

    return name in METRICS and METRICS[name].greater_is_better
