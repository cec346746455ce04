"""`upturn status`: where things are kept, and what is there."""

import click

from upturn.cli.render import print_table
from upturn.core.settings import load_settings
from upturn.core.size import bytes_text
from upturn.deploy.running import running_server
from upturn.stores.workspace import open_workspace


@click.command()
def command() -> None:
    """Say which store is used, why, and what is in it."""
    settings = load_settings()
    click.echo(f"{settings.home}  ({settings.why_home})")
    click.echo(f"project {settings.project}, {settings.cores} cores for runs")
    if not settings.home.is_dir():
        click.echo("It is empty. Start with: upturn run FILE:FLOW")
        return
    workspace = open_workspace(settings)
    try:
        counts = workspace.meta.counts()
        rows = [
            (name.replace("_", " "), f"{number:,}") for name, number in counts.items() if number
        ]
        print_table(("records", ""), rows)
        click.echo(f"artifacts  {bytes_text(workspace.blobs.size_bytes())}")
        logged = sum(f.stat().st_size for f in workspace.log_dir.rglob("*") if f.is_file())
        click.echo(f"log        {bytes_text(logged)}")
        server = running_server(workspace)
        click.echo(f"server     {server.url if server is not None else 'none runs'}")
    finally:
        workspace.close()
