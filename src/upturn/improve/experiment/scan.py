"""Scan: one query that makes the moments of all metrics, by arm and whatever else is asked."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations_with_replacement
from typing import Any

import numpy as np

from upturn.improve.experiment.metrics import Column, Linear, Proportion
from upturn.improve.experiment.moments import Moments, from_sums, lost
from upturn.improve.experiment.source import Source
from upturn.improve.experiment.units import Units, check_share

Key = tuple[Any, ...]
_PASSES = 4


@dataclass(frozen=True, slots=True)
class Group:
    """The units with one key: how many, and each metric's moments."""

    units: int
    moments: tuple[Moments, ...]  # in the order of the metrics

    def __add__(self, other: Group) -> Group:
        pairs = zip(self.moments, other.moments, strict=True)
        return Group(self.units + other.units, tuple(one + two for one, two in pairs))


def merged(groups: Mapping[Key, Group], keys: Sequence[int]) -> dict[Key, Group]:
    """The groups with only some places of their keys: parts add up to the whole."""
    made: dict[Key, Group] = {}
    for key, group in groups.items():
        short = tuple(key[place] for place in keys)
        made[short] = made[short] + group if short in made else group
    return made


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a first look at the numbers has shown: which lack values, and about where they lie."""

    incomplete: frozenset[str] = frozenset()
    shifts: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True, slots=True)
class _Variables:
    """A metric's numbers in SQL, and which units it counts."""

    condition: str  # "" for all units
    numbers: tuple[str, ...]


def scan(
    source: Source, units: Units, metrics: Sequence[Linear], keys: Sequence[str]
) -> dict[Key, Group]:
    """The moments of metrics by keys ("arm", "day", "s0"), in one pass over the table.

    A metric's moments are of its outcomes, then its covariates. A unit without an outcome is left
    out of that metric. A covariate that lacks values is 0 there, and whether it is there becomes
    another covariate.

    The pass takes sums of products of shifted values. Where it turns out that values are missing
    or not finite, or that a shift was too far from the mean to keep the digits, it is repeated.
    """
    plan = _first_look(source, units)
    left = _PASSES  # values so large that their squares are infinite stay so in any pass
    while True:
        query = _Query(units, metrics, plan)
        rows = source.rows(query.sql(keys))
        better = query.revised(rows, len(keys))
        left -= 1
        if better == plan or not left:
            return {row[: len(keys)]: query.group(row[len(keys) :]) for row in rows}
        plan = better


def _first_look(source: Source, units: Units) -> _Plan:
    names = [f"c{place}" for place in range(len(units.columns))]
    if not names:
        return _Plan()
    means = ", ".join(f"avg({one}) FILTER (isfinite({one})), count({one})" for one in names)
    [(count, *found)] = source.rows(f"SELECT count(*), {means} FROM ({units.sql(head=True)})")
    shifts = {
        name: float(mean) for name, mean in zip(names, found[::2], strict=True) if mean is not None
    }
    lacking = {name for name, known in zip(names, found[1::2], strict=True) if known < count}
    return _Plan(frozenset(lacking), {k: v if math.isfinite(v) else 0.0 for k, v in shifts.items()})


def _variables(metric: Linear, units: Units, plan: _Plan) -> _Variables:
    outcomes = [units.place(one) for one in metric.outcomes]
    condition = " AND ".join(f"isfinite({one})" for one in outcomes if one in plan.incomplete)
    numbers = [*outcomes]
    for name in map(units.place, metric.covariates):
        if name in plan.incomplete:
            numbers.append(f"CASE WHEN isfinite({name}) THEN {name} ELSE 0 END")
            numbers.append(f"CASE WHEN isfinite({name}) THEN 1.0::DOUBLE ELSE 0 END")
        else:
            numbers.append(name)
    if condition:
        numbers = [f"CASE WHEN {condition} THEN {number} END" for number in numbers]
    return _Variables(condition, tuple(numbers))


class _Query:
    """The SQL of a pass, and how its rows become moments."""

    def __init__(self, units: Units, metrics: Sequence[Linear], plan: _Plan) -> None:
        asked = [_variables(metric, units, plan) for metric in metrics]
        self._units, self._plan, self._asked = units, plan, asked
        self._places: dict[str, int] = {}  # expression → place in a row
        self._put("count(*)")
        for name in self._columns():
            self._put(f"count({name})")
        for metric, one in zip(metrics, asked, strict=True):
            self._put(_count(one.condition))
            for sums in self._sums(one):
                self._put(sums)
            if isinstance(metric, Proportion):
                self._put(self._wrong(metric))
        self._shares = [metric for metric in metrics if isinstance(metric, Proportion)]

    def sql(self, keys: Sequence[str]) -> str:
        by = ", ".join(keys)
        found = ", ".join([*keys, *self._places])
        return f"SELECT {found} FROM ({self._units.sql()}) GROUP BY {by} ORDER BY {by}"

    def group(self, row: Sequence[Any]) -> Group:
        made = tuple(self._moments(one, row) for one in self._asked)
        return Group(int(self._at(row, "count(*)")), made)

    def revised(self, rows: Sequence[Sequence[Any]], skip: int) -> _Plan:
        """The plan with what these rows showed."""
        incomplete = set(self._plan.incomplete)
        shifts = dict(self._plan.shifts)
        for full in rows:
            row = full[skip:]
            units = self._at(row, "count(*)")
            incomplete |= {one for one in self._columns() if self._at(row, f"count({one})") < units}
            for metric in self._shares:
                check_share(int(self._at(row, self._wrong(metric))), metric.column)
        for one in self._asked:
            self._revise(one, [row[skip:] for row in rows], incomplete, shifts)
        return _Plan(frozenset(incomplete), shifts)

    def _revise(
        self,
        one: _Variables,
        rows: Sequence[Sequence[Any]],
        incomplete: set[str],
        shifts: dict[str, float],
    ) -> None:
        for number in one.numbers:
            shift = self._shift(number)
            counts = [float(self._at(row, _count(one.condition))) for row in rows]
            sums = [float(self._at(row, _sum(number, shift)) or 0) for row in rows]
            squares = [
                float(self._at(row, _product(number, shift, number, shift)) or 0) for row in rows
            ]
            if not np.isfinite([*sums, *squares]).all():
                incomplete |= {name for name in self._columns() if name in number}
            else:
                total = sum(counts)
                far = lost(int(total), np.array([sum(sums)]), np.array([sum(squares)]))
                if far[0] and total:
                    shifts[number] = shift + sum(sums) / total

    def _columns(self) -> list[str]:
        return [f"c{place}" for place in range(len(self._units.columns))]

    def _put(self, expression: str) -> None:
        self._places.setdefault(expression, len(self._places))

    def _at(self, row: Sequence[Any], expression: str) -> Any:
        return row[self._places[expression]]

    def _wrong(self, metric: Proportion) -> str:
        name = self._units.place(Column(metric.column, "max"))
        return f"count(*) FILTER ({name} <> 0 AND {name} <> 1)"

    def _shift(self, number: str) -> float:
        return self._plan.shifts.get(number, 0.0)

    def _sums(self, one: _Variables) -> Iterator[str]:
        yield from (_sum(number, self._shift(number)) for number in one.numbers)
        for a, b in combinations_with_replacement(one.numbers, 2):
            yield _product(a, self._shift(a), b, self._shift(b))

    def _moments(self, one: _Variables, row: Sequence[Any]) -> Moments:
        k = len(one.numbers)
        shift = np.array([self._shift(number) for number in one.numbers])
        sums, products = np.zeros(k), np.zeros((k, k))
        for i, a in enumerate(one.numbers):
            sums[i] = self._at(row, _sum(a, shift[i])) or 0.0
            for j in range(i, k):
                found = self._at(row, _product(a, shift[i], one.numbers[j], shift[j])) or 0.0
                products[i, j] = products[j, i] = found
        return from_sums(int(self._at(row, _count(one.condition))), shift, sums, products)


def _count(condition: str) -> str:
    return f"count(*) FILTER ({condition})" if condition else "count(*)"


def _less(number: str, shift: float) -> str:
    return f"({number} - {float(shift)!r}::DOUBLE)" if shift else number


def _sum(number: str, shift: float) -> str:
    return f"sum({_less(number, shift)})"


def _product(a: str, shift_a: float, b: str, shift_b: float) -> str:
    return f"sum({_less(a, shift_a)} * {_less(b, shift_b)})"
