"""Novelty: effects by days since a unit's first row, and whether late ones differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec
import numpy as np

from upturn.core.errors import Invalid
from upturn.improve.experiment.bounds import Rule
from upturn.improve.experiment.design import Design
from upturn.improve.experiment.effects import linear_effects
from upturn.improve.experiment.metrics import Column, Linear, Mean, Quantile, Ratio
from upturn.improve.experiment.moments import Moments
from upturn.improve.experiment.source import Source, quoted
from upturn.improve.experiment.units import Layout, units_of
from upturn.improve.statistics.interval import Interval

Trend = Literal["fades", "grows", "open", "unsaid"]


class DayEffect(msgspec.Struct, frozen=True, kw_only=True):
    """The effect on one day of a unit's experience, 0 the first."""

    day: int
    units: int
    difference: Interval


class Novelty(msgspec.Struct, frozen=True, kw_only=True):
    """How an effect on one metric goes on, by days since the first row of a unit.

    `change` is the effect a day in the second half of the days less that in the first, within the
    units that were there for all of them: their early and late days depend on each other.
    """

    metric: str
    arm: str
    days: tuple[DayEffect, ...]
    change: Interval
    trend: Trend


def novelty_of(
    design: Design, source: Source, *, arm: str, at: str, days: int
) -> tuple[Novelty, ...]:
    """The novelty of each mean, count and proportion. Raises Invalid without a unit."""
    if design.unit is None:
        raise Invalid(
            "Without a unit, nobody knows which rows are the first ones of whom.",
            hint='Give the experiment unit="user_id", say.',
        )
    if not 2 <= days <= 366:
        raise Invalid(f"{days} days are not between 2 and 366.")
    metrics = [one for one in design.metrics if not isinstance(one, Ratio | Quantile)]
    layout = Layout(tuple(design.arms), arm, design.unit, at)
    columns = [one for metric in metrics for one in metric.outcomes]
    units_of(source, layout, columns)  # what does not fit is said before anything is read
    made: list[Novelty] = []
    for metric in metrics:
        made += _of_metric(design, source, layout, metric, days)
    return tuple(made)


def _of_metric(
    design: Design, source: Source, layout: Layout, metric: Linear, days: int
) -> list[Novelty]:
    plain = _without_covariates(metric)
    by_day = _moments(source, layout, metric.outcomes[0], days, daily=True)
    halves = _moments(source, layout, metric.outcomes[0], days, daily=False)
    shown: dict[str, list[DayEffect]] = {arm: [] for arm in design.others}
    for day in range(days):
        there = {arm: found for (arm, at), found in by_day.items() if at == day}
        counts = {arm: found.n for arm, found in there.items()}
        for one in linear_effects(design, plain, there, counts, _rule(design, counts)):
            if one.status != "unsaid":
                effect = DayEffect(day=day, units=one.units, difference=one.difference)
                shown[one.arm].append(effect)
    arms = {arm: found for (arm, _), found in halves.items()}
    counts = {arm: found.n for arm, found in arms.items()}
    changes = linear_effects(design, plain, arms, counts, _rule(design, counts))
    return [
        Novelty(
            metric=metric.title,
            arm=one.arm,
            days=tuple(shown[one.arm]),
            change=one.difference,
            trend=_trend(design, shown[one.arm], one.difference, one.status == "unsaid"),
        )
        for one in changes
    ]


def _rule(design: Design, counts: Mapping[str, int]) -> Rule:
    return design.rule.at(sum(counts.values()))


def _trend(design: Design, days: list[DayEffect], change: Interval, unsaid: bool) -> Trend:
    if unsaid or not days:
        return "unsaid"
    if not change.p_value <= design.alpha:
        return "open"
    early = days[: max(1, len(days) // 2)]
    first = sum(one.difference.estimate for one in early)
    return "fades" if first * change.estimate < 0 else "grows"


def _moments(
    source: Source, layout: Layout, column: Column, days: int, *, daily: bool
) -> dict[tuple[str, int], Moments]:
    """Moments of a unit's value a day; a unit without a row on a day has 0 there.

    With `daily`, of each day since the first, over units whose day is over in the table; else, of
    the second half of the days less the first, over units that were there for all.
    """
    unit, at = quoted(layout.unit or ""), quoted(layout.at or "")
    arm = quoted(layout.arm or "")
    number = "1.0" if column.name is None else f"CAST({quoted(column.name)} AS DOUBLE)"
    made = {"mean": "avg", "max": "max", "min": "min"}.get(column.within, "sum")
    names = ", ".join("'" + one.replace("'", "''") + "'" for one in layout.arms)
    half = days // 2
    weigh = (
        "sum(x)"
        if daily
        else f"sum(CASE WHEN k >= {half} THEN x / {days - half} ELSE -x / {half} END)"
    )
    key = "k" if daily else "0 AS k"
    age = "s.k" if daily else str(days - 1)
    by = "arm, unit, k" if daily else "arm, unit"
    whole = "k" if daily else str(days - 1)
    query = f"""
        WITH exp_rows AS (
            SELECT {unit} AS unit, CAST({arm} AS VARCHAR) AS arm, {at} AS seen_at, {number} AS x
            FROM data WHERE {unit} IS NOT NULL AND CAST({arm} AS VARCHAR) IN ({names})
        ), exp_first AS (
            SELECT unit, arg_min(arm, seen_at) AS arm,
                CAST(min(seen_at) AS DATE) AS day FROM exp_rows GROUP BY unit
        ), exp_last AS (SELECT max(CAST(seen_at AS DATE)) AS day FROM exp_rows
        ), exp_daily AS (
            SELECT f.arm AS arm, f.unit AS unit, f.day AS day,
                date_diff('day', f.day, CAST(r.seen_at AS DATE)) AS k, {made}(x) AS x
            FROM exp_rows AS r JOIN exp_first AS f ON r.unit = f.unit
            WHERE isfinite(x) GROUP BY f.arm, f.unit, f.day, k HAVING k < {days}
        ), exp_there AS (
            SELECT arm, unit, {key}, {weigh} AS x FROM exp_daily, exp_last
            WHERE date_diff('day', exp_daily.day, exp_last.day) >= {whole} GROUP BY {by}
        ), exp_sums AS (SELECT arm, k, sum(x) AS s, sum(x * x) AS ss FROM exp_there GROUP BY arm, k
        ), exp_sizes AS (
            SELECT arm, date_diff('day', exp_first.day, exp_last.day) AS age, count(*) AS n
            FROM exp_first, exp_last GROUP BY arm, age
        )
        SELECT s.arm, s.k, any_value(s.s), any_value(s.ss), sum(z.n)
        FROM exp_sums AS s JOIN exp_sizes AS z ON z.arm = s.arm AND z.age >= {age}
        GROUP BY s.arm, s.k"""
    found: dict[tuple[str, int], Moments] = {}
    for name, day, total, squares, n in source.rows(query):
        found[str(name), int(day)] = _made(int(n), float(total), float(squares))
    return found


def _made(n: int, total: float, squares: float) -> Moments:
    mean = total / n
    return Moments(n, np.array([mean]), np.array([[max(0.0, squares - n * mean * mean)]]))


def _without_covariates(metric: Linear) -> Mean:
    return Mean(metric.title, better=metric.better)
