"""Own models: versions of ours as folders that MLflow's clients download and load by pyfunc."""

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from typing import Any

import msgspec

from upturn.core.ids import version_path
from upturn.core.records import Version
from upturn.core.schema import Field
from upturn.core.time import micros
from upturn.core.tracking import StoredFile
from upturn.stores.workspace import Workspace

FOLDER = "upturn"  # of what the loader reads, below the model's
LOADER = "upturn.adapters.mlflow.loading"
_TYPES = {
    "bool": "boolean",
    "int": "long",
    "float": "double",
    "str": "string",
    "date": "datetime",
    "datetime": "datetime",
}


def offer(workspace: Workspace, version: Version) -> None:
    """Note the files of a version where MLflow's clients look for them.

    The model itself is not copied: its blob is one of the files.
    """
    owner = version_path(version.model, version.number)
    if workspace.tracking.files(owner, under="MLmodel"):
        return
    for path, digest, size in (*_files(workspace, version), _mlmodel(workspace, version)):
        workspace.tracking.put_file(
            StoredFile(run=owner, path=path, digest=digest, size_bytes=size, at=micros(version.at))
        )


def _files(workspace: Workspace, version: Version) -> Iterator[tuple[str, str, int]]:
    model = workspace.blobs.get(version.artifact)
    yield f"{FOLDER}/model", version.artifact, len(model)
    body = msgspec.json.encode(version)
    yield f"{FOLDER}/version.json", workspace.blobs.put([body], sync=True), len(body)
    packages = [f"{name}=={at}" for name, at in version.environment.distributions.items()]
    needed = "\n".join([*_upturn(packages), *packages, ""]).encode()
    yield "requirements.txt", workspace.blobs.put([needed], sync=True), len(needed)
    for one in version.files:
        size = len(workspace.blobs.get(one.digest))
        yield f"{FOLDER}/files/{one.name}/{one.path}", one.digest, size


def _upturn(packages: list[str]) -> list[str]:
    if any(one.startswith("upturn==") for one in packages):
        return []
    try:
        return [f"upturn=={version_of('upturn')}"]
    except PackageNotFoundError:
        return ["upturn"]


def _mlmodel(workspace: Workspace, version: Version) -> tuple[str, str, int]:
    """The MLmodel, written last: with it the folder is whole. JSON is YAML, too."""
    inputs = [_column(field) for field in version.signature.inputs]
    said: dict[str, Any] = {
        "flavors": {
            "python_function": {
                "loader_module": LOADER,
                "data": FOLDER,
                "python_version": version.environment.python,
            }
        },
        "model_uuid": version.artifact[:32],
        "utc_time_created": f"{version.at:%Y-%m-%d %H:%M:%S.%f}",
        "signature": {"inputs": msgspec.json.encode(inputs).decode(), "outputs": None},
    }
    if version.run is not None:
        said["run_id"] = version.run
    body = msgspec.json.format(msgspec.json.encode(said))
    return "MLmodel", workspace.blobs.put([body], sync=True), len(body)


def _column(field: Field) -> dict[str, Any]:
    return {"type": _TYPES[field.type], "name": field.name, "required": not field.nullable}
