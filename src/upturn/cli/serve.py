"""`upturn serve`: all endpoints of the store, in this process."""

import click


@click.command()
@click.option("--host", default="127.0.0.1", help="This machine's own address to serve on.")
@click.option("--port", type=click.IntRange(0, 65535), help="Where to serve; 0 takes a free port.")
@click.option(
    "--allow-anyone",
    is_flag=True,
    help="Answer whoever reaches HOST, by any name: the network has to keep others out.",
)
def command(host: str, port: int | None, allow_anyone: bool) -> None:
    """Serve all endpoints until Ctrl-C, and follow every change of their routes."""
    from upturn.server.process import serve
    from upturn.stores.workspace import open_workspace

    workspace = open_workspace()
    try:
        serve(
            workspace,
            host=host,
            port=port,
            allow_anyone=allow_anyone,
            on_listening=lambda url: click.echo(f"Serving {url}/v1/endpoints. Ctrl-C ends it."),
        )
    finally:
        workspace.close()
    click.echo("\nThe server has ended; what was answered is in the Log.")
