"""`upturn drift FILE --against …`: how far a table is from another, a profile or a version."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from upturn.improve.monitor.tables import TableDrift

FAILED = 3  # the status of --fail-on: neither an error's nor a wrong usage's
_SHOWN = 20  # columns


@click.command("drift")
@click.argument("file", metavar="FILE")
@click.option(
    "--against",
    required=True,
    metavar="FILE|PROFILE.json|MODEL:N",
    help="What was before: rows, a profile kept by upturn profile, or a model's version.",
)
@click.option("--column", "columns", multiple=True, help="These columns alone.")
@click.option("--time", help="The column of times: tells windows apart, and raises alarms.")
@click.option("--every", help="Windows of this length: 1d, 7d, month.")
@click.option("--by", "segments", multiple=True, help="Tell apart the values of a column.")
@click.option("--classifier", is_flag=True, help="Train one to tell the tables apart.")
@click.option("--html", "page", type=click.Path(dir_okay=False), help="Write a page.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option(
    "--fail-on",
    type=click.Choice(["warning", "critical"]),
    help="Exit with 3 if a column is as bad as this, or worse.",
)
@click.pass_context
def command(
    context: click.Context,
    file: str,
    against: str,
    columns: tuple[str, ...],
    time: str | None,
    every: str | None,
    segments: tuple[str, ...],
    classifier: bool,
    page: str | None,
    as_json: bool,
    fail_on: str | None,
) -> None:
    """Compare FILE with what was before, column by column.

    Files are Parquet, CSV, folders of Parquet files, or patterns.
    """
    from upturn.cli.written import write_text
    from upturn.improve.monitor.tables import compare_tables
    from upturn.improve.monitor.tables_page import render

    found = compare_tables(
        _before(against),
        file,
        columns=columns or None,
        time=time,
        every=every,
        segments=segments,
        classifier=classifier,
    )
    if page is not None:
        html = render(found, before=Path(against).name, now=Path(file).name)
        write_text(Path(page), html, option="--html")
    if as_json:
        import msgspec

        click.echo(msgspec.json.encode(found).decode())
    else:
        _print(found, page)
    bad = ("critical",) if fail_on == "critical" else ("warning", "critical")
    if fail_on and any(one.severity in bad for one in found.symptoms):
        context.exit(FAILED)


def _before(text: str) -> Any:
    """A profile, a version, or the path of rows."""
    path = Path(text)
    if path.suffix == ".json" and path.is_file():
        return _profile(path)
    model, colon, number = text.rpartition(":")
    if not colon or not model or not number.isdecimal() or path.exists():
        return text
    from upturn.model.registry import get_version
    from upturn.stores.workspace import open_workspace

    workspace = open_workspace()
    try:
        return get_version(workspace, text)
    finally:
        workspace.close()


def _profile(path: Path) -> Any:
    import msgspec

    from upturn.core.errors import Invalid
    from upturn.core.schema import Profile

    try:
        return msgspec.json.decode(path.read_bytes(), type=Profile)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Invalid(
            f"{path} is no profile: {error}.", hint="Make one: upturn profile FILE --out NAME.json"
        ) from None


def _print(found: TableDrift, page: str | None) -> None:
    from upturn.cli.monitored import drift_cells, symptom_line
    from upturn.cli.render import console, plain, print_table

    console().print(f"{found.rows:,} rows against {found.rows_before:,}")
    bad = [one for one in found.symptoms if one.severity != "fine"]
    for one in bad[:_SHOWN]:
        console().print(symptom_line(one))
    if not bad:
        console().print(f"[green]fine[/]      all {len(found.symptoms)} columns")
    head = ("column", "PSI", "by chance", "KS", "missing", "before", "unseen")
    print_table(head, [drift_cells(one) for one in found.drift[:_SHOWN]])
    if len(found.drift) > _SHOWN:
        click.echo(f"… {len(found.drift) - _SHOWN} more, which drifted less")
    if found.shift is not None:
        auc = found.shift.auc
        says = found.shift.note or (
            f"AUC {auc.estimate:.3f} ({auc.low:.3f} to {auc.high:.3f}), by "
            + ", ".join(f"{one.column} {one.drop:.3f}" for one in found.shift.clues[:5])
        )
        console().print(plain(f"Told apart by a classifier: {says}"))
    if found.left_out:
        console().print(plain(f"Left out: {', '.join(found.left_out)}."))
    if page is not None:
        click.echo(f"Page: {page}")
