"""TableDrift: how far one table is from another, or from a profile, without any endpoint."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import reduce
from operator import add
from typing import Any

import msgspec
import numpy as np
import pyarrow.types as pt
from numpy.typing import NDArray

from upturn.core.errors import Invalid, NotFound, did_you_mean
from upturn.core.records import Version
from upturn.core.schema import ColumnProfile, Profile
from upturn.improve.monitor.alarms import LIMIT, PATIENCE, Alarm, check_alarms, judge
from upturn.improve.monitor.classifier import DomainShift, tell_apart
from upturn.improve.monitor.distances import exact_distances, psi
from upturn.improve.monitor.drift import Drift, drift_of
from upturn.improve.monitor.grouping import (
    Grouping,
    by_value,
    by_window,
    spans_of,
    times,
    top_values,
)
from upturn.improve.monitor.report import Distribution
from upturn.improve.monitor.symptom import Symptom
from upturn.improve.monitor.symptoms import ranked, symptoms_of
from upturn.improve.monitor.windows import Windows
from upturn.model.profile import each, profile_source
from upturn.model.profile_counts import Counts, count_by, count_into, counts_of, slots
from upturn.model.profile_source import Source, check_column, open_source
from upturn.model.profile_values import numbers
from upturn.model.tables import field_type

EXACT = 1 << 21  # rows of each side, up to which distances are taken from the values themselves
TOP = 10
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class TableSegment(msgspec.Struct, frozen=True, kw_only=True):
    """The rows with one value of a column; `value` is None for all but the most frequent.

    `drift` is from the same segment of the table before, or from all of a profile's rows.
    """

    column: str
    value: str | None
    rows: int
    drift: tuple[Drift, ...]  # most drifted first

    @property
    def name(self) -> str:
        """'origin=JFK'."""
        return f"{self.column}={'(others)' if self.value is None else self.value}"


class TableWindow(msgspec.Struct, frozen=True, kw_only=True):
    """One window of time: its rows, and the PSI beyond chance of each column, from 0 up."""

    name: str
    since: datetime
    until: datetime
    rows: int
    psi: dict[str, float]


class TableDrift(msgspec.Struct, frozen=True, kw_only=True):
    """How far a table is from what was before: by column, by window of time and by segment.

    `drift` has the most drifted column first, `symptoms` the worst; `alarms` are of the last
    window. `left_out` are columns that one side lacks, or that always move on, as dates do.
    """

    rows_before: int
    rows: int
    symptoms: tuple[Symptom, ...]
    drift: tuple[Drift, ...]
    windows: tuple[TableWindow, ...]
    every: str | None
    segments: tuple[TableSegment, ...]
    alarms: tuple[Alarm, ...]
    distributions: tuple[Distribution, ...]
    left_out: tuple[str, ...]
    shift: DomainShift | None = None


def compare_tables(
    before: Any,
    now: Any,
    *,
    columns: Sequence[str] | None = None,
    time: str | None = None,
    every: str | None = None,
    segments: Sequence[str] = (),
    classifier: bool = False,
    limit: float = LIMIT,
    patience: float = PATIENCE,
    seed: int = 0,
    threads: int | None = None,
) -> TableDrift:
    """How far `now` is from `before`: by column, and by window and segment in the same pass.

    `now` is any table, or the path of Parquet or CSV; `before` too, or a Profile, or a Version,
    which has one. Columns that both have are compared, without dates and times, or those named: a
    prediction or a label is a column like any other. `time` names a column of times: then there
    are windows of length `every` ('1d', '7d', 'month'), and alarms (see alarms.py), for which the
    windows of `before`, if it has that column too, say what is usual. `segments` name columns of
    which the ten most frequent values are told apart. With `classifier`, a domain classifier is
    trained on a sample of both (see classifier.py; it needs scikit-learn and two tables). Distances
    are of the values themselves where both tables have two million rows at most, else of bins, with
    their error. Raises NotFound for what is not there, Invalid for what can't be compared.

    >>> found = compare_tables({"x": [1.0, 2.0, 3.0]}, {"x": [2.0, 3.0, 4.0]})
    >>> round(found.drift[0].ks, 3), found.drift[0].ks_error
    (0.333, 0.0)
    """
    check_alarms(limit, patience)
    after = open_source(now)
    saved = _saved(before)
    past = None if saved is not None else open_source(before)
    if classifier and past is None:
        raise Invalid(
            "A profile has no rows to train a classifier on.", hint="Compare with a table instead."
        )
    theirs = [one.name for one in saved.columns] if saved is not None else []
    names = _names(after, list(past.types) if past is not None else theirs, columns, time)
    profile = saved if past is None else profile_source(past, names, threads=threads)
    assert profile is not None
    groups = _Groups.of(past, after, time, every, segments)

    def one(name: str) -> _Column:
        return _column(profile.column(name), past, after, groups)

    found = each(one, names, after.rows, threads)
    apart = _segments(found, groups)
    raised = _alarms(found, groups, limit, patience)
    drifts = tuple(sorted((each.drift for each in found), key=_by_excess))
    spans = _windows(found, groups)
    by_start = {window.since: window.psi for window in spans}
    return TableDrift(
        rows_before=profile.rows,
        rows=after.rows,
        symptoms=ranked(symptoms_of(drifts, by_start, apart, raised)),
        drift=drifts,
        windows=spans,
        every=groups.spans.every if groups.spans is not None else None,
        segments=apart,
        alarms=tuple(raised),
        distributions=tuple(column.distribution for column in found),
        left_out=tuple(sorted({*after.types, *theirs, *(past.types if past else ())} - {*names})),
        shift=tell_apart(before, now, columns=names, time=time, seed=seed) if classifier else None,
    )


# What is compared


def _saved(before: Any) -> Profile | None:
    if isinstance(before, Version):
        return before.profile
    return before if isinstance(before, Profile) else None


def _names(
    after: Source, before: Sequence[str], columns: Sequence[str] | None, time: str | None
) -> list[str]:
    """The columns to compare, in the order of the table before."""
    for name in columns or ():
        check_column(after, name)
        if name not in before:
            raise NotFound(
                f"The table before has no column {name!r}.", hint=did_you_mean(name, before)
            )
    found = [
        name
        for name in before
        if name in after.types
        and field_type(after.types[name]) is not None
        and (name in columns if columns is not None else _stays(after.types[name]))
        and name != time
    ]
    if not found:
        raise Invalid(
            "The tables have no column in common that could be compared.",
            hint="Dates and times are compared only if they are named.",
        )
    return found


def _stays(kind: Any) -> bool:
    """Whether values of that type can be as they were: dates always move on."""
    return not pt.is_timestamp(kind) and not pt.is_date(kind)


@dataclass(frozen=True, slots=True)
class _Groups:
    """How the rows of both tables are told apart."""

    spans: Windows | None = None
    windows: Grouping | None = None
    past: Grouping | None = None  # windows of the table before
    values: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    segments: dict[str, Grouping] = field(default_factory=dict[str, Grouping])
    segments_before: dict[str, Grouping] = field(default_factory=dict[str, Grouping])

    @staticmethod
    def of(
        before: Source | None,
        after: Source,
        time: str | None,
        every: str | None,
        segments: Sequence[str],
    ) -> _Groups:
        if time is None and every is not None:
            raise Invalid("Windows need a time.", hint="Name the column of times: time='at'.")
        spans = windows = past = None
        if time is not None:
            at = times(after, time)
            spans = spans_of(at, every)
            windows = by_window(at, spans)
            if before is not None and time in before.types:
                at = times(before, time)
                past = by_window(at, spans_of(at, spans.every))
        values = {name: top_values(after, name, TOP) for name in segments}
        return _Groups(
            spans,
            windows,
            past,
            values,
            {name: by_value(after, name, values[name]) for name in segments},
            {
                name: by_value(before, name, values[name])
                for name in segments
                if before is not None and name in before.types
            },
        )


# One column


@dataclass(frozen=True, slots=True)
class _Column:
    """What is found of one column: counts are of places, missing and unseen last."""

    profile: ColumnProfile
    drift: Drift
    counts: Ints
    windows: Ints | None  # (windows, places)
    past: Ints | None
    segments: dict[str, Ints]
    segments_before: dict[str, Ints]

    @property
    def before(self) -> Ints:
        one = self.profile
        return np.array([*one.counts, one.missing, one.other], np.int64)

    @property
    def distribution(self) -> Distribution:
        one, now = self.profile, counts_of(self.counts)
        return Distribution(
            column=one.name,
            kind=one.kind,
            edges=one.edges,
            values=one.values,
            before=one.counts,
            now=now.counts,
            missing=(one.missing, now.missing),
            other=(one.other, now.unseen),
        )


def _column(
    profile: ColumnProfile | None, before: Source | None, after: Source, groups: _Groups
) -> _Column:
    assert profile is not None
    every = {name: group for name, group in groups.segments.items() if name != profile.name}
    counts, tables = _counted(profile, after, [groups.windows, *every.values()])
    found = drift_of(profile, counts)
    past: list[Ints | None] = []
    theirs = {name: group for name, group in groups.segments_before.items() if name in every}
    if before is not None:
        if profile.kind == "number" and max(before.rows, after.rows) <= EXACT:
            found = _exactly(found, profile, before, after)
        if groups.past is not None or theirs:
            _, past = _counted(profile, before, [groups.past, *theirs.values()])
    of_past = dict(zip(theirs, past[1:], strict=True)) if past else {}
    return _Column(
        profile,
        found,
        np.array([*counts.counts, counts.missing, counts.unseen], np.int64),
        tables[0],
        past[0] if past else None,
        {name: table for name, table in zip(every, tables[1:], strict=True) if table is not None},
        {name: table for name, table in of_past.items() if table is not None},
    )


def _counted(
    profile: ColumnProfile, source: Source, groupings: Sequence[Grouping | None]
) -> tuple[Counts, list[Ints | None]]:
    """The column's counts, and those by each grouping, in one pass."""
    parts: list[Counts] = []
    tables: list[Ints | None] = [None] * len(groupings)
    at = 0
    for array in source.parts(profile.name):
        parts.append(count_into(profile, array))
        for place, group in enumerate(groupings):
            if group is None:
                continue
            codes = group.codes[at : at + len(array)]
            made = count_by(profile, array, codes, group.size)
            so_far = tables[place]
            tables[place] = made if so_far is None else so_far + made
        at += len(array)
    empty = counts_of(np.zeros(slots(profile) + 2, np.int64))
    return reduce(add, parts, empty), tables


def _exactly(found: Drift, profile: ColumnProfile, before: Source, after: Source) -> Drift:
    """The drift with distances of the values themselves."""
    one, other = (_sorted(source, profile.name) for source in (before, after))
    distance, area = exact_distances(one, other)
    if math.isnan(distance):
        return found
    found = msgspec.structs.replace(found, ks=distance, ks_error=0.0)
    if math.isnan(area) or not profile.std:
        return found
    return msgspec.structs.replace(found, wasserstein=area / profile.std, wasserstein_error=0.0)


def _sorted(source: Source, name: str) -> Floats:
    parts = [numbers(array) for array in source.parts(name)]
    found = np.concatenate(parts) if parts else np.empty(0)
    found.sort()  # nan comes last
    return found[: len(found) - np.count_nonzero(np.isnan(found))]


# What it comes to


def _by_excess(one: Drift) -> tuple[float, str]:
    return -np.nan_to_num(one.excess), one.column


def _windows(found: Sequence[_Column], groups: _Groups) -> tuple[TableWindow, ...]:
    spans = groups.spans
    if spans is None or groups.windows is None:
        return ()
    codes = groups.windows.codes
    rows = np.bincount(codes[codes >= 0], minlength=len(spans))
    index, chance = _figures(found, [(one.before, one.windows) for one in found], len(spans))
    excess = np.maximum(index - chance, 0.0)
    return tuple(
        TableWindow(
            name=spans.name(place),
            since=spans.starts[place],
            until=spans.starts[place + 1],
            rows=int(rows[place]),
            psi={
                one.profile.name: float(value)
                for one, value in zip(found, excess[:, place], strict=True)
            },
        )
        for place in range(len(spans))
        if rows[place]
    )


def _alarms(
    found: Sequence[_Column], groups: _Groups, limit: float, patience: float
) -> list[Alarm]:
    if groups.spans is None:
        return []
    names = [one.profile.name for one in found]
    figures = _figures(found, [(one.before, one.windows) for one in found], len(groups.spans))
    size = groups.past.size if groups.past is not None else 0
    # Each window of the baseline against the rest of it, as new ones are against all of it.
    past = _figures(found, [(one.before, one.past) for one in found], size, out=True)
    return judge(names, groups.spans.starts[:-1], figures, past, limit, patience)


def _figures(
    found: Sequence[_Column],
    pairs: Sequence[tuple[Ints, Ints | None]],
    size: int,
    *,
    out: bool = False,
) -> tuple[Floats, Floats]:
    """PSI and what chance gives of it, of each column and window; with `out`, against the rest."""
    index = np.full((len(found), size), np.nan)
    chance = index.copy()
    for place, (before, tables) in enumerate(pairs):
        for at, counts in enumerate(tables if tables is not None else ()):
            index[place, at], chance[place, at] = psi(before - counts if out else before, counts)
    return index, chance


def _segments(found: Sequence[_Column], groups: _Groups) -> tuple[TableSegment, ...]:
    made: list[TableSegment] = []
    for name, values in groups.values.items():
        rows = np.bincount(groups.segments[name].codes, minlength=len(values) + 1)
        for code, value in enumerate([*values, None]):
            if not rows[code]:
                continue
            drifts = [_in_segment(one, name, code) for one in found if name in one.segments]
            made.append(
                TableSegment(
                    column=name,
                    value=value,
                    rows=int(rows[code]),
                    drift=tuple(sorted(drifts, key=_by_excess)),
                )
            )
    return tuple(made)


def _in_segment(one: _Column, name: str, code: int) -> Drift:
    profile = one.profile
    if name in one.segments_before:
        before = one.segments_before[name][code]
        counts = counts_of(before)
        profile = msgspec.structs.replace(
            profile,
            count=int(before.sum()),
            missing=counts.missing,
            counts=counts.counts,
            other=counts.unseen,
        )
    return drift_of(profile, counts_of(one.segments[name][code]))
