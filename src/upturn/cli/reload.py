"""`upturn reload`: new worker processes for the server of this store."""

import click


@click.command()
def command() -> None:
    """Replace the server's workers one by one, without a failed request.

    Each new one is ready before an old one is asked to end.
    """
    from upturn.server.process import reload
    from upturn.stores.workspace import open_workspace

    workspace = open_workspace()
    try:
        running = reload(workspace)
    finally:
        workspace.close()
    count = len(running.workers)
    click.echo(f"{count} new worker{'s' * (count > 1)} at {running.url}.")
