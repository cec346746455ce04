"""`upturn loop FILE:LOOP`: runs a loop, once or for good, or says where it stands."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console

    from upturn.core.errors import UpturnError
    from upturn.core.records import Decision
    from upturn.improve.loop import Loop
    from upturn.improve.outlook import Outlook
    from upturn.stores.workspace import Workspace

_LAST = 5  # decisions that --show ends with


@click.command("loop")
@click.argument("target", metavar="FILE:LOOP|NAME")
@click.option("--once", is_flag=True, help="Decide once and exit.")
@click.option("--at", metavar="TIME", help="Decide once as of this time: 2013-05-01T06:00:00Z.")
@click.option("--show", is_flag=True, help="Say where it stands and what comes next; do nothing.")
def command(target: str, once: bool, at: str | None, show: bool) -> None:
    """Watch an endpoint, and retrain, try, promote or roll back as the loop says.

    Without --once it decides every `every` of the loop until interrupted. What it decided is shown
    by `upturn decisions`. Of a loop that has decided before, its NAME alone shows where it stands
    and what the next tick would do, as --show does; nothing is done.
    """
    from upturn.core.errors import Invalid
    from upturn.core.time import instant, utcnow
    from upturn.stores.workspace import open_workspace

    now = instant(at) if at else utcnow()
    if ":" not in target and once:
        raise Invalid(
            f"{target!r} is a loop's name, and a name alone is only shown.",
            hint="Run it as FILE:LOOP, for example flights.py:loop",
        )
    if show or ":" not in target:
        workspace = open_workspace()
        try:
            _show(workspace, target, now)
        finally:
            workspace.close()
    else:
        _run(target, once=once or at is not None, now=now)


def _run(target: str, *, once: bool, now: datetime) -> None:
    from upturn.cli.render import console
    from upturn.cli.target import load_target, target_file
    from upturn.core.time import spell, utcnow
    from upturn.improve.loop import Loop
    from upturn.improve.runner import run_forever, sole_runner, tick
    from upturn.stores.workspace import open_workspace
    from upturn.wiring import loop_parts

    out = console()
    loop = load_target(target, Loop)
    file, name = target_file(target)
    entry = f"{file}:{name}"
    workspace = open_workspace()

    def heard(decision: Decision) -> None:
        out.print(f"{decision.at:%Y-%m-%d %H:%M}  [bold]{decision.action}[/]  ", end="")
        out.print(decision.why, markup=False, highlight=False)

    def training(text: str) -> None:
        out.print(f"{'':16}  [dim]{text}[/]", highlight=False)

    def troubled(error: UpturnError) -> None:
        out.print(f"{utcnow():%Y-%m-%d %H:%M}  [bold red]error[/]  ", end="")
        out.print(f"{error} Trying again in {spell(loop.every)}.", markup=False, highlight=False)

    try:
        log, actions = loop_parts(workspace, loop, heard=training)
        if once:
            with sole_runner(workspace.meta, loop.name):
                tick(loop, log, actions, workspace.meta, now, entry=entry, heard=heard)
        else:
            out.print(f"Loop {loop.name}: every {spell(loop.every)}, until Ctrl-C.")
            run_forever(
                loop, log, actions, workspace.meta, entry=entry, heard=heard, troubled=troubled
            )
    finally:
        workspace.close()


def _show(workspace: Workspace, target: str, now: datetime) -> None:
    """The state, what would be decided now, what ends when, and the last decisions."""
    from upturn.cli.decided import loop_of
    from upturn.cli.decision_table import decisions_table
    from upturn.cli.render import console
    from upturn.core.errors import UpturnError
    from upturn.core.records import Decision
    from upturn.improve.outlook import outlook
    from upturn.wiring import loop_parts

    out = console()
    try:
        loop = loop_of(workspace, target)
        log, actions = loop_parts(workspace, loop)
        found = outlook(loop, log, actions, workspace.meta, now)
    except UpturnError as error:
        if ":" in target or workspace.meta.find(Decision, target) is None:
            raise
        _stored(workspace, target, error, out)
        name = target
    else:
        _print_outlook(loop, found, now, out)
        name = loop.name
    decisions = workspace.meta.select(Decision, loop=name, newest_first=True, limit=50)
    if decisions:
        out.print()
        out.print(decisions_table(_lasting(decisions)))


def _lasting(newest_first: list[Decision]) -> list[Decision]:
    """The last decisions by which something changed, oldest first, with all that came after."""
    from upturn.improve.ruling import QUIET

    changed = [one.seq for one in newest_first if one.action not in QUIET][:_LAST]
    first = changed[-1] if changed else newest_first[-1].seq
    return [one for one in reversed(newest_first) if one.seq >= first]


def _stored(workspace: Workspace, name: str, error: UpturnError, out: Console) -> None:
    """What the store alone knows, where the loop's code is out of reach."""
    from upturn.improve.outlook import state_text
    from upturn.improve.runner import present_state

    out.print(f"[bold]{name}[/]  {state_text(present_state(workspace.meta, name), 'version')}")
    out.print(
        f"What comes next can't be said: {error}", style="yellow", markup=False, highlight=False
    )


def _print_outlook(loop: Loop, found: Outlook, now: datetime, out: Console) -> None:
    from upturn.improve.outlook import state_text
    from upturn.improve.say import instant_text

    state = state_text(found.state, loop.endpoint.model_name)
    out.print(f"[bold]{loop.name}[/]  {state}", highlight=False)
    for what, until in found.until:
        out.print(f"  {what} until {instant_text(until)}", markup=False, highlight=False)
    for name, text in found.near:
        out.print(f"  {name}: {text}", markup=False, highlight=False)
    if found.ruling is None:
        out.print(f"At {instant_text(now)} it would train first.", highlight=False)
        return
    out.print(f"At {instant_text(now)} it would [bold]{found.ruling.action}[/]:", end=" ")
    out.print(found.ruling.why, markup=False, highlight=False)
