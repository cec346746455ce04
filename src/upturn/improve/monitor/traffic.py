"""Traffic: requests, failures and latencies of each hour, as series to look for anomalies in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from upturn.core.errors import Invalid
from upturn.core.time import duration, micros
from upturn.improve.measures.arrays import Floats, sums_by
from upturn.improve.monitor.answers import arrow_rows
from upturn.improve.monitor.performance import instants, weights_of

LEAST = {"p50": 20, "p99": 200}  # answers in an hour, below which its quantile says nothing


@dataclass(frozen=True, slots=True)
class Traffic:
    """One entry for each whole hour (or other step) of a span, empty ones included.

    `starts` are microseconds since 1970. `requests` counts what the Log's rows stand for, `failed`
    of them have no answer; latencies are nan where too few were answered.
    """

    starts: NDArray[np.int64]
    step: timedelta
    requests: Floats
    failed: Floats
    latency_s: dict[str, Floats]


def traffic(
    rows: pa.Table, since: datetime, until: datetime, *, step: str | timedelta = "1h"
) -> Traffic:
    """The traffic of [since, until) by whole steps of a clock in UTC; what is left over is not in.

    `rows` have `at` and, as far as they are known, `latency_s`, `rate`, `error` and `shadow`, in
    any order; shadows are left out. Raises Invalid for a step that does not divide a day.

    >>> from upturn.core.time import instant
    >>> at = pa.array([instant("2013-04-01T00:30:00Z")], pa.timestamp("us", "UTC"))
    >>> traffic(
    ...     pa.table({"at": at}), instant("2013-04-01"), instant("2013-04-01T02:30:00Z")
    ... ).requests
    array([1., 0.])
    """
    length = duration(step)
    if length <= timedelta(0) or timedelta(days=1) % length:
        raise Invalid(f"A day is no multiple of {step}.", hint="Write '1h' or '15m'.")
    wide = round(length.total_seconds() * 1e6)
    first, last = -(-micros(since) // wide), micros(until) // wide
    count = max(0, last - first)
    if "shadow" in rows.column_names:
        rows = rows.filter(pc.invert(rows["shadow"]))
    place = instants(rows) // wide - first
    inside = (place >= 0) & (place < count)
    rows, place = rows.filter(arrow_rows(inside)), place[inside]
    weights = weights_of(rows)
    failed = np.zeros(len(place), np.bool_)
    if "error" in rows.column_names:
        failed = np.asarray(rows["error"].combine_chunks().is_valid())
    return Traffic(
        starts=(np.arange(count) + first) * wide,
        step=length,
        requests=sums_by(place, weights, count),
        failed=sums_by(place, weights * failed, count),
        latency_s=_latencies(rows, place, count),
    )


def _latencies(rows: pa.Table, place: NDArray[np.int64], count: int) -> dict[str, Floats]:
    found = {name: np.full(count, np.nan) for name in LEAST}
    if "latency_s" not in rows.column_names:
        return found
    values = rows["latency_s"].combine_chunks().cast(pa.float64())
    seconds = np.asarray(values.to_numpy(zero_copy_only=False), np.float64)
    known = np.isfinite(seconds)
    seconds, place = seconds[known], place[known]
    order = np.lexsort((seconds, place))
    seconds, place = seconds[order], place[order]
    ends = np.searchsorted(place, np.arange(count + 1))
    sizes = np.diff(ends)
    for name, least in LEAST.items():
        share = float(name[1:]) / 100
        some = np.flatnonzero(sizes >= least)
        ranks = np.ceil(share * sizes[some]).astype(np.int64) - 1
        found[name][some] = seconds[ends[some] + ranks]
    return found
