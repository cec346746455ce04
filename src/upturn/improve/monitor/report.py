"""MonitorReport: traffic, latency, drift and performance of an endpoint over a span of time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from upturn.core.errors import Invalid
from upturn.core.records import Check, Endpoint, Route, Version
from upturn.core.schema import Signature
from upturn.improve.intervals import blocks_of
from upturn.improve.log import StoredLog, steadily
from upturn.improve.log_snapshot import Snapshot
from upturn.improve.monitor.alarms import alarms
from upturn.improve.monitor.calibration import (
    Calibration,
    CalibrationBin,
    calibration,
    calibration_symptoms,
)
from upturn.improve.monitor.checks import Checked, checked
from upturn.improve.monitor.distances import Stability, psi
from upturn.improve.monitor.drift import PREDICTION, Drift, drift_of
from upturn.improve.monitor.estimated import Estimated
from upturn.improve.monitor.feature_tally import FeatureTally
from upturn.improve.monitor.maturing import Matured
from upturn.improve.monitor.performance import (
    Performance,
    instants,
    outcomes,
    performance,
    scores,
    weights_of,
)
from upturn.improve.monitor.segments import Segment, top_values
from upturn.improve.monitor.symptom import Symptom
from upturn.improve.monitor.symptoms import ranked, symptoms_of
from upturn.improve.monitor.tally import OTHERS, Tally, numbers
from upturn.improve.monitor.windows import Windows, pieces, runs, windows
from upturn.improve.statistics.interval import Interval
from upturn.stores.workspace import Workspace

_QUANTILES = (0.5, 0.9, 0.99)
_LEVEL = 0.95


class ArmTraffic(msgspec.Struct, frozen=True, kw_only=True):
    """How much one arm answered, or shadowed, and its latency quantiles in seconds."""

    arm: str
    version: int
    shadow: bool
    rows: int
    share: float  # of what was answered; of a shadow, how much of it it saw; sampling made good
    latency_s: dict[str, float]  # 'p50', 'p90', 'p99'


class Distribution(msgspec.Struct, frozen=True, kw_only=True):
    """One column in the report's rows and in the baseline, on the baseline's bins."""

    column: str
    kind: str
    edges: tuple[float, ...] = ()  # of numbers: the inner ones
    values: tuple[str, ...] = ()  # of categories
    before: tuple[int, ...]
    now: tuple[int, ...]
    missing: tuple[int, int]  # before, now
    other: tuple[int, int]  # values that are none of those listed: before, now


class WindowReport(msgspec.Struct, frozen=True, kw_only=True):
    """One window of the report: what was answered, how fast, how good, how far from training."""

    name: str
    since: datetime
    until: datetime
    rows: int
    performance: Performance
    latency_s: dict[str, float]
    psi: dict[str, float]  # of each column, beyond chance: from 0 up
    intervals: dict[str, Interval] = {}  # of the metrics of which it can be said
    estimated: dict[str, Interval] = {}  # where they are likely to be, by the scores alone


class MonitorReport(msgspec.Struct, frozen=True, kw_only=True):
    """One answer to: how is this endpoint? It can be computed again from the Log.

    `rows` are answered predictions with `since` <= at < `until`; labels count as far as they were
    known at `known_by`. `drift` compares the rows with the baseline of `version`, the champion now
    (the prediction only on its own rows), most drifted first. `performance` is of the answered
    rows, whichever version answered; `windows` is the same by window, those without rows left out.
    `symptoms` are what the checks found, the worst first. `intervals` are of the metrics of which
    it can be said, `calibration` of models that answer probabilities.
    """

    endpoint: str
    since: datetime
    until: datetime
    known_by: datetime
    every: str
    rows: int
    version: str | None
    symptoms: tuple[Symptom, ...]
    arms: tuple[ArmTraffic, ...]
    drift: tuple[Drift, ...]
    performance: Performance
    intervals: dict[str, Interval]
    calibration: tuple[CalibrationBin, ...]
    windows: tuple[WindowReport, ...]
    segments: tuple[Segment, ...]
    distributions: tuple[Distribution, ...]
    unmatched_feedback: int  # ids with feedback received in the span, but no prediction at all
    estimated: Estimated | None = None  # of the champion's rows, without their labels
    matured: Matured | None = None  # corrected for labels that are still out

    @property
    def periods(self) -> dict[str, Performance]:
        """The performance of each window, by its name."""
        return {window.name: window.performance for window in self.windows}


def monitor(
    workspace: Workspace,
    endpoint: str,
    *,
    since: datetime,
    until: datetime,
    now: datetime,
    known_by: datetime | None = None,
    every: str | None = None,
    segments: Sequence[str] = (),
    baseline: Version | None = None,
) -> MonitorReport:
    """Report on the endpoint's predictions in [since, until), and store the answer as a Check.

    Labels count that were known by `known_by`, which is `until` unless given. `every` and
    `segments` say what is told apart: windows ('1d', '7d', 'month') and values of features. The
    baseline is the champion's unless given. Raises NotFound when there is no such endpoint or
    feature, Invalid when the span is empty.
    """
    report = look(
        workspace,
        StoredLog(workspace, endpoint),
        since=since,
        until=until,
        known_by=known_by,
        every=every,
        segments=segments,
        baseline=baseline,
    )
    keep(workspace, report, now)
    return report


def keep(workspace: Workspace, report: MonitorReport, now: datetime) -> Check:
    """Store the report as a Check of its endpoint."""
    return workspace.meta.add(
        Check(
            endpoint=report.endpoint,
            since=report.since,
            until=report.until,
            report=as_json(report),
            at=now,
        )
    )


def look(
    workspace: Workspace,
    log: StoredLog,
    *,
    since: datetime,
    until: datetime,
    known_by: datetime | None = None,
    every: str | None = None,
    segments: Sequence[str] = (),
    baseline: Version | None = None,
) -> MonitorReport:
    """The report of `monitor`, not stored: the same Log gives the same report.

    Features are read a row group at a time and kept as counts; of each row remain its label, score,
    latency, rate and segments, some 50 bytes.
    """
    endpoint = workspace.meta.get(Endpoint, log.endpoint).name
    known_by = known_by or until
    spans = windows(since, until, every)
    version = baseline or _champion(workspace, endpoint)
    values = top_values(log, segments, since=since, until=until)
    tally, features = steadily(
        lambda: _tallied(log.snapshot(since, until, known_by), spans, version, values)
    )
    signature = version.signature if version else None
    slim = tally.rows
    overall = performance(slim, signature=signature, level=_LEVEL)
    drifts = _drift(features)
    by_window = _psi_by_window(features)
    found = _windows(by_window, slim, spans, signature)
    apart = _segments(features, tally.segments, slim, signature)
    checks = checked(
        workspace,
        log,
        version,
        [(one.since, one.until, one.performance) for one in found],
        since=since,
        until=until,
        known_by=known_by,
    )
    calibrated = _calibration(slim, signature)
    raised = alarms([(spans.starts[place], one) for place, one in by_window.items()])
    symptoms = symptoms_of(drifts, {one.since: one.psi for one in found}, apart, raised)
    symptoms += checks.symptoms
    symptoms += features.quality.symptoms() if features.quality is not None else []
    symptoms += calibration_symptoms(calibrated) if calibrated is not None else []
    return MonitorReport(
        endpoint=endpoint,
        since=since,
        until=until,
        known_by=known_by,
        every=spans.every,
        rows=slim.num_rows,
        version=version.name if version else None,
        symptoms=ranked(symptoms),
        arms=_traffic(tally),
        drift=drifts,
        performance=_plain(overall),
        intervals=_said(overall),
        calibration=calibrated.bins if calibrated is not None else (),
        windows=_with_estimates(found, checks),
        segments=apart,
        distributions=_distributions(features),
        unmatched_feedback=log.unmatched(since=since, until=until),
        estimated=checks.estimated,
        # The curves are a table of their own, which nobody reads in a report.
        matured=msgspec.structs.replace(checks.matured, curves={}) if checks.matured else None,
    )


def _tallied(
    snapshot: Snapshot,
    spans: Windows,
    version: Version | None,
    segments: Mapping[str, Sequence[str]],
) -> tuple[Tally, FeatureTally]:
    """All rows, once in order with their labels, and once as they lie with their features."""
    since, until = spans.starts[0], spans.starts[-1]
    tally, features = Tally(spans, segments), FeatureTally(spans, version, segments)
    answers = version is not None and version.signature.output in ("label", "scores")

    def slim(begin: datetime, end: datetime) -> pa.Table:
        return snapshot.slim(begin, end, list(segments), answers=answers)

    for rows in pieces(slim, since, until):
        tally.add(rows)
    if version is not None:
        for part in snapshot.parts(since, until, features.names):
            features.add(part)
    if features.quality is not None:
        features.quality.add_repeated(tally.repeated)
    return tally, features


def as_json(report: MonitorReport) -> dict[str, Any]:
    """The report as JSON values: nan becomes null, instants become text."""
    return msgspec.json.decode(msgspec.json.encode(report))


def version_named(workspace: Workspace, name: str) -> Version:
    """The version that 'delays:3' names. Raises NotFound, or Invalid for another form."""
    model, colon, number = name.rpartition(":")
    if not colon or not number.isdecimal():
        raise Invalid(f"{name!r} names no version.", hint="Write MODEL:NUMBER, as in delays:3")
    return workspace.meta.get(Version, model, int(number))


def _champion(workspace: Workspace, endpoint: str) -> Version | None:
    route = workspace.meta.find(Route, endpoint)
    if route is None:
        return None
    champion = next(arm for arm in route.arms if not arm.shadow)
    return workspace.meta.find(Version, route.model, champion.version)


def _sorted(drifts: Sequence[Drift]) -> tuple[Drift, ...]:
    return tuple(sorted(drifts, key=lambda one: -np.nan_to_num(one.excess)))


def _drift(tally: FeatureTally) -> tuple[Drift, ...]:
    found = [
        drift_of(column, counts)
        for place, column in enumerate(tally.columns)
        if (counts := tally.total(place)) is not None
    ]
    # What the model was given comes before what it made of it.
    return _sorted(sorted(found, key=lambda one: one.column == PREDICTION))


def _distributions(tally: FeatureTally) -> tuple[Distribution, ...]:
    return tuple(
        Distribution(
            column=column.name,
            kind=column.kind,
            edges=column.edges,
            values=column.values,
            before=column.counts,
            now=counts.counts,
            missing=(column.missing, counts.missing),
            other=(column.other, counts.unseen),
        )
        for place, column in enumerate(tally.columns)
        if (counts := tally.total(place)) is not None
    )


def _said(found: Performance) -> dict[str, Interval]:
    """The intervals that say something."""
    return {name: one for name, one in found.intervals.items() if one.said}


def _plain(found: Performance) -> Performance:
    """Without the intervals, which have a place of their own."""
    return msgspec.structs.replace(found, intervals={})


def _with_estimates(windows: Sequence[WindowReport], checks: Checked) -> tuple[WindowReport, ...]:
    guessed = checks.by_window or {}
    return tuple(
        msgspec.structs.replace(one, estimated=guessed.get(one.since, {})) for one in windows
    )


def _calibration(rows: pa.Table, signature: Signature | None) -> Calibration | None:
    if signature is None or signature.output != "probability":
        return None
    blocks = blocks_of(instants(rows))
    return calibration(outcomes(rows, signature), scores(rows), blocks, weights=weights_of(rows))


def _psi_by_window(tally: FeatureTally) -> dict[int, dict[str, Stability]]:
    """The PSI of each column in each window that has rows, in the order of time."""
    before = [np.array([*one.counts, one.missing, one.other], np.int64) for one in tally.columns]
    found: dict[int, dict[str, Stability]] = {}
    for window, number in sorted(tally.by_window):
        counts = tally.by_window[window, number]
        now = np.array([*counts.counts, counts.missing, counts.unseen], np.int64)
        found.setdefault(window, {})[tally.columns[number].name] = psi(before[number], now)
    return found


def _windows(
    by_window: Mapping[int, Mapping[str, Stability]],
    slim: pa.Table,
    spans: Windows,
    signature: Signature | None,
) -> tuple[WindowReport, ...]:
    places = slim["window"].combine_chunks().to_numpy(zero_copy_only=False)
    made: list[WindowReport] = []
    for place, begin, end in runs(places):
        rows = slim.slice(begin, end - begin)
        beyond = {name: one.excess for name, one in by_window.get(place, {}).items()}
        figures = performance(rows, signature=signature, level=_LEVEL)
        made.append(
            WindowReport(
                name=spans.name(place),
                since=spans.starts[place],
                until=spans.starts[place + 1],
                rows=end - begin,
                performance=_plain(figures),
                latency_s=_quantiles(numbers(rows["latency_s"])),
                psi=beyond,
                intervals=_said(figures),
            )
        )
    return tuple(made)


def _segments(
    tally: FeatureTally,
    segments: Mapping[str, Sequence[str]],
    slim: pa.Table,
    signature: Signature | None,
) -> tuple[Segment, ...]:
    made: list[Segment] = []
    for name, values in segments.items():
        for code in [*range(len(values)), OTHERS]:
            rows = slim.filter(pc.equal(slim[f"@{name}"], pa.scalar(code, pa.int16())))
            if not rows.num_rows:
                continue
            drifts = [
                drift_of(column, counts)
                for place, column in enumerate(tally.columns)
                if column.name != name
                and (counts := tally.in_segment(name, code, place)) is not None
            ]
            made.append(
                Segment(
                    column=name,
                    value=None if code == OTHERS else values[code],
                    rows=rows.num_rows,
                    share=rows.num_rows / slim.num_rows,
                    performance=performance(rows, signature=signature),
                    drift=_sorted(drifts),
                )
            )
    return tuple(made)


def _traffic(tally: Tally) -> tuple[ArmTraffic, ...]:
    """One entry for each arm and version, those that answered most first."""
    total = sum(weight for arm, weight in tally.weights.items() if not arm[2])
    found: list[ArmTraffic] = []
    for (arm, version, shadow), parts in tally.latencies.items():
        values = np.concatenate(parts)
        found.append(
            ArmTraffic(
                arm=arm,
                version=version,
                shadow=shadow,
                rows=len(values),
                share=tally.weights[arm, version, shadow] / total if total else float("nan"),
                latency_s=_quantiles(values),
            )
        )
    return tuple(sorted(found, key=lambda arm: (arm.shadow, -arm.rows, arm.arm, arm.version)))


def _quantiles(latency_s: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, float]:
    values = latency_s[~np.isnan(latency_s)]
    if not len(values):
        return {}
    found = np.quantile(values, _QUANTILES, method="inverted_cdf")
    return {f"p{100 * q:g}": float(value) for q, value in zip(_QUANTILES, found, strict=True)}
