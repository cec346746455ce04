"""`upturn log NAME`: what an endpoint answered, from its Log, as rows or by a query in SQL."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import pyarrow as pa

    from upturn.improve.log import StoredLog

_SHOWN = ("at", "id", "arm", "version", "shadow", "unit", "score", "answer", "latency_s", "error")
_DIGITS = 6


@click.command("log")
@click.argument("name")
@click.option("--sql", metavar="QUERY", help="Ask the tables predictions, labels, feedback, gaps.")
@click.option("--since", metavar="TIME", help="Rows from this time on.")
@click.option("--until", metavar="TIME", help="Rows before the end of this time.")
@click.option("--limit", type=click.IntRange(1), default=20, help="How many of the last rows.")
@click.option("--json", "as_json", is_flag=True, help="Print each row as a line of JSON, whole.")
def command(
    name: str, sql: str | None, since: str | None, until: str | None, limit: int, as_json: bool
) -> None:
    """Show the last predictions in the Log of endpoint NAME, or what a query says of it.

    It can be asked while servers write it. Rows that could not be written are said.
    """
    from upturn.improve.log import read_log
    from upturn.stores.workspace import open_workspace

    if sql is not None and (since or until):
        raise click.UsageError("--sql says by itself which rows: where \"at\" >= '2026-11-26'.")
    workspace = open_workspace()
    try:
        log = read_log(name, workspace)
        found = log.sql(sql) if sql is not None else _last(log, since, until, limit)
        if as_json:
            _print_json(found)
        else:
            _print_rows(found, whole=sql is not None)
        _print_gaps(log, since, until)
    finally:
        workspace.close()


def _last(log: StoredLog, since: str | None, until: str | None, limit: int) -> pa.Table:
    from upturn.core.time import end_instant, instant

    terms = [
        f"\"at\" >= TIMESTAMPTZ '{instant(since).isoformat()}'" if since else "true",
        f"\"at\" < TIMESTAMPTZ '{end_instant(until).isoformat()}'" if until else "true",
    ]
    return log.sql(f"""
        SELECT * FROM (
            SELECT * FROM predictions WHERE {" AND ".join(terms)}
            ORDER BY "at" DESC, id DESC, arm, version LIMIT {limit}
        ) ORDER BY "at", id, arm, version""")


def _print_json(found: pa.Table) -> None:
    import msgspec

    for row in found.to_pylist():
        click.echo(msgspec.json.encode(row, enc_hook=str).decode())


def _print_rows(found: pa.Table, *, whole: bool) -> None:
    from upturn.cli.render import plain, print_table

    names = [
        name
        for name in found.column_names
        if whole or (name in _SHOWN and found[name].null_count < found.num_rows)
    ]
    if not whole and found.num_rows:
        names = [name for name in names if not (name == "shadow" and not any(_values(found, name)))]
    if not found.num_rows:
        click.echo("There are no such rows.")
        return
    columns = [_values(found, name) for name in names]
    rows = zip(*([plain(_text(value)) for value in column] for column in columns), strict=True)
    print_table([plain(name) for name in names], rows)


def _values(found: pa.Table, name: str) -> list[Any]:
    return found[name].to_pylist()


def _text(value: object) -> str:
    from upturn.cli.tail import harmless

    if value is None:
        return ""
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}Z" if value.tzinfo is not None else str(value)
    if isinstance(value, float):
        return f"{value:.{_DIGITS}g}"
    if isinstance(value, bool):
        return str(value).lower()
    return harmless(str(value))


def _print_gaps(log: StoredLog, since: str | None, until: str | None) -> None:
    """Say on standard error from when to when rows were lost, in the span that was asked for."""
    from upturn.cli.tail import harmless
    from upturn.core.time import end_instant, instant

    for gap in log.gaps().to_pylist():
        began, ended = gap["began_at"], gap["ended_at"]
        if (since and ended < instant(since)) or (until and began >= end_instant(until)):
            continue
        rows = "1 row" if gap["rows"] == 1 else f"{gap['rows']:,} rows"
        click.secho(
            f"{rows} lost {began:%Y-%m-%d %H:%M:%S} to {_end(began, ended)}Z: "
            f"{harmless(gap['why'])}",
            fg="yellow",
            err=True,
        )


def _end(began: datetime, ended: datetime) -> str:
    same_day = began.date() == ended.date()
    return f"{ended:%H:%M:%S}" if same_day else f"{ended:%Y-%m-%d %H:%M:%S}"
