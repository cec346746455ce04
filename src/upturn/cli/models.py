"""`upturn models`: what models there are, cards, differences, aliases, rules and names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from upturn.api.client import Client

_ALIAS = click.option("--alias", default="champion", show_default=True, help="Which alias.")
_WHY = click.option("--why", default="", help="The reason, for those who read the history.")
_HTML = click.option("--html", type=click.Path(dir_okay=False), help="Write it as a page.")
_JSON = click.option("--json", "as_json", is_flag=True, help="As JSON.")


class _Models(click.Group):
    """Without a verb the models are listed."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0] not in ("-h", "--help") and args[0].startswith("-")):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group("models", cls=_Models, context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Show models and their versions, and say what they are called: `upturn models` lists them."""


@command.command("list")
@click.option("--project", default="", help="Only those of this project.")
@click.option("--removed", is_flag=True, help="Those that were removed, instead.")
@_JSON
def list_models(project: str, removed: bool, as_json: bool) -> None:
    """List the models: their versions, and where their aliases point to."""
    from upturn.api.client import everything, open_client
    from upturn.api.models import LIST_MODELS, ListModels
    from upturn.cli.render import plain, print_table, when_text

    with open_client() as client:
        found = list(everything(client, LIST_MODELS, ListModels(project=project, removed=removed)))
    if as_json:
        _print_json(*found)
    elif not found:
        click.echo("No model was removed." if removed else "There is no model yet: up.register")
    else:
        rows = [
            (
                plain(one.name),
                str(one.versions),
                plain(_pointers(one.aliases, one.protected)),
                plain(one.project),
                when_text(one.updated_at),
            )
            for one in found
        ]
        print_table(("model", "versions", "aliases", "project", "changed"), rows)


@command.command("show")
@click.argument("ref", metavar="NAME[:N|@ALIAS]")
@_JSON
@_HTML
def show(ref: str, as_json: bool, html: str | None) -> None:
    """Show the card of a version: data, code, parameters, metrics, signature, where it serves."""
    from upturn.api.client import open_client
    from upturn.api.models import CARD, DIFF, Compare, OneVersion
    from upturn.cli.tail import harmless
    from upturn.model.card_text import card_markdown

    with open_client() as client:
        model, number = _version(client, ref)
        card = client.call(CARD, OneVersion(model=model, version=number))
        if as_json:
            _print_json(card)
            return
        before, since = _before(client, model, number), None
        if before is not None:
            asked = Compare(model=model, version=before, to=f"{model}:{number}")
            since = client.call(DIFF, asked)
    if html:
        from upturn.cli.written import write_text
        from upturn.improve.page.card import card_page

        write_text(Path(html), card_page(card, since), option="--html")
        click.echo(f"Wrote {html}")
        return
    click.echo(harmless(card_markdown(card, since)), nl=False)


command.add_command(show, "card")


@command.command("versions")
@click.argument("name")
@click.option("--removed", is_flag=True, help="Those that were removed, instead.")
@_JSON
def versions(name: str, removed: bool, as_json: bool) -> None:
    """List the versions of model NAME, newest first, with their metrics."""
    from upturn.api.client import open_client
    from upturn.api.models import LIST_VERSIONS, ListVersions
    from upturn.cli.render import plain, print_table, when_text

    with open_client() as client:
        page = client.call(LIST_VERSIONS, ListVersions(model=name, removed=removed, limit=1000))
    if as_json:
        _print_json(*page.items)
        return
    names = list(dict.fromkeys(metric for one in page.items for metric in one.metrics))[:6]
    rows = [
        (
            plain(f"{one.model}:{one.number}"),
            plain(", ".join(one.aliases)),
            when_text(one.at),
            one.run or "",
            *(f"{one.metrics[name]:.6g}" if name in one.metrics else "" for name in names),
        )
        for one in page.items
    ]
    print_table(("version", "aliases", "registered", "run", *map(plain, names)), rows)


@command.command("diff")
@click.argument("before", metavar="NAME[:N|@ALIAS]")
@click.argument("after", metavar="NAME[:N|@ALIAS]")
@_JSON
def diff(before: str, after: str, as_json: bool) -> None:
    """Say what differs between two versions: data, code, parameters, metrics, environment."""
    from upturn.api.client import open_client
    from upturn.api.models import DIFF, Compare
    from upturn.cli.tail import harmless
    from upturn.model.card_text import difference_markdown

    with open_client() as client:
        model, number = _version(client, before)
        found = client.call(DIFF, Compare(model=model, version=number, to=after))
    if as_json:
        _print_json(found)
    else:
        click.echo(harmless(difference_markdown(found)), nl=False)


@command.command("describe")
@click.argument("ref", metavar="NAME[:N]")
@click.argument("text")
def describe(ref: str, text: str) -> None:
    """Say in TEXT (Markdown) what a model is, or one of its versions."""
    from upturn.api.client import open_client
    from upturn.api.models import CHANGE_MODEL, CHANGE_VERSION, ChangeModel, ChangeVersion

    with open_client() as client:
        name, number = _named(ref)
        if number is None:
            client.call(CHANGE_MODEL, ChangeModel(model=name, description=text))
        else:
            client.call(CHANGE_VERSION, ChangeVersion(model=name, version=number, description=text))


@command.command("tag")
@click.argument("ref", metavar="NAME[:N]")
@click.argument("tags", metavar="KEY=VALUE…", nargs=-1, required=True)
def tag(ref: str, tags: tuple[str, ...]) -> None:
    """Set tags of a model or a version; KEY= removes one."""
    from upturn.api.client import open_client
    from upturn.api.models import CHANGE_MODEL, CHANGE_VERSION, ChangeModel, ChangeVersion

    said: dict[str, str | None] = {}
    for text in tags:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise click.UsageError(f"{text!r} is no tag. Write KEY=VALUE.")
        said[key] = value or None
    with open_client() as client:
        name, number = _named(ref)
        if number is None:
            client.call(CHANGE_MODEL, ChangeModel(model=name, tags=said))
        else:
            client.call(CHANGE_VERSION, ChangeVersion(model=name, version=number, tags=said))


@command.command("rename")
@click.argument("name")
@click.argument("to", metavar="NEW")
def rename(name: str, to: str) -> None:
    """Call model NAME something else; its versions keep their numbers."""
    from upturn.api.client import open_client
    from upturn.api.models import RENAME_MODEL, RenameModel

    with open_client() as client:
        client.call(RENAME_MODEL, RenameModel(model=name, to=to))
    click.echo(f"{name} is called {to} now; references to {name}:N still lead there.")


@command.command("remove")
@click.argument("ref", metavar="NAME[:N]")
@_WHY
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove(ref: str, why: str, yes: bool) -> None:
    """Take a model or a version from what is shown. Endpoints that serve it go on."""
    from upturn.api.client import open_client
    from upturn.api.models import REMOVE_MODEL, REMOVE_VERSION, RemoveModel, RemoveVersion

    if not yes:
        click.confirm(f"Remove {ref}? Its aliases go with it.", abort=True)
    with open_client() as client:
        name, number = _named(ref)
        if number is None:
            client.call(REMOVE_MODEL, RemoveModel(model=name, why=why))
        else:
            client.call(REMOVE_VERSION, RemoveVersion(model=name, version=number, why=why))
    click.echo(f"{ref} is removed. To have it back: upturn models restore {ref}")


@command.command("restore")
@click.argument("ref", metavar="NAME[:N]")
def restore(ref: str) -> None:
    """Show a model or a version again that was removed."""
    from upturn.api.client import open_client
    from upturn.api.models import RESTORE_MODEL, RESTORE_VERSION, OneModel, OneVersion

    with open_client() as client:
        name, number = _named(ref)
        if number is None:
            client.call(RESTORE_MODEL, OneModel(model=name))
        else:
            client.call(RESTORE_VERSION, OneVersion(model=name, version=number))
    click.echo(f"{ref} is there again.")


@command.command("alias")
@click.argument("ref", metavar="NAME[:N|@ALIAS]")
@click.argument("alias", metavar="ALIAS")
@_WHY
@click.option("--remove", is_flag=True, help="Let it point to none.")
def alias(ref: str, alias: str, why: str, remove: bool) -> None:
    """Point ALIAS to a version: `upturn models alias delays:7 candidate`."""
    from upturn.api.aliases import REMOVE_ALIAS, SET_ALIAS, RemoveAlias, SetAlias
    from upturn.api.client import open_client

    with open_client() as client:
        if remove:
            name, _ = _named(ref)
            client.call(REMOVE_ALIAS, RemoveAlias(model=name, alias=alias, why=why))
            click.echo(f"{name}@{alias} points to none now.")
            return
        model, number = _version(client, ref)
        found = client.call(SET_ALIAS, SetAlias(model=model, alias=alias, version=number, why=why))
    click.echo(f"{found.model}@{alias} points to {found.model}:{found.number}.")


@command.command("history")
@click.argument("name")
@click.option("--alias", default="", help="Only of this alias.")
@_JSON
def history(name: str, alias: str, as_json: bool) -> None:
    """Show how the aliases of model NAME were moved: who, when, from what to what, and why."""
    from upturn.api.aliases import ALIAS_HISTORY, History
    from upturn.api.client import open_client
    from upturn.cli.render import plain, print_table, when_text

    with open_client() as client:
        moves = client.call(ALIAS_HISTORY, History(model=name, alias=alias))
    if as_json:
        _print_json(*moves)
        return
    rows = [
        (
            when_text(one.at),
            plain(one.alias),
            f"{_number(one.before)} → {_number(one.after)}",
            plain(one.who),
            plain(one.why),
        )
        for one in moves
    ]
    print_table(("when", "alias", "version", "who", "why"), rows)


@command.command("protect")
@click.argument("name")
@_ALIAS
@click.option("--off", is_flag=True, help="No longer.")
@_WHY
def protect(name: str, alias: str, off: bool, why: str) -> None:
    """Let an alias of model NAME only be moved to what somebody else approved.

    Of `champion`, no version that lacks the approval answers for an endpoint.
    """
    from upturn.api.aliases import PROTECT, Protect
    from upturn.api.client import open_client

    with open_client() as client:
        client.call(PROTECT, Protect(model=name, alias=alias, on=not off, why=why))
    click.echo(
        f"{name}@{alias} is moved by anybody again."
        if off
        else f"{name}@{alias} is only moved to what somebody else approved."
    )


@command.command("request")
@click.argument("ref", metavar="NAME:N")
@_ALIAS
@_WHY
def request(ref: str, alias: str, why: str) -> None:
    """Ask for the approval of a version for a protected alias."""
    from upturn.api.aliases import PROPOSE, Propose
    from upturn.api.client import open_client

    with open_client() as client:
        model, number = _version(client, ref)
        client.call(PROPOSE, Propose(model=model, alias=alias, version=number, why=why))
    click.echo(f"Somebody else says: upturn models approve {model}:{number} --alias {alias}")


@command.command("approve")
@click.argument("ref", metavar="NAME:N")
@_ALIAS
@click.option("--reject", is_flag=True, help="Say no.")
@_WHY
def approve(ref: str, alias: str, reject: bool, why: str) -> None:
    """Approve a version that somebody else asked for; with --reject, say no."""
    from upturn.api.aliases import ANSWER, Answer
    from upturn.api.client import open_client

    with open_client() as client:
        model, number = _version(client, ref)
        answer = Answer(
            model=model,
            alias=alias,
            version=number,
            status="rejected" if reject else "approved",
            why=why,
        )
        client.call(ANSWER, answer)
    if reject:
        click.echo(f"{model}:{number} is rejected as {alias}.")
    else:
        click.echo(f"{model}:{number} may be {alias}: upturn models alias {model}:{number} {alias}")


def _version(client: Client, ref: str) -> tuple[str, int]:
    """The model and the number that a reference leads to: of a name alone, the champion or else
    the newest.
    """
    from upturn.api.models import GET_MODEL, OneModel
    from upturn.core.errors import NotFound, did_you_mean

    name, number = _named(ref)
    name, at, alias = name.partition("@")
    model = client.call(GET_MODEL, OneModel(model=name))
    if number is not None:
        return model.name, number
    if at and alias not in model.aliases:
        hint = did_you_mean(alias, model.aliases) or f"upturn models alias {name}:N {alias}"
        raise NotFound(f"Model {name!r} has no alias {alias!r}.", hint=hint)
    found = model.aliases.get(alias or "champion", model.newest)
    if found is None:
        raise NotFound(f"Model {name!r} has no version.", hint="Register one: up.register")
    return model.name, found


def _before(client: Client, model: str, number: int) -> int | None:
    from upturn.api.models import LIST_VERSIONS, ListVersions
    from upturn.api.paging import cursor_of

    asked = ListVersions(model=model, limit=1, cursor=cursor_of(number))
    found = client.call(LIST_VERSIONS, asked).items
    return found[0].number if found else None


def _named(ref: str) -> tuple[str, int | None]:
    name, colon, number = ref.rpartition(":")
    if not colon:
        return ref, None
    if not name or not number.isdecimal():
        raise click.UsageError(f"{ref!r} is no model or version. Write delays, or delays:7.")
    return name, int(number)


def _pointers(aliases: dict[str, int], protected: tuple[str, ...]) -> str:
    return ", ".join(
        f"{alias} :{number}" + (" (protected)" if alias in protected else "")
        for alias, number in aliases.items()
    )


def _number(number: int) -> str:
    return f":{number}" if number else "none"


def _print_json(*items: Any) -> None:
    import msgspec

    for item in items:
        click.echo(msgspec.json.encode(item).decode())
