"""`upturn logs RUN[/STEP[/INDEX]]`: what tasks printed."""

import click

from upturn.develop.runs import path_of, picked
from upturn.develop.worker import traceback_file
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
            file = workspace.output_dir.joinpath(*source.split("/")[1:]).with_suffix(".log")
            text = file.read_text(errors="replace") if file.is_file() else ""
            trace = traceback_file(file)
            if task.status == "failed" and trace.is_file():
                text += trace.read_text(errors="replace")
            if not text:
                continue
            if len(tasks) > 1:
                click.secho(f"── {path_of(task)}", bold=True)
            click.echo(text, nl=not text.endswith("\n"))
    finally:
        workspace.close()
