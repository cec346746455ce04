"""Schedules as operations: list, get, put, pause, resume, remove, next ticks, and past ones."""

from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from upturn.api.operation import Ask, Operation, Page, Request
from upturn.api.paging import Limit, cut, read_cursor
from upturn.api.visible import hidden
from upturn.core.errors import Invalid, NotFound
from upturn.core.records import Run, RunState
from upturn.core.schedules import CatchUp, Runs, Schedule, Tick
from upturn.develop.schedule.shelf import (
    get_schedule,
    list_schedules,
    next_ticks,
    pause_schedule,
    put_schedule,
    remove_schedule,
    ticks_of,
)

_NEXT = 5


class TickSeen(msgspec.Struct, frozen=True, kw_only=True):
    """What was started for a reason, and how it stands."""

    cause: str
    status: str  # the run's; 'starting', 'done' or 'failed' where there is none
    run: str = ""
    attempt: int = 1
    why: str = ""
    at: datetime


class ScheduleSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule, when it is due next, and what it started last."""

    schedule: Schedule
    next: tuple[datetime, ...]
    last: TickSeen | None = None


class ListSchedules(Request, frozen=True, kw_only=True):
    """All that are there to see; of one project if one is named."""

    project: str = ""


class OneSchedule(Request, frozen=True, kw_only=True):
    """The schedule of a name."""

    name: str


class NextTicks(Request, frozen=True, kw_only=True):
    """The next `count` instants at which it is due by the clock."""

    name: str
    count: int = _NEXT


class PastTicks(Request, frozen=True, kw_only=True):
    """What it started, the last first."""

    name: str
    cursor: str = ""
    limit: Limit = 50


class PutSchedule(Request, frozen=True, kw_only=True):
    """What is to be started when. The entry is FILE:NAME in the folder of the server's project."""

    name: str
    entry: str
    runs: Runs = "flow"
    cron: str = ""
    tz: str = "UTC"
    after: tuple[str, ...] = ()
    params: dict[str, Any] = {}  # noqa: RUF012  # a struct copies its defaults
    overlap: str = ""
    catch_up: CatchUp = "last"


def _list(ask: Ask, request: ListSchedules) -> Page[ScheduleSeen]:
    """The schedules, by name, each with its next ticks and what it started last."""
    return Page(
        tuple(
            _seen(ask, one)
            for one in list_schedules(ask.workspace)
            if ask.asker.may_see(one.project) and request.project in ("", one.project)
        )
    )


def _get(ask: Ask, request: OneSchedule) -> ScheduleSeen:
    """A schedule with its next ticks and what it started last."""
    return _seen(ask, _visible(ask, request.name))


def _put(ask: Ask, request: PutSchedule) -> ScheduleSeen:
    """Put a schedule. One that is there already and says the same is left as it is."""
    last = ask.workspace.meta.find(Schedule, request.name)
    if last is not None and not last.removed:
        _visible(ask, request.name)
    settings = ask.workspace.settings
    if not ask.asker.may_see(settings.project):
        raise hidden("project", settings.project)
    if ask.asker.role != "admin":
        _refuse_outside(request.after, settings.root)
    schedule = Schedule(
        **{name: getattr(request, name) for name in request.__struct_fields__},
        project=settings.project,
        root=str(settings.root),
        who=ask.asker.name,
        at=ask.now,
    )
    return _seen(ask, put_schedule(ask.workspace, schedule))


def _refuse_outside(after: tuple[str, ...], root: Path) -> None:
    """Which files change elsewhere on the machine is for its admins to watch."""
    for path in after:
        kind, _, file = path.partition("/")
        try:
            inside = kind != "data" or (root / file).resolve().is_relative_to(root.resolve())
        except (OSError, ValueError):
            inside = False
        if not inside:
            raise Invalid(f"{file!r} lies outside of the project.", hint="Its admins may watch it.")


def _pause(ask: Ask, request: OneSchedule) -> ScheduleSeen:
    """Start nothing for it from now on. What goes on is left alone."""
    return _set_paused(ask, request.name, paused=True)


def _resume(ask: Ask, request: OneSchedule) -> ScheduleSeen:
    """Start what is due from now on; nothing of what was due while it was paused."""
    return _set_paused(ask, request.name, paused=False)


def _remove(ask: Ask, request: OneSchedule) -> ScheduleSeen:
    """Start nothing for it any more. What it started stays."""
    _visible(ask, request.name)
    removed = remove_schedule(ask.workspace, request.name, by=ask.asker.name, now=ask.now)
    return ScheduleSeen(schedule=removed, next=())


def _next(ask: Ask, request: NextTicks) -> Page[datetime]:
    """When it is due next by the clock; nothing while it is paused."""
    schedule = _visible(ask, request.name)
    count = min(max(request.count, 0), 1000)
    return Page(tuple(next_ticks(schedule, ask.now, count=count)))


def _ticks(ask: Ask, request: PastTicks) -> Page[TickSeen]:
    """What it started, newest first: why, the run, and how that stands."""
    schedule = _visible(ask, request.name)
    after = read_cursor(request.cursor, tuple[str])[0] if request.cursor else ""
    ticks = ticks_of(ask.workspace, schedule.name, limit=request.limit + 1, after=after)
    page = cut(ticks, request.limit, lambda tick: (tick.cause,))
    return Page(tuple(_tick(ask, tick) for tick in page.items), page.cursor)


def _set_paused(ask: Ask, name: str, *, paused: bool) -> ScheduleSeen:
    _visible(ask, name)
    by = ask.asker.name
    return _seen(ask, pause_schedule(ask.workspace, name, paused=paused, by=by, now=ask.now))


def _visible(ask: Ask, name: str) -> Schedule:
    """The schedule, for who may see it; for others it looks as if there were none."""
    try:
        schedule = get_schedule(ask.workspace, name)
    except NotFound as error:
        raise (error if ask.asker.projects is None else hidden("schedule", name)) from None
    if not ask.asker.may_see(schedule.project):
        raise hidden("schedule", name)
    return schedule


def _seen(ask: Ask, schedule: Schedule) -> ScheduleSeen:
    last = ticks_of(ask.workspace, schedule.name, limit=1)
    return ScheduleSeen(
        schedule=schedule,
        next=tuple(next_ticks(schedule, ask.now, count=_NEXT)),
        last=_tick(ask, last[0]) if last else None,
    )


def _tick(ask: Ask, tick: Tick) -> TickSeen:
    meta = ask.workspace.meta
    state = meta.find(RunState, tick.run) if tick.run else None
    status: str = state.status if state is not None else tick.status
    if state is None and tick.status == "claimed":
        status = "running" if tick.run and meta.find(Run, tick.run) else "starting"
    return TickSeen(
        cause=tick.cause,
        status=status,
        run=tick.run,
        attempt=tick.attempt,
        why=tick.why,
        at=tick.at,
    )


_ALL = "/api/v1/schedules"
_ONE = "/api/v1/schedules/{name}"
_TAGS = ("schedules",)

LIST_SCHEDULES = Operation(
    "schedules.list", "GET", _ALL, ListSchedules, Page[ScheduleSeen], _list, tags=_TAGS
)
GET_SCHEDULE = Operation("schedules.get", "GET", _ONE, OneSchedule, ScheduleSeen, _get, tags=_TAGS)
# What is put is run by the server: who may do so may run what lies in its project.
PUT_SCHEDULE = Operation(
    "schedules.put", "PUT", _ONE, PutSchedule, ScheduleSeen, _put, role="deployer", tags=_TAGS
)
PAUSE_SCHEDULE = Operation(
    "schedules.pause",
    "POST",
    f"{_ONE}/pause",
    OneSchedule,
    ScheduleSeen,
    _pause,
    role="deployer",
    tags=_TAGS,
)
RESUME_SCHEDULE = Operation(
    "schedules.resume",
    "POST",
    f"{_ONE}/resume",
    OneSchedule,
    ScheduleSeen,
    _resume,
    role="deployer",
    tags=_TAGS,
)
REMOVE_SCHEDULE = Operation(
    "schedules.remove",
    "DELETE",
    _ONE,
    OneSchedule,
    ScheduleSeen,
    _remove,
    role="deployer",
    tags=_TAGS,
)
NEXT_TICKS = Operation(
    "schedules.next", "GET", f"{_ONE}/next", NextTicks, Page[datetime], _next, tags=_TAGS
)
PAST_TICKS = Operation(
    "schedules.ticks", "GET", f"{_ONE}/ticks", PastTicks, Page[TickSeen], _ticks, tags=_TAGS
)

OPERATIONS = (
    LIST_SCHEDULES,
    GET_SCHEDULE,
    PUT_SCHEDULE,
    PAUSE_SCHEDULE,
    RESUME_SCHEDULE,
    REMOVE_SCHEDULE,
    NEXT_TICKS,
    PAST_TICKS,
)
