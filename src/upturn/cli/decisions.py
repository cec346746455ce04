"""`upturn decisions LOOP`: what a loop decided, and the evidence that it rests on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.table import Table

    from upturn.core.records import Decision
    from upturn.stores.workspace import Workspace

_STYLES = {
    "promote": "green",
    "adopt": "green",
    "rollback": "red",
    "failed": "red",
    "refuse": "yellow",
    "extend": "yellow",
    "yield": "yellow",
}


@click.command("decisions")
@click.argument("loop")
@click.argument("seq", required=False, type=click.IntRange(min=1))
@click.option("--all", "everything", is_flag=True, help="Also those by which nothing changed.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, one decision a line.")
def command(loop: str, seq: int | None, everything: bool, as_json: bool) -> None:
    """Show what LOOP decided, newest last; with SEQ, one decision with all its evidence.

    A rehearsal's decisions are those of the loop `rehearsal/ID`.
    """
    import msgspec

    from upturn.cli.render import console
    from upturn.stores.workspace import open_workspace

    workspace = open_workspace()
    try:
        found = _find(workspace, loop, seq)
        if as_json:
            for decision in found:
                click.echo(msgspec.json.encode(decision).decode())
        elif seq is not None:
            _print_one(found[0])
        else:
            console().print(decisions_table(found, everything=everything))
    finally:
        workspace.close()


def _find(workspace: Workspace, loop: str, seq: int | None) -> list[Decision]:
    from upturn.core.errors import NotFound, did_you_mean
    from upturn.core.records import Decision

    if seq is not None:
        return [workspace.meta.get(Decision, loop, seq)]
    found = workspace.meta.select(Decision, loop=loop)
    if not found:
        names = [decision.loop for decision in workspace.meta.last_each(Decision)]
        raise NotFound(f"No decisions of a loop {loop!r}.", hint=did_you_mean(loop, names))
    return found


def decisions_table(decisions: Sequence[Decision], *, everything: bool = False) -> Table:
    """The decisions as a table; those by which nothing changed are counted, unless `everything`."""
    from rich.table import Table
    from rich.text import Text

    table = Table("#", "when", "action", "versions", "why", box=None, pad_edge=False)
    for row in _rows(decisions, everything=everything):
        if isinstance(row, str):
            table.add_row("", "", Text(row, style="dim"), "", "")
            continue
        style = _STYLES.get(row.action, "")
        table.add_row(
            str(row.seq),
            f"{row.at:%Y-%m-%d %H:%M}",
            Text(row.action, style=style),
            versions(row),
            Text(row.why),
        )
    return table


def _rows(decisions: Sequence[Decision], *, everything: bool) -> Iterator[Decision | str]:
    from upturn.improve.policy import QUIET

    for quiet, run in groupby(decisions, lambda one: one.action in QUIET and not everything):
        if not quiet:
            yield from run
            continue
        actions = [decision.action for decision in run]
        counts = {action: actions.count(action) for action in dict.fromkeys(actions)}
        yield "… " + ", ".join(f"{count} × {action}" for action, count in counts.items())


def versions(decision: Decision) -> str:
    """The champion after the decision, and the candidate: ':3 ← :4'.

    >>> from upturn.core.records import Decision
    >>> from upturn.core.time import instant
    >>> now = instant("2013-05-01")
    >>> versions(
    ...     Decision(
    ...         loop="l",
    ...         action="judge",
    ...         why="",
    ...         evidence={},
    ...         at=now,
    ...         recorded_at=now,
    ...         state={"champion": {"version": 3}, "candidate": {"version": 4}},
    ...     )
    ... )
    ':3 ← :4'
    """
    champion: dict[str, Any] = decision.state.get("champion") or {}
    candidate: dict[str, Any] = decision.state.get("candidate") or {}
    named = f":{champion['version']}" if champion else ""
    return f"{named} ← :{candidate['version']}" if candidate else named


def _print_one(decision: Decision) -> None:
    from rich.json import JSON

    from upturn.cli.render import console

    out = console()
    facts = {
        "decision": f"{decision.seq} of {decision.loop}",
        "versions": versions(decision),
        "at": f"{decision.at:%Y-%m-%d %H:%M} UTC",
        "recorded": f"{decision.recorded_at:%Y-%m-%d %H:%M:%S} UTC",
        "why": decision.why,
    }
    out.print(decision.action, style="bold")
    for name, value in facts.items():
        out.print(f"{name:>9}  {value}", markup=False, highlight=False)
    for title, content in (("evidence", decision.evidence), ("state", decision.state)):
        out.print(f"\n[bold]{title}[/]")
        out.print(JSON.from_data(content))
