"""`upturn decisions LOOP`: what a loop decided, explained, undone, approved and made again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from upturn.cli.decision_table import decisions_table, find_decisions, versions

if TYPE_CHECKING:
    from upturn.core.records import Decision

__all__ = ["command", "decisions_table"]


class _Decisions(click.Group):
    """A first word that is no verb is a loop, whose decisions are listed."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in ("-h", "--help") and args[0] not in self.commands:
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group("decisions", cls=_Decisions, context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Show what a loop decided, and why: `upturn decisions LOOP`, or one of the commands below.

    A rehearsal's decisions are those of the loop `rehearsal/ID`.
    """


@command.command("list")
@click.argument("loop")
@click.argument("seq", required=False, type=click.IntRange(min=1))
@click.option("--all", "everything", is_flag=True, help="Also those by which nothing changed.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, one decision a line.")
def list_decisions(loop: str, seq: int | None, everything: bool, as_json: bool) -> None:
    """List what LOOP decided, newest last; with SEQ, one decision with all its evidence, raw."""
    import msgspec

    from upturn.cli.render import console
    from upturn.stores.workspace import open_workspace

    workspace = open_workspace()
    try:
        found = find_decisions(workspace, loop, seq)
        if as_json:
            for decision in found:
                click.echo(msgspec.json.encode(decision).decode())
        elif seq is not None:
            _print_one(found[0])
        else:
            console().print(decisions_table(found, everything=everything))
    finally:
        workspace.close()


@command.command("show")
@click.argument("loop")
@click.argument("seq", required=False, type=click.IntRange(min=1))
def show(loop: str, seq: int | None) -> None:
    """Explain one decision of LOOP, the last one unless SEQ says which."""
    from upturn.cli.decided import print_explanation
    from upturn.core.records import Decision
    from upturn.stores.workspace import open_workspace

    workspace = open_workspace()
    try:
        decision = find_decisions(workspace, loop, seq)[-1]
        print_explanation(decision, workspace.meta.find(Decision, loop, decision.seq - 1))
    finally:
        workspace.close()


@command.command("undo")
@click.argument("loop")
@click.argument("seq", required=False, type=click.IntRange(min=1))
@click.option("--why", default="", help="The reason, for those who read the decisions.")
@click.option("--who", help="Who says so; the user of this machine, if it is left out.")
@click.option("--cooldown", default="7d", show_default=True, help="No training for so long.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def undo(loop: str, seq: int | None, why: str, who: str | None, cooldown: str, yes: bool) -> None:
    """Take a decision of LOOP back, the last that changed anything unless SEQ says which.

    What it moved on counts as rolled back, and the champion of before answers alone. Of a rollback,
    the stage that it ended begins anew.
    """
    from upturn.cli.decided import undo_decision

    undo_decision(loop, seq, why=why, who=who, cooldown=cooldown, yes=yes)


@command.command("approve")
@click.argument("loop")
@click.option("--reject", is_flag=True, help="Say no.")
@click.option("--why", default="", help="The reason, for those who read the decisions.")
@click.option("--who", help="Who says so; the user of this machine, if it is left out.")
def approve(loop: str, reject: bool, why: str, who: str | None) -> None:
    """Say yes to the candidate for which LOOP waits; with --reject, no."""
    from upturn.cli.decided import answer

    answer(loop, approved=not reject, why=why, who=who)


@command.command("check")
@click.argument("loop", metavar="LOOP|FILE:LOOP")
@click.argument("seq", required=False, type=click.IntRange(min=1))
def check(loop: str, seq: int | None) -> int:
    """Make the decisions of LOOP again from the Log, all of them unless SEQ says which one.

    The exit status is 1 when one comes out otherwise than it was stored.
    """
    from upturn.cli.decided import check_decisions

    return check_decisions(loop, seq)


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
