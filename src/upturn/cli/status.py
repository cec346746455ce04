"""`upturn status`: where things are kept, what is there, and what runs."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from upturn.core.settings import Settings
    from upturn.stores.workspace import Workspace


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(as_json: bool) -> None:
    """Say which store is used, why, what is in it, and which servers run on it."""
    import msgspec

    from upturn.core.settings import load_settings
    from upturn.stores.workspace import open_workspace

    settings = load_settings()
    said: dict[str, Any] = {
        "home": str(settings.home),
        "why": settings.why_home,
        "project": settings.project,
        "cores": settings.cores,
    }
    if settings.server or settings.home.is_dir():
        workspace = open_workspace(settings)
        try:
            said |= _of(workspace)
        finally:
            workspace.close()
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(said), indent=2).decode())
    else:
        _print(settings, said)


def _of(workspace: Workspace) -> dict[str, Any]:
    import msgspec

    from upturn.core.records import Endpoint, Route
    from upturn.deploy.running import running_servers
    from upturn.stores.remote.failures import Refused

    counts: dict[str, int] = {}
    size_bytes: int | None = None
    with contextlib.suppress(Refused):  # a token for some projects: how much is in all is not told
        counts, size_bytes = workspace.meta.counts(), workspace.blobs.size_bytes()
    routes = {route.endpoint: route for route in workspace.meta.last_each(Route)}
    servers = running_servers(workspace)
    # A server's steward holds them, and lets them go with it.
    duties = workspace.meta.leases("duty/") if servers else []
    return {
        "records": {name: number for name, number in counts.items() if number},
        "artifact_bytes": size_bytes,
        "log_bytes": None if workspace.is_remote else _log_bytes(workspace),
        "servers": [msgspec.to_builtins(server) for server in servers],
        "duties": [
            {
                "name": lease.name.removeprefix("duty/"),
                "every_s": lease.payload.get("every_s"),
                "by": lease.owner.rpartition(":")[0],
                "failed": lease.payload.get("failed", ""),
            }
            for lease in duties
        ],
        "endpoints": [
            {
                "name": endpoint.name,
                "model": endpoint.model_name,
                "route": route.revision if route is not None else None,
                "arms": msgspec.to_builtins(route.arms) if route is not None else [],
            }
            for endpoint in workspace.meta.last_each(Endpoint)
            for route in [routes.get(endpoint.name)]
        ],
    }


def _log_bytes(workspace: Workspace) -> int:
    return sum(file.stat().st_size for file in workspace.log_dir.rglob("*") if file.is_file())


def _print(settings: Settings, said: dict[str, Any]) -> None:
    from upturn.cli.render import print_table
    from upturn.core.size import bytes_text

    if settings.server:
        click.echo(f"{settings.server}  (UPTURN_SERVER says so)")
    else:
        click.echo(f"{settings.home}  ({settings.why_home})")
    click.echo(f"project {settings.project}, {settings.cores} cores for runs")
    if "records" not in said:
        click.echo("It is empty. Start with: upturn run FILE:FLOW")
        return
    rows = [(name.replace("_", " "), f"{number:,}") for name, number in said["records"].items()]
    if rows:
        print_table(("records", ""), rows)
    if said["artifact_bytes"] is not None:
        click.echo(f"artifacts  {bytes_text(said['artifact_bytes'])}")
    if said["log_bytes"] is not None:
        click.echo(f"log        {bytes_text(said['log_bytes'])}")
    for endpoint in said["endpoints"]:
        click.echo(f"endpoint   {endpoint['name']}  {_route(endpoint)}")
    for server in said["servers"]:
        count = len(server["workers"])
        steward = f", steward {server['steward']}" if server["steward"] else ""
        workers = f"{count} worker{'s' * (count != 1)}{steward}"
        click.echo(f"server     {server['url']}  process {server['pid']}, {workers}")
    for duty in said["duties"]:
        failed = f", which fails: {duty['failed']}" if duty["failed"] else ""
        click.echo(f"duty       {duty['name']}  every {duty['every_s']:g} s{failed}")
    if not said["servers"]:
        click.echo("server     none runs")


def _route(endpoint: dict[str, Any]) -> str:
    if endpoint["route"] is None:
        return "no route"
    arms = ", ".join(f"{arm['name']} :{arm['version']}" for arm in endpoint["arms"])
    return f"route {endpoint['route']}: {arms}"
