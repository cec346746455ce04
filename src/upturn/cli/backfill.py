"""`upturn backfill FILE:FLOW`: one run for each interval of a range."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from datetime import datetime, tzinfo

    from upturn.develop.backfill import Interval


@click.command("backfill")
@click.argument("target", metavar="FILE:FLOW")
@click.option("--start", required=True, help="A date, or an instant.")
@click.option("--end", required=True, help="A date, which is included, or an instant.")
@click.option("--every", help="The length of an interval: 1d.  [default: the flow's schedule]")
@click.option("--tz", help="Dates are days of this zone.  [default: the flow's]")
@click.option("--param", help="The parameter that takes the interval's start.")
@click.option("--set", "given", multiple=True, metavar="NAME=VALUE", help="Another parameter.")
@click.option("--at-once", default=2, show_default=True, type=click.IntRange(1, 64))
@click.option("--dry-run", is_flag=True, help="Only say what would be run.")
def command(
    target: str,
    start: str,
    end: str,
    every: str | None,
    tz: str | None,
    param: str | None,
    given: tuple[str, ...],
    at_once: int,
    dry_run: bool,
) -> int:
    """Run a flow once for each interval from --start to --end.

    The flow's parameters `start` and `end` are the interval's; dates are whole days, the last one
    included. Intervals that a run has done already are left out: after Ctrl-C, or when some of
    them failed, the same command goes on with the others.
    """
    from datetime import timedelta

    from upturn.cli.schedule import given_params, pairs
    from upturn.cli.target import load_target
    from upturn.core.time import duration
    from upturn.develop.backfill import backfill, done_already, intervals, named
    from upturn.develop.flow import Flow
    from upturn.develop.schedule.timetable import timetable, zone_of
    from upturn.stores.workspace import open_workspace

    flow = load_target(target, Flow)
    zone_name = tz or flow.tz
    zone = zone_of(zone_name)
    own = timetable(flow.schedule, zone_name) if flow.schedule and not every else None
    wanted = intervals(
        flow,
        start=_edge(start, zone),
        end=_edge(end, zone, last=True),
        every=own or (duration(every) if every else timedelta(days=1)),
        tz=zone_name,
        names=named(flow, param),
        params=given_params(flow, pairs(given)),
    )
    workspace = open_workspace()
    try:
        done = done_already(workspace, flow, wanted)
        left = [one for number, one in enumerate(wanted) if number not in done]
        click.echo(f"{len(wanted)} intervals, {len(done)} of them done already.")
        if dry_run:
            for one in left:
                click.echo(f"  {_text(one)}")
            return 0
        count = 0

        def heard(interval: Interval, run: str, status: int) -> None:
            nonlocal count
            count += 1
            said = "done" if status == 0 else "failed"
            click.echo(f"{count}/{len(left)}  {_text(interval)}  run {run} {said}")

        failed = backfill(workspace, flow, left, at_once=at_once, heard=heard)
    finally:
        workspace.close()
    if failed:
        click.echo(f"{failed} failed. The same command runs them again.", err=True)
    return 1 if failed else 0


def _edge(text: str, zone: tzinfo, *, last: bool = False) -> datetime:
    """The instant at which the range starts or ends: of a date, its midnight in the zone."""
    from datetime import UTC, timedelta

    from upturn.core.time import instant
    from upturn.develop.schedule.timetable import in_utc

    at = instant(text)
    if len(text) != len("2013-04-01"):
        return at
    day = at.astimezone(UTC).replace(tzinfo=None) + timedelta(days=1 if last else 0)
    return in_utc(day, zone)


def _text(interval: Interval) -> str:
    return " ".join(f"{name}={value}" for name, value in interval.params.items())
