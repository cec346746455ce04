"""`upturn logs RUN[/STEP[/INDEX]]`: what tasks printed."""

import click

from upturn.develop.output import output_text, traceback_text
from upturn.develop.runs import path_of, picked
from upturn.stores.workspace import open_workspace


@click.command()
@click.argument("path", metavar="RUN[/STEP[/INDEX]]")
def command(path: str) -> None:
    """Print what the tasks of a run printed, whole tracebacks included."""
    workspace = open_workspace()
    try:
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
