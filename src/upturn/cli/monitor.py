"""`upturn monitor NAME`: how an endpoint is doing: what changed, drift, performance, traffic."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from datetime import datetime

    from upturn.improve.monitor.monitor import Monitor
    from upturn.improve.monitor.report import MonitorReport
    from upturn.stores.workspace import Workspace

FAILED = 3  # the status of --fail-on: neither an error's nor a wrong usage's


@click.command("monitor")
@click.argument("name", metavar="NAME|FILE:MONITOR")
@click.option("--last", default=None, help="How far back, as in 7d or 12h.  [default: 28d]")
@click.option("--until", help="The end: a date, or an instant with a time zone.  [default: now]")
@click.option("--every", help="Windows of this length: 1d, 7d, month.")
@click.option("--by", "segments", multiple=True, help="Tell apart the values of a feature.")
@click.option("--baseline", help="The version to compare with, as delays:3.  [default: champion]")
@click.option("--html", "file", type=click.Path(dir_okay=False), help="Write a page.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option(
    "--fail-on",
    type=click.Choice(["warning", "critical"]),
    help="Exit with 3 if there is a symptom as bad as this, or worse.",
)
@click.option("--once", is_flag=True, help="Of a monitor: look once and exit.")
@click.option("--at", metavar="TIME", help="Of a monitor: look once as of this time.")
@click.pass_context
def command(
    context: click.Context,
    name: str,
    last: str | None,
    until: str | None,
    every: str | None,
    segments: tuple[str, ...],
    baseline: str | None,
    file: str | None,
    as_json: bool,
    fail_on: str | None,
    once: bool,
    at: str | None,
) -> None:
    """Report on the predictions of endpoint NAME, and keep the report as a check.

    Drift is measured against the data that the champion was trained on, performance on the labels
    that had arrived by the end of the time reported on.

    An up.Monitor in a file looks every so often and tells its channels: FILE:MONITOR.
    """
    from upturn.core.time import duration, instant, utcnow
    from upturn.improve.monitor.report import monitor as report_on
    from upturn.improve.monitor.report import version_named
    from upturn.stores.workspace import open_workspace

    asked = _asked(name, last, every, segments, baseline, until)
    now = instant(at) if at else utcnow()
    workspace = open_workspace()
    try:
        if isinstance(asked, str):
            _refuse_timing(once, at)
            end = now if until is None else instant(until)
            report = report_on(
                workspace,
                asked,
                since=end - duration(last or "28d"),
                until=end,
                now=now,
                every=every,
                segments=segments,
                baseline=version_named(workspace, baseline) if baseline else None,
            )
        elif once or at:
            from upturn.improve.watch import run_once

            report = run_once(workspace, asked, now)
        else:
            _forever(workspace, asked, file, as_json)
            return
        _give(workspace, report, file, as_json, now)
    finally:
        workspace.close()
    if fail_on and _as_bad(report, fail_on):
        context.exit(FAILED)


def _asked(name: str, *of_reports: object) -> str | Monitor:
    """The endpoint's name, or the monitor in a file; options of reports are of no use to that."""
    if ":" not in name:
        return name
    from upturn.cli.target import load_target
    from upturn.core.errors import Invalid
    from upturn.improve.monitor.monitor import Monitor

    if any(of_reports):
        raise Invalid(
            "A monitor in a file says itself what it looks at.",
            hint="Leave out --last, --until, --every, --by and --baseline.",
        )
    return load_target(name, Monitor)


def _refuse_timing(once: bool, at: str | None) -> None:
    from upturn.core.errors import Invalid

    if once or at:
        raise Invalid(
            "--once and --at are of a monitor in a file: FILE:MONITOR.",
            hint="An endpoint's report is made once anyway; --until says as of when.",
        )


def _forever(workspace: Workspace, asked: Monitor, file: str | None, as_json: bool) -> None:
    from upturn.cli.render import console
    from upturn.core.errors import UpturnError
    from upturn.core.time import spell, utcnow
    from upturn.improve.watch import run_forever

    out = console()

    def heard(report: MonitorReport) -> None:
        _give(workspace, report, file, as_json, utcnow())

    def troubled(error: UpturnError) -> None:
        out.print(f"{utcnow():%Y-%m-%d %H:%M}  [bold red]error[/]  ", end="")
        out.print(f"{error} Trying again in {spell(asked.every)}.", markup=False, highlight=False)

    if not as_json:
        out.print(f"Monitor {asked.name}: every {spell(asked.every)}, until Ctrl-C.", markup=False)
    run_forever(workspace, asked, heard=heard, troubled=troubled)


def _give(
    workspace: Workspace,
    report: MonitorReport,
    file: str | None,
    as_json: bool,
    now: datetime,
) -> None:
    """Print the report, and write its page if one is wanted."""
    if file is not None:
        _write(workspace, report, Path(file), now)
    if as_json:
        import msgspec

        from upturn.improve.monitor.report import as_json as report_json

        click.echo(msgspec.json.encode(report_json(report)).decode())
        return
    from upturn.cli.monitored import show
    from upturn.cli.render import console

    for part in show(report):
        console().print(part)
    if file is not None:
        click.echo(f"Page: {file}")


def _write(workspace: Workspace, report: MonitorReport, path: Path, now: datetime) -> None:
    from upturn.core.errors import Invalid
    from upturn.improve.monitor.events import events
    from upturn.improve.monitor.page import render

    marks = events(workspace, report.endpoint, report.since, report.until)
    try:
        path.write_text(render(report, marks, made_at=now), "utf-8")
    except OSError as error:
        raise Invalid(
            f"{path} can't be written: {error.strerror}.", hint="Give another file to --html."
        ) from None


def _as_bad(report: MonitorReport, limit: str) -> bool:
    bad = ("critical",) if limit == "critical" else ("warning", "critical")
    return any(one.severity in bad for one in report.symptoms)
