"""`upturn rerun RUN/STEP[/INDEX]`: one task again, with its recorded inputs on the current code."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from upturn.cli import print_problem
from upturn.cli.run import interruptible
from upturn.cli.target import load_target, target_file
from upturn.core.errors import Invalid, NotFound
from upturn.core.records import Task, TaskState
from upturn.core.settings import Settings, load_settings
from upturn.develop.flow import Flow
from upturn.develop.register import STEPS
from upturn.develop.rerun import Again, Recorded, recorded, steps_of
from upturn.develop.run import start_run
from upturn.develop.runs import RunView, path_of, picked
from upturn.develop.warm import warm_up
from upturn.stores.workspace import Workspace, open_workspace

if TYPE_CHECKING:
    from upturn.develop.handles import Run


@click.command()
@click.option("--pdb", "debug", is_flag=True, help="Run it here, and stand where it raises.")
@click.argument("path", metavar="RUN/STEP[/INDEX]")
def command(debug: bool, path: str) -> int:
    """Run a task again on the current code, with the inputs that it had.

    What it makes is remembered, so that `upturn resume RUN` goes on from there. With --pdb it runs
    in this process: breakpoint() works, an exception leads into the debugger, and nothing is kept.
    """
    settings = load_settings()
    workspace = open_workspace(settings)
    try:
        view, step, states = picked(workspace, path)
        if step is None:
            raise Invalid(
                f"{path!r} is a run; one of its tasks, or all of a step, are run again.",
                hint=f"Write {path}/STEP, or go on with the run: upturn resume {path}",
            )
        tasks = [_given(workspace, state) for state in states]
        found = _load(workspace, settings, view, tasks, warm=not debug)
        if debug:
            return _stand_in(workspace, found)
        return _run(workspace, settings, view, found)
    finally:
        workspace.close()


def _given(workspace: Workspace, state: TaskState) -> Task:
    task = workspace.meta.find(Task, state.run, state.step, state.index)
    if task is None:
        raise NotFound(f"{path_of(state)} never ran: it was given nothing.")
    return task


def _load(
    workspace: Workspace, settings: Settings, view: RunView, tasks: list[Task], *, warm: bool
) -> list[Recorded]:
    """The tasks with their steps, out of the flow's file as it is now."""
    file, _ = target_file(view.run.entry, root=settings.root)
    if warm:
        warm_up(settings, file)
    flow = load_target(view.run.entry, Flow, root=settings.root)
    return recorded(workspace, view.run, steps_of(flow.function.__module__), tasks)


def _run(workspace: Workspace, settings: Settings, view: RunView, found: list[Recorded]) -> int:
    file, _ = target_file(view.run.entry, root=settings.root)
    again = Again(view.run, found, file)
    what = found[0].path if len(found) == 1 else found[0].path.rpartition("/")[0]
    with interruptible(f"Run it again with: upturn rerun {what.removeprefix('run/')}") as lines:
        handle = start_run(
            again,
            view.run.params,
            workspace=workspace,
            reporter=lines,
            fresh=True,
            rerun_of=what,
        )
    return _conclude(handle, view, found)


def _conclude(handle: Run, view: RunView, found: list[Recorded]) -> int:
    for task, before in zip(handle.tasks, found, strict=False):
        if task.problem is not None:
            print_problem(task.problem)
            click.echo(f"What it printed: upturn logs {task.path.removeprefix('run/')}", err=True)
        elif before.state is not None and before.state.output is not None:
            same = before.state.output == task.digest
            click.echo(
                f"{'Same output as' if same else 'Another output than'} {before.path}.", err=True
            )
    if handle.status != "done":
        return 1
    if view.status in ("failed", "cancelled", "lost"):
        click.echo(f"Go on with: upturn resume {view.run.id}", err=True)
    return 0


def _stand_in(workspace: Workspace, found: list[Recorded]) -> int:
    """Call the step in this process, and debug what it raises."""
    import bdb
    import pdb
    import traceback

    if found[0].step in STEPS:  # outside a task it would register a version for good
        raise Invalid(
            f"The step {found[0].task.step!r} is Upturn's own: there is no code of yours in it.",
            hint="Debug the step that made what it was given.",
        )
    if len(found) > 1:
        raise Invalid(
            f"There are {len(found)} tasks of {found[0].task.step!r}, and one is debugged.",
            hint=f"Name it: {found[0].path.removeprefix('run/')}",
        )
    args, kwargs = found[0].arguments(workspace)
    try:
        result: Any = found[0].step.function(*args, **kwargs)
    except bdb.BdbQuit:  # `q` at a breakpoint(): who leaves the debugger wants no second one
        return 1
    except (Exception, SystemExit):  # noqa: BLE001  # whatever the step raises
        traceback.print_exc()
        pdb.post_mortem(sys.exc_info()[2])
        return 1
    click.echo(repr(result)[:2000])
    return 0
