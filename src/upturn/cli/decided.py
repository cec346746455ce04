"""What `upturn decisions` does with a decision: explain it, undo it, answer it, make it again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from upturn.core.records import Decision
    from upturn.improve.loop import Loop
    from upturn.improve.recompute import Recomputed
    from upturn.stores.workspace import Workspace

_DIFFERING = 8  # decisions that are printed, and fields of each


def print_explanation(decision: Decision, before: Decision | None) -> None:
    """One screen: what was asked, what was seen, what it came to, what would have changed it."""
    from rich.table import Table
    from rich.text import Text

    from upturn.cli.decision_table import refuse_bandit, versions
    from upturn.cli.render import console
    from upturn.improve.explain import explain

    refuse_bandit(decision)
    found, out = explain(decision, before), console()
    title = f"decision {decision.seq} of {decision.loop}"
    out.print(
        f"[bold]{title}[/], {decision.at:%Y-%m-%d %H:%M} UTC:"
        f" [bold]{decision.action}[/]  {versions(decision)}"
    )
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    table.add_row("asked", Text(found.asked))
    for place, (name, text) in enumerate(found.seen):
        label = f"{name}: " if name else "  "
        table.add_row("seen" if place == 0 else "", Text(label + text))
    table.add_row("why", Text(decision.why))
    table.add_row("did", Text(found.did))
    table.add_row("otherwise", Text(found.otherwise))
    out.print(table)


def undo_decision(
    loop: str, seq: int | None, *, why: str, who: str | None, cooldown: str, yes: bool
) -> None:
    """Take a decision back; it asks first, where somebody can be asked."""
    import sys

    from upturn.cli.decision_table import find_decisions, refuse_bandit
    from upturn.core.errors import Invalid
    from upturn.core.time import duration, utcnow
    from upturn.develop.pins import who as user
    from upturn.improve.runner import undo
    from upturn.stores.workspace import open_workspace
    from upturn.wiring import route_actions

    pause = duration(cooldown)
    _check_lived(loop)
    workspace = open_workspace()
    try:
        decision = find_decisions(workspace, loop, None)[-1]
        refuse_bandit(decision)
        if not decision.endpoint:
            raise Invalid(
                f"The decisions of {loop!r} do not say whose route they are about.",
                hint="Only decisions of a loop that ran on an endpoint can be undone.",
            )
        if not yes:
            if not sys.stdin.isatty():
                raise Invalid("Nobody can be asked here.", hint="Say --yes.")
            what = f"decision {seq}" if seq else "the last decision that changed anything"
            click.confirm(f"Take back {what} of {loop}?", abort=True)
        actions = route_actions(workspace, decision.endpoint)
        made = undo(
            workspace.meta,
            actions,
            loop,
            seq,
            who=who or user(),
            why=why,
            now=utcnow(),
            cooldown=pause,
        )
    finally:
        workspace.close()
    click.echo(f"Decision {made.seq}: {made.why}")


def answer(loop: str, *, approved: bool, why: str, who: str | None) -> None:
    """Store what a person says to the loop that waits for it; its next tick acts on it."""
    from upturn.cli.decision_table import find_decisions, refuse_bandit
    from upturn.core.errors import Conflict
    from upturn.core.records import Approval
    from upturn.core.time import utcnow
    from upturn.develop.pins import who as user
    from upturn.improve.runner import asked, present_state
    from upturn.stores.workspace import open_workspace

    _check_lived(loop)
    workspace = open_workspace()
    try:
        last = find_decisions(workspace, loop, None)[-1]
        refuse_bandit(last)
        number = asked(workspace.meta, loop, present_state(workspace.meta, loop))
        if not number:
            raise Conflict(
                f"The loop {loop!r} does not wait for an approval: its last decision is"
                f" {last.seq} ({last.action}).",
                hint=f"upturn decisions show {loop}",
            )
        said = workspace.meta.select(Approval, loop=loop)
        earlier = next((one for one in said if one.decision == number), None)
        if earlier is not None:
            verb = "approved" if earlier.approved else "rejected"
            raise Conflict(
                f"{earlier.who} has {verb} it already; the first answer counts.",
                hint="The loop acts on it at its next tick.",
            )
        record = Approval(
            loop=loop,
            decision=number,
            approved=approved,
            why=why,
            who=who or user(),
            at=utcnow(),
        )
        workspace.meta.add(record)
    finally:
        workspace.close()
    verb = "Approved" if approved else "Rejected"
    click.echo(f"{verb} what decision {number} of {loop} asked; its next tick acts on it.")


def _check_lived(loop: str) -> None:
    """A rehearsal's decisions name a real endpoint, whose route they have nothing to do with."""
    from upturn.core.errors import Invalid
    from upturn.improve.rehearsal import PREFIX

    if loop.startswith(PREFIX):
        raise Invalid(
            f"{loop!r} was only rehearsed: nothing came of its decisions.",
            hint=f"Look at them: upturn decisions {loop}",
        )


def check_decisions(target: str, seq: int | None) -> int:
    """Print which decisions come out again as they were stored; 1 when one does not."""
    from upturn.cli.decision_table import find_decisions
    from upturn.core.errors import Invalid
    from upturn.improve.recompute import recompute
    from upturn.improve.rehearsal import PREFIX
    from upturn.stores.workspace import open_workspace
    from upturn.wiring import loop_parts

    if target.startswith(PREFIX):
        raise Invalid(
            "A rehearsal's Log was simulated and is not kept, so its decisions can't be checked.",
            hint="Rehearse again with the same dates: it comes out the same.",
        )
    workspace = open_workspace()
    try:
        loop = loop_of(workspace, target)
        log, actions = loop_parts(workspace, loop)
        made = [
            recompute(loop, log, actions, workspace.meta, decision)
            for decision in find_decisions(workspace, loop.name, seq)
        ]
    finally:
        workspace.close()
    same = sum(one.same for one in made)
    other = [one for one in made if not one.same]
    for one in other[:_DIFFERING]:
        _print_recomputed(one)
    if len(other) > _DIFFERING:
        click.echo(f"… and {len(other) - _DIFFERING} more: upturn decisions check {target} SEQ")
    kinds = ", ".join(sorted({kind for one in made for kind in one.gathered}))
    again = f" Had from the Log again: {kinds}." if kinds else ""
    click.echo(f"{same:,} of {len(made):,} decisions come out as they were stored.{again}")
    return 0 if same == len(made) else 1


def loop_of(workspace: Workspace, target: str) -> Loop:
    """The loop of FILE:LOOP, or of a name whose decisions say where it is.

    Raises NotFound for a name of none, Invalid when no decision says where the loop is.
    """
    from upturn.cli.decision_table import find_decisions, refuse_bandit
    from upturn.cli.target import load_target
    from upturn.core.errors import Invalid
    from upturn.improve.loop import Loop

    if ":" in target:
        return load_target(target, Loop)
    decisions = find_decisions(workspace, target, None)
    refuse_bandit(decisions[-1])
    entry = next((one.entry for one in reversed(decisions) if one.entry), "")
    if not entry:
        raise Invalid(
            f"No decision of {target!r} says where the loop's code is.",
            hint="Name it: FILE:LOOP, for example flights.py:loop",
        )
    return load_target(entry, Loop)


def _print_recomputed(one: Recomputed) -> None:
    click.echo(f"decision {one.seq} ({one.action}) differs:")
    for field in one.differing[:_DIFFERING]:
        reason = f" ({field.why})" if field.why else ""
        click.echo(f"  {field.field}: {_short(field.recorded)}, now {_short(field.found)}{reason}")
    if len(one.differing) > _DIFFERING:
        click.echo(f"  … and {len(one.differing) - _DIFFERING} more fields")


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
