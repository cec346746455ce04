"""`upturn gc`: remove the blobs and outputs that nothing refers to which is kept."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from upturn.cli.changed import changed
from upturn.cli.render import console, plain, print_table, when_text
from upturn.core.errors import Invalid
from upturn.core.size import bytes_text
from upturn.core.time import duration, spell

if TYPE_CHECKING:
    from datetime import timedelta

    from upturn.api.collections import GcDone, GcPlan, RunLoss
    from upturn.core.records import Collection
    from upturn.develop.collect import Plan
    from upturn.stores.workspace import Workspace

_BAR_FROM = 2000  # fewer blobs are gone before a bar could be read


@click.command()
@click.option(
    "--older-than", default="30d", show_default=True, metavar="DURATION", help="Younger runs stay."
)
@click.option(
    "--keep-runs",
    default=0,
    metavar="N",
    type=click.IntRange(min=0),
    help="The newest N runs of each flow stay, whatever their age.",
)
@click.option("--dry-run", is_flag=True, help="Say what would go, and remove nothing.")
@click.option("--yes", is_flag=True, help="Don't ask.")
def command(older_than: str, keep_runs: int, dry_run: bool, yes: bool) -> int:
    """Remove what nothing refers to that is kept.

    Kept are registered versions with all that they were made from, what is pinned, runs that go on,
    and younger runs. Records stay: a removed output is only made again when it is needed. What a
    server keeps, it removes itself: an admin asks it to.
    """
    age = duration(older_than)
    if os.environ.get("UPTURN_SERVER"):
        return _ask_server(older_than, keep_runs, dry_run=dry_run, yes=yes)
    from upturn.api.collections import report
    from upturn.develop.collect import plan_collection
    from upturn.stores.workspace import open_workspace

    workspace = open_workspace()
    try:
        plan = plan_collection(workspace, older_than=age, keep_runs=keep_runs)
        shown = report(plan)
        _show(shown, age)
        if dry_run or plan.is_empty:
            return 0
        if not yes and not _agreed(shown):
            click.echo("Nothing was removed.")
            return 0
        _conclude(_remove(workspace, plan))
        _conclude_forgotten(shown)
    finally:
        workspace.close()
    return 0


def _ask_server(older_than: str, keep_runs: int, *, dry_run: bool, yes: bool) -> int:
    """Have the server look, and remove: it does that for some seconds at a time."""
    from upturn.api.client import open_client
    from upturn.api.collections import MAKE, PLAN, Removable

    asked = Removable(older_than=older_than, keep_runs=keep_runs)
    with open_client() as client:
        plan = client.call(PLAN, asked)
        _show(plan, duration(older_than))
        if dry_run or not (plan.blobs or plan.outputs or plan.forgotten):
            return 0
        if not yes and not _agreed(plan):
            click.echo("Nothing was removed.")
            return 0
        done = client.call(MAKE, asked)
        while True:
            _conclude(done)
            if done.finished:
                _conclude_forgotten(plan)
                return 0
            done = client.call(MAKE, asked)


def _show(plan: GcPlan, age: timedelta) -> None:
    if plan.losses:
        print_table(
            ("run", "flow", "started (local)", "tasks", "blobs", "size"),
            [_row(loss) for loss in plan.losses],
        )
    if plan.more_losses:
        click.echo(f"… and {plan.more_losses} more runs with {bytes_text(plan.more_bytes)}")
    if plan.outputs:
        size = bytes_text(plan.output_bytes)
        click.echo(f"printed and saved   {_many(plan.outputs, 'file')}  {size}")
    if plan.forgotten:
        many = _many(plan.forgotten, "run")
        click.echo(f"to be forgotten     {many} that were removed, and what they logged")
    if plan.blobs or plan.outputs:
        total = bytes_text(plan.blob_bytes + plan.output_bytes)
        click.echo(f"to be removed       {_many(plan.blobs, 'blob')}  {total} in all")
    elif not plan.forgotten:
        click.echo(f"Nothing to remove that is older than {spell(age)}.")
    click.echo(
        f"kept                {_many(plan.kept_blobs, 'blob')}  {bytes_text(plan.kept_bytes)}"
    )
    if plan.too_new:
        size = bytes_text(plan.too_new_bytes)
        many = _many(plan.too_new, "blob")
        click.echo(f"used a moment ago   {many}  {size}  (they stay till the next time)")


def _row(loss: RunLoss) -> tuple[str, ...]:
    where = ("no run", "", "")
    if loss.started_at is not None:
        where = (loss.run, plain(loss.flow), when_text(loss.started_at))
    return (*where, str(loss.tasks or ""), f"{loss.blobs:,}", bytes_text(loss.blob_bytes))


def _agreed(plan: GcPlan) -> bool:
    if not sys.stdin.isatty():
        raise Invalid(
            "Nobody can be asked here whether to remove that.",
            hint="Add --yes, or --dry-run to look only.",
        )
    size = bytes_text(plan.blob_bytes + plan.output_bytes)
    many = plan.forgotten
    too = f", and what {_many(many, 'removed run')} logged" if many else ""
    return click.confirm(f"Remove {size}{too}?", default=False)


def _remove(workspace: Workspace, plan: Plan) -> Collection:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from upturn.develop.collect import collect

    out = console(stderr=True)
    columns = (TextColumn("removing"), BarColumn(), MofNCompleteColumn())
    quiet = not out.is_terminal or len(plan.blobs) < _BAR_FROM
    with Progress(*columns, console=out, transient=True, disable=quiet) as bar:
        task = bar.add_task("", total=len(plan.blobs))

        def progress(done: int) -> None:
            if done % 100 == 0:
                bar.update(task, completed=done)

        done = collect(workspace, plan, progress=progress)
    changed(workspace, "gc", "", f"{done.blobs} blobs, {done.outputs} files removed")
    return done


def _conclude(done: Collection | GcDone) -> None:
    size = bytes_text(done.blob_bytes + done.output_bytes)
    click.echo(f"Removed {_many(done.blobs, 'blob')} and {_many(done.outputs, 'file')}: {size}.")


def _conclude_forgotten(plan: GcPlan) -> None:
    if plan.forgotten:
        click.echo(f"Forgot {_many(plan.forgotten, 'removed run')}.")


def _many(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
