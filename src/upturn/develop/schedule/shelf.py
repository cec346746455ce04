"""Shelf: putting, finding, pausing and removing schedules, and what they started."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from itertools import islice
from pathlib import Path

import msgspec

from upturn.core.errors import Conflict, Invalid, NotFound, did_you_mean
from upturn.core.record import Record
from upturn.core.schedules import Schedule, Tick
from upturn.core.who import who
from upturn.develop.overlap import checked
from upturn.develop.schedule.data import as_it_is
from upturn.develop.schedule.timetable import timetable
from upturn.develop.schedule.trigger import paths_of
from upturn.stores.begun import begun
from upturn.stores.workspace import Workspace

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


def put_schedule(workspace: Workspace, schedule: Schedule) -> Schedule:
    """Put a schedule, in the place of one of the same name; one that says the same is left alone.

    Raises Invalid for what can't be one, and Conflict when the name is that of another thing's.
    """
    _check(schedule)
    last = workspace.meta.find(Schedule, schedule.name)
    if last is not None and not last.removed:
        if (last.entry, last.project, last.root) != (
            schedule.entry,
            schedule.project,
            schedule.root,
        ):
            raise Conflict(
                f"There is a schedule {schedule.name!r} of {last.entry} in {last.root} already.",
                hint="Call this one otherwise: --name NAME",
            )
        if _says(last) == _says(schedule):
            return last
        schedule = msgspec.structs.replace(schedule, paused=last.paused)
    return _put(workspace, schedule)


def get_schedule(workspace: Workspace, name: str) -> Schedule:
    """The schedule of that name. Raises NotFound."""
    found = workspace.meta.find(Schedule, name)
    if found is None or found.removed:
        known = [one.name for one in list_schedules(workspace)]
        hint = did_you_mean(name, known) or "Put one with: upturn schedule FILE:FLOW"
        raise NotFound(f"No schedule {name!r}.", hint=hint)
    return found


def list_schedules(workspace: Workspace) -> list[Schedule]:
    """The schedules that there are, by name."""
    return [one for one in workspace.meta.last_each(Schedule) if not one.removed]


def pause_schedule(
    workspace: Workspace, name: str, *, paused: bool, by: str | None = None, now: datetime
) -> Schedule:
    """Start nothing for it from now on, or again. Runs that go on are left alone."""
    schedule = get_schedule(workspace, name)
    if schedule.paused == paused:
        return schedule
    changed = msgspec.structs.replace(schedule, seq=0, paused=paused, who=by or who(), at=now)
    return _put(workspace, changed)


def remove_schedule(
    workspace: Workspace, name: str, *, by: str | None = None, now: datetime
) -> Schedule:
    """Start nothing for it any more. What it started stays."""
    schedule = get_schedule(workspace, name)
    changed = msgspec.structs.replace(schedule, seq=0, removed=True, who=by or who(), at=now)
    return workspace.meta.add(changed)


def next_ticks(schedule: Schedule, now: datetime, *, count: int) -> list[datetime]:
    """When it is due next by the clock; nothing while it is paused."""
    if schedule.paused or not schedule.cron:
        return []
    return list(islice(timetable(schedule.cron, schedule.tz).after(now), count))


def ticks_of(workspace: Workspace, name: str, *, limit: int, after: str = "") -> list[Tick]:
    """What was started for a schedule, the last first: of each cause how it stands.

    `after` a cause, those that were started before it. Raises Invalid when there is none such.
    """
    return begun(
        workspace.meta,
        Tick,
        "cause",
        limit=limit,
        after=after,
        counts=lambda tick: tick.attempt > 0,
        schedule=name,
    )


def last_due(workspace: Workspace, schedule: Schedule) -> datetime:
    """The instant up to which its ticks by the clock are dealt with."""
    for limit in (50, None):
        for tick in workspace.meta.select(
            Tick, schedule=schedule.name, newest_first=True, limit=limit
        ):
            at = instant_of(tick.cause)
            if at is not None:
                return max(at, schedule.at)
    return schedule.at


def cause_of(at: datetime) -> str:
    """How a tick by the clock is called.

    >>> from upturn.core.time import instant
    >>> cause_of(instant("2026-03-29T02:00:00+01:00"))
    '2026-03-29T01:00:00Z'
    """
    return at.isoformat().replace("+00:00", "Z")


def instant_of(cause: str) -> datetime | None:
    """The instant of a tick by the clock; None for one with another cause."""
    if "/" in cause:
        return None
    return datetime.fromisoformat(cause)


def _says(schedule: Schedule) -> Schedule:
    zero = datetime.fromtimestamp(0, tz=schedule.at.tzinfo)
    return msgspec.structs.replace(schedule, seq=0, who="", at=zero, paused=False, removed=False)


def _put(workspace: Workspace, schedule: Schedule) -> Schedule:
    """Put it, and what the data that it watches are like now: nothing is started for that."""
    put = workspace.meta.put(schedule, *_baselines(workspace, schedule))[0]
    assert isinstance(put, Schedule)
    return put


def _baselines(workspace: Workspace, schedule: Schedule) -> Iterable[Record]:
    for after in schedule.after:
        kind, _, file = after.partition("/")
        if kind == "data":
            yield as_it_is(workspace, schedule, file)


def _check(schedule: Schedule) -> None:
    if _NAME.fullmatch(schedule.name) is None:
        raise Invalid(
            f"{schedule.name!r} can't be the name of a schedule.",
            hint="It takes letters, digits, '.', _ and -, up to 128, and no '.' first.",
        )
    if not schedule.cron and not schedule.after:
        raise Invalid(
            f"Nothing says when {schedule.entry} is to run.",
            hint='Say so: @up.flow(schedule="0 3 * * *"), or --cron "0 3 * * *", or --after FLOW',
        )
    timetable(schedule.cron or "@daily", schedule.tz)
    if schedule.overlap:
        checked(schedule.overlap, schedule.name)
    if paths_of(schedule.after) != schedule.after:
        raise Invalid(f"{schedule.after!r} are not the paths of what it comes after.")
    if f"flow/{schedule.entry.rpartition(':')[2]}" in schedule.after:
        raise Invalid(f"{schedule.entry} would come after itself.")
    _check_entry(schedule)


def _check_entry(schedule: Schedule) -> None:
    """What is started lies within the project: nobody starts what is not a part of it."""
    file, _, name = schedule.entry.rpartition(":")
    root = Path(schedule.root).resolve()
    try:
        path = (root / file).resolve()
        inside = path.is_relative_to(root) and path.is_file()
    except (OSError, ValueError):
        inside = False
    if not file or not name or not inside:
        raise Invalid(
            f"{schedule.entry!r} is no file with something to run in {root}.",
            hint="What is scheduled lies within the project, as FILE:NAME from its root.",
        )
