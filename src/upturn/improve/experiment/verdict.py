"""Verdict: in one sentence, what may be concluded from an experiment now."""

from __future__ import annotations

import math

from upturn.improve.experiment.bounds import Rule
from upturn.improve.experiment.design import Design
from upturn.improve.experiment.result import Analysis, Effect, GuardrailSeen
from upturn.improve.statistics.interval import Interval

_LONG = 365  # days: beyond, a forecast says nothing
_MUCH = 20  # times the units that are there


def sentence(design: Design, found: Analysis) -> str:
    """What may be concluded; nothing, as long as the arms do not have the sizes they should."""
    if not found.units:
        return "Nothing can be said yet: no unit of any arm is there."
    if found.mismatch.found:
        return _mismatch(found)
    clauses = [clause for arm in design.others if (clause := _arm(design, found, arm))]
    if clauses:
        return f"{'; '.join(clauses)}; {_until_when(design, found)}."
    return _nothing(design, found)


def _mismatch(found: Analysis) -> str:
    total = found.units
    worst = max(found.arms, key=lambda one: abs(one.units - total * one.expected))
    return (
        f"Don't read it: sample ratio mismatch, p = {p_text(found.mismatch.p_value)}: "
        f"{worst.arm} has {worst.units:,} of {total:,} units where {total * worst.expected:,.0f} "
        "were expected; find out why before anything else."
    )


def _arm(design: Design, found: Analysis, arm: str) -> str:
    """What is shown of an arm, or nothing."""
    shown = [one for one in found.effects if one.arm == arm and one.status in ("better", "worse")]
    rails = [one for one in found.guardrails if one.effect.arm == arm]
    failed = [one for one in rails if one.status == "failed"]
    if not shown and not failed:
        return ""
    parts = [
        f"{'raises' if one.difference.estimate > 0 else 'lowers'} {_said(one)}" for one in shown
    ]
    parts += [f"fails the guardrail {_rail(one)}" for one in failed]
    waiting = [one.effect.metric for one in rails if one.status in ("open", "unsaid")]
    passed = [one.effect.metric for one in rails if one.status == "passed"]
    clause = f"{arm} {_listed(parts)}"
    if passed:
        clause += f", and {_listed(passed)} {'is' if len(passed) == 1 else 'are'} within the margin"
    if waiting and not failed:
        clause += f", but {_listed(waiting)} is not shown to be within the margin yet"
    worse = [one for one in shown if one.status == "worse"]
    if failed or (worse and len(worse) == len(shown)):
        return f"{clause}: {arm} does harm"
    return f"{clause}: a trade to decide" if worse else clause


def _until_when(design: Design, found: Analysis) -> str:
    if any(_waits(found, arm) for arm in design.others):
        return "go on until the guardrails have an answer"
    if design.method == "anytime":
        return "this holds at every look: it may be stopped now"
    if design.method == "fixed":
        return "this holds for one look, at a time that was planned before"
    return "this holds at the planned looks: it may be stopped now"


def _waits(found: Analysis, arm: str) -> bool:
    """Whether an arm looks good, and its guardrails have no answer yet."""
    better = any(one.arm == arm and one.status == "better" for one in found.effects)
    rails = {one.status for one in found.guardrails if one.effect.arm == arm}
    return better and "failed" not in rails and bool(rails & {"open", "unsaid"})


def _nothing(design: Design, found: Analysis) -> str:
    unsaid = [one for one in found.effects if one.status == "unsaid"]
    if len(unsaid) == len(found.effects):
        return f"Nothing can be said yet: {unsaid[0].metric}: {unsaid[0].why}."
    said = [one for one in found.effects if one.status != "unsaid"]
    closest = min(said, key=lambda one: (one.p_adjusted, one.difference.p_value))
    text = (
        f"Nothing can be said yet: {closest.arm} {_moved(closest)}, which may be chance, with "
        f"{found.units:,} units"
    )
    if closest.difference.p_value <= design.alpha:
        text += f", of {len(said)} comparisons (p = {p_text(closest.p_adjusted)} after correction)"
    return f"{text}; {_how_long(design, found, closest)}."


def _how_long(design: Design, found: Analysis, effect: Effect) -> str:
    rule = design.rule.at(found.units)
    if design.method == "group-sequential":
        following = [one for one in rule.looks if one > found.units / (rule.units or 1)]
        if not following:
            return "that was the last look"
        return f"the next look is planned at {round(following[0] * (rule.units or 0)):,} units"
    if design.method == "fixed":
        return "of one look, that is the answer: looking again later needs another method"
    needed = units_to_show(effect, rule, found.units)
    more = needed - found.units
    days = None
    if found.since is not None and found.until is not None:
        days = more / found.units * ((found.until - found.since).days + 1)
    if days is not None and days > _LONG:
        return "a difference so small would not be shown within a year"
    if needed > _MUCH * found.units:
        return f"a difference so small would take more than {_MUCH} times as many"
    if more < 1:
        return "it is at the edge"
    if days is None:
        return f"if it is as large as it looks, it takes about {_rounded(more):,} more units"
    whole = max(1, math.ceil(days))
    return (
        f"if it is as large as it looks, at this rate about {whole:,} more "
        f"{'day' if whole == 1 else 'days'}"
    )


def units_to_show(effect: Effect, rule: Rule, units: int) -> float:
    """How many units it takes until an effect as large as that seen is outside its interval."""
    seen = abs(effect.difference.estimate)
    reach = effect.difference.high - effect.difference.estimate
    if not (seen > 0 and math.isfinite(reach)):
        return math.inf
    # reach² = multiplier² · V / n, of which V stays
    variance = (reach / rule.multiplier(units)) ** 2 * units
    low, high = float(units), float(units)
    while rule.multiplier(high) ** 2 * variance / high > seen * seen:
        high *= 2
        if high > 1e15:
            return math.inf
    for _ in range(60):
        middle = (low + high) / 2
        enough = rule.multiplier(middle) ** 2 * variance / middle <= seen * seen
        low, high = (low, middle) if enough else (middle, high)
    return high


def _said(effect: Effect) -> str:
    return f"{effect.metric} by {change_text(effect)} (p = {p_text(effect.p_adjusted)})"


def _moved(effect: Effect) -> str:
    return f"changes {effect.metric} by {change_text(effect, signed=True)}"


def _rail(one: GuardrailSeen) -> str:
    margin = f"{one.margin:.3g}" if not one.relative else f"{one.margin:.3g} of the control"
    return f"{one.effect.metric} ({change_text(one.effect, signed=True)}, margin {margin})"


def change_text(effect: Effect, *, signed: bool = False) -> str:
    """The lift with its interval in per cent, or the difference where there is no lift."""
    lift = effect.lift
    if math.isfinite(lift.low) and math.isfinite(lift.high):
        return interval_text(lift, per_cent=True, signed=signed)
    return interval_text(effect.difference, signed=signed)


def interval_text(found: Interval, *, per_cent: bool = False, signed: bool = False) -> str:
    """An estimate with its interval; unsigned, one that is negative is said by its size.

    >>> from upturn.improve.experiment.bounds import Rule
    >>> interval_text(Rule("fixed").interval(0.021, 0.00008, 1000), per_cent=True)
    '2.1 % [0.3, 3.9]'
    """
    value, low, high = found.estimate, found.low, found.high
    if value < 0 and not signed:
        value, low, high = -value, -high, -low
    if per_cent:
        places = 1 if abs(value) >= 0.001 else 2
        sign = "+" if signed else ""
        ends = f"[{100 * low:{sign}.{places}f}, {100 * high:{sign}.{places}f}]"
        return f"{100 * value:{sign}.{places}f} % {ends}"
    form = "+.4g" if signed else ".4g"
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"


def p_text(p: float) -> str:
    """A p-value for people.

    >>> p_text(0.0312), p_text(3.2e-12), p_text(0.00004)
    ('0.031', '3e-12', '4e-05')
    """
    if p < 1e-300:  # beyond what a float64 holds with all its digits
        return "1e-300 or less"
    return f"{p:.2g}" if p >= 0.001 else f"{p:.0e}"


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _rounded(number: float) -> int:
    size = 10 ** max(0, math.floor(math.log10(max(1.0, number))) - 1)
    return round(number / size) * size
