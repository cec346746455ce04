"""`upturn audit`: who changed what."""

from datetime import datetime

import click

from upturn.api.audit import LIST_AUDIT, ListAudit
from upturn.api.client import open_client
from upturn.cli.render import plain, print_table, when_text
from upturn.core.errors import Invalid
from upturn.core.time import duration, instant, utcnow


@click.command()
@click.option("--since", metavar="WHEN", help="From a date or an instant on, or for so long: 7d.")
@click.option("--who", metavar="NAME", help="What this person, or this token, did.")
@click.option("--path", metavar="PATH", help="Of this thing and below: model, run/k3f9x2, token.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1000))
def command(since: str | None, who: str | None, path: str | None, limit: int) -> None:
    """Show what was changed by whom, and what was refused, the newest first."""
    with open_client() as client:
        page = client.call(
            LIST_AUDIT,
            ListAudit(since=_since(since), who=who, path=path, limit=limit),
        )
    if not page.items:
        click.echo("Nothing of that was changed.")
        return
    print_table(
        ("at (local)", "who", "role", "via", "what", "of", "status", ""),
        [
            (
                when_text(row.at),
                plain(row.who),
                row.role,
                row.via,
                plain(row.action),
                plain(row.path),
                str(row.status),
                plain(row.detail),
            )
            for row in page.items
        ],
    )
    if page.cursor:
        click.echo(f"There is more: --limit {min(1000, limit * 4)}", err=True)


def _since(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return utcnow() - duration(text)
    except OverflowError:
        raise Invalid(f"{text!r} is longer than time goes back.", hint="Write 7d.") from None
    except Invalid:
        return instant(text)
