"""Profile: how each column is distributed, in bins and categories to hold later samples against."""

import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from upturn.core.errors import Invalid
from upturn.core.schema import ColumnProfile, Profile
from upturn.model.tables import field_type, floats

BINS = 20
CATEGORIES = 100
_NUMBERS = ("int", "float", "date", "datetime")


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """A sample counted on the bins or categories of a profile; they all sum to its rows."""

    counts: tuple[int, ...]
    missing: int
    unseen: int = 0  # rows of categories that the profile does not name


def profile_table(
    table: pa.Table, columns: Sequence[str] | None = None, *, bins: int = BINS
) -> Profile:
    """The profile of the table's columns, or of those named.

    Numbers get at most `bins` bins between quantiles of the data, fewer where values repeat; dates
    and times count as numbers, in days and seconds since 1970. Text and booleans get their most
    frequent values, `CATEGORIES` at most. Null and NaN are missing. Columns of lists, structs and
    bytes are left out. Raises Invalid for a column that is not there.

    >>> profile_table(pa.table({"x": [1, 2, 2, None]})).column("x").counts
    (1, 2)
    """
    names = table.column_names if columns is None else columns
    missing = [name for name in names if name not in table.column_names]
    if missing:
        raise Invalid(f"The table has no column {missing[0]!r}.")
    profiles = (profile_column(name, table.column(name), bins=bins) for name in names)
    return Profile(rows=table.num_rows, columns=tuple(one for one in profiles if one is not None))


def profile_column(name: str, column: Any, *, bins: int = BINS) -> ColumnProfile | None:
    """The profile of one Arrow column; None for a type that has none. See `profile_table`."""
    kind = field_type(column.type)
    if kind is None:
        return None
    if kind in _NUMBERS and not pt.is_dictionary(column.type):
        return _profile_numbers(name, _numbers(column), bins)
    return _profile_categories(name, _texts(column))


def count_into(profile: ColumnProfile, values: Any) -> Counts:
    """How another sample of the column (an Arrow array) falls on the profile's bins or categories.

    >>> column = profile_table(pa.table({"x": ["a", "b", "b"]})).columns[0]
    >>> count_into(column, pa.array(["a", "c", None]))
    Counts(counts=(0, 1), missing=1, unseen=1)
    """
    if profile.kind == "number":
        found = _numbers(values)
        present = found[~np.isnan(found)]
        counts = _histogram(present, np.array(profile.edges))
        return Counts(counts=_ints(counts), missing=len(found) - len(present))
    texts = _texts(values)
    places = pc.index_in(texts, pa.array(profile.values, pa.string()))
    seen = np.asarray(places.drop_null(), dtype=np.int64)
    counts = np.bincount(seen, minlength=len(profile.values))
    unseen = len(texts) - texts.null_count - len(seen)
    return Counts(counts=_ints(counts), missing=texts.null_count, unseen=unseen)


def merge(one: Profile, other: Profile) -> Profile:
    """The profile of the rows of both, exact as both have the same columns, bins and categories.

    Moments are exact where all values are finite. Raises Invalid when they have not: profile the
    other sample with `recount` instead.
    """
    if [column.name for column in one.columns] != [column.name for column in other.columns]:
        raise Invalid("The profiles have different columns.")
    pairs = zip(one.columns, other.columns, strict=True)
    return Profile(rows=one.rows + other.rows, columns=tuple(_merge(a, b) for a, b in pairs))


def recount(profile: ColumnProfile, values: Any) -> ColumnProfile:
    """The profile of another sample of the column, on the same bins or categories."""
    found = count_into(profile, values)
    return msgspec.structs.replace(
        profile,
        count=len(values),
        missing=found.missing,
        counts=found.counts,
        other=found.unseen,
        **(_moments(_numbers(values)) if profile.kind == "number" else {}),
    )


# Numbers


def _profile_numbers(name: str, found: np.ndarray, bins: int) -> ColumnProfile:
    present = np.sort(found[~np.isnan(found)])  # sorted once: bins are then found, not counted
    edges = _edges(present, bins)
    ends = np.searchsorted(present, edges, side="right")
    counts = np.diff(np.concatenate(([0], ends, [len(present)])))
    return ColumnProfile(
        name=name,
        kind="number",
        count=len(found),
        missing=len(found) - len(present),
        edges=tuple(edges.tolist()),
        counts=_ints(counts),
        **_moments(present),
    )


def _edges(present: np.ndarray, bins: int) -> np.ndarray:
    """Values of the data at its quantiles, distinct, so that no bin is empty."""
    if not len(present):
        return np.empty(0)
    places = np.arange(1, bins) * len(present) // bins
    # The place before the quantile's: edges are inclusive above, so it ends the bin.
    edges = np.unique(present[np.maximum(places - 1, 0)])
    return edges[edges < present[-1]]  # above the last edge there is at least the greatest value


def _histogram(present: np.ndarray, edges: np.ndarray) -> np.ndarray:
    places = np.searchsorted(edges, present, side="left")  # edges[i-1] < x <= edges[i]
    return np.bincount(places, minlength=len(edges) + 1)


def _moments(found: np.ndarray) -> dict[str, Any]:
    """Mean, standard deviation (of the sample itself), least and greatest of the finite values."""
    finite = found[np.isfinite(found)]
    if not len(finite):
        return {"mean": None, "std": None, "low": None, "high": None}
    low, high = float(finite.min()), float(finite.max())
    scale = max(abs(low), abs(high)) or 1.0
    # Scaled, so that squares of great numbers stay finite; two passes, so that nothing cancels.
    scaled = finite / scale
    mean = min(max(float(scaled.mean()) * scale, low), high)
    std = float(np.sqrt(np.mean((scaled - mean / scale) ** 2))) * scale if low < high else 0.0
    return {"mean": mean, "std": std, "low": low, "high": high}


def _numbers(column: Any) -> np.ndarray:
    """The column as float64, nan where missing; text that is no number is missing too.

    A Log that held numbers and text under one name has the numbers as text.
    """
    if pt.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    match field_type(column.type):
        case "bool" | "int" | "float":
            return np.asarray(floats(column), dtype=np.float64)
        case "date":
            return floats(column.cast(pa.date32()).cast(pa.int32()))
        case "datetime":
            micros = column.cast(pa.timestamp("us", column.type.tz), safe=False).cast(pa.int64())
            return floats(micros) / 1e6
        case _:
            numeric = pc.match_substring_regex(column, r"^-?\d+(\.\d+)?([eE][-+]?\d+)?$")
            return floats(
                pc.if_else(numeric, column, pa.scalar(None, pa.string())).cast(pa.float64())
            )


# Categories


def _profile_categories(name: str, texts: Any) -> ColumnProfile:
    found = pc.value_counts(texts.drop_null())
    values: list[str] = found.field("values").to_pylist()
    counts: list[int] = found.field("counts").to_pylist()
    # The most frequent first; of equally frequent ones the least, whatever order the rows have.
    ranked = sorted(zip(counts, values, strict=True), key=lambda pair: (-pair[0], pair[1]))
    return ColumnProfile(
        name=name,
        kind="category",
        count=len(texts),
        missing=texts.null_count,
        counts=tuple(count for count, _ in ranked[:CATEGORIES]),
        values=tuple(value for _, value in ranked[:CATEGORIES]),
        other=sum(count for count, _ in ranked[CATEGORIES:]),
    )


def _texts(column: Any) -> Any:
    """The column as text: "true" and "false" for booleans."""
    if pt.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    texts = column.cast(pa.string())
    return texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts


# Merging


def _merge(a: ColumnProfile, b: ColumnProfile) -> ColumnProfile:
    if (a.kind, a.edges, a.values) != (b.kind, b.edges, b.values):
        raise Invalid(
            f"The profiles of {a.name!r} have different bins.",
            hint="Only profiles of samples counted on the same bins can be merged.",
        )
    counts = tuple(x + y for x, y in zip(a.counts, b.counts, strict=True))
    merged = msgspec.structs.replace(
        a,
        count=a.count + b.count,
        missing=a.missing + b.missing,
        counts=counts,
        other=a.other + b.other,
    )
    if a.mean is None or b.mean is None:
        full = b if a.mean is None else a
        return msgspec.structs.replace(
            merged, mean=full.mean, std=full.std, low=full.low, high=full.high
        )
    assert a.std is not None
    assert b.std is not None
    assert a.low is not None
    assert b.low is not None
    assert a.high is not None
    assert b.high is not None
    # Chan, Golub and LeVeque (1979): moments of the whole from those of its parts.
    first, second = a.count - a.missing, b.count - b.missing
    share = second / (first + second)
    apart = b.mean - a.mean
    keep, add = math.sqrt(1 - share), math.sqrt(share)
    return msgspec.structs.replace(
        merged,
        mean=a.mean + share * apart,
        std=math.hypot(keep * a.std, add * b.std, keep * add * apart),
        low=min(a.low, b.low),
        high=max(a.high, b.high),
    )


def _ints(counts: np.ndarray) -> tuple[int, ...]:
    return tuple(counts.tolist())
