"""`upturn deploy NAME`: from a version to a URL."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import click

from upturn.cli.changed import changed

if TYPE_CHECKING:
    from upturn.core.records import Endpoint, Route, Version
    from upturn.stores.workspace import Workspace


@click.command()
@click.argument("ref", metavar="NAME[:N|@ALIAS]")
@click.option("--endpoint", "called", metavar="NAME", help="What clients call, if not the model.")
@click.option("--unit", metavar="FIELD", help="The field that keeps a caller on one arm.")
@click.option(
    "--durable/--not-durable",
    default=None,
    help="Answer only once the prediction is on disk.",
)
@click.option("--redact", metavar="FIELD", multiple=True, help="Never write this field to the Log.")
@click.option(
    "--log-rate",
    metavar="[ARM=]RATE",
    multiple=True,
    help="Log this share of the rows, of one arm or of all.",
)
@click.option("--keep-log", metavar="TIME", help="How long the Log keeps rows: 90d; 0 for ever.")
@click.option("--port", type=click.IntRange(0, 65535), help="Where to serve; 0 takes a free port.")
@click.option("--background", is_flag=True, help="Let the server run on, until: upturn down.")
def command(
    ref: str,
    called: str | None,
    unit: str | None,
    durable: bool | None,
    redact: tuple[str, ...],
    log_rate: tuple[str, ...],
    keep_log: str | None,
    port: int | None,
    background: bool,
) -> None:
    """Serve a version of model NAME, the newest one by default, as endpoint NAME or --endpoint.

    A server that runs already takes it over without a failed request; else one is started.
    """
    from upturn.deploy.running import running_server
    from upturn.stores.workspace import open_workspace

    workspace = open_workspace()
    try:
        version = _version(workspace, ref)
        said = {"unit": unit, "durable": durable, **_of_log(redact, log_rate, keep_log)}
        endpoint = _endpoint(workspace, called or version.model, version.model, said)
        route = _route(workspace, endpoint, version)
        if running_server(workspace) is None and not background:
            _serve(workspace, endpoint, version, route, port)
            return
        if running_server(workspace) is None:
            from upturn.server.process import start_background

            start_background(workspace, port=port)
        _wait(workspace, route)
        _announce(workspace, endpoint, version)
        if not workspace.is_remote:
            click.echo("  Its server runs on until: upturn down")
    finally:
        workspace.close()


def _version(workspace: Workspace, ref: str) -> Version:
    from upturn.model.registry import get_version, newest_version

    # A plain name is the newest version here: what was just trained is what one wants to see.
    newest = None if set(ref) & set(":@") else newest_version(workspace, ref)
    return newest or get_version(workspace, ref)


def _of_log(
    redact: tuple[str, ...], log_rate: tuple[str, ...], keep_log: str | None
) -> dict[str, Any]:
    """What is said of the Log; an empty field redacts nothing any more, and 0 keeps it for ever."""
    return {
        "redact": tuple(filter(None, redact)) if redact else None,
        "log_rates": dict(map(_rate, log_rate)) if log_rate else None,
        "keep_log": "" if keep_log == "0" else keep_log,
    }


def _rate(text: str) -> tuple[str, float]:
    arm, _, rate = text.rpartition("=")
    try:
        return arm or "*", float(rate)
    except ValueError:
        raise click.UsageError(
            f"--log-rate {text} is no rate. Write 0.1 for all arms, or champion=0.1 for one."
        ) from None


def _endpoint(workspace: Workspace, name: str, model: str, said: dict[str, Any]) -> Endpoint:
    import msgspec

    from upturn.core.records import Endpoint
    from upturn.core.time import utcnow
    from upturn.deploy.endpoint import create_endpoint

    # What is not said stays as it is.
    stored = workspace.meta.find(Endpoint, name) or Endpoint(name)
    given = {name: value for name, value in said.items() if value is not None}
    given |= {name: None for name in ("unit", "keep_log") if given.get(name) == ""}
    given["model"] = None if name == model else model
    endpoint = msgspec.structs.replace(stored, **given)
    return create_endpoint(workspace, endpoint, now=utcnow(), exactly=True)


def _route(workspace: Workspace, endpoint: Endpoint, version: Version) -> Route:
    from upturn.core.records import Arm
    from upturn.core.time import utcnow
    from upturn.deploy.route import CHAMPION, current_route, set_route

    arms = (Arm(name=CHAMPION, version=version.number, share=1.0),)
    current = current_route(workspace, endpoint.name)
    if current is not None and current.arms == arms:
        return current
    route = set_route(workspace, endpoint.name, arms, why="upturn deploy", now=utcnow())
    changed(workspace, "deploy", f"endpoint/{endpoint.name}", f"{version.name} answers")
    return route


def _serve(
    workspace: Workspace, endpoint: Endpoint, version: Version, route: Route, port: int | None
) -> None:
    from upturn.core.errors import UpturnError
    from upturn.server.process import serve

    refused: list[UpturnError] = []

    def announce() -> None:
        try:
            _wait(workspace, route)
        except UpturnError as error:
            refused.append(error)
            os.kill(os.getpid(), signal.SIGTERM)
            return
        _announce(workspace, endpoint, version)
        click.echo("  Ctrl-C ends the server.")

    def on_listening(_: str) -> None:
        threading.Thread(target=announce, name="announce", daemon=True).start()

    serve(workspace, port=port, on_listening=on_listening)
    if refused:
        raise refused[0]
    click.echo("\nThe server has ended; what was answered is in the Log.")


def _wait(workspace: Workspace, route: Route) -> None:
    from upturn.core.errors import Unavailable
    from upturn.deploy.running import wait_until_served

    why_not = wait_until_served(workspace, route)
    if why_not:
        raise Unavailable(
            f"Route {route.revision} of {route.endpoint!r} is not served: {why_not}",
            hint=f"What was served before stays. To go back: upturn rollback {route.endpoint}",
        )


def _announce(workspace: Workspace, endpoint: Endpoint, version: Version) -> None:
    import shlex

    import msgspec

    from upturn.deploy.example import example_request, predict_path
    from upturn.deploy.running import running_server
    from upturn.model.choice import describe_form

    running = running_server(workspace)
    if running is None:
        return
    url = running.url + predict_path(endpoint.name)
    body = msgspec.json.encode(example_request(version.signature, endpoint.unit)).decode()
    click.echo(f"{click.style(version.name, bold=True)} answers at {url}")
    if form := describe_form(version.form):
        click.echo(f"  {form}")
    click.echo(f"  curl {url} -H 'Content-Type: application/json' -d {shlex.quote(body)}")
