"""Call: the circumstances of one request of an MLflow client; Route: what answers it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

from upturn.adapters.mlflow.reading import Ask
from upturn.core.ids import task_path
from upturn.core.records import Task
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
    task: tuple[str, str] | None = None  # that asks, if one does: its run, and its scope there

    def scope_in(self, run: str) -> str:
        """The scope in the run of what is logged now: the task's, or '' for the run itself."""
        return self.task[1] if self.task is not None and self.task[0] == run else ""

    @property
    def task_run(self) -> str | None:
        """The run of the task that asks, if one does."""
        return self.task[0] if self.task is not None and self.task_path is not None else None

    @property
    def task_path(self) -> str | None:
        """The path of the task that asks, if there is such a task, of a run that it may see."""
        if self.task is None:
            return None
        return self.known_task(f"run/{self.task[0]}/{self.task[1]}")

    def known_task(self, path: str) -> str | None:
        """The path, if it is that of a task of a run that who asks may see."""
        parts = path.split("/")
        if len(parts) != 4 or parts[0] != "run" or not parts[3].isdecimal():
            return None
        row = self.workspace.tracking.rows([parts[1]]).get(parts[1])
        if row is None or not self.sees(row.project):
            return None
        task = self.workspace.meta.find(Task, parts[1], parts[2], int(parts[3]))
        return None if task is None else task_path(task.run, task.step, task.index)

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


def call_of(
    workspace: Workspace,
    asker: Asker | None,
    now: datetime,
    task: tuple[str, str] | None = None,
) -> Call:
    """The circumstances; a token for one project alone works in that one."""
    asker = asker or Anyone(who())
    projects = asker.projects
    project = workspace.settings.project
    if projects is not None and project not in projects and projects:
        project = min(projects)
    return Call(workspace, project, asker, now, task)


class Nothing(Ask, frozen=True, kw_only=True):
    """A request without fields."""
