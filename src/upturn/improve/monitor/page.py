"""The monitor's page: a report as one HTML document, the symptoms first."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from upturn.improve.metrics import METRICS
from upturn.improve.monitor.drift_page import distribution_section, drift_section, symptom_table
from upturn.improve.monitor.performance import Performance
from upturn.improve.monitor.report import MonitorReport
from upturn.improve.page import plots
from upturn.improve.page.html import (
    Html,
    details,
    figure,
    grid,
    join,
    page,
    section,
    table,
    tiles,
)
from upturn.improve.page.scales import number, share
from upturn.improve.statistics.interval import Interval


def render(
    report: MonitorReport, marks: Sequence[plots.Mark] = (), *, made_at: datetime | None = None
) -> Html:
    """The report as a page; marks are decisions and releases. The same report, the same bytes."""
    span = f"{report.since:%Y-%m-%d %H:%M} to {report.until:%Y-%m-%d %H:%M} UTC"
    known = f"labels known by {report.known_by:%Y-%m-%d %H:%M}"
    champion = f"compared with {report.version}" if report.version else "nothing deployed"
    written = [f"written {made_at:%Y-%m-%d %H:%M}"] if made_at else []
    parts = [
        _symptoms(report),
        _performance(report, marks),
        drift_section(report),
        distribution_section(report),
        _segments(report),
        _traffic(report, marks),
    ]
    return page(
        f"{report.endpoint}: how it is doing",
        *(part for part in parts if part is not None),
        subtitle=" · ".join([span, champion, known, *written]),
    )


def _symptoms(report: MonitorReport) -> Html:
    fine = sum(one.severity == "fine" for one in report.symptoms)
    looked = f"{fine} of {len(report.symptoms)} things looked at are fine."
    found = symptom_table(report.symptoms)
    return section("What changed", _tiles(report), found, looked if report.symptoms else None)


def _tiles(report: MonitorReport) -> Html:
    found = report.performance
    figures: list[tuple[str, object, str]] = [
        ("predictions", f"{report.rows:,}", f"{len(report.windows)} windows of {report.every}"),
        ("labelled", share(found.completeness), f"{found.labelled:,} rows"),
    ]
    figures += [
        (say(name), number(value, 4), _ends(report.intervals.get(name)))
        for name, value in _metrics(found)[:2]
    ]
    answering = [arm for arm in report.arms if not arm.shadow and arm.latency_s]
    if answering:
        p99 = 1000 * answering[0].latency_s["p99"]
        figures.append(("latency p99", f"{number(p99)} ms", answering[0].arm))
    return tiles(figures)


def _ends(interval: Interval | None) -> str:
    return "" if interval is None else f"{number(interval.low, 4)} to {number(interval.high, 4)}"


def _metrics(found: Performance) -> list[tuple[str, float]]:
    return [(name, value) for name, value in found.values.items() if name != "base_rate"]


def say(metric: str) -> str:
    """A metric's name for people.

    >>> say("log_loss"), say("auc")
    ('log loss', 'AUC')
    """
    short = {"auc": "AUC", "mae": "MAE", "rmse": "RMSE", "brier": "Brier"}
    return short.get(metric, metric.replace("_", " "))


def _performance(report: MonitorReport, marks: Sequence[plots.Mark]) -> Html | None:
    if not report.windows:
        return None
    # What the model is judged by comes first, and large; the labels' own mean says less.
    names = sorted(report.performance.values, key=lambda name: name not in METRICS)
    middles = [one.since + (one.until - one.since) / 2 for one in report.windows]
    shown: list[str] = []
    for name in names:
        values = [one.performance.values.get(name) for one in report.windows]
        ends = [one.intervals.get(name) for one in report.windows]
        low = [None if end is None else end.low for end in ends]
        high = [None if end is None else end.high for end in ends]
        series = [plots.Series(say(name), middles, values, low, high)]
        series += _guessed(report, name, middles)
        big = name in METRICS and not shown
        drawn = plots.lines(
            series,
            title=f"{say(name)} by {report.every}",
            y_label=say(name),
            marks=marks if big else (),
            width=880 if big else 320,
            height=240 if big else 150,
        )
        shown.append(figure(drawn))
    complete = [one.performance.completeness for one in report.windows]
    drawn = plots.lines(
        [plots.Series("labelled", middles, complete, colour=5)],
        title="share of rows with a label",
        y_label="labelled",
        zero=True,
        width=320,
        height=150,
    )
    small = grid(*shown[1:], figure(drawn))
    rows = [_row(one.name, one.performance, names) for one in report.windows]
    rows.append(_row("all", report.performance, names))
    columns = ["window", "rows", "labelled", *(say(name) for name in names)]
    numbers = details("The figures", table(columns, rows))
    some = any(one.intervals for one in report.windows)
    words = "The bands are 95 % intervals, by the days or the hours in a window." if some else None
    corrected = _corrected(report)
    return section(
        "Performance", *shown[:1], small, words, corrected, _calibration(report), numbers
    )


def _guessed(report: MonitorReport, name: str, middles: Sequence[datetime]) -> list[plots.Series]:
    """The metric as it is estimated without labels, of the windows of which it is."""
    found = [one.estimated.get(name) for one in report.windows]
    if not any(one is not None and one.said for one in found):
        return []
    values = [None if one is None else one.estimate for one in found]
    low = [None if one is None or not one.said else one.low for one in found]
    high = [None if one is None or not one.said else one.high for one in found]
    return [plots.Series("estimated without labels", middles, values, low, high, "dashed", 1)]


def _corrected(report: MonitorReport) -> str | None:
    """What labels that are still out are going to change."""
    found = report.matured
    if found is None:
        return None
    if found.unsaid:
        return f"No correction for labels that are still out: {found.unsaid}."
    parts = [
        f"{say(name)} {number(value, 4)} ({_ends(found.intervals.get(name)) or 'no interval'})"
        for name, value in found.values.items()
    ]
    return f"Corrected for labels that are still out: {', '.join(parts)}."


def _calibration(report: MonitorReport) -> Html | None:
    if not report.calibration:
        return None
    points = [
        plots.Reliability(
            predicted=one.predicted,
            observed=one.observed,
            low=one.low,
            high=one.high,
            rows=one.rows,
        )
        for one in report.calibration
    ]
    drawn = plots.calibration(points, title="calibration")
    words = "Calibration: of rows with like scores, the share that came true. 95 % intervals."
    return grid(figure(drawn, words))


def _row(name: str, found: Performance, names: Sequence[str]) -> list[object]:
    values = [number(found.values.get(metric), 4) for metric in names]
    return [name, f"{found.rows:,}", share(found.completeness), *values]


def _segments(report: MonitorReport) -> Html | None:
    if not report.segments:
        return None
    names = list(report.performance.values)
    parts: list[str] = []
    for column in dict.fromkeys(one.column for one in report.segments):
        rows: list[list[object]] = []
        for one in report.segments:
            if one.column == column:
                figures = [number(one.performance.values.get(name), 4) for name in names]
                most = one.drift[0] if one.drift else None
                drifted = join(most.column, f" {number(most.excess)}") if most else ""
                value = "(others)" if one.value is None else one.value
                labelled = share(one.performance.completeness)
                rows.append([value, f"{one.rows:,}", share(one.share), labelled, *figures, drifted])
        head = [column, "rows", "share", "labelled", *(say(name) for name in names)]
        parts.append(table([*head, "most unlike training: PSI"], rows))
    return section("Segments", *parts)


def _traffic(report: MonitorReport, marks: Sequence[plots.Mark]) -> Html | None:
    if not report.windows:
        return section("Traffic", f"No predictions of {report.endpoint} in this time.")
    middles = [one.since + (one.until - one.since) / 2 for one in report.windows]
    rows = plots.lines(
        [plots.Series("predictions", middles, [float(one.rows) for one in report.windows])],
        title="predictions",
        y_label=f"predictions by {report.every}",
        marks=marks,
        zero=True,
        height=180,
    )
    times = [
        plots.Series(
            name, middles, [1000 * one.latency_s.get(name, float("nan")) for one in report.windows]
        )
        for name in ("p50", "p90", "p99")
    ]
    latency = plots.lines(times, title="latency", y_label="latency, ms", zero=True, height=180)
    head = ["arm", "version", "rows", "share", "p50", "p90", "p99"]
    body = [
        [
            f"{arm.arm} (shadow)" if arm.shadow else arm.arm,
            arm.version,
            f"{arm.rows:,}",
            share(arm.share),
            *(f"{number(1000 * value)} ms" for value in arm.latency_s.values()),
        ]
        for arm in report.arms
    ]
    return section("Traffic", figure(rows), figure(latency), table(head, body))
