"""`upturn unpin PATH`: what was pinned is kept no longer than others."""

import click

from upturn.cli.changed import changed
from upturn.develop.pins import put_pin
from upturn.stores.workspace import open_workspace


@click.command()
@click.argument("path", metavar="RUN[/STEP[/INDEX]]")
@click.option("--why", default="", metavar="TEXT", help="The reason, for those who come later.")
def command(path: str, why: str) -> None:
    """Take a pin off again. Nothing is removed by that; the next gc may."""
    workspace = open_workspace()
    try:
        pin = put_pin(workspace, path, pinned=False, why=why)
        changed(workspace, "unpin", pin.path, why)
    finally:
        workspace.close()
    click.echo(f"Unpinned {pin.path}.")
