"""`upturn rehearse FILE:LOOP`: backtests a whole loop on history, and says who would have won."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

    from upturn.improve.rehearsal import Rehearsal
    from upturn.improve.rehearsing.plans import Policies
    from upturn.stores.workspace import Workspace

_VERSION = re.compile(r"[\w.-]+:\d+")


@click.command("rehearse")
@click.argument("targets", metavar="FILE:LOOP…", nargs=-1, required=True)
@click.option("--start", required=True, metavar="DATE", help="The first day to act on.")
@click.option("--end", required=True, metavar="DATE", help="The last day, included.")
@click.option(
    "--calendar",
    default="30d",
    show_default=True,
    help="How often the baseline retrains; several are written 30d,90d.",
)
@click.option("--initial", type=click.IntRange(min=1), help="The first champion's version number.")
@click.option(
    "--vary",
    "changes",
    multiple=True,
    metavar="PATH=V,V",
    help="Also the loop with other values: when.psi=0.1,0.2 or window=90d,365d.",
)
@click.option("--oracle", is_flag=True, help="Also each week's best version, as a bound.")
@click.option(
    "--history", type=click.Path(path_type=Path), help="Past rows from a file instead of the Log."
)
@click.option("--at-column", metavar="NAME", help="Its column of when a row happened [at].")
@click.option("--label", metavar="NAME", help="Its column of what turned out to be true [label].")
@click.option("--known-at", metavar="NAME", help="Its column of when that was known [known_at].")
@click.option("--known-after", metavar="TIME", help="How long a label took, if no column says it.")
@click.option("--zone", help="The time zone of its times, if they have none.")
@click.option("--drop", multiple=True, metavar="NAME", help="A column that is no input.")
@click.option("--fresh", is_flag=True, help="Run all policies again, known or not.")
@click.option(
    "--html", "html_path", type=click.Path(path_type=Path), help="Write the report's page here."
)
@click.option("--json", "out_path", type=click.Path(path_type=Path), help="Write the report here.")
def command(
    targets: tuple[str, ...],
    start: str,
    end: str,
    out_path: Path | None,
    html_path: Path | None,
    **given: Any,
) -> None:
    """Run loops over past days with a simulated clock, and say which would have been best.

    The very policy that runs a live loop decides, on what was known at each time. It is compared
    with never retraining and with retraining on a calendar. MODEL:NUMBER instead of FILE:LOOP is a
    version that answers everything and never trains.
    """
    import msgspec

    from upturn.cli.rehearsed import print_rehearsal
    from upturn.cli.render import console
    from upturn.core.time import instant
    from upturn.stores.workspace import open_workspace

    for day in (start, end):
        instant(day)  # a typo should not cost the import of the user's file
    past = _past(given)
    workspace = open_workspace()
    out = console()
    try:
        policies = _policies(workspace, targets, given["changes"])
        options: dict[str, Any] = {
            "start": start,
            "end": end,
            "history": past,
            "initial": given["initial"],
            "baselines": ["never", "calendar", *(["oracle"] if given["oracle"] else [])],
            "calendar": [part.strip() for part in given["calendar"].split(",")],
            "fresh": given["fresh"],
        }
        found = _with_progress(workspace, policies, options, out)
    finally:
        workspace.close()
    if out_path is not None:
        out_path.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1))
    if html_path is not None:
        from upturn.improve.rehearsing.page import rehearsal_page

        html_path.write_text(rehearsal_page(found), encoding="utf-8")
    print_rehearsal(found, out)
    if html_path is not None:
        click.echo(f"The page: {html_path}")


def _past(given: dict[str, Any]) -> Any:
    """The file of past rows, if one is given, and what its columns are called."""
    from upturn.core.errors import Invalid
    from upturn.improve.past.history import history

    names = ("at_column", "label", "known_at", "known_after", "zone", "drop")
    if given["history"] is None:
        said = next((name for name in names if given[name]), None)
        if said is not None:
            option = f"--{said.replace('_', '-')}"
            raise Invalid(
                f"{option} is about a file of past rows.", hint="Give the file: --history FILE"
            )
        return None
    return history(
        given["history"],
        at=given["at_column"] or "at",
        label=given["label"] or "label",
        known_at=given["known_at"],
        known_after=given["known_after"],
        zone=given["zone"],
        drop=given["drop"],
    )


def _policies(workspace: Workspace, targets: tuple[str, ...], changes: tuple[str, ...]) -> Policies:
    """What the arguments name: a loop and its variants, or loops and versions by name."""
    from upturn.cli.target import load_target
    from upturn.core.errors import Invalid
    from upturn.improve.loop import Loop
    from upturn.improve.rehearsing.vary import parse_changes, vary
    from upturn.model.registry import get_version

    found: dict[str, Any] = {}
    for target in targets:
        is_version = _VERSION.fullmatch(target) is not None
        name = target if is_version else target.rpartition(":")[2]
        name = name if name not in found else target.replace("/", ".")
        if targets.count(target) > 1:
            raise Invalid(f"{target} is given twice.", hint="Once is enough.")
        found[name] = get_version(workspace, target) if is_version else load_target(target, Loop)
    only = next(iter(found.values())) if len(found) == 1 else None
    if changes:
        if not isinstance(only, Loop):
            raise Invalid("--vary is of one loop.", hint="Give one FILE:LOOP.")
        return vary(only, parse_changes(changes))
    return only if isinstance(only, Loop) else found


def _with_progress(
    workspace: Workspace, policies: Policies, options: dict[str, Any], out: Console
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
    reached = options["start"]
    with Bar(*columns, console=out, transient=True, disable=not out.is_terminal) as bar:
        task = bar.add_task("starting", at=reached, total=None)

        def progress(now: Progress) -> None:
            nonlocal reached
            reached = f"{now.at:%Y-%m-%d}"
            bar.update(task, completed=now.done, total=now.total, description=now.doing, at=reached)

        try:
            return rehearse(workspace, policies, progress=progress, **options)
        except KeyboardInterrupt:
            bar.stop()
            click.echo(
                f"Interrupted on the simulated {reached}. Give the same command again: finished"
                " steps of trainings are kept, and the days take seconds.",
                err=True,
            )
            raise
