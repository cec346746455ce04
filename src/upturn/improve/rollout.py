"""Rollout: the gate that a candidate has to pass, the stages after it, and their guards."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec

from upturn.core.errors import Invalid
from upturn.core.records import Arm
from upturn.core.time import duration, spell
from upturn.improve.compare import Comparison
from upturn.improve.triggers import check_metric, greater_is_better

LATENCY = "latency_p99"
CHAMPION, CANDIDATE = "champion", "candidate"


class Beats(msgspec.Struct, frozen=True):
    """A gate: the candidate is shown, at level `alpha`, to be better by more than `by`."""

    metric: str
    by: float = 0.0
    alpha: float = 0.05

    def gain(self, comparison: Comparison) -> tuple[float, float, float]:
        """How much better the candidate is, with the ends of the interval: more is better."""
        return _signed(comparison, better=greater_is_better(self.metric))

    def passed(self, comparison: Comparison) -> bool:
        """Whether even the lower end of the interval is more than `by`."""
        return self.gain(comparison)[1] > self.by


class NoWorse(msgspec.Struct, frozen=True):
    """A guard: no evidence that the candidate is worse than the champion by more than `margin`."""

    metric: str
    margin: float
    alpha: float = 0.05

    def harm(self, comparison: Comparison) -> tuple[float, float, float]:
        """How much worse the candidate is, with the ends of the interval: more is worse."""
        return _signed(comparison, better=not greater_is_better(self.metric))

    def broken(self, comparison: Comparison) -> bool:
        """Whether even the lower end of the interval of the harm is more than the margin."""
        return self.harm(comparison)[1] > self.margin

    def cleared(self, comparison: Comparison) -> bool:
        """Whether even the upper end of the interval is within the margin: shown to be no worse."""
        return self.harm(comparison)[2] <= self.margin


def _signed(comparison: Comparison, *, better: bool) -> tuple[float, float, float]:
    if better:
        return comparison.difference, comparison.low, comparison.high
    return -comparison.difference, -comparison.high, -comparison.low


class Shadow(msgspec.Struct, frozen=True, tag="shadow"):
    """A stage: the candidate sees every request and answers none."""

    lasts: timedelta
    min_rows: int = 100

    def arms(self, champion: int, candidate: int) -> tuple[Arm, ...]:
        """The route of the stage."""
        return (
            Arm(name=CHAMPION, version=champion, share=1.0),
            Arm(name=CANDIDATE, version=candidate, shadow=True),
        )

    def __str__(self) -> str:
        return f"a shadow for {spell(self.lasts)}"


class Canary(msgspec.Struct, frozen=True, tag="canary"):
    """A stage: the candidate answers a share of the units, the same ones throughout."""

    share: float
    lasts: timedelta
    min_rows: int = 100

    def arms(self, champion: int, candidate: int) -> tuple[Arm, ...]:
        """The route of the stage; the candidate's arm is last, so that its share only grows."""
        return (
            Arm(name=CHAMPION, version=champion, share=1.0 - self.share),
            Arm(name=CANDIDATE, version=candidate, share=self.share),
        )

    def __str__(self) -> str:
        return f"a canary of {100 * self.share:g} % for {spell(self.lasts)}"


class Full(msgspec.Struct, frozen=True, tag="full"):
    """The end of a rollout: the candidate is the champion."""

    def __str__(self) -> str:
        return "all of the traffic"


Stage = Shadow | Canary | Full
Gate = Beats
Guard = NoWorse


def beats(metric: str, *, by: float = 0.0, alpha: float = 0.05) -> Beats:
    """A gate: the candidate's `metric` is better by more than `by` on the same recent rows.

    Better means more of an AUC and less of a loss. It passes when the lower bound of the difference
    at level 1 − `alpha` (`compare_paired`: a block bootstrap over days) is more than `by`, so of
    candidates that are exactly `by` better one in 1 / `alpha` passes. Raises Invalid for an unknown
    metric or a level outside (0, 1).

    >>> beats("auc", by=0.0, alpha=0.05)
    Beats(metric='auc', by=0.0, alpha=0.05)
    """
    check_metric(metric)
    _check_alpha(alpha)
    return Beats(metric, by, alpha)


def no_worse(metric: str, margin: float, *, alpha: float = 0.05) -> NoWorse:
    """A guard: a stage is rolled back once `metric` is shown to be worse by more than `margin`.

    `margin` is in the metric's own units; of `latency_p99` it is a share of the champion's: 0.2 is
    a fifth slower. Shown means that the lower bound of the harm at level 1 − `alpha` lies beyond
    the margin. The guard looks at every tick, so over a long stage it errs somewhat more often than
    `alpha` says, on the side of rolling back. Raises Invalid for an unknown metric or a negative
    margin.

    >>> no_worse("latency_p99", 0.2)
    NoWorse(metric='latency_p99', margin=0.2, alpha=0.05)
    """
    if metric != LATENCY:
        check_metric(metric)
    if margin < 0:
        raise Invalid(f"no_worse({metric!r}, {margin!r}): a margin is not negative.")
    _check_alpha(alpha)
    return NoWorse(metric, margin, alpha)


def shadow(lasts: str | float | timedelta, *, min_rows: int = 100) -> Shadow:
    """A stage: for `lasts` the candidate sees every request and answers none.

    Its guards compare both versions on the same rows, and ask for `min_rows` labelled ones.

    >>> str(shadow("1d"))
    'a shadow for 1d'
    """
    return Shadow(_length(lasts), min_rows)


def canary(share: float, lasts: str | float | timedelta, *, min_rows: int = 100) -> Canary:
    """A stage: for `lasts` the candidate answers a `share` of the units, always the same ones.

    Its guards compare the rows of the two arms, and ask for `min_rows` labelled ones of each.
    Raises Invalid for a share outside (0, 1).

    >>> str(canary(0.05, "1d"))
    'a canary of 5 % for 1d'
    """
    if not 0 < share < 1:
        raise Invalid(
            f"canary({share!r}): a share lies between 0 and 1.",
            hint="Write 0.05 for 5 %, and full() for all of the traffic.",
        )
    return Canary(share, _length(lasts), min_rows)


def full() -> Full:
    """The last stage: the candidate becomes the champion. A rollout ends with it, said or not."""
    return Full()


def check_rollout(stages: Any) -> tuple[Stage, ...]:
    """The stages, with `full()` at the end. Raises Invalid when they can't be a rollout."""
    given: tuple[Stage, ...] = tuple(stages)
    for stage in given:
        if not isinstance(stage, Shadow | Canary | Full):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise Invalid(
                f"{stage!r} is not a stage of a rollout.",
                hint='There is up.shadow("1d"), up.canary(0.05, "1d") and up.full().',
            )
    before = given[:-1] if given and isinstance(given[-1], Full) else given
    if any(isinstance(stage, Full) for stage in before):
        raise Invalid("full() is the last stage of a rollout.")
    return (*before, Full())


def _length(lasts: str | float | timedelta) -> timedelta:
    length = duration(lasts)
    if length <= timedelta(0):
        raise Invalid(f"A stage of {lasts!r} has no length.", hint="Leave it out, or write '1d'.")
    return length


def _check_alpha(alpha: float) -> None:
    if not 0 < alpha < 1:
        raise Invalid(f"alpha={alpha!r} is not a level.", hint="It lies between 0 and 1: 0.05.")
