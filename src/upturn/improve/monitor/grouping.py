"""Grouping: the rows of a table told apart by windows of time, or by the values of a column."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt
from numpy.typing import NDArray

from upturn.core.errors import Invalid
from upturn.core.time import from_micros
from upturn.improve.monitor.windows import Windows, windows
from upturn.model.profile_categories import rank
from upturn.model.profile_source import Source, check_column
from upturn.model.profile_values import coded

Ints = NDArray[np.int64]
_NONE = -(1 << 63)


@dataclass(frozen=True, slots=True)
class Grouping:
    """The group of each row, negative of rows that are in none, and how many groups there are."""

    codes: Ints
    size: int


def times(source: Source, column: str) -> Ints:
    """A column of dates or times in microseconds since 1970, the least number where it is null.

    Times without a zone are UTC. Raises NotFound, or Invalid for a column of another type.
    """
    check_column(source, column, what="the time")
    kind = source.types[column]
    if not pt.is_timestamp(kind) and not pt.is_date(kind):
        raise Invalid(
            f"The column {column!r}, which is the time, holds no times but {kind}.",
            hint="Windows are of a column of dates or timestamps.",
        )
    unit = pa.timestamp("us", kind.tz if pt.is_timestamp(kind) else None)
    found = np.empty(source.rows, np.int64)
    at = 0
    for array in source.parts(column):
        micros = array.cast(unit, safe=False).cast(pa.int64()).fill_null(_NONE)
        found[at : at + len(array)] = micros.to_numpy(zero_copy_only=False)
        at += len(array)
    return found


def spans_of(at: Ints, every: str | None) -> Windows:
    """The windows from the first to the last of these times. Raises Invalid if there are none."""
    known = at[at != _NONE]
    if not len(known):
        raise Invalid("No row has a time.", hint="Name another column, or none.")
    until = from_micros(int(known.max())) + timedelta(microseconds=1)
    return windows(from_micros(int(known.min())), until, every)


def by_window(at: Ints, spans: Windows) -> Grouping:
    """Rows by the window that they are in."""
    codes = spans.places(at)
    codes[(at == _NONE) | (codes >= len(spans))] = -1
    return Grouping(codes, len(spans))


def top_values(source: Source, column: str, top: int) -> tuple[str, ...]:
    """The most frequent values of a column, as text."""
    check_column(source, column, what="a segment")
    return rank(lambda: source.parts(column), top).values


def by_value(source: Source, column: str, values: tuple[str, ...]) -> Grouping:
    """Rows by the value that they have; those with another one, or none, are the last group."""
    wanted = pa.array(values, pa.string())
    found = np.empty(source.rows, np.int64)
    at = 0
    for array in source.parts(column):
        codes, distinct = coded(array)
        places = pc.index_in(distinct, wanted).fill_null(len(values))
        table = np.append(np.asarray(places, np.int64), len(values))
        found[at : at + len(array)] = table[codes]
        at += len(array)
    return Grouping(found, len(values) + 1)
