"""`upturn bandit FILE:BANDIT`: sets shares by what arms earn, once or for good, or shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from datetime import datetime

    from upturn.core.errors import UpturnError
    from upturn.core.records import Decision
    from upturn.improve.bandit.bandit import Bandit
    from upturn.stores.workspace import Workspace


@click.command("bandit")
@click.argument("target", metavar="FILE:BANDIT")
@click.option("--once", is_flag=True, help="Decide once and exit.")
@click.option("--at", metavar="TIME", help="Decide once as of this time: 2013-05-01T06:00:00Z.")
@click.option("--show", is_flag=True, help="Say what the next tick would do; do nothing.")
@click.option("--check", is_flag=True, help="Make all decisions again from the Log.")
@click.option("--restart", is_flag=True, help="Take over a route that somebody else has changed.")
@click.pass_context
def command(
    context: click.Context,
    target: str,
    once: bool,
    at: str | None,
    show: bool,
    check: bool,
    restart: bool,
) -> None:
    """Set the shares of an endpoint's arms by what each has earned.

    Without --once it does so every `every` of the bandit until interrupted. What it decided is
    listed by `upturn decisions NAME`. With --check the exit status is 1 when a decision comes out
    otherwise than it was stored.
    """
    from upturn.cli.target import load_target, target_file
    from upturn.core.time import instant, utcnow
    from upturn.improve.bandit.bandit import Bandit
    from upturn.stores.workspace import open_workspace

    bandit = load_target(target, Bandit)
    file, name = target_file(target)
    now = instant(at) if at else utcnow()
    workspace = open_workspace()
    try:
        if check:
            context.exit(_check(workspace, bandit))
        if show:
            _show(workspace, bandit, now)
        else:
            alone = once or at is not None
            _run(workspace, bandit, now, once=alone, anew=restart, entry=f"{file}:{name}")
    finally:
        workspace.close()


def _run(
    workspace: Workspace, bandit: Bandit, now: datetime, *, once: bool, anew: bool, entry: str
) -> None:
    from upturn.cli.render import console
    from upturn.core.time import spell, utcnow
    from upturn.improve.bandit.runner import run_forever, run_once
    from upturn.wiring import bandit_parts

    out = console()

    def heard(decision: Decision) -> None:
        out.print(f"{decision.at:%Y-%m-%d %H:%M}  [bold]{decision.action}[/]  ", end="")
        out.print(decision.why, markup=False, highlight=False)

    def troubled(error: UpturnError) -> None:
        out.print(f"{utcnow():%Y-%m-%d %H:%M}  [bold red]error[/]  ", end="")
        out.print(f"{error} Trying again in {spell(bandit.every)}.", markup=False, highlight=False)

    log, routes = bandit_parts(workspace, bandit.endpoint)
    store = workspace.meta
    if once:
        heard(run_once(bandit, log, routes, store, now, entry=entry, anew=anew))
        return
    out.print(f"Bandit {bandit.name}: every {spell(bandit.every)}, until Ctrl-C.", markup=False)
    run_forever(bandit, log, routes, store, entry=entry, anew=anew, heard=heard, troubled=troubled)


def _show(workspace: Workspace, bandit: Bandit, now: datetime) -> None:
    from rich.table import Table

    from upturn.cli.render import console
    from upturn.core.records import Decision
    from upturn.improve.bandit.ruling import decide
    from upturn.improve.bandit.runner import gather, state_of
    from upturn.wiring import bandit_parts

    log, routes = bandit_parts(workspace, bandit.endpoint)
    last = workspace.meta.find(Decision, bandit.name)
    evidence = gather(bandit, log, routes.route(), workspace.meta, now)
    ruling = decide(bandit, None if last is None else state_of(last), evidence)
    shares = {arm.name: arm.share for arm in evidence.arms}
    then = {arm.name: arm.share for arm in ruling.state.arms}
    table = Table("arm", "version", "rows", "waiting", "reward", "best", "share", "then", box=None)
    for arm in evidence.seen:
        found, best = arm.reward, ruling.best.get(arm.name)
        table.add_row(
            arm.name,
            f":{arm.version}",
            f"{found.rows:,}",
            f"{arm.waiting:,}",
            f"{found.mean:.4g} ± {found.se:.2g}" if found.rows else "",
            "" if best is None else f"{best:.3g}",
            f"{shares.get(arm.name, 0.0):.2%}",
            f"{then.get(arm.name, 0.0):.2%}",
        )
    out = console()
    out.print(table)
    out.print(f"It would [bold]{ruling.action}[/]:", end=" ")
    out.print(" ".join([ruling.why, *evidence.warnings]), markup=False, highlight=False)


def _check(workspace: Workspace, bandit: Bandit) -> int:
    from upturn.cli.decision_table import find_decisions
    from upturn.improve.bandit.runner import differing
    from upturn.wiring import bandit_parts

    log, _ = bandit_parts(workspace, bandit.endpoint)
    made = find_decisions(workspace, bandit.name, None)
    same = 0
    for before, decision in zip([None, *made], made, strict=False):
        found = differing(bandit, log, workspace.meta, decision, before)
        same += not found
        for text in found[:8]:
            click.echo(f"decision {decision.seq} ({decision.action}): {text}")
    click.echo(f"{same:,} of {len(made):,} decisions come out as they were stored.")
    return 0 if same == len(made) else 1
