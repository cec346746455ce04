"""Tally: what a report keeps of the rows that it reads with their labels, as a few numbers each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from upturn.core.log import FEATURE_PREFIX
from upturn.improve.monitor.windows import Windows, answered, instants

Arm = tuple[str, int, bool]  # name, version, whether it is a shadow
OTHERS = -1  # the segment of values that are none of those listed


class Tally:
    """Sums over the rows added: traffic by arm, ids that are there twice, and slim rows.

    A slim row is what no sum can stand for: window, label, score (the answer, of a model without
    scores), latency, rate and segments. Pieces are added in the order of time; one thread.
    """

    def __init__(
        self, windows: Windows, segments: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        self.windows = windows
        self.segments = dict(segments or {})  # the values that are told apart, for each column
        self.latencies: dict[Arm, list[NDArray[np.float64]]] = defaultdict(list)
        self.weights: dict[Arm, float] = defaultdict(float)
        self.repeated = 0  # ids, among the rows of one piece
        self._slim: list[pa.Table] = []

    def add(self, rows: pa.Table) -> None:
        """Add joined rows with the segments' features, in the order of `at`."""
        self._add_traffic(rows)
        mine = answered(rows)
        if not mine.num_rows:
            return
        self.repeated += mine.num_rows - len(pc.unique(mine["id"]))
        places = self.windows.places(instants(mine))
        codes = {
            name: segment_codes(_feature(mine, name), values)
            for name, values in self.segments.items()
        }
        self._slim.append(_slim(mine, places, codes))

    @property
    def rows(self) -> pa.Table:
        """The slim rows, in the order of time: `window`, `label`, `score`, `answer`, …"""
        if not self._slim:
            return _slim(_EMPTY, np.empty(0, np.int64), dict.fromkeys(self.segments, _NONE))
        text = any(pa.types.is_string(one.schema.field("label").type) for one in self._slim)
        kind = pa.string() if text else pa.float64()
        return pa.concat_tables([_labelled(one, kind) for one in self._slim])

    def _add_traffic(self, rows: pa.Table) -> None:
        weighed = rows.select(["arm", "version", "shadow", "latency_s"]).append_column(
            "weight", pc.divide(pa.scalar(1.0), rows["rate"])
        )
        keys = weighed.group_by(["arm", "version", "shadow"])
        groups = keys.aggregate([("weight", "sum")]).to_pylist()
        for group in groups:
            arm: Arm = (group["arm"], group["version"], group["shadow"])
            self.weights[arm] += group["weight_sum"]
            mine = weighed
            if len(groups) > 1:
                own = pc.field("arm") == arm[0]
                own &= pc.field("version") == arm[1]
                own &= pc.field("shadow") == arm[2]
                mine = weighed.filter(own)
            self.latencies[arm].append(numbers(mine["latency_s"]))


def segment_codes(column: Any, values: Sequence[str]) -> NDArray[np.int64]:
    """The place of each value of a feature among those told apart, OTHERS of any other."""
    found = pc.index_in(texts(column), pa.array(values, pa.string()))
    return np.asarray(found.fill_null(OTHERS).to_numpy(zero_copy_only=False), np.int64)


def numbers(column: Any) -> NDArray[np.float64]:
    """A column as numbers, nan where it is null."""
    found = pa.chunked_array(column).combine_chunks() if isinstance(column, list) else column
    return np.asarray(found.cast(pa.float64()).to_numpy(), np.float64)


def texts(column: Any) -> Any:
    """A feature's values as text, as segments name them."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.cast(pa.string())


def _feature(rows: pa.Table, name: str) -> Any:
    full = FEATURE_PREFIX + name
    return rows[full] if full in rows.column_names else pa.nulls(rows.num_rows, pa.string())


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
    named = "answer" in rows.column_names
    columns: dict[str, Any] = {
        "window": pa.array(places, pa.int32()),
        "at": rows["at"],
        "label": rows["label"],
        "score": rows["score"].cast(pa.float64()),
        "answer": rows["answer"] if named else pa.nulls(rows.num_rows, pa.string()),
        "latency_s": rows["latency_s"].cast(pa.float64()),
        "rate": rows["rate"].cast(pa.float64()),
    }
    kept = {f"@{name}": pa.array(code, pa.int16()) for name, code in codes.items()}
    return pa.table(columns | kept)


def _labelled(rows: pa.Table, kind: Any) -> pa.Table:
    place = rows.schema.get_field_index("label")
    return rows.set_column(place, "label", rows["label"].cast(kind))
