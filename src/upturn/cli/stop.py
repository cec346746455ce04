"""`upturn stop`: end the server of this store."""

import click


@click.command()
def command() -> None:
    """Let the server finish what it answers, seal the Log and end."""
    from upturn.server.process import stop
    from upturn.stores.workspace import open_workspace

    workspace = open_workspace()
    try:
        stopped = stop(workspace)
    finally:
        workspace.close()
    click.echo(f"Stopped {stopped.url}." if stopped else "No server runs on this store.")
