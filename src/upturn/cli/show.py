"""`upturn show RUN[/STEP[/INDEX]]`: a run, its tasks, and what they logged."""

import contextlib

import click

from upturn.cli import print_problem
from upturn.cli.render import console, plain, print_table, seconds_text, status_text, when_text
from upturn.core.errors import UpturnError
from upturn.core.records import Artifact, Exhibit, Input, Task, TaskState
from upturn.develop.collect import absence
from upturn.develop.inputs import ENV_INPUT
from upturn.develop.locks import load_lock
from upturn.develop.measured import last_of
from upturn.develop.runs import RunView, path_of, picked
from upturn.stores.workspace import Workspace, open_workspace

_MOST_READS = 20


@click.command()
@click.argument("path", metavar="RUN[/STEP[/INDEX]]")
def command(path: str) -> None:
    """Show a run with its tasks, or a task with its inputs, metrics and output."""
    workspace = open_workspace()
    try:
        view, step, tasks = picked(workspace, path)
        if step is None:
            _show_run(workspace, view, tasks)
        else:
            for task in tasks:
                _show_task(workspace, task)
    finally:
        workspace.close()


def _show_run(workspace: Workspace, view: RunView, tasks: list[TaskState]) -> None:
    out = console()
    run = view.run
    out.print(f"[bold]run/{run.id}[/]  {run.flow}  {status_text(view.status)}  {plain(run.entry)}")
    out.print(f"started {when_text(run.started_at)} local time  {seconds_text(view.seconds)}")
    for name, value in run.params.items():
        out.print(f"  {name} = {value}", markup=False)
    print_table(
        ("task", "status", "took", "output", "metrics"),
        [
            (
                f"{task.step}/{task.index}",
                status_text(task.status),
                seconds_text(task.seconds),
                plain(_output_text(workspace, task)),
                _metrics_text(workspace, task),
            )
            for task in tasks
        ],
    )
    if view.status in ("failed", "cancelled", "skipped", "lost"):
        if view.state is not None and view.state.problem is not None:
            print_problem(view.state.problem)
        click.echo(f"Resume with: upturn resume {run.id}")


def _show_task(workspace: Workspace, task: TaskState) -> None:
    out = console()
    out.print(f"[bold]{path_of(task)}[/]  {status_text(task.status)}  {seconds_text(task.seconds)}")
    if task.reused_from is not None:
        out.print(f"  reused from {task.reused_from}")
    described = workspace.meta.find(Task, task.run, task.step, task.index)
    for item in described.inputs if described is not None else ():
        if item.name.endswith(":shape"):
            continue
        if item.name == ENV_INPUT:
            _show_env(workspace, item)
            continue
        origin = item.path or item.made_by or ""
        known = workspace.meta.find(Artifact, item.digest)
        what = f"{known.type} {known.summary}".strip() if known is not None else ""
        what += absence(workspace, item.digest) if item.path is None else ""
        out.print(f"  input {item.name}  {item.digest[:12]}  {what}  {origin}", markup=False)
    for read in task.reads[:_MOST_READS]:
        out.print(f"  read {read.path}  {read.digest[:12] or 'absent'}", markup=False)
    if len(task.reads) > _MOST_READS:
        out.print(f"  and {len(task.reads) - _MOST_READS} more files read")
    for path in task.changed:
        out.print(f"  read {path}  changed meanwhile: the output is not kept", markup=False)
    out.print(f"  output  {_output_text(workspace, task)}", markup=False)
    metrics = _metrics_text(workspace, task)
    if metrics:
        out.print(f"  metrics  {metrics}", markup=False)
    run, step, index = _source(task)
    for exhibit in workspace.meta.select(Exhibit, run=run, step=step, index=index):
        gone = absence(workspace, exhibit.artifact)
        out.print(f"  shown  {exhibit.title} ({exhibit.media}){gone}", markup=False)
    if task.problem is not None:
        print_problem(task.problem)


def _show_env(workspace: Workspace, item: Input) -> None:
    from rich.padding import Padding
    from rich.text import Text

    known = workspace.meta.find(Artifact, item.digest)
    out = console()
    out.print(f"  env  {item.digest[:12]}  {known.summary if known else ''}", markup=False)
    with contextlib.suppress(UpturnError):  # it was collected; what is known of it is shown
        packages = load_lock(workspace, item.digest).packages
        text = ", ".join(f"{name}=={version}" for name, version in packages.items())
        out.print(Padding(Text(text), (0, 0, 0, 7)))


def _output_text(workspace: Workspace, task: TaskState) -> str:
    if task.output is None:
        return task.problem.message.split("\n")[0][:60] if task.problem is not None else ""
    known = workspace.meta.find(Artifact, task.output)
    what = f"{known.type} {known.summary}".strip() if known is not None else ""
    return f"{task.output[:12]} {what}{absence(workspace, task.output)}".strip()


def _metrics_text(workspace: Workspace, task: TaskState) -> str:
    run, step, index = _source(task)
    last = last_of(workspace.tracking, run, f"{step}/{index}")
    return "  ".join(f"{name} {value:.4g}" for name, value in last.items())


def _source(task: TaskState) -> tuple[str, str, int]:
    """The task that ran: this one, or the one whose output is reused."""
    if task.reused_from is None:
        return task.run, task.step, task.index
    _, run, step, index = task.reused_from.split("/")
    return run, step, int(index)
