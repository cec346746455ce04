"""`upturn score NAME FILE`: batch predictions into a file."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
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
    help="Where the scores go, its suffix says in which form: FILE.scored.parquet by default.",
)
def command(ref: str, file: Path, output: Path | None) -> None:
    """Score the rows of FILE with a version of model NAME (the champion).

    FILE is Parquet, CSV or Arrow, a folder of such files, or a pattern as 'data/*.parquet'. The
    output has all of its columns, `prediction` and `version`. When it is interrupted, the same
    command goes on where it was.
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
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[rows]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None, rows="")
        rate = _Rate()

        def show(done: int, total: int | None) -> None:
            rows = f"{_of(done, total)}{rate.text(done)}"
            bar.update(task, completed=done, total=total, rows=rows)

        yield show


def _plain(title: str) -> Progress:
    said_at = monotonic()
    rate = _Rate()

    def say(done: int, total: int | None) -> None:
        nonlocal said_at
        text = rate.text(done)
        if monotonic() - said_at >= _PLAIN_EVERY_S or done == total:
            said_at = monotonic()
            click.echo(f"{title}: {_of(done, total)} rows{text}", err=True)

    return say


def _of(done: int, total: int | None) -> str:
    return f"{done:,}" if total is None else f"{done:,} of {total:,}"


class _Rate:
    """Rows a second since the first part was done; what an earlier call did is not counted."""

    def __init__(self) -> None:
        self._first: tuple[float, int] | None = None

    def text(self, done: int) -> str:
        """', 120,000 a second'; empty before it is known."""
        if self._first is None:
            self._first = (monotonic(), done)
            return ""
        since, before = self._first
        seconds = monotonic() - since
        return f", {(done - before) / seconds:,.0f} a second" if seconds > 0 else ""
