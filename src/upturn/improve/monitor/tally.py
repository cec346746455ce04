"""Tally: what a report keeps of the rows that it reads, as counts that add up and a few numbers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from upturn.core.log import FEATURE_PREFIX
from upturn.core.records import Version
from upturn.core.schema import ColumnProfile
from upturn.improve.monitor.drift import PREDICTION, observed
from upturn.improve.monitor.windows import Windows, answered, instants, runs
from upturn.model.profile import Counts, count_into

Arm = tuple[str, int, bool]  # name, version, whether it is a shadow
Place = tuple[int, int]  # a window, or a column of segments and a segment; and the profile's column
OTHERS = -1  # the segment of values that are none of those listed


class Tally:
    """Sums over the rows added: counts by window and by segment, traffic by arm, and slim rows.

    A slim row is what no sum can stand for: window, label, score (the answer, of a model without
    scores), latency, rate and segments. Pieces are added in the order of time; one thread.
    """

    def __init__(
        self,
        windows: Windows,
        version: Version | None = None,
        segments: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.windows = windows
        self.segments = dict(segments or {})  # the values that are told apart, for each column
        self.by_window: dict[Place, Counts] = {}
        self.by_segment: dict[tuple[str, int, int], Counts] = {}
        self.latencies: dict[Arm, list[NDArray[np.float64]]] = defaultdict(list)
        self.weights: dict[Arm, float] = defaultdict(float)
        self._version = version
        self._slim: list[pa.Table] = []
        names = (*version.signature.names, PREDICTION) if version else ()
        self.columns: tuple[ColumnProfile, ...] = (
            tuple(one for one in version.profile.columns if one.name in names) if version else ()
        )

    def add(self, rows: pa.Table) -> None:
        """Add joined rows with features, in the order of `at`."""
        self._add_traffic(rows)
        mine = answered(rows)
        if not mine.num_rows:
            return
        places = self.windows.places(instants(mine))
        codes = {name: self._codes(mine, name) for name in self.segments}
        self._slim.append(_slim(mine, places, codes))
        for place, begin, end in runs(places):
            self._count(mine.slice(begin, end - begin), self.by_window, (place,))
        for name, code in codes.items():
            for segment in np.unique(code).tolist():
                part = mine.filter(pa.array(code == segment))
                self._count(part, self.by_segment, (name, segment))

    @property
    def rows(self) -> pa.Table:
        """The slim rows, in the order of time: `window`, `label`, `score`, `answer`, …"""
        if not self._slim:
            return _slim(_EMPTY, np.empty(0, np.int64), dict.fromkeys(self.segments, _NONE))
        text = any(pa.types.is_string(one.schema.field("label").type) for one in self._slim)
        kind = pa.string() if text else pa.float64()
        return pa.concat_tables([_labelled(one, kind) for one in self._slim])

    def total(self, column: int) -> Counts | None:
        """The counts of a column over all windows; None where the rows lack it."""
        found = [counts for (_, one), counts in self.by_window.items() if one == column]
        return sum_of(found) if found else None

    def _count(self, rows: pa.Table, into: dict[Any, Counts], key: tuple[Any, ...]) -> None:
        if self._version is None:
            return
        seen = observed(rows)
        own = observed(rows.filter(pc.field("version") == self._version.number))
        for place, column in enumerate(self.columns):
            table = own if column.name == PREDICTION else seen
            if column.name in table.column_names:
                counts = count_into(column, table[column.name])
                before = into.get((*key, place))
                into[*key, place] = counts if before is None else sum_of([before, counts])

    def _codes(self, rows: pa.Table, name: str) -> NDArray[np.int64]:
        values = pa.array(self.segments[name], pa.string())
        found = pc.index_in(texts(rows[FEATURE_PREFIX + name]), values)
        return np.asarray(found.fill_null(OTHERS).to_numpy(zero_copy_only=False), np.int64)

    def _add_traffic(self, rows: pa.Table) -> None:
        weighed = rows.select(["arm", "version", "shadow", "latency_s"]).append_column(
            "weight", pc.divide(pa.scalar(1.0), rows["rate"])
        )
        keys = weighed.group_by(["arm", "version", "shadow"])
        for group in keys.aggregate([("weight", "sum")]).to_pylist():
            arm: Arm = (group["arm"], group["version"], group["shadow"])
            own = pc.field("arm") == arm[0]
            own &= pc.field("version") == arm[1]
            own &= pc.field("shadow") == arm[2]
            self.weights[arm] += group["weight_sum"]
            self.latencies[arm].append(numbers(weighed.filter(own)["latency_s"]))


def sum_of(counts: Sequence[Counts]) -> Counts:
    """Counts of the rows of all.

    >>> sum_of([Counts(counts=(1, 2), missing=0), Counts(counts=(3, 0), missing=1)]).counts
    (4, 2)
    """
    return reduce(add, counts)


def numbers(column: Any) -> NDArray[np.float64]:
    """A column as numbers, nan where it is null."""
    found = pa.chunked_array(column).combine_chunks() if isinstance(column, list) else column
    return np.asarray(found.cast(pa.float64()).to_numpy(), np.float64)


def texts(column: Any) -> Any:
    """A feature's values as text, as segments name them."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.cast(pa.string())


_NONE = np.empty(0, np.int64)
_EMPTY = pa.table(
    {
        "label": pa.array([], pa.float64()),
        "score": pa.array([], pa.float64()),
        "answer": pa.array([], pa.string()),
        "latency_s": pa.array([], pa.float64()),
        "at": pa.array([], pa.timestamp("us", "UTC")),
        "rate": pa.array([], pa.float64()),
    }
)


def _slim(
    rows: pa.Table, places: NDArray[np.int64], codes: Mapping[str, NDArray[np.int64]]
) -> pa.Table:
    # An answer is the score as text where there is one: then it says nothing more.
    answers = rows["answer"]
    if rows.num_rows and not rows["score"].null_count:
        answers = pa.nulls(rows.num_rows, pa.string())
    columns: dict[str, Any] = {
        "window": pa.array(places, pa.int32()),
        "at": rows["at"],
        "label": rows["label"],
        "score": rows["score"].cast(pa.float64()),
        "answer": answers,
        "latency_s": rows["latency_s"].cast(pa.float64()),
        "rate": rows["rate"].cast(pa.float64()),
    }
    kept = {f"@{name}": pa.array(code, pa.int16()) for name, code in codes.items()}
    return pa.table(columns | kept)


def _labelled(rows: pa.Table, kind: Any) -> pa.Table:
    place = rows.schema.get_field_index("label")
    return rows.set_column(place, "label", rows["label"].cast(kind))
