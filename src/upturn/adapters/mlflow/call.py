"""Call: the circumstances of one request of an MLflow client; Route: what answers it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

from upturn.adapters.mlflow.reading import Ask
from upturn.core.who import who
from upturn.stores.workspace import Workspace

Role = Literal["viewer", "editor", "deployer", "admin"]
ROLES: tuple[Role, ...] = ("viewer", "editor", "deployer", "admin")


class Asker(Protocol):
    """Who asks, as authentication says."""

    @property
    def name(self) -> str:
        """What they are called."""
        ...

    @property
    def role(self) -> Role:
        """What they may do."""
        ...

    @property
    def projects(self) -> frozenset[str] | None:
        """Whose things they see; None for all."""
        ...


@dataclass(frozen=True, slots=True)
class Anyone:
    """Who asks where there is no authentication: whoever works on this machine."""

    name: str
    role: Role = "admin"
    projects: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """The circumstances of a request: on which workspace, in which project, by whom, and when."""

    workspace: Workspace
    project: str  # where what is made goes
    asker: Asker
    now: datetime

    def sees(self, project: str) -> bool:
        """Whether things of the project are for who asks."""
        return self.asker.projects is None or project in self.asker.projects

    @property
    def projects(self) -> tuple[str, ...] | None:
        """The projects that are looked through; None for all."""
        return None if self.asker.projects is None else tuple(sorted(self.asker.projects))


@dataclass(frozen=True, slots=True)
class Route:
    """What answers a method at a path below `/api/…/mlflow`; '{name}' is a field of `asks`.

    `do` returns what is sent as JSON, or None for an empty object. `version` tells apart what
    API versions 2 and 3 have under one path.
    """

    method: str
    path: str
    asks: type[Any]  # a subclass of Ask
    do: Callable[[Call, Any], Any]
    role: Role = "editor"
    version: int | None = None


def call_of(workspace: Workspace, asker: Asker | None, now: datetime) -> Call:
    """The circumstances; a token for one project alone works in that one."""
    asker = asker or Anyone(who())
    projects = asker.projects
    project = workspace.settings.project
    if projects is not None and project not in projects and projects:
        project = min(projects)
    return Call(workspace, project, asker, now)


class Nothing(Ask, frozen=True, kw_only=True):
    """A request without fields."""
