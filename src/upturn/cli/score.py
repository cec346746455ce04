"""`upturn score NAME FILE`: batch predictions into a Parquet file."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from upturn.deploy.batch import Progress

_PLAIN_EVERY_S = 5.0


@click.command()
@click.argument("ref", metavar="NAME[:N|@ALIAS]")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where the scores go: FILE.scored.parquet by default.",
)
def command(ref: str, file: Path, output: Path | None) -> None:
    """Score the rows of FILE, Parquet or CSV, with a version of model NAME (the champion).

    The output has all of FILE's columns, `prediction` and `version`. When it is interrupted, the
    same command goes on where it was.
    """
    from upturn.deploy.batch import default_output, score_file
    from upturn.model.registry import get_version
    from upturn.stores.workspace import open_workspace

    output = output or default_output(file)
    workspace = open_workspace()
    try:
        version = get_version(workspace, ref)
        with _progress(f"{file.name} with {version.name}") as progress:
            scored = score_file(workspace, version, file, output, progress=progress)
    except KeyboardInterrupt:
        click.echo(
            f"\nInterrupted. The same command goes on from {output.name}.partial/.", err=True
        )
        sys.exit(130)
    finally:
        workspace.close()
    resumed = f", {scored.resumed_rows:,} of them before" if scored.resumed_rows else ""
    click.echo(f"{scored.rows:,} rows scored with {version.name}{resumed}: {scored.output}")


@contextmanager
def _progress(title: str) -> Generator[Progress]:
    if not sys.stderr.isatty():
        yield _plain(title)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _plain(title: str) -> Progress:
    from time import monotonic

    said_at = monotonic()

    def say(done: int, total: int | None) -> None:
        nonlocal said_at
        if monotonic() - said_at >= _PLAIN_EVERY_S or done == total:
            said_at = monotonic()
            of = f" of {total:,}" if total is not None else ""
            click.echo(f"{title}: {done:,}{of} rows", err=True)

    return say
