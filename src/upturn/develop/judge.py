"""Judge: hears what a task logs, or logged when it ran before, and may end it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

from upturn.core.errors import Problem
from upturn.core.ids import task_path
from upturn.core.memos import last_memo
from upturn.core.metastore import MetaStore
from upturn.core.records import Run, Task, TaskState
from upturn.core.time import micros, utcnow
from upturn.develop.measured import points_of, step_of
from upturn.stores.workspace import Workspace

_LOOKED_AT = 20  # how many tasks with the same memo are looked through for one that was pruned


class Judge(Protocol):
    """Is called from the scheduler's thread, so it must not take long, and must not raise."""

    def begin(self) -> None:
        """An attempt begins: what was heard before counts no more."""
        ...

    def hear(self, metrics: Mapping[str, float], at_step: int | None) -> Problem | None:
        """The task logged this; why it is to be ended now, if it is."""
        ...


@dataclass(frozen=True, slots=True)
class Ruling:
    """That a task is ended, or not run: why, and by whose curve (None: its own)."""

    why: Problem
    source: str | None = None


class Judged(Protocol):
    """A task that may have a judge."""

    @property
    def judge(self) -> Judge | None: ...
    @property
    def path(self) -> str: ...
    @property
    def memo(self) -> str: ...


def ruled_before(
    workspace: Workspace, task: Judged, before: TaskState | None, cache: bool | timedelta
) -> Ruling | None:
    """What the task's judge says to the curve that a task with the same memo logged, if any did.

    `before` is how the task itself ended before its run was interrupted. The judge has heard the
    whole curve when it ends nothing, so that it knows that of a task that is reused.
    """
    judge, state, meta = task.judge, before, workspace.meta
    if judge is None:
        return None
    if state is None or not _is_of(meta, state, task.memo):
        state = _last_like(meta, task.memo, workspace.settings.project, cache)
    if state is None:
        return None
    source = state.reused_from or task_path(state.run, state.step, state.index)
    judge.begin()
    for name, value, at_step in _curve(workspace, source):
        why = judge.hear({name: value}, at_step)
        if why is not None:
            return Ruling(why, None if source == task.path else source)
    return None


def _curve(workspace: Workspace, path: str) -> list[tuple[str, float, int | None]]:
    """What a task logged in its last attempt, in order."""
    place = _place(path)
    run, scope = place["run"], f"{place['step']}/{place['index']}"
    logged = points_of(workspace.tracking, run, scope)
    states = workspace.meta.select(TaskState, **place)
    begun = [micros(state.at) for state in states if state.status == "running"]
    last = [point for point in logged if not begun or point.at >= begun[-1]]
    # All that there is, when the clock was set back in the middle of it.
    return [(point.name, finite(point.value), step_of(point)) for point in last or logged]


def finite(value: float) -> float:
    """The value as judges hear it, who know no infinities."""
    return value if math.isfinite(value) else math.nan


def _last_like(
    meta: MetaStore, memo: str, project: str, cache: bool | timedelta
) -> TaskState | None:
    """The end of a task with this memo that was done or pruned, unless that may not be used."""
    if cache is False:
        return None
    found = _done(meta, memo, project) or _pruned(meta, memo, project)
    if found is None or isinstance(cache, bool) or utcnow() - found.at <= cache:
        return found
    return None


def _done(meta: MetaStore, memo: str, project: str) -> TaskState | None:
    known = last_memo(meta, memo, project)
    if known is None:
        return None
    place = _place(known.task)
    states = meta.select(TaskState, **place, newest_first=True)
    return next((state for state in states if state.status == "done"), None)


def _pruned(meta: MetaStore, memo: str, project: str) -> TaskState | None:
    """Of tasks of the project alone: nothing says of others who wrote them."""
    for task in meta.select(Task, memo=memo, newest_first=True, limit=_LOOKED_AT):
        state = meta.find(TaskState, task.run, task.step, task.index)
        if state is None or state.status != "pruned" or not _is_of(meta, state, memo):
            continue
        run = meta.find(Run, task.run)
        if run is not None and run.project == project:
            return state
    return None


def _is_of(meta: MetaStore, state: TaskState, memo: str) -> bool:
    """Whether the task's last state is that of this memo: a resume may have changed its code."""
    task = meta.find(Task, state.run, state.step, state.index)
    return task is not None and task.memo == memo


def _place(path: str) -> dict[str, Any]:
    run, step, index = path.removeprefix("run/").rsplit("/", 2)
    return {"run": run, "step": step, "index": int(index)}
