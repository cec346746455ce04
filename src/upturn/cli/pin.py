"""`upturn pin [PATH]`: keep a run, a task or an artifact, or list what is pinned."""

import click

from upturn.cli.changed import changed
from upturn.cli.render import plain, print_table, when_text
from upturn.core.errors import UpturnError
from upturn.develop.collect import missing_from
from upturn.develop.pins import list_pins, put_pin
from upturn.stores.workspace import Workspace, open_workspace


@click.command()
@click.argument("path", metavar="[RUN[/STEP[/INDEX]]]", required=False)
@click.option("--why", default="", metavar="TEXT", help="The reason, for those who come later.")
def command(path: str | None, why: str) -> None:
    """Keep a run, a step's tasks, a task or artifact/DIGEST, with all that it was made from.

    Without a path: list what is pinned.
    """
    workspace = open_workspace()
    try:
        if path is None:
            _list(workspace)
            return
        pin = put_pin(workspace, path, pinned=True, why=why)
        changed(workspace, "pin", pin.path, why)
        click.echo(f"Pinned {pin.path}.")
        gone = missing_from(workspace, pin.path)
        if gone:
            raise UpturnError(
                f"{gone} of its blobs were removed before.",
                hint="Running its flow again makes them anew.",
            )
    finally:
        workspace.close()


def _list(workspace: Workspace) -> None:
    pins = list_pins(workspace)
    if not pins:
        click.echo("Nothing is pinned. Pin with: upturn pin RUN")
        return
    print_table(
        ("pinned", "by", "at (local)", "why"),
        [(plain(pin.path), plain(pin.who), when_text(pin.at), plain(pin.why)) for pin in pins],
    )
