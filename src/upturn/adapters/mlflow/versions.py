"""MLflow's model versions: our versions, whose models are folders of files with an MLmodel."""

from typing import Any

import msgspec

from upturn.adapters.mlflow.call import Call, Route
from upturn.adapters.mlflow.errors import MlflowError
from upturn.adapters.mlflow.joining import TASK
from upturn.adapters.mlflow.limits import check_name
from upturn.adapters.mlflow.logged_models import tags_path
from upturn.adapters.mlflow.model_nouns import (
    ACTIVE,
    MODEL_ID,
    PROMPT,
    RUN_LINK,
    check_model_name,
    check_model_tag,
    get_model,
    get_version,
    number_of,
    own_location,
    seen_version,
    stage_of,
    tag_by_itself,
    tags_of,
    version_json,
)
from upturn.adapters.mlflow.own_models import offer
from upturn.adapters.mlflow.reading import Ask, KeyValue
from upturn.adapters.mlflow.sources import Source, source_of, stored_at
from upturn.core.catalog import CatalogSearch, Compare, VersionRow
from upturn.core.ids import version_path
from upturn.core.naming import Stage
from upturn.core.records import Version
from upturn.model.aliases import aliases_of
from upturn.model.catalog import describe, remove_version
from upturn.model.mlflow_model import version_of_files
from upturn.model.registry import put_version

_ALL = 1_000_000  # versions of a model
_VERSIONS = "mlflow.modelVersions"  # the tag of a logged model that says so


class CreateVersion(Ask, frozen=True, kw_only=True):
    """A new version of a registered model."""

    needs = ("name", "source")

    name: str = ""
    source: str = ""
    run_id: str | None = None
    tags: list[KeyValue] = []
    run_link: str = ""
    description: str | None = None
    model_id: str | None = None


class OneVersion(Ask, frozen=True, kw_only=True):
    """A version."""

    needs = ("name", "version")

    name: str = ""
    version: str = ""


class FetchedVersion(OneVersion, frozen=True, kw_only=True):
    """A version whose files are asked for, which MLflow checks otherwise."""

    needs = ()


class UpdateVersion(OneVersion, frozen=True, kw_only=True):
    """A version's description."""

    description: str | None = None


class Transition(OneVersion, frozen=True, kw_only=True):
    """A version's new stage."""

    needs = ("name", "version", "stage")

    stage: str = ""
    archive_existing_versions: bool = False


class VersionTag(OneVersion, frozen=True, kw_only=True):
    """A tag of a version."""

    needs = ("name", "version", "key")

    key: str = ""
    value: str = ""


def create(call: Call, asked: CreateVersion) -> Any:
    """Register a folder of files, by where it is, as the next version."""
    check_model_name(asked.name)
    tags = tags_of(asked.tags)
    model = get_model(call, asked.name)
    source = source_of(
        call,
        asked.source,
        run=asked.run_id,
        model_id=asked.model_id,
        is_prompt=tags.get(PROMPT, "").lower() == "true",
    )
    version = _version(call, model.name, source)
    if (task := _task_of(call, source.model_id)) is not None:
        version = msgspec.structs.replace(version, task=task)
    made = put_version(
        call.workspace, version, who=call.asker.name, project=call.project, always=True
    )
    path = version_path(made.model, made.number)
    if asked.run_link:
        tags[RUN_LINK] = asked.run_link
    if source.model_id:
        tags[MODEL_ID] = source.model_id
    if tags:
        call.workspace.tracking.tag(path, tags)
    if source.model_id:
        _tell_logged_model(call, source.model_id, made)
    if asked.description is not None:
        describe(call.workspace, path, asked.description, now=call.now, who=call.asker.name)
    return _answer(call, made)


def _version(call: Call, model: str, source: Source) -> Version:
    """The version, not yet numbered."""
    if source.same is not None:
        changed = {"model": model, "number": 0, "at": call.now, "run": source.run or None}
        return msgspec.structs.replace(source.same, **changed, source=source.uri)
    place = source.place
    files = call.workspace.tracking.files(place.owner, under=place.path) if place else []
    prefix = f"{place.path}/" if place is not None and place.path else ""
    below = {
        file.path.removeprefix(prefix): file.digest
        for file in files
        if file.path.startswith(prefix)
    }
    return version_of_files(
        call.workspace, model, below, source=source.uri, run=source.run or None, now=call.now
    )


def _task_of(call: Call, model_id: str) -> str | None:
    """The task that registers the model, or in which it was logged: that is among its tags."""
    if call.task is not None or not model_id:
        return call.task_path
    path = tags_path(model_id)
    return call.known_task(call.workspace.tracking.tags([path])[path].get(TASK, ""))


def _tell_logged_model(call: Call, model_id: str, made: Version) -> None:
    """Note on the logged model that it is a version, as clients look for it."""
    path = tags_path(model_id)
    said = call.workspace.tracking.tags([path])[path].get(_VERSIONS, "[]")
    entry = {"name": made.model, "version": made.number}
    try:
        known = msgspec.json.decode(said, type=list[dict[str, Any]])
    except msgspec.DecodeError:
        known = []
    if entry not in known:
        text = msgspec.json.encode([*known, entry]).decode()
        call.workspace.tracking.tag(path, {_VERSIONS: text})


def get(call: Call, asked: OneVersion) -> Any:
    """A version."""
    return _answer(call, get_version(call, asked.name, asked.version))


def update(call: Call, asked: UpdateVersion) -> Any:
    """Describe a version."""
    version = get_version(call, asked.name, asked.version)
    path = version_path(version.model, version.number)
    text = asked.description or ""
    describe(call.workspace, path, text, now=call.now, who=call.asker.name)
    return _answer(call, version)


def delete(call: Call, asked: OneVersion) -> None:
    """Remove a version, and the aliases that point to it."""
    version = get_version(call, asked.name, asked.version)
    remove_version(call.workspace, version, why="MLflow", now=call.now, who=call.asker.name)


def transition(call: Call, asked: Transition) -> Any:
    """Move a version to a stage."""
    stage = stage_of(asked.stage)
    if asked.archive_existing_versions and stage not in ACTIVE:
        raise MlflowError(
            "Model version transition cannot archive existing model versions because "
            f"'{asked.stage}' is not an Active stage. Valid stages are {list(ACTIVE)}"
        )
    version = get_version(call, asked.name, asked.version)
    who = call.asker.name
    said: list[Stage] = []
    if asked.archive_existing_versions:
        said += [
            Stage(model=row.model, number=row.number, stage="Archived", who=who, at=call.now)
            for row in _in_stage(call, version.model, stage)
            if row.number != version.number
        ]
    moved = Stage(model=version.model, number=version.number, stage=stage, who=who, at=call.now)
    call.workspace.meta.put(*said, moved)
    return _answer(call, version)


def _in_stage(call: Call, model: str, stage: str) -> tuple[VersionRow, ...]:
    where = (
        Compare("attribute", "name", "=", model),
        Compare("attribute", "stage", "=", stage),
    )
    search = CatalogSearch(where=where, limit=_ALL)
    return call.workspace.tracking.find_versions(search).rows


def download_uri(call: Call, asked: FetchedVersion) -> Any:
    """Where the files of a version are."""
    check_model_name(asked.name)
    number_of(asked.version)
    version = get_version(call, asked.name, asked.version)
    if version.format == "value":
        offer(call.workspace, version)
        return {"artifact_uri": own_location(version)}
    return {"artifact_uri": stored_at(call, version)}


def set_tag(call: Call, asked: VersionTag) -> None:
    """Tag a version."""
    check_model_name(asked.name)
    number_of(asked.version)
    check_model_tag(asked.key, asked.value)
    version = get_version(call, asked.name, asked.version)
    tag_by_itself(call, version_path(version.model, version.number), asked.key, asked.value)


def delete_tag(call: Call, asked: VersionTag) -> None:
    """Take a tag from a version."""
    check_name(asked.key, "key")
    version = get_version(call, asked.name, asked.version)
    tag_by_itself(call, version_path(version.model, version.number), asked.key, None)


def _answer(call: Call, version: Version) -> dict[str, Any]:
    aliases = aliases_of(call.workspace, version.model)
    return {"model_version": version_json(seen_version(call, version), aliases)}


ROUTES = (
    Route("POST", "model-versions/create", CreateVersion, create),
    Route("GET", "model-versions/get", OneVersion, get, "viewer"),
    Route("PATCH", "model-versions/update", UpdateVersion, update),
    Route("DELETE", "model-versions/delete", OneVersion, delete),
    Route("POST", "model-versions/transition-stage", Transition, transition),
    Route("GET", "model-versions/get-download-uri", FetchedVersion, download_uri, "viewer"),
    Route("POST", "model-versions/set-tag", VersionTag, set_tag),
    Route("DELETE", "model-versions/delete-tag", VersionTag, delete_tag),
)
