"""Categories: the most frequent values of a column, exactly counted in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from upturn.model.profile_values import coded

DISTINCT = 1 << 18  # with more values than these a column holds names or free text
_HEAVY = 1 << 16  # of such a column, values with a share of more than one in these are kept


class Ranked(msgspec.Struct, frozen=True):
    """The most frequent values with their rows, the rows of all others, and the missing ones."""

    values: tuple[str, ...]
    counts: tuple[int, ...]
    other: int
    missing: int


def rank(arrays: Callable[[], Iterable[Any]], keep: int, *, distinct: int = DISTINCT) -> Ranked:
    """The `keep` most frequent values; of equally frequent ones the least, whatever the order.

    A column with more than `distinct` values holds names, ids or free text. Of those that have a
    share of more than 1 / 65,536 are kept, and no others: a second pass counts them exactly after a
    first one has found all that may have it (the summaries of Misra & Gries 1982, which miss none).
    `arrays` yields the column anew at each call.

    >>> rank(lambda: [pa.array(["b", "a"]), pa.array(["b", None])], 1)
    Ranked(values=('b',), counts=(2,), other=1, missing=1)
    """
    found = _Tally(distinct)
    for array in arrays():
        found.add(array)
    if not found.pruned:
        return _ranked(found.values, found.counts, found, keep)
    values = found.values
    counts = np.zeros(len(values), np.int64)
    for array in arrays():
        counts += _count(array, values)
    heavy = counts > found.rows / _HEAVY
    return _ranked(values.filter(pa.array(heavy)), counts[heavy], found, keep)


class _Tally:
    """Rows of each distinct value; of too many values, of those that may be frequent."""

    def __init__(self, distinct: int) -> None:
        self.values: Any = pa.array([], pa.string())
        self.counts: NDArray[np.int64] = np.empty(0, np.int64)
        self.rows = 0  # with a value
        self.missing = 0
        self.pruned = False
        self._distinct = distinct

    def add(self, array: Any) -> None:
        codes, values = coded(array)
        counts = np.bincount(codes, minlength=len(values) + 1)
        missing = int(counts[len(values)])
        self.missing += missing
        self.rows += len(codes) - missing
        some = counts[:-1] > 0
        self._merge(values.filter(pa.array(some)), counts[:-1][some])

    def _merge(self, values: Any, counts: NDArray[np.int64]) -> None:
        columns: dict[str, Any] = {
            "value": pa.concat_arrays([self.values, values]),
            "count": np.concatenate([self.counts, counts]),
        }
        both = pa.table(columns)
        summed = both.group_by("value", use_threads=False).aggregate([("count", "sum")])
        self.values = summed["value"].combine_chunks()
        self.counts = summed["count_sum"].to_numpy()
        if len(self.counts) > self._distinct:
            self._prune()

    def _prune(self) -> None:
        """Take the same from the counts of more than 2^16 values, and leave those with none out."""
        self.pruned = True
        if len(self.counts) <= _HEAVY:
            return
        taken = np.partition(self.counts, -(_HEAVY + 1))[-(_HEAVY + 1)]
        stay = self.counts > taken
        self.values = self.values.filter(pa.array(stay))
        self.counts = self.counts[stay] - taken


def _count(array: Any, wanted: Any) -> NDArray[np.int64]:
    codes, values = coded(array)
    counts = np.bincount(codes, minlength=len(values) + 1)[: len(values)]
    places = pc.index_in(values, wanted)
    known = np.asarray(places.is_valid())
    found = np.zeros(len(wanted), np.int64)
    np.add.at(found, np.asarray(places.drop_null(), np.int64), counts[known])
    return found


def _ranked(values: Any, counts: NDArray[np.int64], found: _Tally, keep: int) -> Ranked:
    if len(counts) > keep:
        # Only what is as frequent as the last one kept, or more, is looked at one by one.
        least = np.partition(counts, -keep)[-keep]
        some = counts >= least
        values, counts = values.filter(pa.array(some)), counts[some]
    pairs = zip(counts.tolist(), values.to_pylist(), strict=True)
    best = sorted(pairs, key=lambda pair: (-pair[0], pair[1]))[:keep]
    return Ranked(
        tuple(value for _, value in best),
        tuple(count for count, _ in best),
        found.rows - sum(count for count, _ in best),
        found.missing,
    )
