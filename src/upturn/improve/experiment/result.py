"""Analysis: all that was found in an experiment's rows, as data."""

from __future__ import annotations

from datetime import date
from typing import Literal

import msgspec

from upturn.improve.statistics.interval import Interval

Status = Literal["better", "worse", "open", "unsaid"]
GuardrailStatus = Literal["passed", "failed", "open", "unsaid"]


class ArmSeen(msgspec.Struct, frozen=True, kw_only=True):
    """How many units an arm has, and how many it should have."""

    arm: str
    units: int
    expected: float  # the share that the experiment gives it


class Mismatch(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the arms have the sizes that they should: the sample ratio."""

    p_value: float  # always valid: it may be looked at whenever one likes
    found: bool


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """What an arm changes in a metric, against the control.

    `status` is what the p-value adjusted for all comparisons says, at the experiment's alpha;
    `difference` and `lift` are intervals of one comparison by itself. Values are adjusted by the
    covariates, where there are some; `reduction` is the share of variance that they took away.
    """

    metric: str
    kind: str
    better: str
    arm: str
    control: str
    value: float
    control_value: float
    difference: Interval
    lift: Interval
    p_adjusted: float
    status: Status
    why: str = ""  # nothing can be said
    units: int = 0
    without: int = 0  # units that have no value
    covariates: tuple[str, ...] = ()
    adjustment: str = ""
    reduction: float | None = None
    clipped: tuple[float, float] | None = None  # values beyond were set to these ends


class GuardrailSeen(msgspec.Struct, frozen=True, kw_only=True):
    """Whether an arm is shown to be not worse than the control by a margin."""

    effect: Effect
    margin: float
    relative: bool
    status: GuardrailStatus


class Interaction(msgspec.Struct, frozen=True, kw_only=True):
    """Whether an effect differs between the values of a segment's column."""

    segment: str
    metric: str
    arm: str
    value: str  # whose units differ most from all others
    p_value: float  # for all values of the column together (Bonferroni)
    p_adjusted: float  # over all columns, metrics and arms (BH)


class SegmentEffect(msgspec.Struct, frozen=True, kw_only=True):
    """An effect among the units with one value of a segment's column; q-values are over all."""

    segment: str
    value: str
    effect: Effect


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """An effect on the units that had come in by the end of a day."""

    day: date
    metric: str
    arm: str
    units: int
    difference: Interval
    lift: Interval


class Analysis(msgspec.Struct, frozen=True, kw_only=True):
    """What an experiment's rows say so far; `verdict` says in a sentence what may be concluded."""

    experiment: str
    method: str
    alpha: float
    correction: str | None
    control: str
    arms: tuple[ArmSeen, ...]
    mismatch: Mismatch
    effects: tuple[Effect, ...]
    guardrails: tuple[GuardrailSeen, ...] = ()
    segments: tuple[SegmentEffect, ...] = ()
    interactions: tuple[Interaction, ...] = ()
    over_time: tuple[Point, ...] = ()
    since: date | None = None
    until: date | None = None
    mixed: int = 0  # units seen in two arms
    other_arms: int = 0  # rows of arms that are not the experiment's
    no_unit: int = 0  # rows without a unit
    notes: tuple[str, ...] = ()
    verdict: str = ""

    @property
    def units(self) -> int:
        """How many units were compared."""
        return sum(one.units for one in self.arms)
