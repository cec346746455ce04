"""Segments: effects within the values of a column, and whether they differ."""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

from upturn.improve.experiment.bounds import Rule
from upturn.improve.experiment.design import Design
from upturn.improve.experiment.effects import judged, linear_effects
from upturn.improve.experiment.metrics import Linear, Quantile
from upturn.improve.experiment.result import Effect, Interaction, SegmentEffect
from upturn.improve.experiment.scan import Group, Key, merged, scan
from upturn.improve.experiment.source import Source
from upturn.improve.experiment.units import Units
from upturn.improve.statistics.multiplicity import benjamini_hochberg

_MOST = 20  # values of a column, those with the most units


def segment_effects(
    design: Design, source: Source, units: Units
) -> tuple[tuple[SegmentEffect, ...], tuple[Interaction, ...]]:
    """The effects in each segment and whether they differ between a column's values.

    Over all segments, metrics and arms, p-values are adjusted by Benjamini & Hochberg: at most a
    share `alpha` of what is found is expected to be false.
    """
    made: list[SegmentEffect] = []
    differ: list[Interaction] = []
    for place, column in enumerate(design.segments):
        groups = scan(source, units, design.linear, ["arm", f"s{place}"])
        for metric in design.metrics:
            if not isinstance(metric, Quantile):
                inside, between = _of_column(design, metric, column, groups)
                made += inside
                differ += between
    said = benjamini_hochberg([one.effect.difference.p_value for one in made])
    asked = benjamini_hochberg([one.p_value for one in differ])
    return (
        tuple(
            msgspec.structs.replace(one, effect=judged(one.effect, p, design.alpha))
            for one, p in zip(made, said, strict=True)
        ),
        tuple(
            msgspec.structs.replace(one, p_adjusted=p) for one, p in zip(differ, asked, strict=True)
        ),
    )


def _of_column(
    design: Design, metric: Linear, column: str, groups: Mapping[Key, Group]
) -> tuple[list[SegmentEffect], list[Interaction]]:
    sizes = {key[0]: group.units for key, group in merged(groups, [1]).items()}
    values = sorted(sizes, key=lambda value: (-sizes[value], value))[:_MOST]
    inside = {value: _effects(design, metric, groups, {value}) for value in values}
    others = {value: _effects(design, metric, groups, set(sizes) - {value}) for value in values}
    rule = _rule(design, groups)
    made = [
        SegmentEffect(segment=column, value=value, effect=effect)
        for value in values
        for effect in inside[value]
    ]
    differ = [
        found
        for place in range(len(design.others))
        if (found := _interaction(rule, column, place, inside, others)) is not None
    ]
    return made, differ


def _effects(
    design: Design, metric: Linear, groups: Mapping[Key, Group], values: set[str]
) -> list[Effect]:
    chosen = {key: group for key, group in groups.items() if key[1] in values}
    arms = {key[0]: group for key, group in merged(chosen, [0]).items()}
    place = design.linear.index(metric)
    moments = {arm: group.moments[place] for arm, group in arms.items()}
    counts = {arm: group.units for arm, group in arms.items()}
    return linear_effects(design, metric, moments, counts, _rule(design, groups))


def _interaction(
    rule: Rule,
    column: str,
    place: int,
    inside: Mapping[str, list[Effect]],
    others: Mapping[str, list[Effect]],
) -> Interaction | None:
    """The effect in each segment against that in all other units, which are independent of it.

    The least p-value counts, times the number of segments (Bonferroni): unlike a chi-square test
    of all together, it stays valid at every look where the p-values do.
    """
    found: list[tuple[float, float, str]] = []
    for value, effects in inside.items():
        one, rest = effects[place], others[value][place]
        if "unsaid" not in (one.status, rest.status):
            gap = one.difference.estimate - rest.difference.estimate
            n = one.units + rest.units
            variance = sum(_variance(rule, effect) for effect in (one, rest))
            z = abs(gap) / math.sqrt(variance)
            found.append((rule.interval(gap, variance, n).p_value, -z, value))
    if len(found) < 2:
        return None
    p_value, _, value = min(found)
    p_value = min(1.0, p_value * (1 if len(found) == 2 else len(found)))  # two ask the same
    return Interaction(
        segment=column,
        metric=inside[value][place].metric,
        arm=inside[value][place].arm,
        value=value,
        p_value=p_value,
        p_adjusted=p_value,
    )


def _rule(design: Design, groups: Mapping[Key, Group]) -> Rule:
    return design.rule.at(sum(group.units for group in groups.values()))


def _variance(rule: Rule, effect: Effect) -> float:
    reach = effect.difference.high - effect.difference.estimate
    return (reach / rule.multiplier(effect.units - effect.without)) ** 2
