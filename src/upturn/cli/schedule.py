"""`upturn schedule FILE:FLOW`: says when a flow, a loop, a monitor or a bandit is to run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from datetime import timedelta

    from upturn.api.schedules import PutSchedule, ScheduleSeen
    from upturn.core.schedules import Runs
    from upturn.core.settings import Settings
    from upturn.develop.flow import Flow


@click.command("schedule")
@click.argument("target", metavar="FILE:FLOW")
@click.option("--cron", help="When, as cron has it: '0 3 * * *', or @weekly.")
@click.option("--every", help="How often, counted from 1970 in UTC: 6h.")
@click.option("--tz", help="By the clocks of this zone: Europe/Madrid.")
@click.option("--after", multiple=True, help="After flow/NAME succeeded, model/NAME or data/FILE.")
@click.option("--catch-up", type=click.Choice(["none", "last", "all"]), help="Of missed ticks.")
@click.option(
    "--overlap",
    type=click.Choice(["parallel", "queue", "newest", "skip"]),
    help="While another run of the flow goes on.",
)
@click.option("--param", "params", multiple=True, metavar="NAME=VALUE", help="For the flow.")
@click.option("--name", help="What the schedule is called.  [default: the flow's name]")
def command(
    target: str,
    cron: str | None,
    every: str | None,
    tz: str | None,
    after: tuple[str, ...],
    catch_up: str | None,
    overlap: str | None,
    params: tuple[str, ...],
    name: str | None,
) -> None:
    """Put a schedule to work; options go before what the file says.

    A server (`upturn up`) starts what is due, as a process in the project's folder. A loop, a
    monitor or a bandit is run for one round each time. To put it again changes it.
    """
    from upturn.api.client import open_client
    from upturn.api.schedules import PUT_SCHEDULE
    from upturn.core.errors import Invalid
    from upturn.core.settings import load_settings

    if cron and every:
        raise Invalid("--cron and --every both say when.", hint="Give one of them.")
    settings = load_settings()
    request = _request(settings, target, given=pairs(params), name=name)
    told = {
        "cron": cron or (f"@every {every}" if every else None),
        "tz": tz,
        "after": _paths(after) if after else None,
        "catch_up": catch_up,
        "overlap": overlap,
    }
    import msgspec

    said = {key: value for key, value in told.items() if value is not None}
    with open_client() as client:
        print_schedule(client.call(PUT_SCHEDULE, msgspec.structs.replace(request, **said)))


def print_schedule(seen: ScheduleSeen) -> None:
    """What it runs when, and the next ticks."""
    schedule = seen.schedule
    click.echo(f"Schedule {schedule.name}: {schedule.entry} {when(seen)}")
    if schedule.paused:
        click.echo(f"It is paused. Go on with: upturn schedules resume {schedule.name}")
    for at in seen.next:
        click.echo(f"  {tick_text(at, schedule.tz)}")


def when(seen: ScheduleSeen) -> str:
    """When it is due, in words: '0 3 * * * Europe/Madrid, after flow/prepare'."""
    schedule = seen.schedule
    zone = "" if schedule.tz == "UTC" or not schedule.cron else f" {schedule.tz}"
    parts = [f"{schedule.cron}{zone}"] if schedule.cron else []
    parts += [f"after {path}" for path in schedule.after]
    return ", ".join(parts)


def tick_text(at: Any, tz: str) -> str:
    """An instant by the clocks of a zone."""
    from upturn.develop.schedule.timetable import zone_of

    return at.astimezone(zone_of(tz)).strftime("%a %Y-%m-%d %H:%M:%S %Z")


def _request(
    settings: Settings, target: str, *, given: dict[str, str], name: str | None
) -> PutSchedule:
    """What the file says of it."""
    from upturn.api.schedules import PutSchedule
    from upturn.cli.target import load_target, target_file
    from upturn.core.errors import Invalid
    from upturn.develop.flow import Flow

    found = load_target(target, object)
    path, own = target_file(target)
    entry = f"{_within(path, settings)}:{own}"
    if isinstance(found, Flow):
        return PutSchedule(
            name=name or found.name,
            entry=entry,
            cron=found.schedule or "",
            tz=found.tz,
            after=found.after,
            catch_up=found.catch_up,
            params=given_params(found, given),
        )
    runs, every = _round(found)
    if given:
        raise Invalid(f"A {runs} takes no parameters.")
    return PutSchedule(
        name=name or str(getattr(found, "name", own)).replace("/", "-"),
        entry=entry,
        runs=runs,
        cron=f"@every {every.total_seconds():g}s",
        catch_up="none",
    )


def _round(found: object) -> tuple[Runs, timedelta]:
    """What kind of thing is run for a round, and how often by itself."""
    from upturn.core.errors import Invalid
    from upturn.improve.bandit.bandit import Bandit
    from upturn.improve.loop import Loop
    from upturn.improve.monitor.monitor import Monitor

    if isinstance(found, Loop):
        return "loop", found.every
    if isinstance(found, Monitor):
        return "monitor", found.every
    if isinstance(found, Bandit):
        return "bandit", found.every
    raise Invalid(
        f"A {type(found).__name__} can't be scheduled.",
        hint="A flow can, a loop, a monitor, or a bandit.",
    )


def given_params(flow: Flow[..., Any], given: dict[str, str]) -> dict[str, Any]:
    """The parameters that are given, as JSON values; the others are given with each run."""
    from typing import get_origin

    import msgspec

    lists = {param.name for param in flow.params if get_origin(param.type) in (list, tuple, set)}
    values = {
        name: text.strip("[]").split(",") if name in lists else text for name, text in given.items()
    }
    return {
        name: msgspec.to_builtins(value, enc_hook=str)
        for name, value in flow.convert_given(values).items()
    }


def _within(path: Path, settings: Settings) -> str:
    from upturn.core.errors import Invalid

    if not path.is_relative_to(settings.root):
        raise Invalid(
            f"{path} lies outside of the project in {settings.root}.",
            hint="Change into the project that it is a part of.",
        )
    return path.relative_to(settings.root).as_posix()


def pairs(params: tuple[str, ...]) -> dict[str, str]:
    """The texts NAME=VALUE as a table."""
    from upturn.core.errors import Invalid

    made: dict[str, str] = {}
    for text in params:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise Invalid(f"--param {text} has no value.", hint="Write --param NAME=VALUE.")
        made[name.replace("-", "_")] = value
    return made


def _paths(after: tuple[str, ...]) -> tuple[str, ...]:
    from upturn.develop.schedule.trigger import paths_of

    return paths_of(after)
