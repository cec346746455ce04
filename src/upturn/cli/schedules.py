"""`upturn schedules`: what runs when, what it started last, and how it is paused and removed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from upturn.cli.render import plain, print_table, status_text, when_text

if TYPE_CHECKING:
    from upturn.api.operation import Operation
    from upturn.api.schedules import OneSchedule, ScheduleSeen


@click.group("schedules", invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="As JSON, one schedule a line.")
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """Show the schedules, each with its next tick and what it started last."""
    if ctx.invoked_subcommand is None:
        _list(as_json)


@command.command("next")
@click.argument("name")
@click.option("--count", default=5, show_default=True, type=click.IntRange(1, 1000))
def next_command(name: str, count: int) -> None:
    """Show when NAME is due next by the clock."""
    from upturn.api.client import open_client
    from upturn.api.schedules import GET_SCHEDULE, NEXT_TICKS, NextTicks, OneSchedule
    from upturn.cli.schedule import tick_text

    with open_client() as client:
        schedule = client.call(GET_SCHEDULE, OneSchedule(name=name)).schedule
        ticks = client.call(NEXT_TICKS, NextTicks(name=name, count=count)).items
    for at in ticks:
        click.echo(tick_text(at, schedule.tz))
    if not ticks:
        click.echo("It is paused." if schedule.paused else "Nothing is due by the clock.")


@command.command("ticks")
@click.argument("name")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000))
@click.option("--cursor", default="", help="Go on after a page: it says with which.")
def ticks_command(name: str, limit: int, cursor: str) -> None:
    """Show what NAME has started, newest first, and why."""
    from upturn.api.client import open_client
    from upturn.api.schedules import PAST_TICKS, PastTicks

    with open_client() as client:
        page = client.call(PAST_TICKS, PastTicks(name=name, limit=limit, cursor=cursor))
    ticks = page.items
    if not ticks:
        click.echo("Nothing was started yet.")
        return
    print_table(
        ("cause", "status", "run", "at (local)", "why"),
        [
            (
                plain(tick.cause),
                status_text(tick.status),
                tick.run,
                when_text(tick.at),
                plain(tick.why),
            )
            for tick in ticks
        ],
    )
    if page.cursor:
        click.echo(f"There is more: upturn schedules ticks {name} --cursor {page.cursor}")


@command.command("pause")
@click.argument("name")
def pause_command(name: str) -> None:
    """Start nothing for NAME from now on. Runs that go on are left alone."""
    from upturn.api.schedules import PAUSE_SCHEDULE

    _do(PAUSE_SCHEDULE, name)
    click.echo(f"Schedule {name} is paused. Go on with: upturn schedules resume {name}")


@command.command("resume")
@click.argument("name")
def resume_command(name: str) -> None:
    """Start what is due for NAME from now on; nothing of what was due meanwhile."""
    from upturn.api.schedules import RESUME_SCHEDULE
    from upturn.cli.schedule import print_schedule

    print_schedule(_do(RESUME_SCHEDULE, name))


@command.command("remove")
@click.argument("name")
def remove_command(name: str) -> None:
    """Start nothing for NAME any more. What it started stays."""
    from upturn.api.schedules import REMOVE_SCHEDULE

    _do(REMOVE_SCHEDULE, name)
    click.echo(f"Schedule {name} is removed.")


def _do(operation: Operation[OneSchedule, ScheduleSeen], name: str) -> Any:
    from upturn.api.client import open_client
    from upturn.api.schedules import OneSchedule

    with open_client() as client:
        return client.call(operation, OneSchedule(name=name))


def _list(as_json: bool) -> None:
    import msgspec

    from upturn.api.client import open_client
    from upturn.api.schedules import LIST_SCHEDULES, ListSchedules
    from upturn.cli.schedule import tick_text, when

    with open_client() as client:
        found = client.call(LIST_SCHEDULES, ListSchedules()).items
    if as_json:
        for one in found:
            click.echo(msgspec.json.encode(one).decode())
        return
    if not found:
        click.echo("Nothing is scheduled. Put a schedule with: upturn schedule FILE:FLOW")
        return
    print_table(
        ("schedule", "runs", "when", "next", "last"),
        [
            (
                plain(one.schedule.name),
                plain(one.schedule.entry),
                plain(when(one)),
                "paused"
                if one.schedule.paused
                else tick_text(one.next[0], one.schedule.tz)
                if one.next
                else "",
                ""
                if one.last is None
                else f"{status_text(one.last.status)} {plain(one.last.run or one.last.why)}",
            )
            for one in found
        ],
    )
