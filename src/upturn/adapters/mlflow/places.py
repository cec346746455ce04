"""Places: whose an artifact's path is, among runs, logged models and traces."""

import mimetypes
import re
from dataclasses import dataclass
from typing import Any

from upturn.adapters.mlflow.call import Call
from upturn.adapters.mlflow.errors import MISSING, MlflowError
from upturn.adapters.mlflow.experiments import get_experiment
from upturn.adapters.mlflow.nouns import artifact_uri, get_run, locations
from upturn.adapters.mlflow.paths import artifact_path_of
from upturn.core.ids import version_path
from upturn.core.tracking import RunRow, StoredFile
from upturn.model.catalog import find_model

OF_VERSION = "version/"  # how the owners begin whose files are read alone
OWN = "upturn"  # below it are versions that our own code registered
_OTHERS = {"models": re.compile(r"m-[0-9a-f]{32}"), "traces": re.compile(r"tr-[\w-]{1,64}")}

_TEXT = (
    r"txt|log|err|cfg|conf|cnf|cf|ini|properties|prop|hocon|toml|ya?ml|xml|json|js|py3?|csv|tsv|md|rst"
    r"|ipynb|MLmodel|MLproject|mlproject"
)
_READ = re.compile(rf"(?:.*\.)?(?:{_TEXT})", re.DOTALL)  # what people read


@dataclass(frozen=True, slots=True)
class Place:
    """Where an artifact is kept: among the files of `owner`, under `path`.

    The owner is a run's id, a logged model's ('m-…'), a trace's ('tr-…'), a version of our own
    code ('version/delays:7'), or '' for none.
    """

    owner: str
    path: str


@dataclass(frozen=True, slots=True)
class Download:
    """An answer that is a file."""

    digest: str
    name: str


def place_of(call: Call, path: str) -> Place:
    """Whose the path is below `/mlflow-artifacts/artifacts/`.

    Raises MlflowError for what isn't for who asks.
    """
    parts = path.split("/") if path else []
    for index, part in enumerate(parts):
        if part == "artifacts" and index:
            found = _of_run(call, parts, index)
            if found is not None:
                return found
    if len(parts) >= 4 and parts[1] in _OTHERS and parts[3] == "artifacts":
        if _OTHERS[parts[1]].fullmatch(parts[2]) and parts[0].isdecimal():
            get_experiment(call, parts[0])
            return Place(parts[2], "/".join(parts[4:]))
    if len(parts) >= 4 and parts[0] == OWN and parts[2].isdecimal() and parts[3] == "artifacts":
        model = find_model(call.workspace, parts[1])
        if model is not None and call.sees(model.project):
            return Place(version_path(model.name, int(parts[2])), "/".join(parts[4:]))
    if not call.sees(call.workspace.settings.project):
        raise MlflowError(f"No artifact {path!r}", MISSING)
    return Place("", path)


def place_in_run(call: Call, row: RunRow, path: str) -> Place | None:
    """Where a run's artifact is; None when its artifacts are kept elsewhere."""
    root = artifact_path_of(artifact_uri(row, locations(call, [row])[row.group]))
    return None if root is None else Place(row.id, path)


def listed(call: Call, place: Place) -> list[dict[str, Any]]:
    """What is in a folder, as MLflow says it: paths from the owner's root on, by path."""
    prefix = f"{place.path}/" if place.path else ""
    found: dict[str, dict[str, Any]] = {}
    for file in call.workspace.tracking.files(place.owner, under=place.path):
        if not file.path.startswith(prefix):
            continue  # the path is a file
        name, more, _ = file.path[len(prefix) :].partition("/")
        path = prefix + name
        if more:
            found.setdefault(path, {"path": path, "is_dir": True})
        else:
            found[path] = {"path": path, "is_dir": False, "file_size": file.size_bytes}
    return [found[path] for path in sorted(found)]


def stored_file(call: Call, place: Place) -> StoredFile:
    """The file at a place. Raises MlflowError when there is none, or a folder."""
    below = call.workspace.tracking.files(place.owner, under=place.path)
    for file in below:
        if file.path == place.path:
            return file
    if below:
        raise MlflowError(f"Artifact path refers to a directory, not a file: '{place.path}'")
    raise MlflowError(f"No such artifact: '{place.path}'", MISSING)


def download(call: Call, place: Place) -> Download:
    """The file at a place, to be sent."""
    file = stored_file(call, place)
    return Download(file.digest, file.path.rpartition("/")[2])


def media_of(name: str) -> str:
    """What a file is, going by its name; what people read is plain text, as in MLflow."""
    if _READ.fullmatch(name.rpartition("/")[2]):
        return "text/plain"
    return mimetypes.guess_type(name)[0] or "application/octet-stream"


def _of_run(call: Call, parts: list[str], index: int) -> Place | None:
    run = parts[index - 1]
    row = call.workspace.tracking.rows([run]).get(run)
    if row is None:
        return None
    root = artifact_path_of(artifact_uri(row, locations(call, [row])[row.group]))
    if root != "/".join(parts[: index + 1]):
        return None
    get_run(call, run)  # which refuses what is not theirs to see
    return Place(run, "/".join(parts[index + 1 :]))
