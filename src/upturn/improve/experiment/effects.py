"""Effects: what arms change in a metric, and when nothing can be said."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from upturn.improve.experiment.bounds import Rule
from upturn.improve.experiment.contrast import contrast
from upturn.improve.experiment.design import Design
from upturn.improve.experiment.estimate import Estimates, difference, estimate
from upturn.improve.experiment.metrics import Linear, Metric, Proportion
from upturn.improve.experiment.moments import Moments
from upturn.improve.experiment.result import Effect, Status
from upturn.improve.statistics.interval import Interval, unsaid

# An interval that holds at every look is asymptotic: below so many units an arm, or so many units
# on the rarer side of a proportion, it would claim more than it can.
_FEWEST, _FEWEST_EVENTS = 50, 10
_NO_SPREAD = 1e-5  # of the difference: what rounding leaves of a variance that is 0


def linear_effects(
    design: Design,
    metric: Linear,
    moments: Mapping[str, Moments],
    units: Mapping[str, int],
    rule: Rule,
) -> list[Effect]:
    """The effect of each arm that is not the control, from the arms' moments."""
    arms = [arm for arm in design.arms if arm in moments and moments[arm].n > 1]
    found = estimate(metric, [moments[arm] for arm in arms], design.adjustment) if arms else None
    made: list[Effect] = []
    for arm in design.others:
        why = too_few(metric, moments, design.control, arm, rule)
        effect = effects_of(metric, found, arms, design.control, arm, rule, why)
        pair = [one for one in (arm, design.control) if one in units]
        total = sum(units[one] for one in pair)
        known = sum(moments[one].n for one in pair if one in moments)
        effect = msgspec.structs.replace(
            effect,
            units=total,
            without=total - known,
            covariates=metric.covariate_names,
            adjustment=_adjustment(design) if metric.covariate_names else "",
        )
        made.append(effect)
    return made


def effects_of(
    metric: Metric,
    found: Estimates | None,
    arms: Sequence[str],
    control: str,
    arm: str,
    rule: Rule,
    why: str,
) -> Effect:
    """The effect of one arm from estimates; with a `why`, that nothing can be said and why."""
    values = dict(zip(arms, found.value.tolist(), strict=True)) if found else {}
    absolute = relative = unsaid(alpha=rule.alpha, method="none")
    reduction = None
    if found and not why:
        places = arms.index(arm), arms.index(control)
        absolute, relative = contrast(found, *places, rule)
        why = _unsaid_because(found, places, absolute)
        if why:
            absolute = relative = unsaid(absolute.estimate, alpha=rule.alpha, method="none")
        if found.covariates and not why:
            before = sum(float(found.raw_variance[place]) for place in places)
            reduction = 1 - float(difference(found, *places)[1]) / before
    return Effect(
        metric=metric.title,
        kind=metric.kind,
        better=metric.better,
        arm=arm,
        control=control,
        value=values.get(arm, math.nan),
        control_value=values.get(control, math.nan),
        difference=absolute,
        lift=relative,
        p_adjusted=absolute.p_value,
        status="unsaid" if why else "open",
        why=why,
        reduction=reduction,
    )


def judged(effect: Effect, p_adjusted: float, alpha: float) -> Effect:
    """The effect with its p-value adjusted for others, and what that says."""
    status: Status = effect.status
    if status != "unsaid":
        status = "open"
        if p_adjusted <= alpha:
            up = effect.difference.estimate > 0
            status = "better" if up == (effect.better == "higher") else "worse"
    return msgspec.structs.replace(effect, p_adjusted=p_adjusted, status=status)


def waiting(rule: Rule) -> str:
    """That the first planned look is not reached, if it is not."""
    if not rule.waits:
        return ""
    which = "first" if len(rule.looks) > 1 else "only"
    return f"the {which} look is planned at {round(min(rule.looks) * (rule.units or 0)):,} units"


def too_few(
    metric: Linear, moments: Mapping[str, Moments], control: str, arm: str, rule: Rule
) -> str:
    """Why the units are too few to say anything, if they are."""
    if rule.waits:
        return waiting(rule)
    fewest = _FEWEST if rule.method == "anytime" else 2
    for one in (control, arm):
        n = moments[one].n if one in moments else 0
        if n < fewest:
            return f"{one} has {n:,} of the {fewest} units that it takes"
    if isinstance(metric, Proportion):
        pair = [moments[control], moments[arm]]
        hits = round(sum(one.n * float(one.mean[0]) for one in pair))
        rarer = min(hits, sum(one.n for one in pair) - hits)
        if rarer < _FEWEST_EVENTS:
            side = "are" if rarer == hits else "are not"
            return f"only {rarer} units {side} {metric.title}; it takes {_FEWEST_EVENTS}"
        smaller = min((control, arm), key=lambda one: moments[one].n)
        expected = moments[smaller].n * rarer / sum(one.n for one in pair)
        if expected < _FEWEST_EVENTS:  # so few seem to have no variance at all
            need = math.ceil(_FEWEST_EVENTS * sum(one.n for one in pair) / rarer)
            return f"{smaller} has {moments[smaller].n:,} of the {need:,} units that it takes"
    return ""


def _unsaid_because(found: Estimates, places: tuple[int, int], absolute: Interval) -> str:
    pair = list(places)
    spread = np.sqrt(np.maximum(found.raw_variance[pair] * found.n[pair], 0.0))  # of one unit
    if (spread < _NO_SPREAD * abs(absolute.estimate)).all():
        return "within each arm all units have the same value, so nothing says how it varies"
    if math.isfinite(absolute.low):
        return ""
    if not np.isfinite(found.value[pair]).all():
        return "its value is not a finite number"
    if (found.raw_variance[pair] == 0).all():
        return "all units have the same value"
    return "its variance can't be told"


def _adjustment(design: Design) -> str:
    return {"pooled": "CUPED, one theta", "interacted": "Lin's interacted regression"}[
        design.adjustment
    ]
