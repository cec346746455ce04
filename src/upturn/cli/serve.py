"""`upturn serve`: all endpoints of the store, from this terminal."""

import click


@click.command()
@click.option("--host", default="127.0.0.1", help="This machine's own address to serve on.")
@click.option("--port", type=click.IntRange(0, 65535), help="Where to serve; 0 takes a free port.")
@click.option(
    "--allow-anyone",
    is_flag=True,
    help="Answer whoever reaches HOST, by any name: the network has to keep others out.",
)
@click.option(
    "--workers", type=click.IntRange(1), help="How many processes answer; UPTURN_WORKERS, or 1."
)
@click.option(
    "--access-log", metavar="FILE", help="Write a line for each request; '-' is for stdout."
)
def command(
    host: str,
    port: int | None,
    workers: int | None,
    allow_anyone: bool,
    access_log: str | None,
) -> None:
    """Serve all endpoints until Ctrl-C, and follow every change of their routes."""
    import os

    from upturn.core.settings import load_settings
    from upturn.server.process import serve
    from upturn.server.supervisor import Care
    from upturn.stores.workspace import open_workspace

    said = {} if access_log is None else {"UPTURN_ACCESS_LOG": access_log}
    workspace = open_workspace(load_settings(environ={**os.environ, **said}))
    try:
        serve(
            workspace,
            host=host,
            port=port,
            allow_anyone=allow_anyone,
            care=Care(workers=workers or workspace.settings.workers),
            on_listening=lambda url: click.echo(f"Serving {url}/v1/endpoints. Ctrl-C ends it."),
        )
    finally:
        workspace.close()
    click.echo("\nThe server has ended; what was answered is in the Log.")
