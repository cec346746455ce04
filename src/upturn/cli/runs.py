"""`upturn runs`: the newest runs."""

import click

from upturn.cli.render import plain, print_table, seconds_text, status_text, when_text
from upturn.develop.runs import list_runs
from upturn.stores.workspace import open_workspace


@click.command()
@click.option("--flow", metavar="NAME", help="Runs of this flow only.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(min=1))
def command(flow: str | None, limit: int) -> None:
    """List runs, the newest first."""
    workspace = open_workspace()
    try:
        views = list_runs(workspace, flow=flow, limit=limit)
    finally:
        workspace.close()
    if not views:
        click.echo("No runs yet. Start one with: upturn run FILE:FLOW")
        return
    print_table(
        ("run", "flow", "status", "started (local)", "took", "parameters"),
        [
            (
                view.run.id,
                view.run.flow,
                status_text(view.status),
                when_text(view.run.started_at),
                seconds_text(view.seconds),
                plain(" ".join(f"{name}={value}" for name, value in view.run.params.items())[:60]),
            )
            for view in views
        ],
    )
