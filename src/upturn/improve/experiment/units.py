"""Units: the query that makes one row of each unit, whatever a table's rows are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from upturn.core.errors import Invalid
from upturn.improve.experiment.metrics import Column
from upturn.improve.experiment.source import Source, quoted, text

_DENSE = 2**28  # so many bits, 32 MiB, to see whether whole numbers are distinct
_HEAD = 20_000
_WHOLE = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER")
MISSING = "(missing)"


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the parts of an experiment are in a table.

    `arm` is None in a history without arms, all of whose units are one. `unit` is None where each
    row is a unit. `at` is when a row happened, if that is known.
    """

    arms: tuple[str, ...]
    arm: str | None
    unit: str | None = None
    at: str | None = None
    segments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Units:
    """A query with a row for each unit: `arm`, `day`, `s0`, … (segments) and `c0`, … (columns).

    A unit's arm is that of its first row (intention to treat), its day and segments too. Without a
    time nobody knows which row was the first, and units seen in two arms are left out.
    """

    layout: Layout
    columns: tuple[Column, ...]
    grouped: bool  # whether several rows may be of one unit
    clips: Mapping[Column, tuple[float, float]] = field(default_factory=dict)

    def place(self, column: Column) -> str:
        """The name of a column in the query."""
        return f"c{self.columns.index(column)}"

    def clipped(self, clips: Mapping[Column, tuple[float, float]]) -> Units:
        """The same with values beyond these ends set to them."""
        return replace(self, clips=clips)

    def sql(self, *, head: bool = False) -> str:
        """The query; with `head`, that of the first rows of the table."""
        source = f"(SELECT * FROM data LIMIT {_HEAD})" if head else "data"
        inner = self._grouped(source) if self.grouped else self._plain(source)
        if not self.clips:
            return inner
        ends = ", ".join(
            f"CASE WHEN {name} > {high!r} THEN {high!r} WHEN {name} < {low!r} THEN {low!r} "
            f"ELSE {name} END AS {name}"
            for name, (low, high) in ((self.place(one), clip) for one, clip in self.clips.items())
        )
        return f"SELECT * REPLACE ({ends}) FROM ({inner})"

    def _plain(self, source: str) -> str:
        at = self.layout.at
        parts = [f"{_arm(self.layout)} AS arm"]
        if at is not None:
            parts.append(f"CAST({quoted(at)} AS DATE) AS day")
        parts += [f"{_segment(name)} AS s{i}" for i, name in enumerate(self.layout.segments)]
        parts += [f"{_number(one)} AS c{i}" for i, one in enumerate(self.columns)]
        return f"SELECT {', '.join(parts)} FROM {source} WHERE {_ours(self.layout)}"

    def _grouped(self, source: str) -> str:
        layout = self.layout
        unit = quoted(layout.unit or "")
        parts = [f"{self._first(_arm(layout))} AS arm", f"{_mixed(layout)} AS mixed"]
        parts.append(f"{unit} AS unit")
        if layout.at is not None:
            parts.append(f"CAST(min({quoted(layout.at)}) AS DATE) AS day")
        parts += [
            f"{self._first(_segment(name))} AS s{i}" for i, name in enumerate(layout.segments)
        ]
        parts += [f"{self._within(one)} AS c{i}" for i, one in enumerate(self.columns)]
        query = (
            f"SELECT {', '.join(parts)} FROM {source} "
            f"WHERE {_ours(layout)} AND {unit} IS NOT NULL GROUP BY {unit}"
        )
        return query if layout.at is not None else f"SELECT * FROM ({query}) WHERE NOT mixed"

    def _first(self, expression: str) -> str:
        if self.layout.at is None:
            return f"min({expression})"
        return f"arg_min({expression}, {quoted(self.layout.at)})"

    def _within(self, column: Column) -> str:
        number = _number(column)
        if column.within == "first":
            return self._first(number)
        made = {"sum": "sum", "mean": "avg", "max": "max", "min": "min"}[column.within]
        return f"{made}({number})"


def units_of(source: Source, layout: Layout, columns: Sequence[Column]) -> Units:
    """The units of a table. Raises NotFound or Invalid for columns that are not what they must be.

    Rows are grouped by unit, unless the table has a row a unit: that is seen quickly where units
    are whole numbers that are not spread too far.
    """
    if layout.arm is not None:
        source.check(layout.arm, what="the arm")
    for name in layout.segments:
        source.check(name, what="a segment")
    if layout.at is not None:
        source.check_time(layout.at, what="the time of a row")
    for column in columns:
        if column.name is not None:
            what = "a covariate" if column.within == "first" else "what a metric is of"
            source.check_number(column.name, what=what)
    distinct = tuple(dict.fromkeys(columns))
    return Units(layout, distinct, not _rows_are_units(source, layout.unit))


@dataclass(frozen=True, slots=True)
class Left:
    """What is not compared, and why."""

    other_arms: int  # rows of no arm of the experiment
    no_unit: int  # rows without a unit
    mixed: int  # units seen in two arms


def left_out(source: Source, units: Units) -> Left:
    """What of a table is not compared, or doubtful."""
    layout = units.layout
    ours = _ours(layout)
    if not units.grouped:
        [(rows, kept)] = source.rows(f"SELECT count(*), count(*) FILTER ({ours}) FROM data")
        return Left(rows - kept, 0, 0)
    unit = quoted(layout.unit or "")
    [(rows, kept, none)] = source.rows(
        f"SELECT count(*), count(*) FILTER ({ours}), count(*) FILTER ({ours} AND {unit} IS NULL) "
        "FROM data"
    )
    [(mixed,)] = source.rows(
        f"SELECT count(*) FROM (SELECT {_mixed(layout)} AS mixed FROM data "
        f"WHERE {ours} AND {unit} IS NOT NULL GROUP BY {unit}) WHERE mixed"
    )
    return Left(rows - kept, none, mixed)


def _rows_are_units(source: Source, unit: str | None) -> bool:
    if unit is None:
        return True
    kind = source.check(unit, what="the unit")
    if kind not in _WHOLE:
        return False
    name = quoted(unit)
    [(low, high, known, rows)] = source.rows(
        f"SELECT min({name}), max({name}), count({name}), count(*) FROM data"
    )
    if known < rows or not rows or high - low >= _DENSE:
        return False
    ends = f"CAST({low} AS {kind}), CAST({high} AS {kind})"
    [(distinct,)] = source.rows(f"SELECT bit_count(bitstring_agg({name}, {ends})) FROM data")
    return distinct == rows


def rows_sql(units: Units, column: str) -> str:
    """A query with a row for each row of the table: `arm`, `unit` where several are one's, `x`."""
    number = f"CAST({quoted(column)} AS DOUBLE)"
    arm = _arm(units.layout)
    if not units.grouped:
        return (
            f"SELECT {arm} AS arm, {number} AS x FROM data "
            f"WHERE {_ours(units.layout)} AND isfinite({number})"
        )
    unit = quoted(units.layout.unit or "")
    return (
        f"SELECT u.arm AS arm, u.unit AS unit, r.x AS x FROM (SELECT {unit} AS unit, {number} AS x "
        f"FROM data WHERE {_ours(units.layout)} AND isfinite({number})) AS r "
        f"JOIN ({replace(units, columns=(), clips={}).sql()}) AS u ON r.unit = u.unit"
    )


def check_share(found: int, column: str) -> None:
    """Raise Invalid where a column of 0 and 1 has other values."""
    if found:
        raise Invalid(
            f"The column {column!r} is that of a proportion and has values other than 0 and 1: "
            f"{found:,} of them.",
            hint="Use up.Mean or up.Count for a number.",
        )


def _arm(layout: Layout) -> str:
    if layout.arm is None:
        return text(layout.arms[0])
    return f"CAST({quoted(layout.arm)} AS VARCHAR)"


def _mixed(layout: Layout) -> str:
    return f"min({_arm(layout)}) <> max({_arm(layout)})"


def _ours(layout: Layout) -> str:
    if layout.arm is None:
        return "true"
    return f"{_arm(layout)} IN ({', '.join(map(text, layout.arms))})"


def _segment(name: str) -> str:
    return f"coalesce(CAST({quoted(name)} AS VARCHAR), {text(MISSING)})"


def _number(column: Column) -> str:
    if column.name is None:
        return "1.0::DOUBLE"
    number = f"CAST({quoted(column.name)} AS DOUBLE)"
    if column.zero:
        number = f"coalesce({number}, 0)"
    if column.winsorize is not None:
        number = f"CASE WHEN isfinite({number}) THEN {number} END"
    return number
