"""`upturn why RUN/STEP[/INDEX]`: why a task ran, or did not."""

import click

from upturn.cli.render import STATUS_COLOURS, when_text
from upturn.core.records import Run, TaskState
from upturn.develop.runs import picked
from upturn.develop.why import Explanation, Facts, explain, facts_about
from upturn.stores.workspace import Workspace, open_workspace

_MOST = 20  # tasks that are explained at a time
_DIFF_COLOURS = {"+": "green", "-": "red", "@": "cyan"}


@click.command()
@click.argument("path", metavar="RUN/STEP[/INDEX]")
def command(path: str) -> None:
    """Say why a task ran or did not: which input, which function, which package, which file."""
    workspace = open_workspace()
    try:
        view, step, tasks = picked(workspace, path)
        for task in tasks[:_MOST]:
            if step is None:
                _print_line(workspace, task)
            else:
                _print_whole(workspace, view.run, task)
        if len(tasks) > _MOST:
            click.echo(f"and {len(tasks) - _MOST} more: upturn why {view.run.id}/STEP/INDEX")
    finally:
        workspace.close()


def _print_line(workspace: Workspace, task: TaskState) -> None:
    found = explain(facts_about(workspace, task))
    click.echo(f"{task.step}/{task.index}  {found.status}  {found.verdict}")
    for reason in found.reasons:
        click.echo(f"  {reason}")


def _print_whole(workspace: Workspace, run: Run, task: TaskState) -> None:
    facts = facts_about(workspace, task)
    found = explain(facts)
    click.secho(f"{found.task}  ", bold=True, nl=False)
    click.secho(found.status, fg=STATUS_COLOURS.get(found.status), nl=False)
    click.echo(f"  {run.flow}  {when_text(task.at)} local time")
    click.echo(found.verdict)
    for reason in found.reasons:
        click.echo(f"  {reason}")
    if found.status != "reused" and facts.earlier is not None:
        click.echo(_compared_text(facts))
    _print_code(found)


def _compared_text(facts: Facts) -> str:
    assert facts.earlier is not None
    state = facts.earlier.state
    return f"Compared with {facts.earlier.path}, {state.status} {when_text(state.at)}."


def _print_code(found: Explanation) -> None:
    for diff in found.diffs:
        click.echo()
        for line in diff.splitlines():
            click.secho(line, fg=_DIFF_COLOURS.get(line[:1]))
    if found.whole:
        click.echo("\nTaken whole, since names in it lead nowhere:")
        for text in found.whole:
            click.echo(f"  {text}")
