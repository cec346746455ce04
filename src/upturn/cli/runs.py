"""`upturn runs`: finding runs, removing and restoring them, and moving them between stores."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
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


@command.command("export")
@click.argument("runs", nargs=-1, metavar="[RUN]...")
@click.option("--where", default="", metavar="TEXT", help="All runs that fit.")
@click.option("--group", default="", metavar="NAME", help="All runs of a group (an experiment).")
@click.option("--children/--no-children", default=True, show_default=True, help="Their children.")
@click.option("--without-artifacts", is_flag=True, help="Leave out values of tasks from 1 MiB on.")
@click.option("-o", "--output", default="runs.tar.zst", show_default=True, metavar="FILE")
def export_command(
    runs: tuple[str, ...],
    where: str,
    group: str,
    children: bool,
    without_artifacts: bool,
    output: str,
) -> None:
    """Write runs with everything that they refer to into a file; - is stdout."""
    from upturn.core.size import bytes_text
    from upturn.develop.transfer import export_runs
    from upturn.stores.workspace import open_workspace

    workspace = open_workspace()
    try:
        to = sys.stdout.buffer if output == "-" else output
        with _telling("exporting") as told:
            done = export_runs(
                runs,
                to,
                where=where,
                group=group,
                children=children,
                artifacts=not without_artifacts,
                workspace=workspace,
                told=told,
            )
    finally:
        workspace.close()
    size = bytes_text(done.blob_bytes)
    what = f"{_many(done.points, 'point')} and {_many(done.blobs, 'blob')} ({size})"
    where_to = "" if output == "-" else f" to {output}"
    click.echo(f"Exported {_many(len(done.runs), 'run')} with {what}{where_to}.", err=output == "-")
    if done.missing:
        gone = f"{_many(done.missing, 'blob')} that they refer to had been removed before."
        click.echo(gone, err=True)


@command.command("import")
@click.argument("file", metavar="FILE")
@click.option("--project", default="", metavar="NAME", help="The project that they come into.")
def import_command(file: str, project: str) -> None:
    """Bring in the runs of a file that `export` has written; - is stdin."""
    from upturn.cli.changed import changed
    from upturn.core.size import bytes_text
    from upturn.develop.transfer import import_runs
    from upturn.stores.workspace import open_workspace

    workspace = open_workspace()
    try:
        source = sys.stdin.buffer if file == "-" else file
        with _telling("importing") as told:
            done = import_runs(source, project=project, workspace=workspace, told=told)
        if done.changed:
            changed(workspace, "runs.import", "", ", ".join(done.runs))
    finally:
        workspace.close()
    if not done.changed:
        click.echo(f"{_many(len(done.runs), 'run')}: everything was here already.")
        return
    size = bytes_text(done.blob_bytes)
    what = f"{_many(done.points, 'point')} and {_many(done.blobs, 'blob')} ({size})"
    old = len(done.runs) - len(done.new)
    also = f"; {old} more were here already" if old else ""
    click.echo(f"Imported {_many(len(done.new), 'run')} with {what}{also}.")
    for named, name in done.versions.items():
        if named != name:
            click.echo(f"{named} is {name} here.")


@contextmanager
def _telling(what: str) -> Generator[Callable[[str], None]]:
    """What shows at a terminal which run it is at."""
    from upturn.cli.render import console

    out = console(stderr=True)
    if not out.is_terminal:
        yield lambda _: None
        return
    with out.status(what) as status:
        yield lambda run: status.update(f"{what} run/{run}")


def _many(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


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
