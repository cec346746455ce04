"""A loop's decisions as a table, and how they are found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

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
    "ask": "cyan",
    "undo": "red",
    "yield": "yellow",
}


def find_decisions(workspace: Workspace, loop: str, seq: int | None) -> list[Decision]:
    """All decisions of a loop, oldest first, or the one of that number. Raises NotFound."""
    from upturn.core.errors import NotFound, did_you_mean
    from upturn.core.records import Decision

    if seq is not None and workspace.meta.find(Decision, loop) is not None:
        return [workspace.meta.get(Decision, loop, seq)]
    found = workspace.meta.select(Decision, loop=loop)
    if not found:
        names = [decision.loop for decision in workspace.meta.last_each(Decision)]
        raise NotFound(f"No decisions of a loop {loop!r}.", hint=did_you_mean(loop, names))
    return found


def refuse_bandit(decision: Decision) -> None:
    """Raise Invalid for a decision of a bandit, whose evidence and state are not a loop's."""
    from upturn.core.errors import Invalid

    if "policy" in decision.state:
        raise Invalid(
            f"{decision.loop!r} is a bandit, not a loop.",
            hint=f"Look at what it decided: upturn decisions {decision.loop} {decision.seq}, or "
            "upturn bandit FILE:BANDIT with --show or --check.",
        )


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
