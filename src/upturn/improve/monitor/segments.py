"""Segments: the groups that a report tells apart, by the values of a feature."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from upturn.core.errors import NotFound, did_you_mean
from upturn.core.log import FEATURE_PREFIX
from upturn.core.time import micros
from upturn.improve.log import StoredLog
from upturn.improve.monitor.drift import Drift
from upturn.improve.monitor.performance import Performance
from upturn.improve.monitor.tally import texts

TOP = 10


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """The rows with one value of a feature; `value` is None for those beyond the most frequent.

    `drift` is against the baseline of all rows: what a segment is unlike, it may always have been,
    so look at which segments differ from the others.
    """

    column: str
    value: str | None
    rows: int
    share: float
    performance: Performance
    drift: tuple[Drift, ...]  # most drifted first

    @property
    def name(self) -> str:
        """'origin=JFK'."""
        return f"{self.column}={'(others)' if self.value is None else self.value}"


def top_values(
    log: StoredLog, columns: Sequence[str], *, since: datetime, until: datetime, top: int = TOP
) -> dict[str, list[str]]:
    """The most frequent values of each feature in [since, until), as text; ties by the text.

    Raises NotFound for a feature that the Log does not have. A Log without rows has no values.
    """
    if not columns:
        return {}
    fields = log.sql("SELECT * FROM predictions LIMIT 0").column_names
    known = [name.removeprefix(FEATURE_PREFIX) for name in fields if FEATURE_PREFIX in name]
    for name in columns:
        if known and name not in known:
            raise NotFound(f"The Log has no feature {name!r}.", hint=did_you_mean(name, known))
    return {name: _top(log, name, since, until, top) for name in columns if name in known}


def _top(log: StoredLog, name: str, since: datetime, until: datetime, top: int) -> list[str]:
    column = '"' + (FEATURE_PREFIX + name).replace('"', '""') + '"'
    found = log.sql(
        f"SELECT {column} AS value, count(*) AS n FROM predictions "
        f"WHERE NOT shadow AND error IS NULL AND {column} IS NOT NULL "
        f'AND epoch_us("at") >= {micros(since)} AND epoch_us("at") < {micros(until)} '
        f"GROUP BY value ORDER BY n DESC, value LIMIT {int(top)}"
    )
    return texts(found["value"]).to_pylist()  # as Arrow writes them, not as DuckDB does
