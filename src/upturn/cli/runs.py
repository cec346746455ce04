"""`upturn runs`: finding runs, removing them from what is shown, and restoring them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from upturn.cli.render import plain, print_table, seconds_text, status_text, when_text

if TYPE_CHECKING:
    from upturn.api.operation import Operation
    from upturn.api.runs import RunSeen


@click.group("runs", invoke_without_command=True)
@click.option("--flow", default="", metavar="NAME", help="Runs of this flow only.")
@click.option("--where", default="", metavar="TEXT", help="As in: metric.auc > 0.9 AND who = 'ada'")
@click.option("--order", default="", metavar="TEXT", help="As in: metric.auc DESC")
@click.option("--removed", is_flag=True, help="Those that were removed.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, one run a line.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000))
@click.pass_context
def command(ctx: click.Context, as_json: bool, **asked: Any) -> None:
    """List runs, the newest first."""
    if ctx.invoked_subcommand is not None:
        return
    from upturn.api.client import open_client
    from upturn.api.runs import LIST_RUNS, ListRuns

    with open_client() as client:
        fields = "params,metrics,tags" if as_json else "params"
        runs = client.call(LIST_RUNS, ListRuns(fields=fields, **asked)).items
    if as_json:
        import msgspec

        for run in runs:
            click.echo(msgspec.json.encode(run).decode())
    elif runs:
        _print(runs)
    elif asked["where"] or asked["removed"]:
        click.echo("No run fits.")
    else:
        click.echo("No runs yet. Start one with: upturn run FILE:FLOW")


@command.command("remove")
@click.argument("runs", nargs=-1, metavar="[RUN]...")
@click.option("--where", default="", metavar="TEXT", help="All runs that fit.")
@click.option("--why", default="", help="Is recorded with it.")
def remove_command(runs: tuple[str, ...], where: str, why: str) -> None:
    """Remove runs from what is shown; they can be restored."""
    from upturn.api.runs import REMOVE

    _change(REMOVE, runs, where, why, "Removed")


@command.command("restore")
@click.argument("runs", nargs=-1, metavar="[RUN]...")
@click.option("--where", default="", metavar="TEXT", help="All removed runs that fit.")
@click.option("--why", default="", help="Is recorded with it.")
def restore_command(runs: tuple[str, ...], where: str, why: str) -> None:
    """Show runs again that were removed."""
    from upturn.api.runs import RESTORE

    _change(RESTORE, runs, where, why, "Restored")


def _change(
    operation: Operation[Any, Any], runs: tuple[str, ...], where: str, why: str, done: str
) -> None:
    from upturn.api.client import open_client
    from upturn.api.runs import SomeRuns

    with open_client() as client:
        changed = client.call(operation, SomeRuns(runs=runs, where=where, why=why)).runs
    click.echo(f"{done} {len(changed)} run{'' if len(changed) == 1 else 's'}.")


def _print(runs: tuple[RunSeen, ...]) -> None:
    print_table(
        ("run", "flow", "status", "started (local)", "took", "parameters"),
        [
            (
                run.id,
                plain(run.flow),
                status_text(run.status),
                when_text(run.started_at),
                seconds_text(
                    None
                    if run.ended_at is None
                    else (run.ended_at - run.started_at).total_seconds()
                ),
                plain(
                    " ".join(f"{name}={value}" for name, value in (run.params or {}).items())[:60]
                ),
            )
            for run in runs
        ],
    )
