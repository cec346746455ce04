"""`upturn loop FILE:LOOP`: runs a loop, once or for good."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from upturn.core.errors import UpturnError
    from upturn.core.records import Decision


@click.command("loop")
@click.argument("target", metavar="FILE:LOOP")
@click.option("--once", is_flag=True, help="Decide once and exit.")
@click.option("--at", metavar="TIME", help="Decide once as of this time: 2013-05-01T06:00:00Z.")
def command(target: str, once: bool, at: str | None) -> None:
    """Watch an endpoint, and retrain, try, promote or roll back as the loop says.

    Without --once it decides every `every` of the loop until interrupted. What it decided is shown
    by `upturn decisions`.
    """
    from upturn.cli.render import console
    from upturn.cli.target import load_target
    from upturn.core.time import instant, spell, utcnow
    from upturn.improve.loop import Loop
    from upturn.improve.runner import run_forever, sole_runner, tick
    from upturn.stores.workspace import open_workspace
    from upturn.wiring import loop_parts

    out = console()
    now = instant(at) if at else utcnow()
    loop = load_target(target, Loop)
    workspace = open_workspace()

    def heard(decision: Decision) -> None:
        out.print(f"{decision.at:%Y-%m-%d %H:%M}  [bold]{decision.action}[/]  ", end="")
        out.print(decision.why, markup=False, highlight=False)

    def troubled(error: UpturnError) -> None:
        out.print(f"{utcnow():%Y-%m-%d %H:%M}  [bold red]error[/]  ", end="")
        out.print(f"{error} Trying again in {spell(loop.every)}.", markup=False, highlight=False)

    try:
        log, actions = loop_parts(workspace, loop)
        if once or at:
            with sole_runner(workspace.meta, loop.name):
                tick(loop, log, actions, workspace.meta, now, heard=heard)
        else:
            out.print(f"Loop {loop.name}: every {spell(loop.every)}, until Ctrl-C.")
            run_forever(loop, log, actions, workspace.meta, heard=heard, troubled=troubled)
    finally:
        workspace.close()
