"""`upturn monitor NAME`: how an endpoint is doing: traffic, drift and performance."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from upturn.improve.monitor.drift import Drift
    from upturn.improve.monitor.performance import Performance
    from upturn.improve.monitor.report import MonitorReport

_MINOR, _MAJOR = 0.1, 0.2  # of PSI beyond noise: the usual reading, Siddiqi (2006)


@click.command("monitor")
@click.argument("name")
@click.option("--last", default="28d", show_default=True, help="How far back, as in 7d or 12h.")
@click.option("--until", help="The end: a date, or an instant with a time zone.  [default: now]")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def command(name: str, last: str, until: str | None, as_json: bool) -> None:
    """Report on the predictions of endpoint NAME, and keep the report as a check.

    Drift is measured against the data that the champion was trained on, performance on the labels
    that had arrived by the end of the time reported on.
    """
    import msgspec

    from upturn.core.time import duration, instant, utcnow
    from upturn.improve.monitor.report import as_json as report_json
    from upturn.improve.monitor.report import monitor
    from upturn.stores.workspace import open_workspace

    now = utcnow()
    end = now if until is None else instant(until)
    workspace = open_workspace()
    try:
        report = monitor(workspace, name, since=end - duration(last), until=end, now=now)
    finally:
        workspace.close()
    if as_json:
        click.echo(msgspec.json.encode(report_json(report)).decode())
        return
    from upturn.cli.render import console

    for part in show(report):
        console().print(part)


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
    yield _traffic(report)
    if report.drift:
        yield _drift(report)
    yield _performance(report)
    yield _labels(report)


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
    for one in report.drift:
        distance = "" if one.ks is None or one.ks_error is None else _ks(one.ks, one.ks_error)
        table.add_row(
            one.column,
            f"[{_colour(one)}]{one.psi:.3f}[/]",
            f"{one.psi_noise:.3f}",
            distance,
            f"{one.missing:.1%}",
            f"{one.missing_before:.1%}",
            f"{one.unseen:.1%}" if one.unseen else "",
        )
    return table


def _ks(distance: float, error: float) -> str:
    return f"{distance:.3f} + {error:.3f}" if error >= 0.0005 else f"{distance:.3f}"


def _colour(one: Drift) -> str:
    if one.excess >= _MAJOR:
        return "red"
    return "yellow" if one.excess >= _MINOR else "default"


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
