"""Analysis of a table: what an experiment's rows say so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import cast

import msgspec

from upturn.core.errors import NotFound
from upturn.improve.experiment.bounds import Rule
from upturn.improve.experiment.design import Design
from upturn.improve.experiment.effects import effects_of, judged, linear_effects, waiting
from upturn.improve.experiment.guardrails import guarded
from upturn.improve.experiment.metrics import Column, Linear, Metric, Quantile
from upturn.improve.experiment.mismatch import sample_ratio
from upturn.improve.experiment.moments import Moments
from upturn.improve.experiment.quantiles import quantile_estimates
from upturn.improve.experiment.result import Analysis, ArmSeen, Effect, Point
from upturn.improve.experiment.scan import Group, Key, merged, scan
from upturn.improve.experiment.segments import segment_effects
from upturn.improve.experiment.source import Source, quoted
from upturn.improve.experiment.units import Layout, Units, left_out, units_of
from upturn.improve.experiment.verdict import sentence
from upturn.improve.statistics.multiplicity import adjusted

_MANY_MIXED = 0.01


def analyze_source(
    design: Design, source: Source, *, arm: str, at: str | None, notes: Sequence[str] = ()
) -> Analysis:
    """What the rows of a table say. Raises NotFound or Invalid for columns that don't fit."""
    layout = Layout(tuple(design.arms), arm, design.unit, at, design.segments)
    units = units_with_clips(source, layout, design.linear)
    keys = ["arm"] if at is None else ["arm", "day"]
    groups = scan(source, units, design.linear, keys)
    arms = {key[0]: group for key, group in merged(groups, [0]).items()}
    counts = {name: arms[name].units if name in arms else 0 for name in design.arms}
    rule = design.rule.at(sum(counts.values()))
    effects = _effects(design, source, units, arms, rule)
    left = left_out(source, units)
    if left.other_arms and not sum(counts.values()):
        raise _no_arm(design, source, units)
    days = [key[1] for key in groups if len(key) > 1 and key[1] is not None]
    judged_effects = _judged(design, effects)
    segments, interactions = segment_effects(design, source, units)
    found = Analysis(
        experiment=design.name,
        method=design.method,
        alpha=design.alpha,
        correction=design.correction,
        control=design.control,
        arms=tuple(
            ArmSeen(arm=name, units=counts[name], expected=share)
            for name, share in design.arms.items()
        ),
        mismatch=sample_ratio(counts, design.arms),
        effects=judged_effects,
        guardrails=tuple(
            guarded(one, effect) for one in design.guardrails for effect in effects[one.metric]
        ),
        segments=segments,
        interactions=interactions,
        over_time=tuple(_over_time(design, groups)) if at is not None else (),
        since=min(days, default=None),
        until=max(days, default=None),
        mixed=left.mixed,
        other_arms=left.other_arms,
        no_unit=left.no_unit,
        notes=(*notes, *_notes(counts, left.mixed, at)),
    )
    return msgspec.structs.replace(found, verdict=sentence(design, found))


def _no_arm(design: Design, source: Source, units: Units) -> NotFound:
    name = units.layout.arm or ""
    column = f"CAST({quoted(name)} AS VARCHAR)"
    there = source.rows(f"SELECT {column} AS arm FROM data GROUP BY arm ORDER BY arm LIMIT 9")
    shown = ", ".join(repr(row[0]) for row in there if row[0] is not None)
    return NotFound(
        f"The column {name!r} has none of the arms {', '.join(map(repr, design.arms))}.",
        hint=f"It has: {shown}." if shown else "It is empty.",
    )


def units_with_clips(source: Source, layout: Layout, metrics: Sequence[Linear]) -> Units:
    """The units, with the values of winsorised columns clipped at quantiles of all arms together.

    The arms are taken together, so that the ends are the same for both and no arm's gain is cut
    away by the other's.
    """
    columns = [one for metric in metrics for one in (*metric.outcomes, *metric.covariates)]
    units = units_of(source, layout, columns)
    clipped = [one for one in units.columns if one.winsorize is not None]
    if not clipped:
        return units
    asked = ", ".join(
        f"quantile_cont({units.place(one)}, {[1 - one.winsorize, one.winsorize]})"
        for one in clipped
        if one.winsorize is not None
    )
    [row] = source.rows(f"SELECT {asked} FROM ({units.sql()})")
    ends = {one: (found[0], found[1]) for one, found in zip(clipped, row, strict=True) if found}
    return units.clipped(ends)


def _effects(
    design: Design,
    source: Source,
    units: Units,
    arms: Mapping[str, Group],
    rule: Rule,
) -> dict[Metric, list[Effect]]:
    made: dict[Metric, list[Effect]] = {}
    counts = {name: group.units for name, group in arms.items()}
    for metric in design.asked:
        if isinstance(metric, Quantile):
            made[metric] = _quantile_effects(design, source, units, metric, rule)
            continue
        moments = _moments(design, metric, arms)
        found = linear_effects(design, metric, moments, counts, rule)
        clip = units.clips.get(_clipped(metric))
        made[metric] = [msgspec.structs.replace(one, clipped=clip) for one in found]
    return made


def _quantile_effects(
    design: Design, source: Source, units: Units, metric: Quantile, rule: Rule
) -> list[Effect]:
    arms = list(design.arms)
    found, why = quantile_estimates(source, units, metric, arms)
    why = why or waiting(rule)
    return [
        msgspec.structs.replace(
            effects_of(metric, found, arms, design.control, arm, rule, why),
            units=int(found.n[arms.index(arm)] + found.n[arms.index(design.control)]),
        )
        for arm in design.others
    ]


def _moments(design: Design, metric: Linear, arms: Mapping[str, Group]) -> dict[str, Moments]:
    place = design.linear.index(metric)
    return {name: group.moments[place] for name, group in arms.items()}


def _clipped(metric: Linear) -> Column:
    return metric.outcomes[0]


def _judged(design: Design, effects: Mapping[Metric, list[Effect]]) -> tuple[Effect, ...]:
    family = [one for metric in design.metrics for one in effects[metric]]
    p_values = adjusted([one.difference.p_value for one in family], design.correction)
    return tuple(judged(one, p, design.alpha) for one, p in zip(family, p_values, strict=True))


def _over_time(design: Design, groups: Mapping[Key, Group]) -> list[Point]:
    """The effects on the units that had come in by each day: groups add up.

    Intervals for one look are not drawn at every day: nobody is to be led into looking.
    """
    if design.method == "fixed":
        return []
    days = sorted({cast("date", key[1]) for key in groups if key[1] is not None})
    reached: dict[str, Group] = {}
    made: list[Point] = []
    for day in days:
        for arm in design.arms:
            if (arm, day) in groups:
                group = groups[arm, day]
                reached[arm] = reached[arm] + group if arm in reached else group
        made += [
            point
            for metric in design.metrics
            if not isinstance(metric, Quantile)
            for point in _points(design, metric, reached, day)
        ]
    return made


def _points(design: Design, metric: Linear, reached: Mapping[str, Group], day: date) -> list[Point]:
    counts = {arm: group.units for arm, group in reached.items()}
    moments = _moments(design, metric, reached)
    rule = design.rule.at(sum(counts.values()))
    return [
        Point(
            day=day,
            metric=metric.title,
            arm=one.arm,
            units=one.units,
            difference=one.difference,
            lift=one.lift,
        )
        for one in linear_effects(design, metric, moments, counts, rule)
        if one.status != "unsaid"
    ]


def _notes(counts: Mapping[str, int], mixed: int, at: str | None) -> list[str]:
    made: list[str] = []
    total = sum(counts.values())
    if mixed:
        kept = "count in the arm that they saw first" if at else "are left out"
        made.append(f"{mixed:,} units were seen in two arms; they {kept}.")
    if mixed > _MANY_MIXED * max(1, total):
        made.append("So many units in two arms blur any difference: look at the assignment.")
    return made
