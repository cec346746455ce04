"""Profile: how each column is distributed, in bins and categories to hold later samples against."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from upturn.core.errors import Invalid
from upturn.core.schema import ColumnProfile, Profile
from upturn.model.profile_categories import rank
from upturn.model.profile_counts import Counts, count_into
from upturn.model.profile_edges import edges_of, order_statistics, quantile_places
from upturn.model.profile_source import Source, TableSource, check_column, open_source
from upturn.model.profile_sums import Sums, opened, sums_of
from upturn.model.profile_values import is_number, numbers, pieces
from upturn.model.tables import field_type

T = TypeVar("T")
BINS = 20
CATEGORIES = 100
IN_MEMORY = 1 << 24  # values of a column that are sorted: 128 MB; more are selected from, by radix
_SMALL = 1 << 18  # cells for which other threads are not worth their start


def profile(
    data: Any,
    *,
    columns: Sequence[str] | None = None,
    bins: int = BINS,
    threads: int | None = None,
) -> Profile:
    """The profile of any table: of its columns, or of those named.

    `data` is a pandas, polars or Arrow table, a dict of columns, or the path of a Parquet or CSV
    file, a folder of Parquet files or a pattern of them. Parquet is read once, a column at a time:
    `threads` (one a core by default) columns are in memory, however wide the table; a column of
    more than 16.7 million numbers is read four times more instead of being held.

    Numbers get at most `bins` bins between exact quantiles of the data, fewer where values repeat,
    and three around the value of a column that has but one (below, equal, above); dates and times
    count as numbers, in days and seconds since 1970. Text and booleans get their
    most frequent values, `CATEGORIES` at most, of more than 262,144 distinct ones only those with
    a share of more than 1/65,536. Null and NaN are missing. Columns of lists, structs and bytes are
    left out. The same rows have the same profile, in whatever order or parts they come.
    Raises NotFound for a path or column that is not there, Invalid for what can't be read.

    >>> profile({"x": [1, 2, 2, None]}).column("x").counts
    (1, 2)
    """
    return profile_source(open_source(data), columns, bins=bins, threads=threads)


def profile_table(
    table: pa.Table, columns: Sequence[str] | None = None, *, bins: int = BINS
) -> Profile:
    """The profile of an Arrow table's columns, or of those named. See `profile`.

    >>> profile_table(pa.table({"x": [1, 2, 2, None]})).column("x").mean
    1.6666666666666667
    """
    return profile_source(TableSource(table), columns, bins=bins)


def profile_source(
    source: Source,
    columns: Sequence[str] | None = None,
    *,
    bins: int = BINS,
    threads: int | None = None,
    in_memory: int = IN_MEMORY,
) -> Profile:
    """The profile of a source that is open. See `profile`."""
    names = list(source.types) if columns is None else list(columns)
    for name in names:
        check_column(source, name)
    names = [name for name in names if field_type(source.types[name]) is not None]

    def one(name: str) -> ColumnProfile:
        return _column(source, name, bins, in_memory)

    return Profile(rows=source.rows, columns=tuple(each(one, names, source.rows, threads)))


def each(
    work: Callable[[str], T], names: Sequence[str], rows: int, threads: int | None = None
) -> list[T]:
    """What `work` makes of each column, in order; of large tables by several threads."""
    count = min(threads or os.cpu_count() or 1, len(names))
    if count <= 1 or rows * len(names) <= _SMALL:
        return [work(name) for name in names]
    with ThreadPoolExecutor(count, "profile") as pool:
        return list(pool.map(work, names))


def profile_column(name: str, column: Any, *, bins: int = BINS) -> ColumnProfile | None:
    """The profile of one Arrow column; None for a type that has none. See `profile`."""
    if field_type(column.type) is None:
        return None
    table = pa.table({name: column})
    return _column(TableSource(table), name, bins, IN_MEMORY)


def merge(one: Profile, other: Profile) -> Profile:
    """The profile of the rows of both, as both have the same columns, bins and categories.

    It is that of all rows at once, bit for bit: counts are whole numbers and moments come from
    exact sums. (Profiles stored before there were sums merge their moments to rounding.) Raises
    Invalid when bins or categories differ: profile the other sample with `recount` instead.
    """
    if [column.name for column in one.columns] != [column.name for column in other.columns]:
        raise Invalid("The profiles have different columns.")
    pairs = zip(one.columns, other.columns, strict=True)
    return Profile(rows=one.rows + other.rows, columns=tuple(_merge(a, b) for a, b in pairs))


def recount(profile: ColumnProfile, values: Any) -> ColumnProfile:
    """The profile of another sample of the column, on the same bins or categories."""
    found: Counts = count_into(profile, values)
    moments: dict[str, Any] = {}
    if profile.kind == "number":
        sums, low, high = Sums(), math.inf, -math.inf
        for array in pieces(values):
            present = numbers(array)
            present = present[np.isfinite(present)]
            if len(present):
                sums += sums_of(present)
                low, high = min(low, float(present.min())), max(high, float(present.max()))
        moments = _moments(sums, low, high)
    return msgspec.structs.replace(
        profile,
        count=len(values),
        missing=found.missing,
        counts=found.counts,
        other=found.unseen,
        **moments,
    )


# Columns


def _column(source: Source, name: str, bins: int, in_memory: int) -> ColumnProfile:
    if not is_number(source.types[name]):
        found = rank(lambda: source.parts(name), CATEGORIES)
        return ColumnProfile(
            name=name,
            kind="category",
            count=source.rows,
            missing=found.missing,
            counts=found.counts,
            values=found.values,
            other=found.other,
        )
    if source.rows > in_memory:
        return _selected(source, name, bins)
    held = np.empty(source.rows, np.float64)
    at = 0
    for array in source.parts(name):
        held[at : at + len(array)] = numbers(array)
        at += len(array)
    held.sort()  # nan comes last
    present = held[: len(held) - np.count_nonzero(np.isnan(held))]
    edges = edges_of(present, bins)
    ends = np.searchsorted(present, edges, side="right")
    finite = present[np.searchsorted(present, -math.inf, "right") :]
    finite = finite[: np.searchsorted(finite, math.inf, "left")]
    sums = sums_of(finite)
    low, high = (float(finite[0]), float(finite[-1])) if len(finite) else (0.0, 0.0)
    return _binned(name, source.rows, len(present), edges, ends, _moments(sums, low, high))


def _selected(source: Source, name: str, bins: int) -> ColumnProfile:
    """The same profile of a column that is too long to be sorted in memory."""
    sums, low, high, count = Sums(), math.inf, -math.inf, 0
    for array in source.parts(name):
        values = numbers(array)
        count += len(values) - int(np.count_nonzero(np.isnan(values)))
        finite = values[np.isfinite(values)]
        if len(finite):
            sums += sums_of(finite)
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    places = [*quantile_places(count, bins).tolist(), count - 1] if count else []
    found, ends = order_statistics(lambda: (numbers(one) for one in source.parts(name)), places)
    edges, first = np.unique(found, return_index=True)
    kept = edges < found[-1] if count else np.empty(0, np.bool_)
    return _binned(
        name, source.rows, count, edges[kept], ends[first][kept], _moments(sums, low, high)
    )


def _binned(
    name: str,
    rows: int,
    present: int,
    edges: NDArray[np.float64],
    ends: NDArray[np.int64],
    moments: dict[str, Any],
) -> ColumnProfile:
    """A profile of numbers of which ends[i] are not above edges[i]."""
    if present == moments["sums"].count and present and moments["low"] == moments["high"]:
        # All the same: without edges around it, every other value would be in its bin.
        edges = np.array([np.nextafter(moments["low"], -np.inf), moments["low"]])
        ends = np.array([0, present])
    counts = np.diff(np.concatenate(([0], ends, [present])))
    return ColumnProfile(
        name=name,
        kind="number",
        count=rows,
        missing=rows - present,
        edges=tuple(edges.tolist()),
        counts=tuple(counts.tolist()),
        **moments,
    )


def _moments(sums: Sums, low: float, high: float) -> dict[str, Any]:
    """Mean, standard deviation (of the sample itself), least and greatest of the finite values."""
    if not sums.count:
        return {"mean": None, "std": None, "low": None, "high": None, "sums": sums.stored}
    return {
        "mean": sums.mean,
        "std": sums.std,
        "low": low + 0.0,  # not -0, which sorts as 0 does
        "high": high + 0.0,
        "sums": sums.stored,
    }


# Merging


def _merge(a: ColumnProfile, b: ColumnProfile) -> ColumnProfile:
    if (a.kind, a.edges, a.values) != (b.kind, b.edges, b.values):
        raise Invalid(
            f"The profiles of {a.name!r} have different bins.",
            hint="Only profiles of samples counted on the same bins can be merged.",
        )
    counts = tuple(x + y for x, y in zip(a.counts, b.counts, strict=True))
    return msgspec.structs.replace(
        a,
        count=a.count + b.count,
        missing=a.missing + b.missing,
        counts=counts,
        other=a.other + b.other,
        **_merged_moments(a, b),
    )


def _merged_moments(a: ColumnProfile, b: ColumnProfile) -> dict[str, Any]:
    lows = [one.low for one in (a, b) if one.low is not None]
    highs = [one.high for one in (a, b) if one.high is not None]
    low, high = min(lows, default=0.0), max(highs, default=0.0)
    if a.sums is not None and b.sums is not None:
        return _moments(opened(a.sums) + opened(b.sums), low, high)
    if a.mean is None or b.mean is None:
        full = b if a.mean is None else a
        return {"mean": full.mean, "std": full.std, "low": full.low, "high": full.high}
    # Chan, Golub and LeVeque (1979): moments of the whole from those of its parts.
    first, second = a.count - a.missing, b.count - b.missing
    share = second / (first + second)
    apart = b.mean - a.mean
    keep, add = math.sqrt(1 - share), math.sqrt(share)
    std = math.hypot(keep * (a.std or 0.0), add * (b.std or 0.0), keep * add * apart)
    return {"mean": a.mean + share * apart, "std": std, "low": low, "high": high, "sums": None}
