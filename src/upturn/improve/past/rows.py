"""Past: rows in the order in which they happened, each with when its label became known."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from upturn.core.errors import Invalid
from upturn.core.log import FEATURE_PREFIX
from upturn.core.records import Endpoint, Version
from upturn.core.time import from_micros, micros
from upturn.improve.log import StoredLog
from upturn.improve.monitor.performance import outcomes
from upturn.improve.past.history import OWN, as_history
from upturn.stores.workspace import Workspace

NEVER = np.iinfo(np.int64).max
_AT = pa.timestamp("us", "UTC")


@dataclass(frozen=True, slots=True)
class Past:
    """Rows in the order in which they happened, each with when its label became known."""

    at: np.ndarray  # microseconds since 1970
    known_at: np.ndarray  # the same; NEVER for never
    labels: pa.Array[Any]  # numbers, or text
    units: list[str | None]
    inputs: pa.Table

    @property
    def rows(self) -> int:
        """How many."""
        return len(self.at)

    def span(self, since: datetime, until: datetime) -> tuple[int, int]:
        """The places of the rows in [since, until)."""
        low, high = np.searchsorted(self.at, [micros(since), micros(until)])
        return int(low), int(high)

    def truth(self, version: Version, known_by: datetime) -> np.ndarray:
        """The labels as numbers for that version; nan where not known by then."""
        columns: dict[str, Any] = {"label": self.labels}
        truth = outcomes(pa.table(columns), version.signature)
        return np.where(self.known_at <= micros(known_by), truth, np.nan)

    def known_in(self, since: datetime, until: datetime, by: datetime) -> int:
        """How many rows of [since, until) have a label that was known by then."""
        low, high = self.span(since, until)
        return int((self.known_at[low:high] <= micros(by)).sum())


def past_of(table: Any, endpoint: Endpoint, start: datetime, end: datetime) -> Past:
    """The rows of [start, end) of a table with `at`, `known_at`, `label` and the model's inputs.

    `table` may be a `History`, which says what these columns are called in it. Raises Invalid when
    a column is missing or is not what it has to be, and when there is no row in that time.
    """
    rows = as_history(table)
    at = rows["at"]
    inside = pc.and_(pc.greater_equal(at, pa.scalar(start, _AT)), pc.less(at, pa.scalar(end, _AT)))
    kept = rows.filter(inside)
    if not kept.num_rows:
        raise Invalid(
            f"The history has no rows from {start:%Y-%m-%d} until {end:%Y-%m-%d}.",
            hint=_reach(rows),
        )
    kept = kept.take(pc.array_sort_indices(kept["at"])).combine_chunks()
    at, known_at, label = (kept[name].combine_chunks() for name in OWN)
    happened = np.asarray(at.cast(pa.int64()).to_numpy(zero_copy_only=False), dtype=np.int64)
    never: Any = pc.fill_null(known_at.cast(pa.int64()), pa.scalar(NEVER, pa.int64()))
    known = np.asarray(never.to_numpy(zero_copy_only=False), dtype=np.int64)
    known = np.where(pc.is_null(label).to_numpy(zero_copy_only=False), NEVER, known)
    return Past(
        at=happened,
        known_at=np.maximum(known, happened),
        labels=label,
        units=_units(kept, endpoint),
        inputs=kept.drop_columns(list(OWN)),
    )


def _reach(rows: pa.Table) -> str:
    if not rows.num_rows:
        return "It has no rows at all."
    ends: Any = pc.min_max(rows["at"].cast(pa.int64())).as_py()
    first, last = from_micros(ends["min"]), from_micros(ends["max"])
    return f"It has rows from {first:%Y-%m-%d} to {last:%Y-%m-%d}."


def past_of_log(workspace: Workspace, endpoint: Endpoint, start: datetime, end: datetime) -> Past:
    """The rows that the endpoint answered in [start, end), with the labels known by `end`."""
    rows = StoredLog(workspace, endpoint.name).joined(
        since=start, until=end, known_by=end, shadow=False, features=True
    )
    if not rows.num_rows:
        raise Invalid(
            f"The Log of {endpoint.name!r} has no rows from {start:%Y-%m-%d} until {end:%Y-%m-%d}.",
            hint="Give the loop a history=, or rehearse on days when the endpoint answered.",
        )
    features = [name for name in rows.column_names if name.startswith(FEATURE_PREFIX)]
    columns: dict[str, Any] = (
        {name: rows[name] for name in OWN}
        | ({} if endpoint.unit is None else {endpoint.unit: rows["unit"]})
        | {name.removeprefix(FEATURE_PREFIX): rows[name] for name in features}
    )
    return past_of(pa.table(columns), endpoint, start, end)


def _units(rows: pa.Table, endpoint: Endpoint) -> list[str | None]:
    if endpoint.unit is None or endpoint.unit not in rows.column_names:
        return [None] * rows.num_rows
    return [None if unit is None else str(unit) for unit in rows[endpoint.unit].to_pylist()]
