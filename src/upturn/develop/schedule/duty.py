"""ScheduleDuty: starts what schedules say is due, each tick once, whoever dies meanwhile.

Who starts a tick claims it first: it puts the tick's first record, which only one can, with the id
of the run to be. A process is then started that makes that very run. Should the claimer die in
between, its lease on the tick ends; whoever looks next finds a claimed tick without a run and
without a lease, and starts it again, with the same id. So two processes may be started for a tick
in the worst case, but a run has one key: only one of them makes it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterable
from datetime import datetime

import msgspec

from upturn.core.errors import Conflict
from upturn.core.ids import new_id
from upturn.core.record import Record
from upturn.core.records import Edge, Run, Version
from upturn.core.schedules import Schedule, Tick, TickStatus
from upturn.develop.schedule.causes import Cause, Events, Watches, matching
from upturn.develop.schedule.due import LATE, due
from upturn.develop.schedule.launcher import Child, launch, why_ended
from upturn.develop.schedule.shelf import cause_of, instant_of, last_due, list_schedules
from upturn.develop.schedule.start import Start
from upturn.develop.schedule.timetable import timetable
from upturn.stores.workspace import Workspace

ATTEMPTS = 3  # to make the run of a tick, when its process is killed before
AT_ONCE = 4  # ticks of a schedule that are caught up with side by side
_RESCAN_S = 10.0
_RECENT, _ALL = 100, 5000  # records of ticks that are looked through for what nobody started
Launch = Callable[..., Child]


class ScheduleDuty:
    """See Duty. Holds the processes that it started; they outlive it."""

    name = "schedules"
    every_s = 1.0

    def __init__(self, *, launch: Launch = launch, ttl_s: float = 15.0) -> None:
        """`ttl_s`: how long after its death what it had claimed is left alone."""
        self._launch = launch
        self._ttl_s = ttl_s
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{new_id()}"
        self._children: list[Child] = []
        self._last_due: dict[tuple[str, int], datetime] = {}
        self._events: Events | None = None
        self._watches: Watches | None = None
        self._rescanned: float | None = None

    def look(self, workspace: Workspace, now: datetime) -> None:
        """Start what is due, and see what became of what was started."""
        self._attend(workspace, now)
        self._rescan(workspace, now)
        events = self._events = self._events or Events(workspace)
        happened = events.look()
        schedules = list_schedules(workspace)  # after the events: none misses its cause
        matched, certain = False, True
        for schedule in schedules:
            if schedule.paused:
                continue
            for cause in matching(happened, schedule):
                matched = True
                certain &= self._claim(workspace, schedule, cause.path, now, same=cause)
            if schedule.cron:
                self._by_the_clock(workspace, schedule, now)
            self._by_data(workspace, schedule, now)
        if certain:
            events.keep(now, matched=matched)

    @property
    def under_way(self) -> int:
        """How many of the processes that it started go on."""
        return len(self._children)

    # What is due

    def _by_the_clock(self, workspace: Workspace, schedule: Schedule, now: datetime) -> None:
        key = (schedule.name, schedule.seq)
        if key not in self._last_due:
            self._last_due[key] = last_due(workspace, schedule)
        table = timetable(schedule.cron, schedule.tz)
        free = AT_ONCE - sum(
            child.late for child in self._children if child.schedule.name == schedule.name
        )
        for at in due(
            table,
            since=self._last_due[key],
            now=now,
            catch_up=schedule.catch_up,
            at_once=free,
        ):
            if not self._claim(workspace, schedule, cause_of(at), now):
                return
            self._last_due[key] = at

    def _by_data(self, workspace: Workspace, schedule: Schedule, now: datetime) -> None:
        if not any(after.startswith("data/") for after in schedule.after):
            return
        self._watches = self._watches or Watches(workspace)
        for cause in self._watches.look(schedule):
            self._claim(workspace, schedule, cause.path, now, same=cause)

    # One start for each

    def _claim(
        self,
        workspace: Workspace,
        schedule: Schedule,
        cause: str,
        now: datetime,
        *,
        same: Cause | None = None,
        again: Tick | None = None,
    ) -> bool:
        """Start it, unless another has claimed it; False when another one is just about to."""
        meta = workspace.meta
        lease = _lease(schedule.name, cause)
        if not meta.claim(lease, self._owner, ttl_s=self._ttl_s):
            return meta.find(Tick, schedule.name, cause) is not None
        run = again.run if again is not None else (new_id() if schedule.runs == "flow" else "")
        tick = Tick(
            schedule=schedule.name,
            cause=cause,
            seq=1 if again is None else again.seq + 1,
            run=run,
            attempt=1 if again is None else again.attempt + 1,
            at=now,
        )
        records: list[Record] = [tick]
        if run and again is None and cause.startswith(("run/", "version/")):
            records.append(Edge(source=cause, target=f"run/{run}", role="triggered"))
        try:
            meta.put(*records)
        except Conflict:
            meta.release(lease, self._owner)
            return True
        late = _is_late(cause, now)
        start = _start(workspace, schedule, tick, same)
        try:
            child = self._launch(workspace, schedule, tick, start, late=late)
        except OSError as error:
            self._settle(workspace, tick, "failed", now, f"It can't be started: {error}.")
            return True
        self._children.append(child)
        if not run:  # no run will tell that it has begun, and it may take longer than we live
            child.tick = meta.add(msgspec.structs.replace(tick, seq=tick.seq + 1, status="started"))
        return True

    def _settle(
        self, workspace: Workspace, tick: Tick, status: TickStatus, now: datetime, why: str = ""
    ) -> None:
        """Put how it ended, and give the lease back."""
        ended = msgspec.structs.replace(tick, seq=tick.seq + 1, status=status, why=why, at=now)
        with contextlib.suppress(Conflict):  # somebody took it for dead, and starts it again
            workspace.meta.put(ended)
        self._let_go(workspace, tick)

    def _let_go(self, workspace: Workspace, tick: Tick) -> None:
        workspace.meta.release(_lease(tick.schedule, tick.cause), self._owner)

    # What became of it

    def _attend(self, workspace: Workspace, now: datetime) -> None:
        """Forget who has ended, and keep the others' leases until their runs are there."""
        going_on: list[Child] = []
        for child in self._children:
            ended = child.process.poll() is not None
            if not child.settled:
                self._see(workspace, child, now, ended=ended)
            if not ended:
                going_on.append(child)
        self._children = going_on

    def _see(self, workspace: Workspace, child: Child, now: datetime, *, ended: bool) -> None:
        tick = child.tick
        if tick.run and workspace.meta.find(Run, tick.run) is not None:
            child.settled = True
            self._let_go(workspace, tick)
        elif not ended:
            workspace.meta.claim(_lease(tick.schedule, tick.cause), self._owner, ttl_s=self._ttl_s)
        elif child.process.returncode < 0 and tick.attempt < ATTEMPTS:
            self._let_go(workspace, tick)  # it was killed: whoever looks starts it again
            self._rescanned = None
        elif child.process.returncode == 0:
            self._settle(workspace, tick, "done", now)
        else:
            self._settle(workspace, tick, "failed", now, why_ended(child))

    def _rescan(self, workspace: Workspace, now: datetime) -> None:
        """Start again what was claimed by somebody who died before it was started."""
        moment = time.monotonic()
        if self._rescanned is not None and moment - self._rescanned < _RESCAN_S:
            return
        limit = _ALL if self._rescanned is None else _RECENT
        self._rescanned = moment
        mine = {(child.tick.schedule, child.tick.cause) for child in self._children}
        for schedule in list_schedules(workspace):
            for tick in _open(workspace, schedule.name, limit):
                if (tick.schedule, tick.cause) not in mine:
                    self._take_up(workspace, schedule, tick, now)

    def _take_up(self, workspace: Workspace, schedule: Schedule, tick: Tick, now: datetime) -> None:
        meta = workspace.meta
        if meta.lease(_lease(tick.schedule, tick.cause)) is not None:
            return
        if tick.run and (meta.find(Run, tick.run) or meta.lease(f"run/{tick.run}")):
            return
        if tick.attempt >= ATTEMPTS:
            self._settle(
                workspace, tick, "failed", now, f"It was killed {ATTEMPTS} times before it began."
            )
            return
        same = _cause_again(workspace, tick.cause)
        self._claim(workspace, schedule, tick.cause, now, same=same, again=tick)


def _open(workspace: Workspace, schedule: str, limit: int) -> Iterable[Tick]:
    """The ticks of a schedule that were claimed and of which no end is known, newest first."""
    last: dict[str, Tick] = {}
    for tick in workspace.meta.select(Tick, schedule=schedule, newest_first=True, limit=limit):
        last.setdefault(tick.cause, tick)
    return [tick for tick in last.values() if tick.status == "claimed"]


def _start(workspace: Workspace, schedule: Schedule, tick: Tick, same: Cause | None) -> Start:
    at = instant_of(tick.cause)
    since: datetime | None = None
    if at is not None:
        table = timetable(schedule.cron or "@daily", schedule.tz)
        since = table.last(at - datetime.resolution)
    return Start(
        run=tick.run,
        params=schedule.params,
        same=same.params if same is not None else {},
        since=since,
        until=at,
        tz=schedule.tz,
        overlap=schedule.overlap,
    )


def _cause_again(workspace: Workspace, path: str) -> Cause | None:
    """A cause by its path, with its parameters."""
    kind, _, name = path.partition("/")
    if kind == "run":
        run = workspace.meta.find(Run, name)
        return None if run is None else Cause(path, run.params)
    if kind == "version":
        model, _, number = name.rpartition(":")
        version = workspace.meta.find(Version, model, int(number))
        return None if version is None else Cause(path, version.params)
    return None


def _lease(schedule: str, cause: str) -> str:
    return f"tick/{schedule}/{cause}"


def _is_late(cause: str, now: datetime) -> bool:
    at = instant_of(cause)
    return at is not None and at < now - LATE
