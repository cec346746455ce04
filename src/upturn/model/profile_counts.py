"""Counts: how the rows of a sample fall on the bins or categories of a profile."""

from __future__ import annotations

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
    """A sample counted on the bins or categories of a profile; they all sum to its rows."""

    counts: tuple[int, ...]
    missing: int
    unseen: int = 0  # rows of categories that the profile does not name


def count_into(profile: ColumnProfile, values: Any) -> Counts:
    """How another sample of the column (an Arrow array) falls on the profile's bins or categories.

    >>> column = ColumnProfile(name="x", kind="category", count=3, missing=0, values=("a", "b"))
    >>> count_into(column, pa.array(["a", "c", None]))
    Counts(counts=(1, 0), missing=1, unseen=1)
    """
    return counts_of(count_by(profile, values)[0])


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


def slots(profile: ColumnProfile) -> int:
    """How many bins or categories the profile has."""
    return len(profile.edges) + 1 if profile.kind == "number" else len(profile.values)


def _add_numbers(
    found: Ints, profile: ColumnProfile, values: NDArray[np.float64], groups: Ints | None
) -> None:
    edges = np.array(profile.edges, np.float64)
    missing = len(edges) + 1
    for begin in range(0, len(values), _BLOCK):
        block = values[begin : begin + _BLOCK]
        places = bins_of(edges, block)
        absent = block != block
        if absent.any():
            places[absent] = missing
        _add(found, places, None if groups is None else groups[begin : begin + _BLOCK])


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
    codes, values = coded(array)
    width = len(profile.values)
    known = pc.index_in(values, pa.array(profile.values, pa.string())).fill_null(width + 1)
    # The place of each distinct value, and of missing as the last.
    table = np.append(np.asarray(known, np.int64), width)
    for begin in range(0, len(codes), _BLOCK):
        block = codes[begin : begin + _BLOCK]
        if groups is None:
            counts = np.bincount(block, minlength=len(table))
            np.add.at(found[0], table, counts)
        else:
            _add(found, table[block], groups[begin : begin + _BLOCK])


def _add(found: Ints, places: NDArray[Any], groups: Ints | None) -> None:
    if groups is None:
        found[0] += np.bincount(places, minlength=found.shape[1])
        return
    keys = groups * found.shape[1] + places
    if len(groups) and groups.min() < 0:
        keys = keys[groups >= 0]
    found += np.bincount(keys, minlength=found.size).reshape(found.shape)
