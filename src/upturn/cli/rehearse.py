"""`upturn rehearse FILE:LOOP`: backtests a whole loop on history, and says who would have won."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from upturn.improve.loop import Loop
    from upturn.improve.rehearsal import Rehearsal
    from upturn.stores.workspace import Workspace

_WIDE = 110  # columns of a terminal that holds all metrics of three policies
_NAMES = {"auc": "AUC", "log_loss": "log loss", "brier": "Brier", "mae": "MAE", "rmse": "RMSE"}


@click.command("rehearse")
@click.argument("target", metavar="FILE:LOOP")
@click.option("--start", required=True, metavar="DATE", help="The first day to act on.")
@click.option("--end", required=True, metavar="DATE", help="The last day, included.")
@click.option(
    "--calendar", default="30d", show_default=True, help="How often the baseline retrains."
)
@click.option("--initial", type=click.IntRange(min=1), help="The first champion's version number.")
@click.option("--json", "out_path", type=click.Path(path_type=Path), help="Write the report here.")
def command(
    target: str, start: str, end: str, calendar: str, initial: int | None, out_path: Path | None
) -> None:
    """Run a loop over past days with a simulated clock.

    The very policy that runs a live loop decides, on what was known at each time. It is compared
    with never retraining and with retraining on a calendar.
    """
    import msgspec

    from upturn.cli.render import console
    from upturn.cli.target import load_target
    from upturn.core.time import instant
    from upturn.improve.loop import Loop
    from upturn.stores.workspace import open_workspace

    for day in (start, end):
        instant(day)  # a typo should not cost the import of the user's file
    loop = load_target(target, Loop)
    workspace = open_workspace()
    out = console()
    try:
        found = _with_progress(workspace, loop, start, end, calendar, initial, out)
    finally:
        workspace.close()
    if out_path is not None:
        out_path.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1))
    print_rehearsal(found, out)


def _with_progress(
    workspace: Workspace,
    loop: Loop,
    start: str,
    end: str,
    calendar: str,
    initial: int | None,
    out: Console,
) -> Rehearsal:
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    from upturn.improve.rehearse import Progress, rehearse

    columns = (
        TextColumn("{task.fields[at]}"),
        BarColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
    )
    reached = start
    with Bar(*columns, console=out, transient=True, disable=not out.is_terminal) as bar:
        task = bar.add_task("starting", at=start, total=None)

        def progress(now: Progress) -> None:
            nonlocal reached
            reached = f"{now.at:%Y-%m-%d}"
            bar.update(task, completed=now.done, total=now.total, description=now.doing, at=reached)

        try:
            return rehearse(
                workspace,
                loop,
                start=start,
                end=end,
                calendar=calendar,
                initial=initial,
                progress=progress,
            )
        except KeyboardInterrupt:
            bar.stop()
            click.echo(
                f"Interrupted on the simulated {reached}. Give the same command again: finished"
                " steps of trainings are kept, and the days take seconds.",
                err=True,
            )
            raise


def print_rehearsal(found: Rehearsal, out: Console) -> None:
    """Print the months, what each policy cost and was worth, the decisions, and who won."""
    from upturn.cli.decisions import decisions_table

    title = f"{found.loop} from {found.start:%Y-%m-%d} until {found.end:%Y-%m-%d}"
    out.print(f"[bold]{title}[/]: {found.rows:,} rows, {found.labelled:,} with labels\n")
    out.print(decisions_table(found.decisions), "")
    wide = out.width >= _WIDE
    for metrics in [found.metrics] if wide else [(metric,) for metric in found.metrics]:
        out.print(months_table(found, metrics), "")
    out.print(differences_table(found), "")
    out.print(found.conclusion, style="bold", highlight=False)
    out.print(
        f"{found.seconds:.1f} s, {found.training_seconds:.1f} of them training. The decisions with"
        f" their evidence: upturn decisions {found.decisions_name}",
        style="dim",
        highlight=False,
    )


def months_table(found: Rehearsal, metrics: Sequence[str]) -> Table:
    """One line a month: volume, base rate, completeness, and each policy's metrics; then all."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("month", "rows", "labelled", "base rate"):
        table.add_column(name, justify="left" if name == "month" else "right")
    policies = [policy.name for policy in found.policies]
    for metric in metrics:
        for place, policy in enumerate(policies):
            label = f"{_NAMES.get(metric, metric)}\n{policy}" if place == 0 else f"\n{policy}"
            table.add_column(label, justify="right")
    for month in found.months:
        table.add_row(
            month.month,
            f"{month.rows:,}",
            f"{month.completeness:.1%}",
            "" if month.base_rate is None else f"{month.base_rate:.1%}",
            *(
                _number(month.values[policy].get(metric))
                for metric in metrics
                for policy in policies
            ),
        )
    table.add_section()
    table.add_row(
        "all",
        f"{found.rows:,}",
        f"{found.labelled / found.rows:.1%}" if found.rows else "",
        "",
        *(_number(policy.values.get(metric)) for metric in metrics for policy in found.policies),
        style="bold",
    )
    return table


def differences_table(found: Rehearsal) -> Table:
    """The loop against each baseline, with 95 % intervals, and the retrains of each."""
    from rich.table import Table

    table = Table(
        "loop −", "metric", "difference", "95 % interval", "the loop is", box=None, pad_edge=False
    )
    for one in found.differences:
        seen = one.comparison
        said = {"open": "not shown to differ"}.get(one.verdict, one.verdict)
        table.add_row(
            one.against,
            _NAMES.get(seen.metric, seen.metric),
            f"{seen.difference:+.4f}",
            f"[{seen.low:+.4f}, {seen.high:+.4f}]".replace("[", r"\["),
            said,
        )
    return table


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
