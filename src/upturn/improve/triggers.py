"""Triggers: what makes a loop train anew, as values that compose with `|` and `&`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from fnmatch import fnmatchcase

import msgspec

from upturn.core.errors import Invalid, did_you_mean
from upturn.core.time import duration, spell
from upturn.improve.evidence import AlarmsSeen, DriftSeen, LabelsSeen, PerformanceSeen

DAY = timedelta(days=1)


class Signs(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the champion at a tick."""

    now: datetime
    min_rows: int  # fewer say nothing
    trained_until: datetime | None  # where its training data ends
    reference: Mapping[str, float]  # its metrics when it became the champion
    drift: DriftSeen | None = None
    performance: PerformanceSeen | None = None
    labels: LabelsSeen | None = None
    alarms: AlarmsSeen | None = None
    trained_at: datetime | None = None  # the last training, or when the champion began


class Finding(msgspec.Struct, frozen=True):
    """Whether a trigger fires, and one clause that says why or why not.

    What can't be told does not fire, and its opposite does not either. `near` is how far a trigger
    that is a threshold has come: its number, and the number at which it fires.
    """

    fired: bool
    why: str
    known: bool = True
    near: tuple[float, float] | None = None


def unknown(why: str) -> Finding:
    """A finding of what can't be told yet."""
    return Finding(False, why, known=False)


class Trigger(msgspec.Struct, frozen=True):
    """A question asked of the champion at every tick; `|`, `&` and `~` make others of them."""

    def __or__(self, other: Trigger) -> Trigger:
        return Either(self, _trigger(other))

    def __and__(self, other: Trigger) -> Trigger:
        return Both(self, _trigger(other))

    def __invert__(self) -> Trigger:
        return Opposite(self)

    @property
    def parts(self) -> tuple[Trigger, ...]:
        """The questions that it is made of."""
        return (self,)

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
            return unknown("it is not known until when the champion's training data goes")
        age = signs.now - signs.trained_until
        fired = age >= self.after
        return Finding(
            fired,
            f"the champion's training data ends {spell(age)} ago,"
            f" {'which is not less' if fired else 'less'} than {spell(self.after)}",
            near=(age / DAY, self.after / DAY),
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
            return unknown(f"{rows:,} rows are too few of {signs.min_rows:,} to judge drift")
        if not seen.covered:
            return unknown("the rows reach back too little to judge drift")
        if not seen.columns:
            return unknown("there is no column whose drift can be measured")
        worst = max(seen.columns, key=lambda column: column.index)
        moved = sum(column.index >= self.psi for column in seen.columns)
        if not moved:
            return Finding(
                False,
                f"no column has drifted: {worst.column!r} the most, by a PSI of {worst.index:.3f}"
                f" after noise, less than {self.psi:g}",
                near=(worst.index, self.psi),
            )
        others = f" and {moved - 1} more" if moved > 1 else ""
        return Finding(
            True,
            f"{worst.column!r}{others} drifted by a PSI of {worst.index:.3f} after noise,"
            f" not less than {self.psi:g}",
            near=(worst.index, self.psi),
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
            return unknown(
                f"{rows:,} labelled rows are too few of {signs.min_rows:,} to judge {self.metric}"
            )
        if not recent.covered:
            return unknown(f"the champion has answered too briefly to judge {self.metric}")
        value, reference = recent.values.get(self.metric), signs.reference.get(self.metric)
        if value is None:
            return unknown(f"{its} can't be measured on the recent rows")
        if reference is None:
            return unknown(f"{its} is {value:.4f}, with no reference yet")
        worse = reference - value if greater_is_better(self.metric) else value - reference
        fired = worse >= self.by
        return Finding(
            fired,
            f"{its} is {value:.4f} on {recent.labelled:,} recent labels, it was"
            f" {reference:.4f}: {'' if fired else 'not '}worse by {self.by:g}",
            near=(max(0.0, worse), self.by),
        )


class After(Trigger, frozen=True):
    """Fires when the last training, or the champion's beginning, is so long ago."""

    lasts: timedelta

    def ask(self, signs: Signs) -> Finding:
        """The age of the later of the two."""
        if signs.trained_at is None:
            return unknown("it is not known when the champion began")
        age = signs.now - signs.trained_at
        fired = age >= self.lasts
        return Finding(
            fired,
            f"the last training or promotion was {spell(age)} ago,"
            f" {'which is not less' if fired else 'less'} than {spell(self.lasts)}",
            near=(age / DAY, self.lasts / DAY),
        )


class Rows(Trigger, frozen=True):
    """Fires when so many labelled rows have come since the champion's training data ends."""

    count: int

    @property
    def needs(self) -> frozenset[str]:
        """The labels that have become known."""
        return frozenset({"labels"})

    def ask(self, signs: Signs) -> Finding:
        """Rows in the Log whose label is known."""
        if signs.labels is None:
            return unknown("the labelled rows have not been counted")
        new = signs.labels.labelled
        fired = new >= self.count
        return Finding(
            fired,
            f"{new:,} labelled rows since the champion's training data ends,"
            f" {'not ' if fired else ''}less than {self.count:,}",
            near=(new, self.count),
        )


class Alarm(Trigger, frozen=True):
    """Fires while an alarm of the endpoint's monitors goes on whose name fits a pattern."""

    pattern: str

    @property
    def needs(self) -> frozenset[str]:
        """The alarms that go on."""
        return frozenset({"alarms"})

    def ask(self, signs: Signs) -> Finding:
        """Can't be told where nobody watches."""
        if signs.alarms is None:
            return unknown(f"nobody watches for {self.pattern!r}")
        said = [
            f"{name!r}: {text.rstrip('.')}"
            for name, text in sorted(signs.alarms.going_on.items())
            if fnmatchcase(name, self.pattern)
        ]
        if not said:
            return Finding(False, f"no alarm {self.pattern!r} goes on")
        more = f", and {len(said) - 1} more" if len(said) > 1 else ""
        return Finding(True, f"the alarm {said[0]}{more}")


class Opposite(Trigger, frozen=True):
    """Fires when the other is known not to fire."""

    other: Trigger

    @property
    def parts(self) -> tuple[Trigger, ...]:
        """Those of the other."""
        return self.other.parts

    @property
    def needs(self) -> frozenset[str]:
        """What the other needs."""
        return self.other.needs

    @property
    def metrics(self) -> frozenset[str]:
        """What the other measures."""
        return self.other.metrics

    def ask(self, signs: Signs) -> Finding:
        """The opposite, for the other's reason; what can't be told stays so."""
        found = self.other.ask(signs)
        return Finding(found.known and not found.fired, found.why, known=found.known)


class Either(Trigger, frozen=True):
    """Fires when one of two does."""

    first: Trigger
    second: Trigger

    @property
    def parts(self) -> tuple[Trigger, ...]:
        """Those of the two."""
        return (*self.first.parts, *self.second.parts)

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
        known = bool(fired) or all(finding.known for finding in findings)
        return Finding(bool(fired), "; ".join(one.why for one in fired or findings), known=known)


class Both(Trigger, frozen=True):
    """Fires when two do."""

    first: Trigger
    second: Trigger

    @property
    def parts(self) -> tuple[Trigger, ...]:
        """Those of the two."""
        return (*self.first.parts, *self.second.parts)

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
        # One that is known not to fire is enough to tell.
        known = not silent or any(finding.known for finding in silent)
        return Finding(not silent, "; ".join(one.why for one in silent or findings), known=known)


def stale(after: str | float | timedelta) -> Trigger:
    """A trigger: the champion's training data ends at least `after` ago.

    Raises Invalid for a negative time.

    >>> stale("30d") | drift(psi=0.2)
    Either(first=Stale(after=datetime.timedelta(days=30)), second=Drift(psi=0.2))
    """
    length = duration(after)
    if length < timedelta(0):
        raise Invalid(f"stale({after!r}) is before its time.", hint="Write stale('30d').")
    return Stale(length)


def after(lasts: str | float | timedelta) -> Trigger:
    """A trigger: the last training, or the champion's beginning, is at least `lasts` ago.

    Alone it is a calendar; `drift(psi=0.2) & after("7d")` asks for a week between trainings. Raises
    Invalid unless it has a length.
    """
    length = duration(lasts)
    if length <= timedelta(0):
        raise Invalid(f"after({lasts!r}) has no length.", hint="Write after('7d').")
    return After(length)


def rows(count: int) -> Trigger:
    """A trigger: `count` labelled rows have come since the champion's training data ends.

    Raises Invalid unless the count is positive.
    """
    if not _is_number(count) or count < 1:
        raise Invalid(f"rows({count!r}): a number of rows is positive.", hint="Try rows(10_000).")
    return Rows(count)


def alarm(pattern: str) -> Trigger:
    """A trigger: an alarm of the endpoint's monitors goes on, by its name: 'drift/*'.

    `~alarm("quality/*")` keeps from training on rows that a monitor finds broken. Where nobody
    watches, as in a rehearsal, neither fires. Raises Invalid for an empty pattern.
    """
    if not isinstance(pattern, str) or not pattern:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise Invalid("alarm() needs the name of an alarm.", hint="Write alarm('drift/*').")
    return Alarm(pattern)


def drift(*, psi: float = 0.2) -> Trigger:
    """A trigger: the population stability index of a feature or of the prediction, after noise.

    0.1 is commonly called a small shift and 0.25 a large one (Siddiqi, Credit Risk Scorecards,
    2006). Raises Invalid unless `psi` is positive.
    """
    if not _is_number(psi) or not 0 < psi < math.inf:
        raise Invalid(f"drift(psi={psi!r}): a PSI to fire at is positive.", hint="Try psi=0.2.")
    return Drift(psi)


def drop(metric: str, by: float) -> Trigger:
    """A trigger: `metric` on recent labels is worse by `by` than the champion's reference.

    `by` is in the metric's own units, and worse means less of an AUC but more of a loss. Raises
    Invalid unless `by` is positive.
    """
    if not _is_number(by) or not 0 < by < math.inf:
        raise Invalid(f"drop({metric!r}, {by!r}): a drop is positive.", hint="Try 0.03.")
    check_metric(metric)
    return Drop(metric, by)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _trigger(other: object) -> Trigger:
    if not isinstance(other, Trigger):
        raise Invalid(
            f"{other!r} is no trigger.", hint="Triggers compose with triggers: stale('30d') | …"
        )
    return other


def check_metric(name: str) -> None:
    """Raise Invalid unless there is a metric of that name."""
    from upturn.improve.metrics import METRICS

    if name not in METRICS:
        raise Invalid(f"There is no metric {name!r}.", hint=did_you_mean(name, METRICS))


def greater_is_better(name: str) -> bool:
    """Whether more of a metric is better: of an AUC, not of a loss or a latency."""
    from upturn.improve.metrics import METRICS

    return name in METRICS and METRICS[name].greater_is_better
