"""`upturn resume RUN`: goes on with a run; no finished task is repeated."""

import click

from upturn.cli.run import execute
from upturn.cli.target import load_target, target_file
from upturn.core.errors import Conflict
from upturn.core.settings import load_settings
from upturn.develop.flow import Flow
from upturn.develop.run import params_of
from upturn.develop.runs import top_run, view_run
from upturn.develop.warm import warm_up
from upturn.stores.workspace import open_workspace


@click.command()
@click.argument("run", metavar="RUN")
def command(run: str) -> int:
    """Go on with a run that failed, was stopped or was lost. Finished tasks are not repeated."""
    settings = load_settings()
    workspace = open_workspace(settings)
    try:
        view = view_run(workspace, top_run(workspace, view_run(workspace, run).run).id)
    finally:
        workspace.close()
    if view.run.rerun_of is not None:
        raise Conflict(
            f"Run {view.run.id} is a rerun of {view.run.rerun_of}.",
            hint=f"Run that again with: upturn rerun {view.run.rerun_of.removeprefix('run/')}",
        )
    if view.status == "done":
        click.echo(f"Run {view.run.id} is done already. See: upturn show {view.run.id}")
        return 0
    if view.status in ("queued", "running"):
        raise Conflict(
            f"Run {view.run.id} is still {view.status}.",
            hint="If its process was killed, it is seen as lost within 10 seconds.",
        )
    file, _ = target_file(view.run.entry, root=settings.root)
    warm_up(settings, file)
    flow = load_target(view.run.entry, Flow, root=settings.root)
    return execute(flow, params_of(view.run, flow), resume=view.run)
