"""Trees: a small boosted model of numbers from the columns of a table, in numpy alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from upturn.improve.measures.arrays import Floats, ratio, sums_by

Codes = NDArray[np.intp]
_BINS, _CATEGORIES = 32, 30


@dataclass(frozen=True, slots=True)
class Column:
    """How a column becomes codes: bins of a number, or categories; the last code is missing."""

    name: str
    edges: Floats
    categories: tuple[str, ...] | None  # in the order of their codes; others have one of their own

    @property
    def codes(self) -> int:
        """How many there are."""
        return (len(self.edges) + 1 if self.categories is None else len(self.categories) + 1) + 1

    def of(self, table: pa.Table) -> Codes:
        """The code of each row; missing where the table lacks the column."""
        missing = self.codes - 1
        if self.name not in table.column_names:
            return np.full(table.num_rows, missing, np.intp)
        column = _plain(table[self.name])
        if self.categories is None:
            values = _numbers(column)
            return np.where(np.isnan(values), missing, np.searchsorted(self.edges, values))
        texts = column.cast(pa.string())
        found = pc.index_in(texts, pa.array(self.categories, pa.string()))
        places = found.fill_null(len(self.categories)).to_numpy(zero_copy_only=False)
        return np.where(np.asarray(texts.is_null()), missing, places).astype(np.intp)


@dataclass(frozen=True, slots=True)
class Trees:
    """Trees of equal depth: each asks `column <= cut` at its nodes, breadth first."""

    columns: tuple[Column, ...]
    base: float
    features: Codes  # (trees, nodes)
    cuts: Codes
    leaves: Floats  # (trees, 2 ** depth)

    def predict(self, table: pa.Table) -> Floats:
        """One number a row."""
        codes = [column.of(table) for column in self.columns]
        return self._predict(np.stack(codes) if codes else np.zeros((0, table.num_rows), np.intp))

    def _predict(self, codes: Codes) -> Floats:
        rows = np.arange(codes.shape[1])
        found = np.full(codes.shape[1], self.base)
        depth = int(np.log2(self.leaves.shape[1])) if self.leaves.size else 0
        for feature, cut, leaf in zip(self.features, self.cuts, self.leaves, strict=True):
            node = np.zeros(codes.shape[1], np.intp)
            for level in range(depth):
                at = node + 2**level - 1
                node = 2 * node + (codes[feature[at], rows] > cut[at])
            found += leaf[node]
        return found


def fit_trees(
    table: pa.Table,
    names: Sequence[str],
    target: Floats,
    weights: Floats,
    *,
    rounds: int = 60,
    depth: int = 3,
    rate: float = 0.1,
) -> Trees:
    """Gradient boosting of squared error (Friedman 2001) on at most 32 quantile bins a column.

    Columns of text have their 30 most frequent categories, in the order of their mean target, so
    that one cut parts the high from the low. A leaf holds at least 20 rows and half a percent of
    them. The mean of the predictions on the rows fitted is that of the target. Columns that hold
    neither numbers, times nor text are passed over.
    """
    columns = [_column(table, name, target, weights) for name in names]
    kept = tuple(column for column in columns if column is not None)
    base = float(weights @ target / weights.sum())
    codes = (
        np.stack([one.of(table) for one in kept])
        if kept
        else np.zeros((0, table.num_rows), np.intp)
    )
    least = max(20.0, 0.005 * len(target)) * float(weights.mean())
    sizes = [one.codes for one in kept]
    residual = target - base
    features: list[Codes] = []
    cuts: list[Codes] = []
    leaves: list[Floats] = []
    for _ in range(rounds if kept else 0):
        feature, cut, node = _grow(codes, sizes, residual, weights, depth, least)
        sums = np.bincount(node, weights=weights * residual, minlength=2**depth)
        leaf = rate * np.nan_to_num(
            ratio(sums, np.bincount(node, weights=weights, minlength=2**depth))
        )
        residual -= leaf[node]
        features.append(feature)
        cuts.append(cut)
        leaves.append(leaf)
    nodes = 2**depth
    return Trees(
        kept,
        base,
        np.array(features, np.intp).reshape(-1, nodes - 1),
        np.array(cuts, np.intp).reshape(-1, nodes - 1),
        np.array(leaves, np.float64).reshape(-1, nodes),
    )


def _grow(
    codes: Codes, sizes: Sequence[int], residual: Floats, weights: Floats, depth: int, least: float
) -> tuple[Codes, Codes, Codes]:
    """The questions of one tree, and the leaf of each row."""
    feature, cut = np.zeros(2**depth - 1, np.intp), np.zeros(2**depth - 1, np.intp)
    node = np.zeros(codes.shape[1], np.intp)
    rows = np.arange(codes.shape[1])
    pull = weights * residual
    for level in range(depth):
        nodes = 2**level
        best = np.full(nodes, 0.0)
        own_feature, own_cut = np.zeros(nodes, np.intp), np.full(nodes, max(sizes), np.intp)
        for place, size in enumerate(sizes):
            keys = node * size + codes[place]
            gain, where = _best_cut(
                sums_by(keys, pull, nodes * size).reshape(nodes, size),
                sums_by(keys, weights, nodes * size).reshape(nodes, size),
                least,
            )
            better = gain > best
            best = np.where(better, gain, best)
            own_feature, own_cut = (
                np.where(better, place, own_feature),
                np.where(better, where, own_cut),
            )
        at = slice(nodes - 1, 2 * nodes - 1)
        feature[at], cut[at] = own_feature, own_cut
        node = 2 * node + (codes[own_feature[node], rows] > own_cut[node])
    return feature, cut, node


def _best_cut(pulls: Floats, sizes: Floats, least: float) -> tuple[Floats, Codes]:
    """By node: how much squared error the best cut saves, and where it is."""
    if pulls.shape[1] < 2:
        return np.zeros(len(pulls)), np.zeros(len(pulls), np.intp)
    left, count = np.cumsum(pulls, axis=1)[:, :-1], np.cumsum(sizes, axis=1)[:, :-1]
    total, whole = pulls.sum(axis=1, keepdims=True), sizes.sum(axis=1, keepdims=True)
    enough = (count >= least) & (whole - count >= least)
    saved = (
        np.square(left) / np.where(enough, count, 1.0)
        + np.square(total - left) / np.where(enough, whole - count, 1.0)
        - np.square(total) / np.maximum(whole, 1e-300)
    )
    saved = np.where(enough, saved, 0.0)
    where = saved.argmax(axis=1)
    return saved[np.arange(len(saved)), where], where


def _column(table: pa.Table, name: str, target: Floats, weights: Floats) -> Column | None:
    column = _plain(table[name])
    kind = column.type
    if _is_number(kind):
        values = _numbers(column)
        values = values[~np.isnan(values)]
        if not len(values):
            return None
        ordered = np.sort(values)
        cuts = ordered[np.arange(1, _BINS) * len(ordered) // _BINS]
        return Column(name, np.unique(cuts[cuts < ordered[-1]]), None)
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return None
    counted = pc.value_counts(column.drop_null())
    pairs = zip(
        counted.field("counts").to_pylist(), counted.field("values").to_pylist(), strict=True
    )
    common = [value for _, value in sorted(pairs, key=lambda pair: (-pair[0], pair[1]))]
    common = common[:_CATEGORIES]
    if not common:
        return None
    place = pc.index_in(column.cast(pa.string()), pa.array(common, pa.string()))
    codes = place.fill_null(len(common)).to_numpy(zero_copy_only=False).astype(np.intp)
    sums = np.bincount(codes, weights=weights * target, minlength=len(common) + 1)
    means = ratio(sums, np.bincount(codes, weights=weights, minlength=len(common) + 1))
    order = np.argsort(means[: len(common)], kind="stable")
    return Column(name, np.empty(0), tuple(common[one] for one in order))


def _is_number(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_boolean(kind)
        or types.is_decimal(kind)
        or types.is_timestamp(kind)
        or types.is_date(kind)
    )


def _plain(column: Any) -> Any:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _numbers(column: Any) -> Floats:
    """The column as numbers, nan where it is none: of a text too, whatever it says."""
    if not _is_number(column.type):
        return np.full(len(column), np.nan)
    if pa.types.is_date32(column.type):
        column = column.cast(pa.int32())
    elif pa.types.is_timestamp(column.type) or pa.types.is_date64(column.type):
        column = column.cast(pa.int64())
    return np.asarray(
        column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), np.float64
    )
