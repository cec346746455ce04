"""`upturn up`: the server of the store: API, endpoints, schedules and loops in one process tree."""

import click


@click.command()
@click.option("--host", default="127.0.0.1", help="This machine's own address to listen at.")
@click.option("--port", type=click.IntRange(0, 65535), help="Where to listen; 0 takes a free port.")
@click.option(
    "--workers", type=click.IntRange(1), help="How many processes answer; UPTURN_WORKERS, or 1."
)
@click.option("--background", is_flag=True, help="Let it run on, until: upturn down.")
@click.option("--join", is_flag=True, help="Run beside another server of the same store.")
@click.option(
    "--allow-anyone",
    is_flag=True,
    help="Answer whoever reaches HOST, by any name: the network has to keep others out.",
)
@click.option(
    "--access-log", metavar="FILE", help="Write a line for each request; '-' is for stdout."
)
def command(
    host: str,
    port: int | None,
    workers: int | None,
    background: bool,
    join: bool,
    allow_anyone: bool,
    access_log: str | None,
) -> None:
    """Serve the API and all endpoints until Ctrl-C, and do what is due in the store.

    At an address that others reach it asks who they are: upturn tokens create NAME.
    """
    import os

    from upturn.core.settings import load_settings
    from upturn.stores.workspace import open_workspace

    said = {} if access_log is None else {"UPTURN_ACCESS_LOG": access_log}
    workspace = open_workspace(load_settings(environ={**os.environ, **said}))
    try:
        if background:
            from upturn.server.process import start_background

            flags = {"--join": join, "--allow-anyone": allow_anyone}
            options = [name for name, given in flags.items() if given]
            options += [] if access_log is None else ["--access-log", access_log]
            running = start_background(
                workspace, host=host, port=port, workers=workers, options=options
            )
            click.echo(f"Serving {running.url}. To end it: upturn down")
            return
        from upturn.server.process import serve
        from upturn.server.supervisor import Care

        serve(
            workspace,
            host=host,
            port=port,
            allow_anyone=allow_anyone,
            join=join,
            care=Care(workers=workers or workspace.settings.workers),
            on_listening=lambda url: click.echo(f"Serving {url}/ until Ctrl-C."),
        )
    finally:
        workspace.close()
    click.echo("\nThe server has ended; what was answered is in the Log.")
