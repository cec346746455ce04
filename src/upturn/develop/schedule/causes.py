"""Causes: what happened after which a schedule starts something, read from the records in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from upturn.core.ids import version_path
from upturn.core.naming import Model
from upturn.core.record import Record
from upturn.core.records import Run, RunState, Version
from upturn.core.schedules import Position, Schedule
from upturn.develop.schedule.data import Watch, cause_of, last_digest
from upturn.stores.workspace import Workspace

READER = "schedules"
_AT_ONCE = 1000
R = TypeVar("R", bound=Record)


@dataclass(frozen=True, slots=True)
class Cause:
    """A reason to start something, and the parameters that it brings along."""

    path: str  # 'run/k3f9x2', 'version/delays:7', 'data/FILE@DIGEST'
    params: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Happened:
    """Something that may be a cause for any schedule of its project."""

    trigger: str  # 'flow/prepare', 'model/delays'
    project: str
    at: datetime
    cause: Cause


class Events:
    """Reads on in the records, from where this store's schedules have read them to."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._read: dict[str, int] = {}  # by table
        self._kept: dict[str, int] = {}

    def look(self) -> list[Happened]:
        """What happened since the last look. It is told again until `keep` is called."""
        self._next: dict[str, int] = {}
        return [
            *self._news(RunState, self._of_run),
            *self._news(Version, self._of_version),
        ]

    def keep(self, now: datetime, *, matched: bool) -> None:
        """What was told is dealt with. How far that is is stored when it is far, or matters."""
        for kind, position in self._next.items():
            self._read[kind] = position
            if position - self._kept[kind] >= (1 if matched else _AT_ONCE):
                self._kept[kind] = position
                self._workspace.meta.put(
                    Position(reader=READER, kind=kind, position=position, at=now)
                )

    def _news(self, kind: type[R], told: Callable[[R], Happened | None]) -> Iterator[Happened]:
        meta = self._workspace.meta
        if kind.table not in self._read:
            last = meta.find(Position, READER, kind.table)
            if last is None:  # nobody has read before: what came earlier is nobody's cause
                start = meta.position(kind)
                last = meta.add(
                    Position(reader=READER, kind=kind.table, position=start, at=_epoch())
                )
            self._read[kind.table] = self._kept[kind.table] = last.position
        news = meta.read_on(kind, self._read[kind.table], limit=_AT_ONCE)
        if news:
            self._next[kind.table] = news[-1][0]
        for _, record in news:
            happened = told(record)
            if happened is not None:
                yield happened

    def _of_run(self, state: RunState) -> Happened | None:
        if state.status != "done":
            return None
        run = self._workspace.meta.find(Run, state.run)
        if run is None or run.rehearsal or run.parent is not None:
            return None
        cause = Cause(f"run/{run.id}", run.params)
        return Happened(f"flow/{run.flow}", run.project, state.at, cause)

    def _of_version(self, version: Version) -> Happened | None:
        run = self._workspace.meta.find(Run, version.run) if version.run else None
        if run is not None and run.rehearsal:
            return None
        model = self._workspace.meta.find(Model, version.model)
        project = model.project if model is not None else self._workspace.settings.project
        cause = Cause(version_path(version.model, version.number), version.params)
        return Happened(f"model/{version.model}", project, version.at, cause)


class Watches:
    """Watches files and folders of schedules; reads them in a thread, for they may be large."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="watch")
        self._watches: dict[tuple[str, int, str], Watch] = {}
        self._looks: dict[tuple[str, int, str], Future[str | None]] = {}

    def look(self, schedule: Schedule) -> list[Cause]:
        """What of its data has another content than what it has dealt with."""
        found: list[Cause] = []
        for after in schedule.after:
            kind, _, file = after.partition("/")
            if kind == "data":
                digest = self._content(schedule, file)
                if digest and digest != last_digest(self._workspace, schedule.name, file):
                    cause = cause_of(self._workspace, schedule.name, file, digest)
                    found.append(Cause(cause))
        return found

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _content(self, schedule: Schedule, file: str) -> str | None:
        """The digest that the last look has found, when that has ended; another one begins."""
        key = (schedule.name, schedule.seq, file)
        watch = self._watches.get(key)
        if watch is None:
            watch = self._watches[key] = Watch(Path(schedule.root) / file)
        look = self._looks.get(key)
        if look is not None and not look.done():
            return None
        self._looks[key] = self._pool.submit(watch.look)
        return look.result() if look is not None else None


def matching(happened: Sequence[Happened], schedule: Schedule) -> list[Cause]:
    """What of it is a cause for the schedule."""
    return [
        one.cause
        for one in happened
        if one.trigger in schedule.after
        and one.project == schedule.project
        and one.at > schedule.at
    ]


def _epoch() -> datetime:
    from upturn.core.time import from_micros

    return from_micros(0)
