"""A monitor's report on the terminal: the symptoms first, then the figures as tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from upturn.cli.render import plain
from upturn.core.time import spell
from upturn.improve.monitor.symptoms import MAJOR, MINOR

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from upturn.improve.monitor.drift import Drift
    from upturn.improve.monitor.performance import Performance
    from upturn.improve.monitor.report import MonitorReport
    from upturn.improve.monitor.symptom import Symptom

_COLOURS = {"fine": "green", "warning": "yellow", "critical": "red"}
_SHOWN = 12  # symptoms
_COLUMNS = 20  # of drift


def show(report: MonitorReport) -> Iterator[RenderableType]:
    """The report as rich tables; without predictions, how to get some."""
    span = f"{report.since:%Y-%m-%d %H:%M} to {report.until:%Y-%m-%d %H:%M} UTC"
    if not report.arms:
        yield f"No predictions of [bold]{report.endpoint}[/] from {span}."
        yield (
            f"Send rows to /v1/endpoints/{report.endpoint}/predict of the running server, "
            f"or look further back: upturn monitor {report.endpoint} --last 365d"
        )
        return
    yield f"[bold]{report.endpoint}[/], {span}: {report.rows:,} predictions"
    if report.symptoms:
        yield from _symptoms(report)
    yield _traffic(report)
    if report.drift:
        yield _drift(report)
    yield _performance(report)
    for column in dict.fromkeys(one.column for one in report.segments):
        yield _segments(report, column)
    yield _labels(report)


def _symptoms(report: MonitorReport) -> Iterator[RenderableType]:
    found = [one for one in report.symptoms if one.severity != "fine"]
    if not found:
        yield f"[green]fine[/]      all {len(report.symptoms)} things that were looked at"
        return
    for one in found[:_SHOWN]:
        yield symptom_line(one)
    if len(found) > _SHOWN:
        yield f"… and {len(found) - _SHOWN} more: --json or --html has all of them."
    if not report.segments and (command := _further(report, found[0])):
        yield f"Look further: {plain(command)}"


def symptom_line(one: Symptom) -> str:
    """A symptom in its colour, with since when."""
    since = f" Since {one.began_at:%Y-%m-%d %H:%M}.".replace(" 00:00", "") if one.began_at else ""
    return f"[{_COLOURS[one.severity]}]{one.severity:<8}[/]  {plain(one.says)}{since}"


def _further(report: MonitorReport, worst: Symptom) -> str:
    """The command that says more of the worst symptom: by the category that drifted most."""
    categories = [one.column for one in report.drift if one.kind == "category"]
    last = f"--last {spell(report.until - report.since)} --until {report.until.isoformat()}"
    by = next((name for name in categories if not worst.name.endswith(f"/{name}")), None)
    apart = f" --by {by}" if by and by != "prediction" else ""
    return f"upturn monitor {report.endpoint} {last}{apart} --html report.html"


def _segments(report: MonitorReport, column: str) -> Table:
    metrics = list(report.performance.values)
    table = _table(plain(column))
    for name in ("rows", "labelled", *metrics):
        table.add_column(name.replace("_", " "), justify="right")
    table.add_column("most drifted")
    for one in report.segments:
        if one.column == column:
            name = "(others)" if one.value is None else plain(one.value)
            most = one.drift[0] if one.drift else None
            drifted = f"{plain(most.column)} {most.excess:.3f}" if most else ""
            table.add_row(name, *_figures(one.performance, metrics), drifted)
    return table


def _traffic(report: MonitorReport) -> Table:
    table = _table("arm", "version")
    for name in ("rows", "share", "p50", "p90", "p99"):
        table.add_column(name, justify="right")
    for arm in report.arms:
        times = [f"{1000 * arm.latency_s[q]:.2f} ms" if q in arm.latency_s else "" for q in _TIMES]
        name = f"{arm.arm} (shadow)" if arm.shadow else arm.arm
        table.add_row(name, str(arm.version), f"{arm.rows:,}", f"{arm.share:.1%}", *times)
    return table


_TIMES = ("p50", "p90", "p99")


def _drift(report: MonitorReport) -> Table:
    table = _table(f"drift from {report.version}")
    for name in ("PSI", "by chance", "KS", "missing", "before", "unseen"):
        table.add_column(name, justify="right")
    for one in report.drift[:_COLUMNS]:
        table.add_row(*drift_cells(one))
    if len(report.drift) > _COLUMNS:
        table.add_row(f"… {len(report.drift) - _COLUMNS} more, which drifted less")
    return table


def drift_cells(one: Drift) -> list[str]:
    """A row of a table: column, PSI, by chance, KS, missing, before, unseen."""
    return [
        plain(one.column),
        f"[{_colour(one)}]{one.psi:.3f}[/]",
        f"{one.psi_noise:.3f}",
        "" if one.ks is None or one.ks_error is None else _ks(one.ks, one.ks_error),
        f"{one.missing:.1%}",
        f"{one.missing_before:.1%}",
        f"{one.unseen:.1%}" if one.unseen else "",
    ]


def _ks(distance: float, error: float) -> str:
    return f"{distance:.3f} + {error:.3f}" if error >= 0.0005 else f"{distance:.3f}"


def _colour(one: Drift) -> str:
    if one.excess >= MAJOR:
        return "red"
    return "yellow" if one.excess >= MINOR else "default"


def _performance(report: MonitorReport) -> Table:
    metrics = list(report.performance.values)
    table = _table("performance")
    for name in ("rows", "labelled", *metrics):
        table.add_column(name.replace("_", " "), justify="right")
    for period, found in report.periods.items():
        table.add_row(period, *_figures(found, metrics))
    if len(report.periods) > 1:
        table.add_row("[bold]all[/]", *_figures(report.performance, metrics))
    return table


def _figures(found: Performance, metrics: list[str]) -> list[str]:
    values = [found.values.get(name, float("nan")) for name in metrics]
    shown = ["" if value != value else f"{value:.4f}" for value in values]
    return [f"{found.rows:,}", f"{found.completeness:.1%}", *shown]


def _labels(report: MonitorReport) -> str:
    found = report.performance
    line = f"{found.labelled:,} of {found.rows:,} predictions have a label."
    if not found.labelled:
        line += f" Send some: upturn feedback {report.endpoint} FILE"
    if report.unmatched_feedback:
        count = report.unmatched_feedback
        ids = "1 id" if count == 1 else f"{count:,} ids"
        line += f" Feedback for {ids} matches no prediction."
    return line


def _table(*columns: str) -> Table:
    from rich.table import Table

    return Table(*columns, box=None, pad_edge=False, title_justify="left")
