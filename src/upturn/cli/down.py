"""`upturn down`: end the servers of this store."""

import click


@click.command()
def command() -> None:
    """Let the store's servers on this machine finish what they answer, and end."""
    from upturn.server.process import stop
    from upturn.stores.workspace import open_workspace

    workspace = open_workspace()
    try:
        stopped = stop(workspace)
    finally:
        workspace.close()
    for one in stopped:
        click.echo(f"Stopped {one.url}.")
    if not stopped:
        click.echo("No server runs on this store.")
