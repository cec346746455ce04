"""Checks: what a report looks at besides drift, each against what the Log held before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from upturn.core.records import Version
from upturn.core.time import micros
from upturn.improve.actions import trained_until
from upturn.improve.log import StoredLog
from upturn.improve.monitor.anomalies import anomalies
from upturn.improve.monitor.changes import estimated_symptoms, performance_symptoms, surprises
from upturn.improve.monitor.estimated import Estimated, Estimator, fit_estimator
from upturn.improve.monitor.labels import label_symptoms
from upturn.improve.monitor.maturing import Matured, mature
from upturn.improve.monitor.past import began, hourly, sampled
from upturn.improve.monitor.performance import Performance, performance
from upturn.improve.monitor.skew import release_skew
from upturn.improve.monitor.staleness import staleness
from upturn.improve.monitor.symptom import Symptom
from upturn.improve.statistics.interval import Interval
from upturn.stores.workspace import Workspace

_BACK = timedelta(days=56)  # how far before a report its checks look
_LABELS = 200  # of the champion's, that it takes to estimate without them
_OUT = 0.9  # completeness below which labels are out
_FIRST = timedelta(days=3)  # of a release, in which the world has hardly changed yet
_ROWS_OF_RELEASE = 20_000
_WHOLE = 0.98  # completeness from which there is nothing to correct


@dataclass(frozen=True, slots=True)
class Checked:
    """What the checks found: symptoms, and metrics estimated and corrected.

    `by_window` are estimates of the windows after what they were learned from, by their start.
    """

    symptoms: tuple[Symptom, ...]
    estimated: Estimated | None = None
    by_window: dict[datetime, dict[str, Interval]] | None = None
    matured: Matured | None = None


def checked(
    workspace: Workspace,
    log: StoredLog,
    version: Version | None,
    windows: Sequence[tuple[datetime, datetime, Performance]],
    *,
    since: datetime,
    until: datetime,
    known_by: datetime,
) -> Checked:
    """Service, labels, the age of the champion and its performance, in [since, until).

    Reads up to 56 days before, as counts by hour and as a sample of 100,000 rows at most.
    """
    found = anomalies(hourly(log, since - _BACK, until), since)
    # What a number is off by is learned from features, of what probabilities say is enough.
    of_numbers = version is not None and version.signature.output == "number"
    rows, each = sampled(
        log, since=since - _BACK, until=until, known_by=known_by, features=of_numbers
    )
    earlier = _earlier(rows, version, windows, since)
    found += performance_symptoms([(start, one) for start, _, one in windows], earlier=earlier)
    if rows.num_rows:
        found += label_symptoms(rows, known_by=known_by, each=each)
    if version is None:
        return Checked(tuple(found))
    found += _staleness(workspace, version, until)
    found += _skew(log, version, since, until, known_by)
    if version.signature.output not in ("probability", "number"):
        return Checked(tuple(found))
    inside = rows.filter(pc.greater_equal(_at(rows), pa.scalar(micros(since))))
    matured = None
    if inside.num_rows and inside["label"].null_count > (1 - _WHOLE) * inside.num_rows:
        matured = mature(inside, rows, known_by=known_by, signature=version.signature)
    own = rows.filter(pc.equal(rows["version"], pa.scalar(version.number, rows["version"].type)))
    begins, estimator = _estimator(own, version, since, until)
    estimated, by_window = _estimated(own, estimator, begins, windows)
    found += _of_estimates(own, estimator, estimated, begins, version)
    return Checked(tuple(found), estimated, by_window, matured)


def _earlier(
    rows: pa.Table,
    version: Version | None,
    windows: Sequence[tuple[datetime, datetime, Performance]],
    since: datetime,
) -> list[tuple[datetime, Performance]]:
    """The performance in windows as long as the report's, before it."""
    if not windows or version is None or version.signature.output not in ("probability", "number"):
        return []
    length = max(end - start for start, end, _ in windows)
    at = _at(rows).to_numpy()
    found: list[tuple[datetime, Performance]] = []
    for back in range(int(_BACK / length), 0, -1):
        start = since - back * length
        first, last = np.searchsorted(at, [micros(start), micros(start + length)]).tolist()
        if last > first:
            part = rows.slice(first, last - first)
            found.append((start, performance(part, signature=version.signature)))
    return found


def _staleness(workspace: Workspace, version: Version, now: datetime) -> list[Symptom]:
    versions = workspace.meta.select(Version, model=version.model)
    ends = [trained_until(one) for one in versions if one.number < version.number]
    earlier = [end for end in ends if end is not None]
    return staleness(trained_until(version), now, earlier=earlier)


def _skew(
    log: StoredLog, version: Version, since: datetime, until: datetime, known_by: datetime
) -> list[Symptom]:
    """Of a version that was released within the report: whether it is served what it learned on."""
    released = began(log, version.number)
    if released is None or not since <= released < until:
        return []
    first, _ = sampled(
        log,
        since=released,
        until=min(until, released + _FIRST),
        known_by=known_by,
        most=_ROWS_OF_RELEASE,
        version=version.number,
        features=True,
    )
    return release_skew(version.profile, first, released, span=_FIRST)


def _estimator(
    own: pa.Table, version: Version, since: datetime, until: datetime
) -> tuple[datetime, Estimator]:
    """Learned from what is before the report; if that is too little, from its first third."""
    for end in (since, since + (until - since) / 3):
        before = own.filter(pc.less(_at(own), pa.scalar(micros(end))))
        labelled = before.filter(before["label"].is_valid())
        if labelled.num_rows >= _LABELS:
            break
    return end, fit_estimator(labelled, signature=version.signature)


def _estimated(
    own: pa.Table,
    estimator: Estimator,
    begins: datetime,
    windows: Sequence[tuple[datetime, datetime, Performance]],
) -> tuple[Estimated | None, dict[datetime, dict[str, Interval]]]:
    if estimator.unsaid:
        return None, {}
    at = _at(own).to_numpy()
    by_window: dict[datetime, dict[str, Interval]] = {}
    for start, end, _ in windows:
        if start >= begins:
            first, last = np.searchsorted(at, [micros(start), micros(end)]).tolist()
            guessed = estimator.estimate(own.slice(first, last - first))
            if not guessed.unsaid:
                by_window[start] = guessed.intervals
    first = int(np.searchsorted(at, micros(begins)))
    estimated = estimator.estimate(own.slice(first))
    return (None if estimated.unsaid else estimated), by_window


def _of_estimates(
    own: pa.Table,
    estimator: Estimator,
    estimated: Estimated | None,
    begins: datetime,
    version: Version,
) -> list[Symptom]:
    """Where labels are there, whether they surprise; of the rest, whether it is likely worse."""
    if estimated is None:
        return []
    rows = own.filter(pc.greater_equal(_at(own), pa.scalar(micros(begins))))
    labelled = rows.filter(rows["label"].is_valid())
    found: list[Symptom] = []
    if labelled.num_rows >= _LABELS:
        realised = performance(labelled, signature=version.signature)
        found += surprises(estimator.estimate(labelled), realised)
    if labelled.num_rows < _OUT * rows.num_rows:
        found += estimated_symptoms(estimator.estimate(rows.filter(rows["label"].is_null())))
    return found


def _at(rows: pa.Table) -> Any:
    return rows["at"].cast(pa.int64())
