"""Skew: whether what is served is what was trained on, by the first days and row by row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import duckdb
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from upturn.core.errors import Invalid, did_you_mean
from upturn.core.log import FEATURE_PREFIX
from upturn.core.schema import Profile
from upturn.core.time import duration, micros, spell
from upturn.improve.monitor.answers import arrow_rows
from upturn.improve.monitor.drift import PREDICTION, drift
from upturn.improve.monitor.performance import instants
from upturn.improve.monitor.symptom import Severity, Symptom
from upturn.improve.statistics.fixed import wilson

MINOR, MAJOR = 0.1, 0.2  # of PSI beyond chance, as of drift
_DIFFER, _MANY = 0.001, 0.05  # the share of rows that differ, from which it is a symptom
_LEAST = 100  # rows, to say anything of a release
Bools = NDArray[np.bool_]


class ColumnSkew(msgspec.Struct, frozen=True, kw_only=True):
    """One feature as served and as offline, over rows that are in both.

    `differ` is the share of rows whose values are not equal, with Wilson's 95 % interval; `missing`
    the share where just one side has a value. `examples` are a few that differ.
    """

    column: str
    rows: int
    differ: float
    low: float
    high: float
    missing: float
    examples: tuple[dict[str, Any], ...] = ()


def release_skew(
    profile: Profile, rows: pa.Table, released_at: datetime, *, span: str | timedelta = "3d"
) -> list[Symptom]:
    """'skew/COLUMN': how far the features of a release's first days are from its training data.

    `rows` are those of the release, as LogView.joined returns them with features; those of
    [released_at, released_at + span) count. Of what the world did since training little has
    happened by then, so a PSI beyond chance (from 0.1 a warning, from 0.2 critical) points to
    features that are computed otherwise than for training. Fewer than 100 rows say nothing.
    """
    length = duration(span)
    at = instants(rows)
    first = (at >= micros(released_at)) & (at < micros(released_at + length))
    mine = rows.filter(arrow_rows(first))
    if mine.num_rows < _LEAST:
        return []
    made: list[Symptom] = []
    names = [column.name for column in profile.columns if column.name != PREDICTION]
    for one in drift(profile, _features(mine), names):
        excess = one.excess
        severity: Severity = (
            "critical" if excess >= MAJOR else "warning" if excess >= MINOR else "fine"
        )
        like = "is unlike training" if severity != "fine" else "is like training"
        made.append(
            Symptom(
                name=f"skew/{one.column}",
                severity=severity,
                says=(
                    f"{one.column} {like} in the first {spell(length)} of the release: "
                    f"PSI {one.psi:.3g} where chance gives {one.psi_noise:.2g}."
                ),
                began_at=released_at if severity != "fine" else None,
                value=excess if excess == excess else None,
                limit=MINOR,
                facts={"column": one.column, "rows": mine.num_rows},
            )
        )
    return made


def _features(rows: pa.Table) -> pa.Table:
    names = [name for name in rows.column_names if name.startswith(FEATURE_PREFIX)]
    return rows.select(names).rename_columns([name.removeprefix(FEATURE_PREFIX) for name in names])


def row_skew(
    served: pa.Table,
    offline: pa.Table,
    on: str | Sequence[str] | Mapping[str, str],
    *,
    at: str | None = None,
    tolerance: float = 1e-6,
    examples: int = 3,
) -> tuple[ColumnSkew, ...]:
    """Compare features as served with the same ones computed offline, row by row; worst first.

    `served` are rows of the Log with features; `offline` has a column for each feature under the
    model's name of it. `on` names the columns that say what a row is about, in both tables, or as
    {served: offline}: 'id' or 'unit' of the Log, or features. With `at`, a column of times in
    `offline`, a served row meets the last one at or before its own `at`; without, keys have to be
    unique there. Numbers are equal within `tolerance` of the greater one's size (of 1 at least),
    two missing values are equal. Rows and columns that one side lacks are left out. Raises Invalid
    for a column that is not there and for keys that are not unique.

    >>> log = pa.table({"id": ["a", "b"], "features.x": [1.0, 2.0]})
    >>> found = row_skew(log, pa.table({"id": ["b", "a"], "x": [2.5, 1.0]}), on="id")
    >>> found[0].differ, found[0].examples
    (0.5, ({'id': 'b', 'served': 2.0, 'offline': 2.5},))
    """
    keys = dict(on) if isinstance(on, Mapping) else {one: one for one in _names(on)}
    ours = {name: _served_name(served, name) for name in keys}
    for name in [*keys.values(), *([at] if at else [])]:
        if name not in offline.column_names:
            hint = did_you_mean(name, offline.column_names)
            raise Invalid(f"The offline table has no column {name!r}.", hint=hint)
    left, right = _met(served, offline, ours, keys, at)
    features = [
        name.removeprefix(FEATURE_PREFIX)
        for name in served.column_names
        if name.startswith(FEATURE_PREFIX)
    ]
    both = [name for name in features if name in offline.column_names and name not in keys.values()]
    said = {name: served[column].take(left) for name, column in ours.items()}
    found = [
        _column(
            name,
            _whole(served[FEATURE_PREFIX + name].take(left)),
            _whole(offline[name].take(right)),
            said,
            tolerance,
            examples,
        )
        for name in both
    ]
    return tuple(sorted(found, key=lambda one: (-np.nan_to_num(one.differ), one.column)))


def row_symptoms(found: Sequence[ColumnSkew]) -> list[Symptom]:
    """'skew/COLUMN' for each column of `row_skew`: whether served and offline values differ.

    A warning where more than one row in a thousand differs, by the interval's lower end; critical
    from one in twenty.
    """
    made: list[Symptom] = []
    for one in found:
        severity: Severity = "fine"
        if one.low > _DIFFER:
            severity = "critical" if one.differ >= _MANY else "warning"
        says = f"{one.column} differs from offline in {one.differ:.2%} of {one.rows:,} rows"
        if one.examples and severity != "fine":
            first = one.examples[0]
            keys = ", ".join(
                f"{name} {value}" for name, value in first.items() if name not in _SIDES
            )
            says += f": {first['served']!r} served, {first['offline']!r} offline ({keys})"
        made.append(
            Symptom(
                name=f"skew/{one.column}",
                severity=severity,
                says=says + ".",
                value=one.differ if one.rows else None,
                limit=_DIFFER,
                facts={"column": one.column, "rows": one.rows, "missing": one.missing},
            )
        )
    return made


_SIDES = ("served", "offline")


def _names(on: str | Sequence[str]) -> Sequence[str]:
    return [on] if isinstance(on, str) else on


def _served_name(served: pa.Table, name: str) -> str:
    for column in (name, FEATURE_PREFIX + name):
        if column in served.column_names:
            return column
    raise Invalid(
        f"The Log's rows have no column {name!r}.",
        hint=did_you_mean(name, served.column_names),
    )


def _met(
    served: pa.Table,
    offline: pa.Table,
    ours: Mapping[str, str],
    keys: Mapping[str, str],
    at: str | None,
) -> tuple[Any, Any]:
    """The places of rows that are about the same, in both tables."""
    left: dict[str, Any] = {f"k{place}": served[ours[name]] for place, name in enumerate(keys)}
    right: dict[str, Any] = {f"k{place}": offline[name] for place, name in enumerate(keys.values())}
    left["i"] = arrow_rows(np.arange(served.num_rows))
    right["j"] = arrow_rows(np.arange(offline.num_rows))
    same = " AND ".join(f"s.k{place} = o.k{place}" for place in range(len(keys)))
    if at is not None:
        left["at"], right["at"] = served["at"], offline[at]
    query = (
        f"SELECT s.i, o.j FROM s ASOF JOIN o ON {same} AND s.at >= o.at ORDER BY s.i"
        if at is not None
        else f"SELECT s.i, o.j FROM s JOIN o ON {same} ORDER BY s.i, o.j"
    )
    with duckdb.connect(":memory:") as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("s", pa.Table.from_pydict(left))
        connection.register("o", pa.Table.from_pydict(right))
        try:
            found = connection.sql(query).to_arrow_table()
        except duckdb.Error as error:
            raise Invalid(
                f"The tables can't be joined: {str(error).splitlines()[0]}",
                hint="The keys, and the times, have to be of like types in both.",
            ) from None
    if at is None and len(pc.unique(found["i"])) < found.num_rows:
        raise Invalid(
            "The offline table has several rows with the same key.",
            hint="Name its column of times, as in at='computed_at'; or leave one row a key.",
        )
    return _whole(found["i"]), _whole(found["j"])


def _column(
    name: str,
    served: Any,
    offline: Any,
    keys: Mapping[str, Any],
    tolerance: float,
    examples: int,
) -> ColumnSkew:
    differ, missing = _different(served, offline, tolerance)
    rows, count = len(differ), int(differ.sum())
    share = wilson(count, rows)
    shown = np.flatnonzero(differ)[:examples].tolist()
    return ColumnSkew(
        column=name,
        rows=rows,
        differ=share.estimate,
        low=share.low,
        high=share.high,
        missing=float(missing.mean()) if rows else float("nan"),
        examples=tuple(
            {key: values[place].as_py() for key, values in keys.items()}
            | {"served": served[place].as_py(), "offline": offline[place].as_py()}
            for place in shown
        ),
    )


def _different(served: Any, offline: Any, tolerance: float) -> tuple[Bools, Bools]:
    if _is_number(served.type) and _is_number(offline.type):
        one, other = _numbers(served), _numbers(offline)
        gone, lost = np.isnan(one), np.isnan(other)
        with np.errstate(invalid="ignore"):
            size = np.maximum(1.0, np.maximum(np.abs(one), np.abs(other)))
            near = np.isfinite(size) & (np.abs(one - other) <= tolerance * size)
            unequal = (one != other) & ~near
        return np.where(gone | lost, gone != lost, unequal), gone != lost
    one, other = served.cast(pa.string()), offline.cast(pa.string())
    gone, lost = np.asarray(one.is_null()), np.asarray(other.is_null())
    equal = np.asarray(pc.equal(one, other).fill_null(False))
    return np.where(gone | lost, gone != lost, ~equal), gone != lost


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_decimal(kind)
    )


def _numbers(column: Any) -> NDArray[np.float64]:
    return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))


def _whole(column: Any) -> Any:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
