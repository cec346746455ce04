"""How the command line prints: one console, one form of table, one way to say a time."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_PIPED_WIDTH = 160  # where nobody said how wide lines may be
STATUS_COLOURS = {
    "done": "green",
    "reused": "cyan",
    "running": "yellow",
    "failed": "red",
    "pruned": "blue",
    "cancelled": "magenta",
    "queued": "yellow",
    "skipped": "magenta",
    "lost": "red",
}


def console(*, stderr: bool = False) -> Console:
    """The console that commands print to; plain text when it is no terminal."""
    from rich.console import Console

    made = Console(stderr=stderr, highlight=False)
    if made.is_terminal or "COLUMNS" in os.environ:
        return made
    return Console(stderr=stderr, highlight=False, width=_PIPED_WIDTH)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under bold column names, without lines."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*row)
    console().print(table)


def plain(text: str) -> str:
    """Text for a cell, in which brackets are brackets and no markup.

    >>> plain("[/x] is no tag")
    '\\\\[/x] is no tag'
    """
    from rich.markup import escape

    return escape(text)


def status_text(status: str) -> str:
    """A status in its colour."""
    colour = STATUS_COLOURS.get(status, "white")
    return f"[{colour}]{status}[/]"


def seconds_text(seconds: float | None) -> str:
    """A duration for people.

    >>> seconds_text(0.0123), seconds_text(2.5), seconds_text(75)
    ('12 ms', '2.5 s', '1 m 15 s')
    """
    if seconds is None:
        return ""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} m {int(seconds % 60)} s"


def when_text(at: datetime) -> str:
    """An instant, in the machine's own time zone."""
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
