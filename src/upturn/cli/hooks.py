"""`upturn hooks`: who is told of what happens, by a signed POST to an address of theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from upturn.cli.render import plain, print_table, status_text, when_text

if TYPE_CHECKING:
    from upturn.api.hooks import HookSeen, OneHook
    from upturn.api.operation import Operation


@click.group("hooks", invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="As JSON, one hook a line.")
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """Show the hooks, and which events each is told of."""
    if ctx.invoked_subcommand is None:
        _list(as_json)


@command.command("add")
@click.argument("name")
@click.argument("url")
@click.option("--on", "events", required=True, help="version,alias,run.failed,alert,decision")
@click.option("--secret", default="", help="whsec_…  [default: a new one]")
def add_command(name: str, url: str, events: str, secret: str) -> None:
    """Tell URL of events from now on; of the same NAME, this one takes the place.

    The secret, by which the receiver sees who sent a message, is shown this once.
    """
    from upturn.api.client import open_client
    from upturn.api.hooks import PUT_HOOK, PutHook

    asked = tuple(part.strip() for part in events.split(",") if part.strip())
    with open_client() as client:
        hook = client.call(PUT_HOOK, PutHook(name=name, url=url, events=asked, secret=secret))
    click.echo(f"Hook {hook.name} is told of {', '.join(hook.events)}.")
    if hook.secret and not secret:
        click.echo(f"Its secret, which is not shown again: {hook.secret}")
    click.echo(f"Try it with: upturn hooks test {hook.name}")


@command.command("test")
@click.argument("name")
def test_command(name: str) -> None:
    """Send NAME a message that tells of nothing, and show what its receiver answers."""
    from upturn.api.client import open_client
    from upturn.api.hooks import TEST_HOOK, OneHook

    with open_client() as client:
        answer = client.call(TEST_HOOK, OneHook(name=name))
    click.echo(f"It was taken: {answer.status} {answer.said}".rstrip())


@command.command("pause")
@click.argument("name")
def pause_command(name: str) -> None:
    """Send NAME nothing from now on."""
    from upturn.api.hooks import PAUSE_HOOK

    _do(PAUSE_HOOK, name)
    click.echo(f"Hook {name} is paused. Go on with: upturn hooks resume {name}")


@command.command("resume")
@click.argument("name")
def resume_command(name: str) -> None:
    """Tell NAME of what happens from now on."""
    from upturn.api.hooks import RESUME_HOOK

    _do(RESUME_HOOK, name)
    click.echo(f"Hook {name} is told again.")


@command.command("remove")
@click.argument("name")
def remove_command(name: str) -> None:
    """Send NAME nothing any more, and forget its secret."""
    from upturn.api.hooks import REMOVE_HOOK

    _do(REMOVE_HOOK, name)
    click.echo(f"Hook {name} is removed.")


@command.command("deliveries")
@click.argument("name")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000))
@click.option("--cursor", default="", help="Go on after a page: it says with which.")
def deliveries_command(name: str, limit: int, cursor: str) -> None:
    """Show what NAME was sent, newest first, and what its receiver answered."""
    from upturn.api.client import open_client
    from upturn.api.hooks import PAST_DELIVERIES, PastDeliveries

    with open_client() as client:
        page = client.call(PAST_DELIVERIES, PastDeliveries(name=name, limit=limit, cursor=cursor))
    found = page.items
    if not found:
        click.echo("Nothing was sent yet.")
        return
    print_table(
        ("event", "about", "status", "attempts", "answer", "next (local)"),
        [
            (
                one.type,
                plain(one.path),
                status_text(one.status),
                str(one.attempts),
                plain(one.response),
                when_text(one.next_at) if one.next_at else "",
            )
            for one in found
        ],
    )
    if page.cursor:
        click.echo(f"There is more: upturn hooks deliveries {name} --cursor {page.cursor}")


def _do(operation: Operation[OneHook, HookSeen], name: str) -> None:
    from upturn.api.client import open_client
    from upturn.api.hooks import OneHook

    with open_client() as client:
        client.call(operation, OneHook(name=name))


def _list(as_json: bool) -> None:
    import msgspec

    from upturn.api.client import open_client
    from upturn.api.hooks import LIST_HOOKS, ListHooks

    with open_client() as client:
        found = client.call(LIST_HOOKS, ListHooks()).items
    if as_json:
        for one in found:
            click.echo(msgspec.json.encode(one).decode())
        return
    if not found:
        click.echo("Nobody is told. Add a hook with: upturn hooks add NAME URL --on run.failed")
        return
    print_table(
        ("hook", "url", "events", ""),
        [
            (
                plain(f"{one.name} ({one.title})" if one.title else one.name),
                plain(one.url),
                plain(", ".join(one.events)),
                "paused" if one.paused else "",
            )
            for one in found
        ],
    )
