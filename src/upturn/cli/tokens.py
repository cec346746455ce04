"""`upturn tokens [create|revoke]`: what lets others ask this server."""

import click

from upturn.api.client import open_client
from upturn.api.tokens import (
    CREATE_TOKEN,
    LIST_TOKENS,
    REVOKE_TOKEN,
    CreateToken,
    ListTokens,
    RevokeToken,
    TokenRow,
)
from upturn.cli.render import plain, print_table, when_text
from upturn.core.access import ROLES, Role


@click.group(invoke_without_command=True)
@click.option("--all", "every", is_flag=True, help="Those that ended, too.")
@click.pass_context
def command(context: click.Context, every: bool) -> None:
    """List the tokens that hold, or make and revoke them."""
    if context.invoked_subcommand is not None:
        return
    with open_client() as client:
        rows: list[TokenRow] = []
        cursor = ""
        while True:
            page = client.call(LIST_TOKENS, ListTokens(every=every, cursor=cursor))
            rows += page.items
            cursor = page.cursor
            if not cursor:
                break
    if not rows:
        click.echo("No tokens. Make one with: upturn tokens create NAME --role editor")
        return
    print_table(
        ("id", "name", "role", "projects", "state", "made (local)", "expires", "by"),
        [
            (
                row.id,
                plain(row.name),
                row.role,
                plain(", ".join(row.projects)) or "all",
                row.state,
                when_text(row.made_at),
                when_text(row.expires_at) if row.expires_at else "never",
                plain(row.who),
            )
            for row in rows
        ],
    )


@command.command("create")
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice(ROLES),
    default="viewer",
    show_default=True,
    help="What it lets do: each role may do what those before it may.",
)
@click.option(
    "--project", "projects", multiple=True, metavar="NAME", help="For this project only; repeat."
)
@click.option(
    "--expires",
    default="90d",
    show_default=True,
    metavar="WHEN",
    help="A duration (90d), a date, or 'never'.",
)
def create(name: str, role: Role, projects: tuple[str, ...], expires: str) -> None:
    """Make a token. Its secret is printed once, and stored nowhere."""
    with open_client() as client:
        made = client.call(
            CREATE_TOKEN,
            CreateToken(name=name, role=role, projects=projects, expires=expires),
        )
    token = made.token
    where = ", ".join(token.projects) or "all projects"
    until = f"until {when_text(token.expires_at)}" if token.expires_at else "with no end"
    click.echo(f"{token.name} ({token.id}) is {token.role} of {where}, {until}.", err=True)
    click.echo("This is its secret. It is shown this once:", err=True)
    click.echo(made.secret)


@command.command("revoke")
@click.argument("token", metavar="NAME|ID")
def revoke(token: str) -> None:
    """End a token: servers take it no more within a second."""
    with open_client() as client:
        row = client.call(REVOKE_TOKEN, RevokeToken(token=token))
    click.echo(f"{row.name} ({row.id}) is revoked.")
