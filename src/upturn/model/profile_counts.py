"""Counts: how the rows of a sample fall on the bins or categories of a profile."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from upturn.core.schema import ColumnProfile
from upturn.model.profile_values import coded, numbers, pieces

Ints = NDArray[np.int64]
_BLOCK = 1 << 15  # values of which all stays in the cache while edge after edge is compared
_BYTE = 256


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """A sample counted on the bins or categories of a profile; they all sum to its rows.

    `low` and `high` are the least and the greatest of its numbers, where they were looked at.

    >>> Counts(counts=(1, 2), missing=0) + Counts(counts=(3, 0), missing=1)
    Counts(counts=(4, 2), missing=1, unseen=0, low=None, high=None)
    """

    counts: tuple[int, ...]
    missing: int
    unseen: int = 0  # rows of categories that the profile does not name
    low: float | None = None
    high: float | None = None

    def __add__(self, other: Counts) -> Counts:
        low, high = self._span(other)
        return Counts(
            counts=tuple(a + b for a, b in zip(self.counts, other.counts, strict=True)),
            missing=self.missing + other.missing,
            unseen=self.unseen + other.unseen,
            low=low,
            high=high,
        )

    def _span(self, other: Counts) -> tuple[float | None, float | None]:
        """The range of both; that of one without numbers is the other's."""
        if not any(self.counts):
            return other.low, other.high
        if not any(other.counts):
            return self.low, self.high
        if self.low is None or other.low is None or self.high is None or other.high is None:
            return None, None
        return min(self.low, other.low), max(self.high, other.high)


def count_into(profile: ColumnProfile, values: Any) -> Counts:
    """How another sample of the column (an Arrow array) falls on the profile's bins or categories.

    >>> column = ColumnProfile(name="x", kind="category", count=3, missing=0, values=("a", "b"))
    >>> found = count_into(column, pa.array(["a", "c", None]))
    >>> found.counts, found.missing, found.unseen
    ((1, 0), 1, 1)
    """
    found = np.zeros((1, slots(profile) + 2), np.int64)
    low, high = math.inf, -math.inf
    for array in pieces(values):
        if profile.kind == "number":
            held = numbers(array)
            _add_numbers(found, profile, held, None)
            if not np.isnan(held).all():
                low, high = min(low, float(np.nanmin(held))), max(high, float(np.nanmax(held)))
        else:
            _add_categories(found, profile, array, None)
    counts = counts_of(found[0])
    if low > high:
        return counts
    return msgspec.structs.replace(counts, low=low, high=high)


def counts_of(row: Ints) -> Counts:
    """One row of `count_by` as Counts."""
    *counts, missing, unseen = row.tolist()
    return Counts(counts=tuple(counts), missing=missing, unseen=unseen)


def count_by(
    profile: ColumnProfile, values: Any, groups: Ints | None = None, size: int = 1
) -> Ints:
    """The counts of each of `size` groups of rows: bins or categories, then missing, then unseen.

    `groups` names each row's group; a negative one is none that is counted. Shape: (size, places).
    """
    width = slots(profile)
    found = np.zeros((size, width + 2), np.int64)
    at = 0
    for array in pieces(values):
        each = None if groups is None else groups[at : at + len(array)]
        at += len(array)
        if profile.kind == "number":
            _add_numbers(found, profile, numbers(array), each)
        else:
            _add_categories(found, profile, array, each)
    return found


@dataclass(frozen=True, slots=True)
class Groups:
    """The group of each row, negative of rows in none, and what finds a group's rows fast."""

    codes: Ints
    size: int
    order: NDArray[np.intp] | None  # that puts rows of a group together; None: they are
    starts: NDArray[np.intp]  # in that order, where a group begins
    present: Ints  # and which
    sizes: Ints  # of each group, in rows

    @staticmethod
    def of(codes: Ints, size: int) -> Groups:
        """Groups by their codes."""
        order = None
        if bool((codes[1:] < codes[:-1]).any()):
            small = codes.astype(np.int16) if size < 1 << 15 else codes  # then it is a radix sort
            order = np.argsort(small, kind="stable")
        together = codes if order is None else codes[order]
        starts = np.flatnonzero(np.append(True, together[1:] != together[:-1])[: len(together)])
        sizes = np.bincount(codes[codes >= 0], minlength=size)
        return Groups(codes, size, order, starts, together[starts], sizes)


@dataclass(frozen=True, slots=True)
class Grouped:
    """A column's counts by group, as of `count_by`; the least and greatest number, nan of none."""

    table: Ints
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    def __add__(self, other: Grouped) -> Grouped:
        return Grouped(
            self.table + other.table,
            np.fmin(self.low, other.low),
            np.fmax(self.high, other.high),
        )

    def counts(self, group: int) -> Counts:
        """One group's counts."""
        counts = counts_of(self.table[group])
        low, high = float(self.low[group]), float(self.high[group])
        return counts if low != low else msgspec.structs.replace(counts, low=low, high=high)


def count_groups(profile: ColumnProfile, values: Any, groupings: Sequence[Groups]) -> list[Grouped]:
    """The counts of a column by each grouping of its rows, which is binned or coded just once.

    >>> column = ColumnProfile(
    ...     name="x", kind="number", count=2, missing=0, edges=(1.0,), counts=(1, 1)
    ... )
    >>> rows = Groups.of(np.array([0, 1, 0]), 2)
    >>> count_groups(column, pa.array([0.5, 1.5, None]), [rows])[0].counts(0)
    Counts(counts=(1, 0), missing=1, unseen=0, low=0.5, high=0.5)
    """
    arrays = pieces(values)
    if profile.kind == "number":
        held = np.concatenate([numbers(array) for array in arrays] or [np.empty(0)])
        parts = [(_places_of(profile, held), np.arange(slots(profile) + 2))]
    else:
        held = None
        parts = [_coded(profile, array) for array in arrays]
    return [Grouped(_table(parts, profile, one), *_ranges(held, one)) for one in groupings]


def _table(parts: Sequence[tuple[Ints, Ints]], profile: ColumnProfile, groups: Groups) -> Ints:
    """Counts by group, of parts of rows as codes and the places that these stand for."""
    found = np.zeros((groups.size, slots(profile) + 2), np.int64)
    alone = int(groups.present[0]) if len(groups.present) == 1 else -1
    at = 0
    for codes, places in parts:
        for begin in range(0, len(codes), _BLOCK):
            block = codes[begin : begin + _BLOCK]
            if alone >= 0:
                np.add.at(found[alone], places, np.bincount(block, minlength=len(places)))
            else:
                each = groups.codes[at + begin : at + begin + len(block)]
                _add(found, places[block], each)
        at += len(codes)
    return found


def _ranges(
    held: NDArray[np.float64] | None, groups: Groups
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    low, high = np.full(groups.size, np.nan), np.full(groups.size, np.nan)
    if held is None or not len(held):
        return low, high
    together = held if groups.order is None else held[groups.order]
    some = groups.present >= 0
    low[groups.present[some]] = np.fmin.reduceat(together, groups.starts)[some]
    high[groups.present[some]] = np.fmax.reduceat(together, groups.starts)[some]
    return low, high


def slots(profile: ColumnProfile) -> int:
    """How many bins or categories the profile has."""
    return len(profile.edges) + 1 if profile.kind == "number" else len(profile.values)


def _add_numbers(
    found: Ints, profile: ColumnProfile, values: NDArray[np.float64], groups: Ints | None
) -> None:
    for begin in range(0, len(values), _BLOCK):
        places = _places_of(profile, values[begin : begin + _BLOCK])
        _add(found, places, None if groups is None else groups[begin : begin + _BLOCK])


def _places_of(profile: ColumnProfile, values: NDArray[np.float64]) -> NDArray[Any]:
    """The bin of each value, and the place after them of one that is missing."""
    edges = np.array(profile.edges, np.float64)
    places = bins_of(edges, values)
    absent = values != values
    if absent.any():
        places[absent] = len(edges) + 1
    return places


def bins_of(edges: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[Any]:
    """The bin of each value, of which edges[i-1] < x <= edges[i]; nan has any.

    A comparison with each edge in turn works on many values at once; a binary search of each value
    guesses every branch: 3 ns a value against 23, at 19 edges.
    """
    if len(edges) > _BYTE - 3:
        return np.searchsorted(edges, values, side="left")
    places = np.zeros(len(values), np.uint8)
    above = np.empty(len(values), np.bool_)
    ones = above.view(np.uint8)
    for edge in edges.tolist():
        np.greater(values, edge, out=above)
        places += ones
    return places


def _add_categories(found: Ints, profile: ColumnProfile, array: Any, groups: Ints | None) -> None:
    codes, table = _coded(profile, array)
    for begin in range(0, len(codes), _BLOCK):
        block = codes[begin : begin + _BLOCK]
        if groups is None:
            counts = np.bincount(block, minlength=len(table))
            np.add.at(found[0], table, counts)
        else:
            _add(found, table[block], groups[begin : begin + _BLOCK])


def _coded(profile: ColumnProfile, array: Any) -> tuple[Ints, Ints]:
    """Each row's code, and the place of each code: that of missing is the last."""
    codes, values = coded(array)
    width = len(profile.values)
    known = pc.index_in(values, pa.array(profile.values, pa.string())).fill_null(width + 1)
    return codes, np.append(np.asarray(known, np.int64), width)


def _add(found: Ints, places: NDArray[Any], groups: Ints | None) -> None:
    if groups is None:
        found[0] += np.bincount(places, minlength=found.shape[1])
        return
    keys = groups * found.shape[1] + places
    if len(groups) and groups.min() < 0:
        keys = keys[groups >= 0]
    found += np.bincount(keys, minlength=found.size).reshape(found.shape)
