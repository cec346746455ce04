"""Operation: one thing that can be asked of a workspace, with its typed request and answer."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

import msgspec

from upturn.core.access import Role
from upturn.core.time import utcnow
from upturn.core.who import who
from upturn.stores.workspace import Workspace

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is asked: fields of the path, of the query (GET, DELETE) or of the body (the others)."""


Q = TypeVar("Q", bound=Request)
A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks, and what they may: `projects` is None for all of them."""

    name: str
    role: Role = "admin"
    projects: frozenset[str] | None = None
    token: str = ""  # the id of the token that they came with

    def may_see(self, project: str) -> bool:
        """Whether things of the project are theirs to see."""
        return self.projects is None or project in self.projects


@dataclass(frozen=True, slots=True)
class Ask:
    """The circumstances of a request: on which workspace, by whom, and when."""

    workspace: Workspace
    asker: Asker
    now: datetime


def ask_here(workspace: Workspace) -> Ask:
    """The circumstances of who works on a workspace directly: everything is theirs."""
    return Ask(workspace, Asker(who()), utcnow())


@dataclass(frozen=True, slots=True)
class Operation(Generic[Q, A]):
    """One thing that can be asked. `do` is synchronous, and raises UpturnError for what is wrong.

    The docstring of `do` is its description; the fields of `{…}` in `path` are fields of `asks`.
    """

    name: str  # 'runs.list': the resource, and what is done
    method: Method
    path: str  # '/api/v1/runs/{run}'
    asks: type[Q]
    answers: type[A]
    do: Callable[[Ask, Q], A]
    role: Role = "viewer"
    status: int = 200
    tags: tuple[str, ...] = field(default=())
    page: Callable[[A], str] | None = None  # the answer as HTML, for whom accepts that

    def __call__(self, ask: Ask, request: Q) -> A:
        """Do it here."""
        return self.do(ask, request)


class Page(msgspec.Struct, Generic[A], frozen=True):
    """A part of a list, and the cursor that the next part is asked for with; '' after the last."""

    items: tuple[A, ...]
    cursor: str = ""


AnyOperation = Operation[Any, Any]
