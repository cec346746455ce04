"""Sources: where the files of a model version are, checked as MLflow checks what a client says."""

import posixpath
import re
from dataclasses import dataclass
from typing import NoReturn
from urllib.parse import unquote, unquote_plus, urlsplit

from upturn.adapters.mlflow.call import Call
from upturn.adapters.mlflow.errors import MISSING, MlflowError
from upturn.adapters.mlflow.experiments import get_experiment
from upturn.adapters.mlflow.model_nouns import (
    MODEL_ID,
    PROMPT,
    get_model,
    get_version,
    own_location,
    seen_model,
    stage_of,
)
from upturn.adapters.mlflow.paths import plain_path
from upturn.adapters.mlflow.places import Place, place_of
from upturn.core.ids import version_path
from upturn.core.logged_models import LoggedModel
from upturn.core.records import Version
from upturn.model.aliases import aliases_of
from upturn.model.finding import current_name, model_path

_ARTIFACTS = "mlflow-artifacts"
_ROUTE = "/api/2.0/mlflow-artifacts/artifacts"
_OF_PROMPTS = ("dummy-source", "prompt-template")  # what clients say that prompts come from
_COPIES = 50  # of copies, until one is taken for a circle


@dataclass(frozen=True, slots=True)
class Source:
    """Where the files of a version are: in `place`, as those of the version `same`, or elsewhere.

    `run` and `model_id` are what it comes from, '' where nobody said.
    """

    uri: str
    run: str = ""
    model_id: str = ""
    place: Place | None = None
    same: Version | None = None


def source_of(
    call: Call, uri: str, *, run: str | None, model_id: str | None, is_prompt: bool
) -> Source:
    """The source that a client names, with the run and the logged model that it says.

    Raises MlflowError for one that leads out of what it may name.
    """
    if is_prompt:
        if uri not in _OF_PROMPTS:
            raise MlflowError(
                f"Invalid prompt source: '{uri}'. Prompt sources must use an MLflow placeholder."
            )
        return Source(uri, run or "", model_id or "")
    try:
        scheme = urlsplit(uri).scheme
    except ValueError:
        raise MlflowError(f"Invalid model version source: '{uri}'.") from None
    if scheme == "models":
        name, version = _named(uri)
        if version is not None:
            return _copied(call, uri, name, version, run, model_id)
    if scheme in ("", "file"):
        _refuse_local(uri, "model_id" if model_id else "run_id")
    _refuse_relative(uri)
    found = _of_model(call, uri, model_id) if model_id else _of_run(call, uri, run or "")
    if model_id and not run:
        return Source(uri, logged_model(call, model_id).run or "", model_id, found)
    return Source(uri, run or "", model_id or "", found)


def stored_at(call: Call, version: Version) -> str:
    """Where a version's files can be fetched: that of what it is a copy of, or was logged as."""
    for _ in range(_COPIES):
        if version.format == "value" or not version.source.startswith("models:/"):
            return version.source or own_location(version)
        name, number = _named(version.source)
        if number is None:
            return location(logged_model(call, name))
        origin = None
        if number.isdecimal():
            name = current_name(call.workspace, name)
            origin = call.workspace.meta.find(Version, name, int(number))
        if origin is None:
            return version.source
        version = origin
    return version.source


def logged_model(call: Call, id: str) -> LoggedModel:
    """A logged model by its id. Raises MlflowError when there is none."""
    found = call.workspace.meta.find(LoggedModel, id)
    if found is None:
        raise MlflowError(f"Logged model with ID '{id}' not found.", MISSING)
    get_experiment(call, found.group)  # which refuses what is not theirs to see
    return found


def location(model: LoggedModel) -> str:
    """Where the files of a logged model are."""
    return f"{_ARTIFACTS}:/{model.group}/models/{model.id}/artifacts"


# A version of a model, which is copied


def _copied(
    call: Call, uri: str, name: str, version: str, run: str | None, model_id: str | None
) -> Source:
    if urlsplit(uri).netloc:
        raise MlflowError(
            f"Invalid model version source: '{uri}'. Registered model sources must use the active "
            "model registry."
        )
    if not name or "/" in name:
        _mismatch(uri, "model_id")
    model = get_model(call, name)
    tags = call.workspace.tracking.tags([model_path(model.name)])[model_path(model.name)]
    if tags.get(PROMPT, "").lower() == "true":
        raise MlflowError(
            f"Invalid model version source: '{uri}'. Prompt versions cannot be used as model "
            "version sources."
        )
    same = get_version(call, model.name, _number(call, model.name, version))
    path = version_path(same.model, same.number)
    logged = call.workspace.tracking.tags([path])[path].get(MODEL_ID, "")
    if (run is not None and run != (same.run or "")) or (
        model_id is not None and model_id != logged
    ):
        raise MlflowError(
            f"Invalid model version source: '{uri}'. The run_id and model_id request parameters "
            "must match the referenced model version."
        )
    return Source(f"models:/{same.model}/{same.number}", same.run or "", logged, same=same)


def _number(call: Call, model: str, version: str) -> str:
    """The number of the version that is named: by it, by an alias, by a stage, or as the latest."""
    if version.startswith("@"):
        number = aliases_of(call.workspace, model).get(version[1:])
        if number is None:
            raise MlflowError(f"Registered model alias {version[1:]} not found.")
        return str(number)
    if version.isdecimal():
        return version
    stage = None if version.lower() == "latest" else stage_of(version)
    seen = seen_model(call, get_model(call, model))
    found = [one for one in seen.latest if stage in (None, one.stage)]
    if not found:
        raise MlflowError(
            f"No versions of model with name '{model}'"
            + (f" and stage '{version}' found" if stage else " found"),
            MISSING,
        )
    return str(max(one.version.number for one in found))


def _named(uri: str) -> tuple[str, str | None]:
    """The name in 'models:/NAME/VERSION' and the version, or '@alias'; None when there is none."""
    rest = unquote(urlsplit(uri).path.strip("/"))
    name, slash, version = rest.rpartition("/")
    if slash:
        return name, version
    name, at, alias = rest.rpartition("@")
    return (name, f"@{alias}") if at else (rest, None)


# What a run or a logged model has among its files


def _of_run(call: Call, uri: str, run: str) -> Place | None:
    parts = urlsplit(uri)
    if parts.scheme == "runs":
        named, _, path = parts.path.strip("/").partition("/")
        if parts.netloc or not run or named != run:
            _mismatch(uri, "run_id")
        row = call.workspace.tracking.rows([run]).get(run)
        return Place(run, plain_path(path)) if row is not None and call.sees(row.project) else None
    if parts.scheme == "models":
        _mismatch(uri, "model_id")
    if _is_artifact(uri):
        place = _artifact(call, uri, "run_id")
        if not run or place.owner != run:
            _mismatch(uri, "run_id")
        return place
    return None


def _of_model(call: Call, uri: str, model_id: str) -> Place | None:
    parts = urlsplit(uri)
    if parts.scheme == "runs":
        _mismatch(uri, "model_id")
    if parts.scheme == "models":
        if parts.netloc or _named(uri)[0] != model_id:
            _mismatch(uri, "model_id")
        model = logged_model(call, model_id)
        return place_of(call, f"{model.group}/models/{model.id}/artifacts")
    if _is_artifact(uri):
        place = _artifact(call, uri, "model_id")
        if place.owner != model_id:
            _mismatch(uri, "model_id")
        return place
    return None


def _is_artifact(uri: str) -> bool:
    parts = urlsplit(uri)
    return parts.scheme == _ARTIFACTS or (
        parts.scheme in ("http", "https") and _ROUTE in re.sub("/+", "/", unquote(parts.path))
    )


def _artifact(call: Call, uri: str, field: str) -> Place:
    parts = urlsplit(uri)
    if parts.scheme != _ARTIFACTS:
        _mismatch(uri, field)  # of what server it speaks, nobody can say
    return place_of(call, unquote(parts.path).strip("/"))


# What is refused, in MLflow's words


def _refuse_local(uri: str, field: str) -> NoReturn:
    raise MlflowError(
        f"Invalid model version source: '{uri}'. To use a local path as a model version source, "
        f"the {field} request parameter has to be specified and the local path has to be "
        f"contained within the artifact directory of the run specified by the {field}."
    )


def _refuse_relative(uri: str) -> None:
    """Refuse a source whose path is not the one that it says, in whatever coding."""
    plain = uri
    while (again := unquote_plus(plain)) != plain:
        plain = again
    path = re.sub("/+", "/", urlsplit(plain).path.rstrip("/"))
    climbs = "\0" in path or ".." in plain.replace("\\", "/").split("/")
    if climbs or not path.startswith("/") or posixpath.normpath(path) != path:
        if path or urlsplit(plain).scheme != "models":
            raise MlflowError(
                f"Invalid model version source: '{uri}'. If supplying a source as an http, https, "
                "local file path, ftp, objectstore, or mlflow-artifacts uri, an absolute path must "
                "be provided without relative path references present. Please provide an absolute "
                "path."
            )


def _mismatch(uri: str, field: str) -> NoReturn:
    raise MlflowError(
        f"Invalid model version source: '{uri}'. The {field} request parameter must identify the "
        "resource that contains the source."
    )
