"""MLflow's model versions: our versions, whose models are folders of files with an MLmodel."""

from typing import Any
from urllib.parse import unquote, urlsplit

from msgspec.structs import replace

from upturn.adapters.mlflow.call import Call, Route
from upturn.adapters.mlflow.errors import MISSING, MlflowError
from upturn.adapters.mlflow.joining import TASK
from upturn.adapters.mlflow.limits import check_name
from upturn.adapters.mlflow.logged_models import tags_path
from upturn.adapters.mlflow.model_nouns import (
    ACTIVE,
    MODEL_ID,
    RUN_LINK,
    SeenVersion,
    check_model_name,
    check_model_tag,
    get_model,
    get_version,
    number_of,
    own_location,
    seen_model,
    stage_of,
    tags_of,
    version_json,
)
from upturn.adapters.mlflow.own_models import offer
from upturn.adapters.mlflow.paths import plain_path
from upturn.adapters.mlflow.places import Place, place_of
from upturn.adapters.mlflow.reading import Ask, KeyValue
from upturn.core.ids import version_path
from upturn.core.logged_models import LoggedModel
from upturn.core.naming import Stage
from upturn.core.records import Version
from upturn.model.aliases import aliases_of
from upturn.model.catalog import describe, remove_version
from upturn.model.mlflow_model import version_of_files
from upturn.model.registry import put_version

_ARTIFACTS = "mlflow-artifacts"


class CreateVersion(Ask, frozen=True, kw_only=True):
    """A new version of a registered model."""

    needs = ("name", "source")

    name: str = ""
    source: str = ""
    run_id: str = ""
    tags: list[KeyValue] = []
    run_link: str = ""
    description: str | None = None
    model_id: str = ""


class OneVersion(Ask, frozen=True, kw_only=True):
    """A version."""

    needs = ("name", "version")

    name: str = ""
    version: str = ""


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
    _refuse_elsewhere(asked.source)
    same = _referred(call, asked.source)
    place = None if same is not None else _place(call, asked)
    run = asked.run_id or _run_of(call, asked.model_id, same)
    if same is None:
        files = call.workspace.tracking.files(place.owner, under=place.path) if place else []
        prefix = f"{place.path}/" if place is not None and place.path else ""
        below = {
            file.path.removeprefix(prefix): file.digest
            for file in files
            if file.path.startswith(prefix)
        }
        version = version_of_files(
            call.workspace, model.name, below, source=asked.source, run=run or None, now=call.now
        )
    else:
        changed = {"model": model.name, "number": 0, "at": call.now, "run": run or None}
        source = same.source or own_location(same)
        version = replace(same, **changed, source=source)
    if (task := _task_of(call, asked.model_id)) is not None:
        version = replace(version, task=task)
    made = put_version(
        call.workspace, version, who=call.asker.name, project=call.project, always=True
    )
    path = version_path(made.model, made.number)
    if asked.run_link:
        tags[RUN_LINK] = asked.run_link
    if asked.model_id:
        tags[MODEL_ID] = asked.model_id
    if tags:
        call.workspace.tracking.tag(path, tags)
    if asked.description is not None:
        describe(call.workspace, path, asked.description, now=call.now, who=call.asker.name)
    return _answer(call, made)


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
            _stage(one.version, "Archived", who, call)
            for one in seen_model(call, get_model(call, version.model)).versions
            if one.stage == stage and one.version.number != version.number
        ]
    call.workspace.meta.put(*said, _stage(version, stage, who, call))
    return _answer(call, version)


def _stage(version: Version, stage: str, who: str, call: Call) -> Stage:
    return Stage(model=version.model, number=version.number, stage=stage, who=who, at=call.now)


def download_uri(call: Call, asked: OneVersion) -> Any:
    """Where the files of a version are."""
    check_model_name(asked.name)
    number_of(asked.version)
    version = get_version(call, asked.name, asked.version)
    if version.format == "value":
        offer(call.workspace, version)
        return {"artifact_uri": own_location(version)}
    return {"artifact_uri": _stored_at(call, version.source)}


def _stored_at(call: Call, source: str) -> str:
    """Where a source's files are: of a logged model's URI, its folder."""
    model = _logged(call, source)
    if model is None:
        return source
    return f"{_location(model)}"


def set_tag(call: Call, asked: VersionTag) -> None:
    """Tag a version."""
    check_model_tag(asked.key, asked.value)
    version = get_version(call, asked.name, asked.version)
    path = version_path(version.model, version.number)
    call.workspace.tracking.tag(path, {asked.key: asked.value})


def delete_tag(call: Call, asked: VersionTag) -> None:
    """Take a tag from a version."""
    check_name(asked.key, "key")
    version = get_version(call, asked.name, asked.version)
    call.workspace.tracking.tag(version_path(version.model, version.number), {asked.key: None})


def _answer(call: Call, version: Version) -> dict[str, Any]:
    aliases = aliases_of(call.workspace, version.model)
    seen = seen_model(call, get_model(call, version.model))
    found: SeenVersion = next(one for one in seen.versions if one.version.number == version.number)
    return {"model_version": version_json(found, aliases)}


# Where a source's files are


def _refuse_elsewhere(source: str) -> None:
    """Refuse sources that name files of this machine, or that climb out of their folder."""
    try:
        parts = urlsplit(source)
    except ValueError:
        raise MlflowError(f"Invalid model version source: '{source}'.") from None
    if parts.scheme in ("", "file"):
        raise MlflowError(
            f"Invalid model version source: '{source}'. To use a local path as a model version "
            "source, the run_id request parameter has to be specified and the local path has to "
            "be contained within the artifact directory of the run specified by the run_id."
        )
    path = parts.path
    while (again := unquote(path)) != path:
        path = again
    if ".." in path.replace("\\", "/").split("/") or "\0" in path:
        raise MlflowError(
            f"Invalid model version source: '{source}'. If supplying a source as an http, https, "
            "local file path, ftp, objectstore, or mlflow-artifacts uri, an absolute path must be "
            "provided without relative path references present. Please provide an absolute path."
        )


def _referred(call: Call, source: str) -> Version | None:
    """The version that 'models:/NAME/N' or 'models:/NAME@ALIAS' names."""
    name, version = _named(source)
    if not name or version is None:
        return None
    model = get_model(call, name)
    if version.startswith("@"):
        number = aliases_of(call.workspace, model.name).get(version[1:])
        if number is None:
            raise MlflowError(f"Registered model alias {version[1:]} not found.")
        version = str(number)
    return get_version(call, model.name, version)


def _named(source: str) -> tuple[str, str | None]:
    if not source.startswith("models:/"):
        return "", None
    rest = unquote(source.removeprefix("models:/").strip("/"))
    name, slash, version = rest.rpartition("/")
    if slash:
        return name, version
    name, at, alias = rest.rpartition("@")
    return (name, f"@{alias}") if at else (rest, None)


def _logged(call: Call, source: str) -> LoggedModel | None:
    """The logged model that 'models:/m-…' names; None when it names none."""
    name, version = _named(source)
    if not name or version is not None:
        return None
    found = call.workspace.meta.find(LoggedModel, name)
    if found is None:
        raise MlflowError(f"Logged model with ID '{name}' not found.", MISSING)
    return found


def _location(model: LoggedModel) -> str:
    return f"{_ARTIFACTS}:/{model.group}/models/{model.id}/artifacts"


def _place(call: Call, asked: CreateVersion) -> Place | None:
    """Where the files of a source are; None when they are not kept here."""
    model = _logged(call, asked.source)
    if model is not None:
        if asked.model_id and asked.model_id != model.id:
            raise _mismatch(asked.source, "model_id")
        return place_of(call, f"{model.group}/models/{model.id}/artifacts")
    parts = urlsplit(asked.source)
    if parts.scheme == "runs":
        run, _, path = asked.source.removeprefix("runs:/").strip("/").partition("/")
        if asked.run_id and run != asked.run_id:
            raise _mismatch(asked.source, "run_id")
        row = call.workspace.tracking.rows([run]).get(run)
        return Place(run, plain_path(path)) if row is not None and call.sees(row.project) else None
    if parts.scheme == _ARTIFACTS:
        place = place_of(call, unquote(parts.path).strip("/"))
        if place.owner.startswith("m-"):
            if asked.model_id and asked.model_id != place.owner:
                raise _mismatch(asked.source, "model_id")
        elif asked.run_id and place.owner != asked.run_id:
            raise _mismatch(asked.source, "run_id")
        return place
    return None


def _mismatch(source: str, field: str) -> MlflowError:
    return MlflowError(
        f"Invalid model version source: '{source}'. The {field} request parameter must identify "
        "the resource that contains the source."
    )


def _task_of(call: Call, model_id: str) -> str | None:
    """The task that registers the model, or in which it was logged: that is among its tags."""
    if call.task is not None or not model_id:
        return call.task_path
    path = tags_path(model_id)
    return call.known_task(call.workspace.tracking.tags([path])[path].get(TASK, ""))


def _run_of(call: Call, model_id: str, same: Version | None) -> str:
    if same is not None:
        return same.run or ""
    if not model_id:
        return ""
    found = call.workspace.meta.find(LoggedModel, model_id)
    if found is None:
        raise MlflowError(f"Logged model with ID '{model_id}' not found.", MISSING)
    return found.run or ""


ROUTES = (
    Route("POST", "model-versions/create", CreateVersion, create),
    Route("GET", "model-versions/get", OneVersion, get, "viewer"),
    Route("PATCH", "model-versions/update", UpdateVersion, update),
    Route("DELETE", "model-versions/delete", OneVersion, delete),
    Route("POST", "model-versions/transition-stage", Transition, transition),
    Route("GET", "model-versions/get-download-uri", OneVersion, download_uri, "viewer"),
    Route("POST", "model-versions/set-tag", VersionTag, set_tag),
    Route("DELETE", "model-versions/delete-tag", VersionTag, delete_tag),
)
