"""Aliases: names that point to versions, their history, and the rule that somebody else agrees."""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec

from upturn.core.errors import Conflict, Invalid, NotFound, Unapproved, did_you_mean
from upturn.core.naming import Proposal, Protection
from upturn.core.records import Alias
from upturn.core.who import who as who_is_it
from upturn.model.finding import get_version
from upturn.stores.workspace import Workspace

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """That an alias was moved: by whom, when, from which version to which (0: none), and why."""

    model: str
    alias: str
    before: int
    after: int
    who: str
    at: datetime
    why: str


def set_alias(
    workspace: Workspace,
    model: str,
    alias: str,
    number: int,
    *,
    why: str,
    now: datetime,
    who: str | None = None,
    checked: bool = True,
) -> Alias:
    """Point an alias of the model to a version; an alias that does already is returned as it is.

    Raises NotFound for a version that does not exist, Invalid for a name that can't be one unless
    its caller has `checked` it by rules of its own, Unapproved where a rule asks for more.
    """
    if checked:
        check_name(alias, "an alias")
    version = get_version(workspace, f"{model}:{number}")
    current = workspace.meta.find(Alias, version.model, alias)
    if current is not None and current.number == version.number:
        return current
    check_approved(workspace, version.model, alias, [number])
    return workspace.meta.add(
        Alias(
            model=version.model,
            name=alias,
            number=number,
            why=why,
            at=now,
            who=who or who_is_it(),
        )
    )


def remove_alias(
    workspace: Workspace, model: str, alias: str, *, why: str, now: datetime, who: str | None = None
) -> Alias | None:
    """Let an alias point to none; None when it did not point anywhere.

    Raises Unapproved for one that is protected: it would be set again without anybody's asking.
    """
    current = workspace.meta.find(Alias, model, alias)
    if current is None or not current.number:
        return None
    if is_protected(workspace, model, alias):
        raise Unapproved(
            f"The alias {alias!r} of {model!r} is protected, and can't be removed.",
            hint=f"Take the rule away first: upturn models protect {model} --alias {alias} --off",
            model=model,
        )
    said = Alias(model=model, name=alias, number=0, why=why, at=now, who=who or who_is_it())
    return workspace.meta.add(said)


def aliases_of(workspace: Workspace, model: str) -> dict[str, int]:
    """The numbers of the versions that the model's aliases point to, by alias."""
    found = workspace.meta.last_each(Alias, model=model)
    return {one.name: one.number for one in found if one.number}


def alias_history(workspace: Workspace, model: str, alias: str | None = None) -> list[Move]:
    """How the aliases of a model, or one of them, were moved, oldest first."""
    where: dict[str, Any] = {"model": model} | ({} if alias is None else {"name": alias})
    last: dict[str, int] = {}
    moves: list[Move] = []
    for one in workspace.meta.select(Alias, **where):
        move = Move(
            model=model,
            alias=one.name,
            before=last.get(one.name, 0),
            after=one.number,
            who=one.who,
            at=one.at,
            why=one.why,
        )
        moves.append(move)
        last[one.name] = one.number
    return moves


def check_name(name: str, noun: str) -> None:
    """Raise Invalid unless the name can be one of a model or an alias."""
    if _NAME.fullmatch(name) is None:
        fitting = re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-_")[:64].lstrip("0123456789-_")
        raise Invalid(
            f"{name!r} can't be the name of {noun}.",
            hint="It takes lower-case letters, digits, _ and -, up to 64, a letter first"
            + (f": {fitting!r}." if fitting else "."),
        )


# The rule that an alias is only moved to what somebody else approved


def protect(
    workspace: Workspace, model: str, alias: str, *, on: bool, why: str, who: str, now: datetime
) -> Protection:
    """Ask for an approval before the alias is moved from now on, or no longer."""
    check_name(alias, "an alias")
    current = workspace.meta.find(Protection, model, alias)
    if current is not None and current.on == on:
        return current
    return workspace.meta.add(Protection(model=model, alias=alias, on=on, why=why, who=who, at=now))


def is_protected(workspace: Workspace, model: str, alias: str) -> bool:
    """Whether the alias is only moved to what somebody else approved."""
    rule = workspace.meta.find(Protection, model, alias)
    return rule is not None and rule.on


def protected_aliases(workspace: Workspace, model: str) -> list[str]:
    """The aliases that are, sorted."""
    return [one.alias for one in workspace.meta.last_each(Protection, model=model) if one.on]


def check_approved(workspace: Workspace, model: str, alias: str, numbers: Sequence[int]) -> None:
    """Raise Unapproved when a rule asks for an approval that one of the versions lacks.

    A version that the alias pointed to before the rule, or by it, may have it again, unless
    somebody has rejected it since.
    """
    if not is_protected(workspace, model, alias):
        return
    said: dict[int, str] = {}
    for one in workspace.meta.select(Proposal, model=model, alias=alias):
        said[one.number] = one.status
    before = {one.number for one in workspace.meta.select(Alias, model=model, name=alias)}
    for number in numbers:
        answer = said.get(number)
        if answer == "approved" or (answer != "rejected" and number in before):
            continue
        hint = f"Ask for it: upturn models request {model}:{number} --alias {alias}"
        if answer == "asked":
            hint = f"Somebody else says: upturn models approve {model}:{number} --alias {alias}"
        how = "was rejected" if answer == "rejected" else "has not been approved"
        raise Unapproved(
            f"{model}:{number} {how} as {alias!r} of {model!r}, which is protected.",
            hint=hint,
            model=model,
            alias=alias,
            version=number,
        )


def propose(
    workspace: Workspace, model: str, alias: str, number: int, *, why: str, who: str, now: datetime
) -> Proposal:
    """Ask for the approval of a version; what was asked or approved already is returned.

    Raises NotFound when there is no such version.
    """
    check_name(alias, "an alias")
    model = get_version(workspace, f"{model}:{number}").model
    said = [one for one in proposals(workspace, model, alias) if one.number == number]
    if said and said[-1].status != "rejected":
        return said[-1]
    return workspace.meta.add(
        Proposal(model=model, alias=alias, number=number, status="asked", why=why, who=who, at=now)
    )


def answer_proposal(
    workspace: Workspace,
    model: str,
    alias: str,
    number: int,
    *,
    status: Literal["approved", "rejected"],
    why: str,
    who: str,
    now: datetime,
) -> Proposal:
    """Approve or reject what was asked for.

    Raises NotFound when nobody asked, and Conflict when the one who asked would approve it.
    """
    said = [one for one in proposals(workspace, model, alias) if one.number == number]
    if not said:
        raise NotFound(
            f"Nobody asked for {model}:{number} as {alias!r}.",
            hint=f"upturn models request {model}:{number} --alias {alias}",
            model=model,
        )
    asked = [one for one in said if one.status == "asked"][-1]
    if status == "approved" and asked.who == who:
        raise Conflict(
            f"{who} asked for {model}:{number} as {alias!r}, and can't approve it, too.",
            hint="Somebody else has to.",
            model=model,
        )
    return workspace.meta.add(
        Proposal(model=model, alias=alias, number=number, status=status, why=why, who=who, at=now)
    )


def proposals(workspace: Workspace, model: str, alias: str | None = None) -> list[Proposal]:
    """What was asked for and answered, oldest first."""
    where: dict[str, Any] = {"model": model} | ({} if alias is None else {"alias": alias})
    return workspace.meta.select(Proposal, **where)


def get_alias(workspace: Workspace, model: str, alias: str) -> int:
    """The number that the alias points to. Raises NotFound when it points to none."""
    known = aliases_of(workspace, model)
    if alias not in known:
        hint = did_you_mean(alias, known) or f"upturn models alias {model}:N {alias}"
        raise NotFound(f"Model {model!r} has no alias {alias!r}.", hint=hint, model=model)
    return known[alias]
