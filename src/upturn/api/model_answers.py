"""Model answers: models, versions and aliases as the API shows them, and who may see which."""

from datetime import datetime
from typing import Any, Literal

import msgspec

from upturn.api.operation import Ask
from upturn.api.visible import project_of_model
from upturn.core.errors import Invalid, NotFound, did_you_mean
from upturn.core.ids import version_path
from upturn.core.naming import Model
from upturn.core.records import Version
from upturn.model.aliases import aliases_of, protected_aliases
from upturn.model.catalog import description_of, find_model, get_model
from upturn.model.finding import (
    current_name,
    get_version,
    is_removed,
    list_models,
    list_versions,
    model_path,
    no_model,
)


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A model as lists show it."""

    name: str
    project: str
    who: str
    created_at: datetime
    updated_at: datetime
    description: str
    tags: dict[str, str]
    aliases: dict[str, int]
    protected: tuple[str, ...]  # aliases that are only moved to what somebody else approved
    versions: int
    newest: int | None
    removed: bool


class VersionInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A version as lists show it."""

    model: str
    number: int
    at: datetime
    run: str | None
    format: Literal["value", "mlflow"]
    artifact: str
    data: str | None
    params: dict[str, Any]
    metrics: dict[str, float]
    description: str
    tags: dict[str, str]
    aliases: tuple[str, ...]
    removed: bool


def seen_model(ask: Ask, name: str, *, removed: bool = False) -> Model:
    """The model of that name, or what it was renamed to, when the asker may see it.

    Raises NotFound when not, when there is none, and unless it may be `removed`, when it was.
    """
    current = current_name(ask.workspace, name)
    found = find_model(ask.workspace, current)
    if found is not None and ask.asker.may_see(found.project):
        return found if removed else get_model(ask.workspace, current)
    if ask.asker.projects is None:
        raise no_model(ask.workspace, current)
    # Whether there is one that is not theirs shows in nothing, not in a hint either.
    theirs = [
        model
        for model in list_models(ask.workspace)
        if ask.asker.may_see(project_of_model(ask, model))
    ]
    raise NotFound(f"No model {name!r}.", hint=did_you_mean(name, theirs), model=name)


def seen_version(ask: Ask, model: str, number: int) -> Version:
    """The version of a model that the asker may see."""
    return get_version(ask.workspace, f"{seen_model(ask, model).name}:{number}")


def project_for(ask: Ask, project: str) -> str:
    """Where something new belongs: the project that is said, else the asker's only one, else the
    workspace's own. Raises Invalid for one that the asker may not see.
    """
    projects = ask.asker.projects
    if not project and projects is not None and len(projects) == 1:
        return next(iter(projects))
    project = project or ask.workspace.settings.project
    if not ask.asker.may_see(project):
        raise Invalid(f"The project {project!r} is not yours.", hint="Say which: project=")
    return project


def model_info(ask: Ask, model: Model) -> ModelInfo:
    """The model as lists show it."""
    workspace, path = ask.workspace, model_path(model.name)
    removed = is_removed(workspace, path)
    held = workspace.meta.find(Version, model.name) is not None
    versions = list_versions(workspace, model.name) if held and not removed else []
    return ModelInfo(
        name=model.name,
        project=model.project,
        who=model.who,
        created_at=model.created_at,
        updated_at=max([model.at, *(one.at for one in versions[-1:])]),
        description=description_of(workspace, path),
        tags=tags_of(ask, path),
        aliases=aliases_of(workspace, model.name),
        protected=tuple(protected_aliases(workspace, model.name)),
        versions=len(versions),
        newest=versions[-1].number if versions else None,
        removed=removed,
    )


def version_info(ask: Ask, version: Version) -> VersionInfo:
    """The version as lists show it."""
    path = version_path(version.model, version.number)
    pointing = aliases_of(ask.workspace, version.model).items()
    return VersionInfo(
        model=version.model,
        number=version.number,
        at=version.at,
        run=version.run,
        format=version.format,
        artifact=version.artifact,
        data=version.data,
        params=version.params,
        metrics=version.metrics,
        description=description_of(ask.workspace, path),
        tags=tags_of(ask, path),
        aliases=tuple(alias for alias, number in pointing if number == version.number),
        removed=is_removed(ask.workspace, path),
    )


def tags_of(ask: Ask, path: str) -> dict[str, str]:
    """The tags of a thing."""
    return ask.workspace.tracking.tags([path])[path]
