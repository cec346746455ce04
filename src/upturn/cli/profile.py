"""`upturn profile FILE`: how the columns of a table are distributed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from upturn.core.schema import ColumnProfile


@click.command("profile")
@click.argument("file", metavar="FILE")
@click.option("--out", type=click.Path(dir_okay=False), help="Keep the profile as JSON.")
@click.option("--json", "as_json", is_flag=True, help="Print the profile as JSON.")
@click.option("--column", "columns", multiple=True, help="These columns alone.")
def command(file: str, out: str | None, as_json: bool, columns: tuple[str, ...]) -> None:
    """Profile FILE: Parquet, CSV, a folder of Parquet files, or a pattern as 'data/*.parquet'.

    What --out keeps can be compared with later, without the rows: upturn drift --against.
    """
    import msgspec

    from upturn.cli.render import plain, print_table
    from upturn.cli.written import write_text
    from upturn.model.profile import profile

    found = profile(file, columns=columns or None)
    text = msgspec.json.format(msgspec.json.encode(found), indent=1).decode()
    if out is not None:
        write_text(Path(out), text, option="--out")
    if as_json:
        click.echo(text)
        return
    click.echo(f"{found.rows:,} rows")
    head = (
        "column",
        "kind",
        "missing",
        "mean",
        "std",
        "least",
        "greatest",
        "bins",
        "most frequent",
    )
    print_table(head, [[plain(cell) for cell in _row(one)] for one in found.columns])
    if out is not None:
        click.echo(f"Profile: {out}")


_HEAD = ("column", "kind", "missing", "mean", "std", "least", "greatest", "bins", "most frequent")


def _row(one: ColumnProfile) -> list[str]:
    missing = f"{one.missing / one.count:.1%}" if one.count else ""
    figures = [
        "" if value is None else f"{value:.6g}" for value in (one.mean, one.std, one.low, one.high)
    ]
    top = [
        f"{value[:20]} {count / one.count:.0%}"
        for value, count in zip(one.values[:3], one.counts, strict=False)
    ]
    return [one.name, one.kind, missing, *figures, str(len(one.counts)), ", ".join(top)]
