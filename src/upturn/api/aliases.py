"""Aliases: what points to versions, how it came to, and whom a move needs the approval of."""

from typing import Literal

import msgspec

from upturn.api.model_answers import seen_model, seen_version
from upturn.api.operation import AnyOperation, Ask, Operation, Request
from upturn.core.naming import Proposal, Protection
from upturn.model.aliases import (
    Move,
    alias_history,
    aliases_of,
    answer_proposal,
    check_name,
    get_alias,
    proposals,
    propose,
    protect,
    remove_alias,
    set_alias,
)


class Pointer(msgspec.Struct, frozen=True, kw_only=True):
    """That an alias points to a version; 0: to none."""

    model: str
    alias: str
    number: int


class OfModel(Request, frozen=True, kw_only=True):
    """Those of a model."""

    model: str


class History(Request, frozen=True, kw_only=True):
    """The moves of a model's aliases, or of one."""

    model: str
    alias: str = ""


class SetAlias(Request, frozen=True, kw_only=True):
    """Where an alias shall point to, and why."""

    model: str
    alias: str
    version: int
    why: str = ""


class RemoveAlias(Request, frozen=True, kw_only=True):
    """An alias that shall point to none, and why."""

    model: str
    alias: str
    why: str = ""


class Protect(Request, frozen=True, kw_only=True):
    """Whether an alias is only moved to what somebody else approved."""

    model: str
    alias: str
    on: bool = True
    why: str = ""


class Propose(Request, frozen=True, kw_only=True):
    """That an alias be allowed to point to a version."""

    model: str
    alias: str
    version: int
    why: str = ""


class Answer(Request, frozen=True, kw_only=True):
    """What somebody else says to that."""

    model: str
    alias: str
    version: int
    status: Literal["approved", "rejected"]
    why: str = ""


def _list(ask: Ask, request: OfModel) -> tuple[Pointer, ...]:
    """The aliases of a model, and where they point to."""
    name = seen_model(ask, request.model).name
    found = aliases_of(ask.workspace, name).items()
    return tuple(Pointer(model=name, alias=alias, number=number) for alias, number in found)


def _history(ask: Ask, request: History) -> tuple[Move, ...]:
    """How a model's aliases were moved: by whom, when, from what to what, and why."""
    name = seen_model(ask, request.model, removed=True).name
    return tuple(alias_history(ask.workspace, name, request.alias or None))


def _set(ask: Ask, request: SetAlias) -> Pointer:
    """Point an alias to a version. Where a rule asks for an approval that lacks: a conflict."""
    version = seen_version(ask, request.model, request.version)
    set_alias(
        ask.workspace,
        version.model,
        request.alias,
        version.number,
        why=request.why,
        now=ask.now,
        who=ask.asker.name,
    )
    return Pointer(model=version.model, alias=request.alias, number=version.number)


def _remove(ask: Ask, request: RemoveAlias) -> Pointer:
    """Let an alias point to none."""
    name = seen_model(ask, request.model).name
    get_alias(ask.workspace, name, request.alias)
    who = ask.asker.name
    remove_alias(ask.workspace, name, request.alias, why=request.why, now=ask.now, who=who)
    return Pointer(model=name, alias=request.alias, number=0)


def _protect(ask: Ask, request: Protect) -> Protection:
    """Let an alias only be moved to what somebody else approved, or by anybody again."""
    name = seen_model(ask, request.model).name
    return protect(
        ask.workspace,
        name,
        request.alias,
        on=request.on,
        why=request.why,
        who=ask.asker.name,
        now=ask.now,
    )


def _propose(ask: Ask, request: Propose) -> Proposal:
    """Ask for the approval of a version."""
    check_name(request.alias, "an alias")
    version = seen_version(ask, request.model, request.version)
    return propose(
        ask.workspace,
        version.model,
        request.alias,
        version.number,
        why=request.why,
        who=ask.asker.name,
        now=ask.now,
    )


def _answer(ask: Ask, request: Answer) -> Proposal:
    """Approve what somebody else asked for, or reject it."""
    version = seen_version(ask, request.model, request.version)
    return answer_proposal(
        ask.workspace,
        version.model,
        request.alias,
        version.number,
        status=request.status,
        why=request.why,
        who=ask.asker.name,
        now=ask.now,
    )


def _proposals(ask: Ask, request: OfModel) -> tuple[Proposal, ...]:
    """What was asked for and answered, oldest first."""
    return tuple(proposals(ask.workspace, seen_model(ask, request.model).name))


_MODEL = "/api/v1/models/{model}"
_ALIAS = "/api/v1/models/{model}/aliases/{alias}"

LIST_ALIASES = Operation(
    "aliases.list", "GET", f"{_MODEL}/aliases", OfModel, tuple[Pointer, ...], _list
)
ALIAS_HISTORY = Operation(
    "aliases.history", "GET", f"{_MODEL}/history", History, tuple[Move, ...], _history
)
SET_ALIAS = Operation("aliases.set", "PUT", _ALIAS, SetAlias, Pointer, _set, "deployer")
REMOVE_ALIAS = Operation(
    "aliases.remove", "DELETE", _ALIAS, RemoveAlias, Pointer, _remove, "deployer"
)
PROTECT = Operation(
    "aliases.protect", "PUT", f"{_ALIAS}/protection", Protect, Protection, _protect, "admin"
)
PROPOSE = Operation(
    "aliases.request", "POST", f"{_ALIAS}/requests", Propose, Proposal, _propose, "editor", 201
)
ANSWER = Operation(
    "aliases.answer", "POST", f"{_ALIAS}/answers", Answer, Proposal, _answer, "deployer", 201
)
PROPOSALS = Operation(
    "aliases.requests", "GET", f"{_MODEL}/requests", OfModel, tuple[Proposal, ...], _proposals
)

OPERATIONS: tuple[AnyOperation, ...] = (
    LIST_ALIASES,
    ALIAS_HISTORY,
    SET_ALIAS,
    REMOVE_ALIAS,
    PROTECT,
    PROPOSE,
    ANSWER,
    PROPOSALS,
)
