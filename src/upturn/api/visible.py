"""Visible: to which project a thing belongs, and whether who asks may see it."""

from upturn.api.operation import Ask
from upturn.core.errors import NotFound, UpturnError
from upturn.core.naming import Group, Model
from upturn.core.records import Endpoint, Run


def project_of_model(ask: Ask, model: str) -> str:
    """The project of a model; one that was never named is in the workspace's own."""
    record = ask.workspace.meta.find(Model, model)
    return record.project if record is not None else ask.workspace.settings.project


def project_of_endpoint(ask: Ask, endpoint: Endpoint) -> str:
    """The project of an endpoint: its model's."""
    return project_of_model(ask, endpoint.model_name)


def project_of(ask: Ask, path: str) -> str | None:
    """The project of what a path names; None for what belongs to none, as a digest does."""
    kind, _, rest = path.partition("/")
    name = rest.split("/")[0]
    match kind:
        case "run":
            run = ask.workspace.meta.find(Run, name)
            return run.project if run is not None else None
        case "version":
            return project_of_model(ask, rest.rpartition(":")[0])
        case "model":
            return project_of_model(ask, rest)
        case "group":
            group = ask.workspace.meta.find(Group, name)
            return group.project if group is not None else None
        case "route" | "endpoint":
            endpoint = ask.workspace.meta.find(Endpoint, name)
            return project_of_endpoint(ask, endpoint) if endpoint is not None else None
        case _:
            return None


def may_see(ask: Ask, path: str) -> bool:
    """Whether who asks may see what the path names."""
    if ask.asker.projects is None:
        return True
    project = project_of(ask, path)
    return project is None or ask.asker.may_see(project)


def seen_endpoint(ask: Ask, name: str) -> Endpoint:
    """The endpoint, for who may see it.

    Raises NotFound when there is none, and likewise when it is not theirs to know of; the names
    that are nearest are a hint for those who may see them all.
    """
    try:
        endpoint = ask.workspace.meta.get(Endpoint, name)
    except NotFound as error:
        raise (error if ask.asker.projects is None else hidden("endpoint", name)) from None
    if not ask.asker.may_see(project_of_endpoint(ask, endpoint)):
        raise hidden("endpoint", name)
    return endpoint


def hidden(kind: str, name: str) -> UpturnError:
    """The error for what is not there, or not there for who asks: both look the same."""
    return NotFound(f"There is no {kind} {name!r}.")
