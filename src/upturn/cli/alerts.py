"""`upturn alerts`: what goes on that somebody should look at, and who is told of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from upturn.cli.changed import changed
from upturn.cli.render import plain, print_table, when_text

if TYPE_CHECKING:
    from upturn.core.findings import Alert


@click.group("alerts", invoke_without_command=True)
@click.option("--endpoint", metavar="NAME", help="Of one endpoint alone.")
@click.option("--all", "everything", is_flag=True, help="Also what is over, oldest first.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, one alert a line.")
@click.pass_context
def command(ctx: click.Context, endpoint: str | None, everything: bool, as_json: bool) -> None:
    """Show the alerts that go on.

    They come of the monitors that `upturn monitor FILE:MONITOR` runs.
    """
    if ctx.invoked_subcommand is None:
        _show(endpoint, everything=everything, as_json=as_json)


@command.command("mute")
@click.argument("endpoint")
@click.argument("name")
@click.option("--for", "length", default="7d", show_default=True, help="How long, as in 12h.")
@click.option("--why", default="", metavar="TEXT", help="The reason, for those who wonder later.")
def mute_command(endpoint: str, name: str, length: str, why: str) -> None:
    """Tell nobody of ENDPOINT's alert NAME for a while; 'drift/*' is all that begin so."""
    from upturn.core.records import Endpoint
    from upturn.core.time import duration, utcnow
    from upturn.improve.alerts.mutes import mute
    from upturn.stores.workspace import open_workspace

    now = utcnow()
    until = now + duration(length)
    workspace = open_workspace()
    try:
        workspace.meta.get(Endpoint, endpoint)
        mute(workspace, endpoint, name, until=until, why=why, now=now)
        changed(workspace, "alerts mute", f"endpoint/{endpoint}", f"{name}: {why}")
        click.echo(f"{name} of {endpoint} is muted until {when_text(until)}.")
    finally:
        workspace.close()


@command.command("unmute")
@click.argument("endpoint")
@click.argument("name")
def unmute_command(endpoint: str, name: str) -> None:
    """Tell of ENDPOINT's alert NAME again; NAME as it was muted."""
    from upturn.core.time import utcnow
    from upturn.improve.alerts.mutes import unmute
    from upturn.stores.workspace import open_workspace

    workspace = open_workspace()
    try:
        unmute(workspace, endpoint, name, now=utcnow())
        changed(workspace, "alerts unmute", f"endpoint/{endpoint}", name)
        click.echo(f"{name} of {endpoint} is told of again.")
    finally:
        workspace.close()


@command.command("test")
@click.argument("target", metavar="FILE:MONITOR")
def test_command(target: str) -> None:
    """Send a message to every channel of a monitor, to see that they work."""
    from upturn.cli.target import load_target
    from upturn.core.errors import UpturnError
    from upturn.core.time import utcnow
    from upturn.improve.alerts.channel import Undelivered
    from upturn.improve.alerts.notify import test_message
    from upturn.improve.monitor.monitor import Monitor

    monitor = load_target(target, Monitor)
    if not monitor.alerts:
        raise UpturnError(
            f"The monitor of {monitor.endpoint!r} has no channels.",
            hint='Give it some: up.Monitor(…, alerts=[up.Slack("https://…")]).',
        )
    failed = 0
    for channel in monitor.alerts:
        try:
            channel.send(test_message(monitor.endpoint, monitor.owner, utcnow()))
            click.echo(f"{channel.name}: told")
        except Undelivered as error:
            failed += 1
            click.echo(f"{channel.name}: {error.message}")
    if failed:
        raise UpturnError(f"{failed} of {len(monitor.alerts)} channels did not take it.")


def _show(endpoint: str | None, *, everything: bool, as_json: bool) -> None:
    import msgspec

    from upturn.core.findings import Alert
    from upturn.core.records import Endpoint
    from upturn.improve.alerts.notify import open_alerts
    from upturn.stores.workspace import open_workspace

    workspace = open_workspace()
    try:
        if endpoint is not None:
            workspace.meta.get(Endpoint, endpoint)
        if everything:
            where: dict[str, Any] = {} if endpoint is None else {"endpoint": endpoint}
            found = workspace.meta.select(Alert, **where)
        else:
            found = open_alerts(workspace, endpoint)
    finally:
        workspace.close()
    if as_json:
        for alert in found:
            click.echo(msgspec.json.encode(alert).decode())
        return
    if not found:
        click.echo("No alerts go on." if not everything else "There were no alerts.")
        return
    print_table(
        ("endpoint", "alert", "", "since (local)", "what", "told"),
        [
            (
                plain(one.endpoint),
                plain(one.name),
                _severity(one),
                when_text(one.began_at),
                plain(one.says),
                plain(_told(one)),
            )
            for one in found
        ],
    )


def _severity(alert: Alert) -> str:
    if alert.status == "over":
        return "over"
    colour = "red" if alert.severity == "critical" else "yellow"
    return f"[{colour}]{alert.severity}[/]"


def _told(alert: Alert) -> str:
    if alert.muted:
        return "muted"
    failed = [f"not {name}: {why}" for name, why in alert.failed.items()]
    return "; ".join([*alert.told, *failed]) or "nobody"
