"""`upturn logs RUN[/STEP[/INDEX]]`: what tasks printed, and with -f what they print."""

import click

from upturn.develop.output import output_text, traceback_text
from upturn.develop.runs import parse_task, path_of, picked
from upturn.stores.workspace import Workspace, open_workspace


@click.command()
@click.argument("path", metavar="RUN[/STEP[/INDEX]]")
@click.option("-f", "--follow", is_flag=True, help="Go on until the run has ended.")
def command(path: str, follow: bool) -> None:
    """Print what the tasks of a run printed, whole tracebacks included."""
    workspace = open_workspace()
    try:
        if follow:
            _follow(workspace, path)
            return
        _, _, tasks = picked(workspace, path)
        for task in tasks:
            source = task.reused_from or path_of(task)
            _, run, step, index = source.split("/")
            text = output_text(workspace, run, step, int(index))
            if task.status == "failed":
                text += traceback_text(workspace, run, step, int(index))
            if not text:
                continue
            if len(tasks) > 1:
                click.secho(f"── {path_of(task)}", bold=True)
            click.echo(text, nl=not text.endswith("\n"))
    finally:
        workspace.close()


def _follow(workspace: Workspace, path: str) -> None:
    from upturn.cli.following import follow

    one = parse_task(path)[2] is not None

    def say(task: str, line: str) -> None:
        before = "" if one else click.style(f"{task} │ ", dim=True)
        click.echo(f"{before}{line}")

    status = follow(workspace, path, say)
    click.echo(f"run {parse_task(path)[0]}  {status}", err=True)
