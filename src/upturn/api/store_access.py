"""Access to the store's calls: which role one takes, and of which project things are."""

from collections.abc import Iterable

from upturn.api.operation import Ask, Asker
from upturn.core.access import Role, reaches
from upturn.core.naming import Model
from upturn.core.record import Record
from upturn.core.records import Endpoint, Run
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
        self._meta = ask.workspace.meta
        self._own = ask.workspace.settings.project
        self._runs: dict[str, str | None] = {}
        self._models: dict[str, str] = {}

    def hear(self, records: Iterable[Record]) -> None:
        """Runs that are just being put."""
        for record in records:
            if isinstance(record, Run) and self._meta.find(Run, record.id) is None:
                self._runs[record.id] = record.project

    def of(self, record: Record) -> str | None:
        """The project of a record; None when it can't be told."""
        table = type(record).table
        if isinstance(record, Run):
            return record.project
        if table in _BY_RUN:
            return self.of_run(getattr(record, "run"))  # noqa: B009
        if isinstance(record, Model):
            return self.of_model(record.name) if self._knows(record.name) else record.project
        if isinstance(record, Endpoint):
            return self.of_model(record.model_name)
        return self.of_model(getattr(record, "model")) if table in _BY_MODEL else None  # noqa: B009

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

    def _knows(self, name: str) -> bool:
        return self._meta.find(Model, name) is not None


def may_see(ask: Ask, project: str | None) -> bool:
    """Whether things of the project are whoever asks' to see; no, where it can't be told."""
    return project is not None and ask.asker.may_see(project)


_BY_RUN = ("run_state", "task", "task_state", "metric", "exhibit")
_BY_MODEL = ("version", "alias", "route")
TOLD = frozenset({"run", "model", "endpoint", *_BY_RUN, *_BY_MODEL})
