"""Access to the store's calls: which role one takes, and of which project things are."""

from collections.abc import Iterable

import msgspec

from upturn.api.operation import Ask, Asker
from upturn.api.store_blobs import may_read, refuse_strange
from upturn.api.visible import project_of
from upturn.core.access import Role, reaches
from upturn.core.errors import Conflict
from upturn.core.naming import Group, Model
from upturn.core.record import Record
from upturn.core.records import Artifact, Edge, Endpoint, Memo, Run, TaskState, Version
from upturn.deploy.serve.problems import Forbidden


def refuse_below(asker: Asker, role: Role, what: str) -> None:
    """Raise Forbidden unless whoever asks has the role, or a higher one."""
    if not reaches(asker.role, role):
        raise Forbidden(
            f"{asker.name} may not {what}: that takes the role {role}, and theirs is {asker.role}.",
            hint="Ask an admin for a token of that role: upturn tokens",
        )


def refuse_narrow(asker: Asker, what: str) -> None:
    """Raise Forbidden for whoever is limited to projects: it can't be told which `what` is of."""
    if asker.projects is not None:
        raise Forbidden(
            f"{asker.name} is limited to projects, and of {what} it can't be told whose they are.",
            hint="Use a token of all projects here, or the API at /api/v1.",
        )


class Projects:
    """Which project things are of; looked up once for each in a call."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._meta = ask.workspace.meta
        self._own = ask.workspace.settings.project
        self._runs: dict[str, str | None] = {}
        self._models: dict[str, str] = {}
        self._endpoints: dict[str, str] = {}  # that are just being put, with their models

    def hear(self, records: Iterable[Record]) -> None:
        """Runs, models and endpoints that are just being put."""
        for record in records:
            if isinstance(record, Run) and self._meta.find(Run, record.id) is None:
                self._runs[record.id] = record.project
            elif isinstance(record, Model) and not self._knows(record.name):
                self._models[record.name] = record.project
            elif isinstance(record, Endpoint) and self._meta.find(Endpoint, record.name) is None:
                self._endpoints[record.name] = record.model_name

    def of(self, record: Record) -> str | None:
        """The project of a record; None when it can't be told."""
        table = type(record).table
        if isinstance(record, Run):
            return record.project
        if table in _BY_RUN:
            return self.of_run(getattr(record, "run"))  # noqa: B009
        if isinstance(record, Model):
            return self.of_model(record.name)
        if isinstance(record, Endpoint):
            return self.of_model(record.model_name)
        if isinstance(record, Group):
            return self.of_path(f"group/{record.id}") or record.project
        if isinstance(record, Memo):
            return record.only or self.of_path(record.task)
        if table in _BY_PATH:
            return self.of_path(getattr(record, "path"))  # noqa: B009
        return self.of_model(getattr(record, "model")) if table in _BY_MODEL else None  # noqa: B009

    def of_path(self, path: str) -> str | None:
        """The project of what a path names; None for what is in none, as bytes are."""
        kind, _, rest = path.partition("/")
        name = rest.partition("/")[0]
        match kind:
            case "run":
                return self.of_run(name)
            case "model":
                return self.of_model(rest)
            case "version":
                return self.of_model(rest.rpartition(":")[0])
            case "endpoint" | "route" if name in self._endpoints:
                return self.of_model(self._endpoints[name])
            case _:
                return project_of(self._ask, path)

    def may_see(self, record: Record) -> bool:
        """Whether the record is whoever asks' to see."""
        if isinstance(record, Artifact):
            return may_read(self._ask, record.digest)
        if isinstance(record, Edge):
            ends = [end for end in (record.source, record.target) if not _is_shared(end)]
            return bool(ends) and all(may_see(self._ask, self.of_path(end)) for end in ends)
        return may_see(self._ask, self.of(record))

    def refuse_put(self, record: Record) -> None:
        """Raise Forbidden for a record that is not whoever asks' to put."""
        table = type(record).table
        if table not in TOLD:
            refuse_narrow(self._ask.asker, f"{table} records")
        if isinstance(record, Group) and record.seq == 1 and not self.may_see(record):
            raise Conflict(f"There is a group {record.id} already.")  # of which they may not know
        if not isinstance(record, Artifact) and not self.may_see(record):
            raise Forbidden(
                f"{self._ask.asker.name} may not put this {table}: it is of another project.",
                hint="Name a project of the token's: it is the project in upturn.toml.",
            )
        for path in _led_to(record):
            if not may_see(self._ask, self.of_path(path)):
                raise Forbidden(
                    f"{self._ask.asker.name} may not put this {table}: it refers to {path[:100]}, "
                    "which is of another project."
                )
        refuse_strange(self._ask, record)

    def for_them_alone(self, record: Record) -> Record:
        """What is put of it: what is remembered holds in the project where it was made alone."""
        theirs = self._ask.asker.projects
        if theirs is None or not isinstance(record, Memo):
            return record
        made_in = self.of_path(record.task)
        if made_in is None and record.task.startswith("env/"):  # an environment, made for any run
            made_in = min(theirs)
        return msgspec.structs.replace(record, only=made_in or "")

    def of_run(self, run: str) -> str | None:
        """The project of a run; None when there is no such run."""
        if run not in self._runs:
            found = self._meta.find(Run, run)
            self._runs[run] = None if found is None else found.project
        return self._runs[run]

    def of_model(self, name: str) -> str:
        """The project of a model: the workspace's own unless it is said."""
        if name not in self._models:
            found = self._meta.find(Model, name)
            self._models[name] = self._own if found is None else found.project
        return self._models[name]

    def _knows(self, model: str) -> bool:
        """Whether there is such a model: versions of one that was never named are some."""
        meta = self._meta
        return meta.find(Model, model) is not None or meta.find(Version, model) is not None


def may_see(ask: Ask, project: str | None) -> bool:
    """Whether things of the project are whoever asks' to see; no, where it can't be told."""
    return project is not None and ask.asker.may_see(project)


def _is_shared(path: str) -> bool:
    return path.partition("/")[0] in _SHARED


def _led_to(record: Record) -> list[str]:
    """Paths of what a record takes up: a run's parent, whose output was reused."""
    if isinstance(record, Run):
        found = [f"run/{record.parent}" if record.parent else "", record.rerun_of or ""]
    else:
        found = [record.reused_from or ""] if isinstance(record, TaskState) else []
    return [path for path in found if path]


_SHARED = frozenset({"artifact", "code", "file", "environ"})  # named by what is in them
_BY_PATH = ("description", "removal", "pin")
_BY_RUN = ("run_state", "task", "task_state", "metric", "exhibit")
_BY_MODEL = ("version", "alias", "route", "protection", "proposal", "stage")
_OTHERS = ("run", "model", "endpoint", "group", "memo", "artifact", "edge")
TOLD = frozenset({*_OTHERS, *_BY_RUN, *_BY_MODEL, *_BY_PATH})
