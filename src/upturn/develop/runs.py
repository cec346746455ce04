"""Reading runs: by the beginning of their id, with their present status and their tasks."""

import os
import signal
import socket
from dataclasses import dataclass
from typing import Any

from upturn.core.errors import Invalid, NotFound, did_you_mean
from upturn.core.ids import task_path
from upturn.core.records import Run, RunState, Task, TaskState
from upturn.stores.workspace import Workspace

_UNFINISHED = ("queued", "running")


@dataclass(frozen=True, slots=True)
class RunView:
    """A run with its present status: that of its last state, or 'lost' when its driver is gone."""

    run: Run
    state: RunState | None
    status: str

    @property
    def seconds(self) -> float | None:
        """How long it took, if it has ended."""
        if self.state is None or self.state.status in _UNFINISHED:
            return None
        return (self.state.at - self.run.started_at).total_seconds()


def view_run(workspace: Workspace, text: str) -> RunView:
    """The run whose id is, or begins with, `text` ('k3f9', 'run/k3f9x2').

    Raises NotFound, or Invalid when several runs begin so.
    """
    wanted = text.removeprefix("run/").strip("/")
    run = workspace.meta.find(Run, wanted)
    if run is None:
        runs = workspace.meta.select(Run)
        near = [
            other for other in runs if wanted and other.id.startswith(wanted) and not other.parent
        ]
        if len(near) > 1:
            names = ", ".join(other.id for other in near[:5])
            raise Invalid(f"Several runs begin with {wanted!r}: {names}.", hint="Type more of it.")
        if not near:
            hint = did_you_mean(wanted, [other.id for other in runs[-200:]])
            raise NotFound(f"No run {wanted!r}.", hint=hint or "List them with: upturn runs")
        run = near[0]
    return _view(workspace, run)


def list_runs(workspace: Workspace, *, flow: str | None = None, limit: int = 20) -> list[RunView]:
    """The newest runs first."""
    where: dict[str, Any] = {} if flow is None else {"flow": flow}
    runs = workspace.meta.select(Run, newest_first=True, limit=limit, **where)
    return [_view(workspace, run) for run in runs]


def _view(workspace: Workspace, run: Run) -> RunView:
    state = workspace.meta.find(RunState, run.id)
    status: str = "running" if state is None else state.status
    if status in _UNFINISHED:
        if not is_driven(workspace, run):
            status = "lost"
    return RunView(run, state, status)


def this_driver() -> dict[str, Any]:
    """What this process says of itself in the lease of its run: where it is, and how to end it.

    A notebook ends a cell on SIGINT. A command that a shell started behind its back ignores that.
    """
    ends_on = signal.SIGINT
    if signal.getsignal(signal.SIGTERM) is signal.default_int_handler:
        ends_on = signal.SIGTERM
    return {"pid": os.getpid(), "host": socket.gethostname(), "ends_on": int(ends_on)}


def is_driven(workspace: Workspace, run: Run) -> bool:
    """Whether a living process drives the run."""
    return workspace.meta.lease(f"run/{top_run(workspace, run).id}") is not None


def top_run(workspace: Workspace, run: Run) -> Run:
    """The run that nobody called, of which this one is a part: its driver has the lease."""
    while run.parent is not None:
        run = workspace.meta.get(Run, run.parent)
    return run


def is_under_way(workspace: Workspace, task: Task) -> bool:
    """Whether a driver that lives has it before it, or runs it."""
    state = workspace.meta.find(TaskState, task.run, task.step, task.index)
    if state is not None and state.status != "running":
        return False
    run = workspace.meta.find(Run, task.run)
    return run is not None and is_driven(workspace, run)


def tasks_of(workspace: Workspace, run: str) -> list[TaskState]:
    """The last state of every task of a run, in the order in which they were first put."""
    return workspace.meta.last_each(TaskState, run=run)


def parse_task(text: str) -> tuple[str, str | None, int | None]:
    """Run, step and index of 'k3f9', 'k3f9/train' or 'run/k3f9/train/3'.

    >>> parse_task("run/k3f9/train/3")
    ('k3f9', 'train', 3)
    >>> parse_task("k3f9")
    ('k3f9', None, None)
    """
    parts = text.removeprefix("run/").strip("/").split("/")
    if len(parts) > 3 or (len(parts) == 3 and not parts[2].isdecimal()):
        raise Invalid(
            f"{text!r} is no path of a task.", hint="Write RUN, RUN/STEP or RUN/STEP/INDEX."
        )
    step = parts[1] if len(parts) > 1 else None
    return parts[0], step, int(parts[2]) if len(parts) > 2 else None


def pick_tasks(
    workspace: Workspace, run: str, step: str | None, index: int | None
) -> list[TaskState]:
    """The tasks of a run that a path names. Raises NotFound with the steps that there are."""
    tasks = tasks_of(workspace, run)
    if step is None:
        return tasks
    found = [task for task in tasks if task.step == step and index in (None, task.index)]
    if not found:
        what = step if index is None else f"{step}/{index}"
        hint = did_you_mean(step, {task.step for task in tasks})
        raise NotFound(f"Run {run} has no task {what!r}.", hint=hint)
    return found


def picked(workspace: Workspace, path: str) -> tuple[RunView, str | None, list[TaskState]]:
    """The run of 'k3f9', 'k3f9/train' or 'k3f9/train/3', the step if one is named, and the tasks.

    Raises NotFound, and Invalid for what is no path of a task.
    """
    run, step, index = parse_task(path)
    view = view_run(workspace, run)
    return view, step, pick_tasks(workspace, view.run.id, step, index)


def path_of(task: TaskState) -> str:
    """The path of a task's state."""
    return task_path(task.run, task.step, task.index)
