"""`upturn cancel RUN`: ends a run that goes on, from another terminal."""

import os
import socket
import time

import click

from upturn.cli.changed import changed
from upturn.core.errors import Conflict, Invalid
from upturn.develop.runs import top_run, view_run
from upturn.stores.workspace import open_workspace

_WITHIN_S = 10.0


@click.command()
@click.argument("run", metavar="RUN")
def command(run: str) -> int:
    """End a run that goes on. Its finished tasks are kept: upturn resume RUN goes on after them."""
    workspace = open_workspace()
    try:
        view = view_run(workspace, top_run(workspace, view_run(workspace, run).run).id)
        lease = workspace.meta.lease(f"run/{view.run.id}")
        if lease is None:
            raise Invalid(f"Run {view.run.id} does not go on: it is {view.status}.")
        pid, host = int(lease.payload["pid"]), lease.payload["host"]
        if host != socket.gethostname():
            raise Conflict(f"Run {view.run.id} goes on at {host}.", hint="Cancel it there.")
        os.kill(pid, lease.payload["ends_on"])
        changed(workspace, "cancel", f"run/{view.run.id}")
        deadline = time.monotonic() + _WITHIN_S
        while workspace.meta.lease(f"run/{view.run.id}") is not None:
            if time.monotonic() > deadline:
                raise Conflict(
                    f"Process {pid} was told to end run {view.run.id}, and has not yet.",
                    hint=f"To end it whatever it does: kill -9 {pid}",
                )
            time.sleep(0.01)
    finally:
        workspace.close()
    click.echo(f"Cancelled. Resume with: upturn resume {view.run.id}")
    return 0
