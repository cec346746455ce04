"""`upturn rollback NAME`: route again as before the last change."""

import click

from upturn.cli.changed import changed


@click.command()
@click.argument("name")
@click.option("--why", default="", help="What the history says about it.")
def command(name: str, why: str) -> None:
    """Let endpoint NAME be answered by what answered before; a running server follows at once."""
    from upturn.core.errors import Unavailable
    from upturn.core.time import utcnow
    from upturn.deploy.route import describe_arms, rollback
    from upturn.deploy.running import wait_until_served
    from upturn.stores.workspace import open_workspace

    workspace = open_workspace()
    try:
        route = rollback(workspace, name, why=why, now=utcnow())
        changed(workspace, "rollback", f"endpoint/{name}", route.why)
        refused = wait_until_served(workspace, route)
    finally:
        workspace.close()
    if refused:
        raise Unavailable(f"Route {route.revision} of {name!r} is not served: {refused}")
    click.echo(f"{name}: {describe_arms(route.arms)} (route {route.revision}: {route.why})")
