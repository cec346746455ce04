"""MLflow's registered models: our models."""

from typing import Any

from upturn.adapters.mlflow.call import Call, Route
from upturn.adapters.mlflow.errors import EXISTS, MISSING, MlflowError, wrong_type
from upturn.adapters.mlflow.limits import check_name
from upturn.adapters.mlflow.model_nouns import (
    PROMPT,
    STAGES,
    check_alias,
    check_alias_is_free,
    check_model_name,
    check_model_tag,
    get_model,
    get_version,
    model_json,
    seen_model,
    seen_version,
    stage_of,
    tag_by_itself,
    tags_of,
    version_json,
)
from upturn.adapters.mlflow.model_search import find_models, find_versions
from upturn.adapters.mlflow.reading import Ask, Int64, KeyValue
from upturn.core.errors import Conflict
from upturn.core.ids import version_path
from upturn.core.records import Version
from upturn.model.aliases import aliases_of, remove_alias, set_alias
from upturn.model.catalog import create_model, describe, find_model, remove_model, rename_model
from upturn.model.finding import is_removed, model_path

_MODELS_MOST = 1000
_VERSIONS_MOST = 200_000


class CreateModel(Ask, frozen=True, kw_only=True):
    """A new registered model."""

    needs = ("name",)

    name: str = ""
    tags: list[KeyValue] = []
    description: str | None = None


class OneModel(Ask, frozen=True, kw_only=True):
    """A registered model."""

    needs = ("name",)

    name: str = ""


class UpdateModel(OneModel, frozen=True, kw_only=True):
    """A registered model's description."""

    description: str = ""


class RenameModel(OneModel, frozen=True, kw_only=True):
    """A registered model's new name."""

    needs = ("name", "new_name")

    new_name: str = ""


class LatestVersions(OneModel, frozen=True, kw_only=True):
    """The newest versions of a registered model, in stages."""

    stages: list[str] = []


class SetModelTag(OneModel, frozen=True, kw_only=True):
    """A tag of a registered model."""

    needs = ("name", "key")

    key: str = ""
    value: str = ""


class Aliased(OneModel, frozen=True, kw_only=True):
    """An alias of a registered model."""

    needs = ("name", "alias")

    alias: str = ""


class SetAlias(Aliased, frozen=True, kw_only=True):
    """The version that an alias points to."""

    needs = ("name", "alias", "version")

    version: str = ""


class Search(Ask, frozen=True, kw_only=True):
    """What registered models, or versions, are searched for."""

    filter: str = ""
    max_results: Int64 | None = None
    order_by: list[str] = []
    page_token: str = ""


def create(call: Call, asked: CreateModel) -> Any:
    """Make a registered model."""
    check_model_name(asked.name)
    tags = tags_of(asked.tags)
    existing = find_model(call.workspace, asked.name)
    if existing is not None:
        removed = is_removed(call.workspace, model_path(asked.name))
        if not removed or not call.sees(existing.project):
            _refuse_existing(call, asked.name, tags)
    who = call.asker.name
    try:
        create_model(
            call.workspace, asked.name, project=call.project, who=who, now=call.now, checked=False
        )
    except Conflict:
        _refuse_existing(call, asked.name, tags)
    path = model_path(asked.name)
    before = call.workspace.tracking.tags([path])[path]  # of one that was removed
    changed: dict[str, str | None] = {**dict.fromkeys(before), **tags}
    if changed:
        call.workspace.tracking.tag(path, changed)
    if asked.description is not None or existing is not None:
        describe(call.workspace, path, asked.description or "", now=call.now, who=who)
    return _answer(call, asked.name)


def _refuse_existing(call: Call, name: str, tags: dict[str, str]) -> None:
    path = model_path(name)
    before = call.workspace.tracking.tags([path])[path]
    old, new = (
        "Prompt" if said.get(PROMPT, "").lower() == "true" else "Registered Model"
        for said in (before, tags)
    )
    if old == new:
        raise MlflowError(f"{new} (name={name}) already exists.", EXISTS)
    raise MlflowError(
        f"Tried to create a {new.lower()} with name {name!r}, but the name is already taken by a "
        f"{old.lower()}. MLflow does not allow creating a model and a prompt with the same name.",
        EXISTS,
    )


def get(call: Call, asked: OneModel) -> Any:
    """A registered model."""
    return _answer(call, asked.name)


def update(call: Call, asked: UpdateModel) -> Any:
    """Describe a registered model."""
    model = get_model(call, asked.name)
    who = call.asker.name
    describe(call.workspace, model_path(model.name), asked.description, now=call.now, who=who)
    return _answer(call, model.name)


def rename(call: Call, asked: RenameModel) -> Any:
    """Call a registered model something else."""
    check_model_name(asked.new_name, "new_name")
    model = get_model(call, asked.name)
    if asked.new_name == model.name:
        return _answer(call, model.name)
    versions = call.workspace.meta.select(Version, model=model.name)
    try:
        rename_model(
            call.workspace,
            model.name,
            asked.new_name,
            now=call.now,
            who=call.asker.name,
            checked=False,
        )
    except Conflict as error:
        raise MlflowError(
            f"Registered Model (name={asked.new_name}) already exists. Error: {error}", EXISTS
        ) from None
    paths = {model_path(model.name): model_path(asked.new_name)}
    for version in versions:
        at = version_path(model.name, version.number)
        paths[at] = version_path(asked.new_name, version.number)
    for path, tags in call.workspace.tracking.tags(paths).items():
        if tags:
            call.workspace.tracking.tag(paths[path], tags)
    return _answer(call, asked.new_name)


def delete(call: Call, asked: OneModel) -> None:
    """Remove a registered model."""
    model = get_model(call, asked.name)
    remove_model(call.workspace, model.name, why="MLflow", now=call.now, who=call.asker.name)


def search(call: Call, asked: Search) -> Any:
    """Registered models that fit."""
    found, token = find_models(
        call, asked.filter, asked.order_by, _most(asked, 100, _MODELS_MOST), asked.page_token
    )
    answer: dict[str, Any] = {}
    if found:
        answer["registered_models"] = [model_json(one) for one in found]
    return {**answer, "next_page_token": token} if token else answer


def search_versions(call: Call, asked: Search) -> Any:
    """Versions that fit."""
    most = _most(asked, 10_000, _VERSIONS_MOST)
    found, token = find_versions(call, asked.filter, asked.order_by, most, asked.page_token)
    answer: dict[str, Any] = {}
    if found:
        answer["model_versions"] = [version_json(one, aliases) for one, aliases in found]
    return {**answer, "next_page_token": token} if token else answer


def _most(asked: Search, usual: int, limit: int) -> int:
    most = usual if asked.max_results is None else asked.max_results
    if most > limit:
        raise wrong_type("max_results", str(most))  # as MLflow says it of what its query has
    if most < 1:
        raise MlflowError(
            f"Invalid value for max_results. It must be a positive integer, but got {most}"
        )
    return most


def latest(call: Call, asked: LatestVersions) -> Any:
    """The newest version of each stage."""
    seen = seen_model(call, get_model(call, asked.name))
    wanted = set(map(stage_of, asked.stages)) or set(STAGES)
    found = [one for one in seen.latest if one.stage in wanted]
    if not found:
        return {}
    return {"model_versions": [version_json(one, seen.aliases) for one in found]}


def set_tag(call: Call, asked: SetModelTag) -> None:
    """Tag a registered model."""
    check_model_name(asked.name)
    check_model_tag(asked.key, asked.value)
    model = get_model(call, asked.name)
    tag_by_itself(call, model_path(model.name), asked.key, asked.value)


def delete_tag(call: Call, asked: SetModelTag) -> None:
    """Take a tag from a registered model, if it has it."""
    check_model_name(asked.name)
    check_name(asked.key, "key")
    model = get_model(call, asked.name)
    tag_by_itself(call, model_path(model.name), asked.key, None)


def set_model_alias(call: Call, asked: SetAlias) -> None:
    """Point an alias to a version."""
    check_model_name(asked.name)
    check_alias(asked.alias)
    check_alias_is_free(asked.alias)
    version = get_version(call, asked.name, asked.version)
    set_alias(
        call.workspace,
        version.model,
        asked.alias,
        version.number,
        why="MLflow",
        now=call.now,
        who=call.asker.name,
        checked=False,
    )


def delete_alias(call: Call, asked: Aliased) -> None:
    """Let an alias point to none."""
    check_model_name(asked.name)
    check_alias(asked.alias)
    model = get_model(call, asked.name)
    who = call.asker.name
    remove_alias(call.workspace, model.name, asked.alias, why="MLflow", now=call.now, who=who)


def by_alias(call: Call, asked: Aliased) -> Any:
    """The version that an alias points to."""
    check_model_name(asked.name)
    check_alias(asked.alias)
    model = get_model(call, asked.name)
    if asked.alias.lower() == "latest":
        seen = seen_model(call, model)
        if not seen.latest:
            raise MlflowError(f"Latest version not found for model {model.name}.", MISSING)
        return {"model_version": version_json(seen.latest[-1], seen.aliases)}
    aliases = aliases_of(call.workspace, model.name)
    number = aliases.get(asked.alias)
    if number is None:
        raise MlflowError(f"Registered model alias {asked.alias} not found.")
    version = get_version(call, model.name, str(number))
    return {"model_version": version_json(seen_version(call, version), aliases)}


def _answer(call: Call, name: str) -> dict[str, Any]:
    return {"registered_model": model_json(seen_model(call, get_model(call, name)))}


ROUTES = (
    Route("POST", "registered-models/create", CreateModel, create),
    Route("GET", "registered-models/get", OneModel, get, "viewer"),
    Route("PATCH", "registered-models/update", UpdateModel, update),
    Route("POST", "registered-models/rename", RenameModel, rename),
    Route("DELETE", "registered-models/delete", OneModel, delete),
    Route("GET", "registered-models/search", Search, search, "viewer"),
    Route("POST", "registered-models/get-latest-versions", LatestVersions, latest, "viewer"),
    Route("GET", "registered-models/get-latest-versions", LatestVersions, latest, "viewer"),
    Route("POST", "registered-models/set-tag", SetModelTag, set_tag),
    Route("DELETE", "registered-models/delete-tag", SetModelTag, delete_tag),
    Route("POST", "registered-models/alias", SetAlias, set_model_alias),
    Route("DELETE", "registered-models/alias", Aliased, delete_alias),
    Route("GET", "registered-models/alias", Aliased, by_alias, "viewer"),
    Route("GET", "model-versions/search", Search, search_versions, "viewer"),
)
