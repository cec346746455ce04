"""`upturn sync`: brings what was tracked while the server was away to where it belongs."""

import click

from upturn.core.settings import load_settings
from upturn.develop.tracking.delivery import pick_up, server_of
from upturn.develop.tracking.sync import Synced, here, offline_runs, sync, with_server
from upturn.stores.workspace import open_workspace


@click.command()
@click.option("--server", metavar="URL", help="The server, in place of UPTURN_SERVER.")
def command(server: str | None) -> int:
    """Bring offline runs to the server, and what killed processes logged into the store."""
    settings = load_settings()
    if server is not None:
        settings = with_server(settings, server)
    source = here(settings)
    try:
        if server_of(settings):
            target = open_workspace(settings)
            try:
                done = sync(source, target, told=lambda run: click.echo(f"run/{run}"))
            finally:
                target.close()
        else:
            done = Synced(journals=pick_up(source).journals)
    finally:
        source.close()
    click.echo(_said(done))
    waiting = len(offline_runs(settings.home))
    if waiting and not server_of(settings):
        click.echo(f"{waiting} offline runs wait for a server: upturn sync --server URL")
    return 0


def _said(done: Synced) -> str:
    parts = [f"{len(done.runs)} runs, {done.points:,} points and {done.files} files brought over"]
    if done.journals:
        parts.append(f"{done.journals} journals of processes that ended picked up")
    if done.going_on:
        parts.append(f"{len(done.going_on)} of the runs go on")
    return "; ".join(parts) + "."
