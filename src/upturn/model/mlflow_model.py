"""MLflow model: a folder with an MLmodel as a version, and as something that can be called."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from upturn.core.errors import Invalid, NotFound, UpturnError
from upturn.core.records import Environment, ModelFile, Version
from upturn.core.schema import Profile
from upturn.model.mlmodel import read_mlmodel, requirements_of, signature_of
from upturn.model.model_files import place_files
from upturn.stores.workspace import Workspace

FOLDER = "model"  # what the files of a version are below
_NARROW = {"integer": "int32", "float": "float32"}  # that pyfunc refuses wider numbers for
_TEXT_MOST = 4 * 1024 * 1024


def version_of_files(
    workspace: Workspace,
    model: str,
    files: Mapping[str, str],
    *,
    source: str,
    run: str | None,
    now: datetime,
) -> Version:
    """A version, not yet numbered, of a folder of files: paths below it, with their digests.

    Nothing of them but the MLmodel and the requirements is read, and nothing is run.
    """
    said = read_mlmodel(_text(workspace, files.get("MLmodel")))
    pinned = requirements_of(_text(workspace, files.get("requirements.txt")))
    python = said.get("flavors.python_function.python_version", "")
    held = [
        ModelFile(name=FOLDER, path=f"{FOLDER}/{path}", digest=digest)
        for path, digest in sorted(files.items())
    ]
    return Version(
        model=model,
        artifact="",
        data=None,
        signature=signature_of(said),
        profile=Profile(rows=0, columns=()),
        environment=Environment(python=python, distributions=pinned),
        run=run,
        task=None,
        at=now,
        files=tuple(held),
        format="mlflow",
        source=source,
    )


def _text(workspace: Workspace, digest: str | None) -> str:
    if digest is None:
        return ""
    try:
        return bytes(workspace.blobs.get(digest)[:_TEXT_MOST]).decode("utf-8", "replace")
    except UpturnError:
        return ""


class PyfuncModel:
    """What MLflow loads of a folder, called with pandas frames of the types that it asks for."""

    def __init__(self, loaded: Any) -> None:
        self._loaded = loaded
        schema = loaded.metadata.get_input_schema()
        columns = [] if schema is None else schema.to_dict()
        self._narrow = {
            column["name"]: _NARROW[column["type"]]
            for column in columns
            if column.get("type") in _NARROW and "name" in column
        }

    def predict(self, frame: Any) -> Any:
        """What the model answers: one value a row, or one object where it answers several."""
        there = {name: kind for name, kind in self._narrow.items() if name in frame}
        whole = {name: kind for name, kind in there.items() if not frame[name].isna().any()}
        answers = self._loaded.predict(frame.astype(whole) if whole else frame)
        if hasattr(answers, "to_dict") and getattr(answers, "ndim", 1) == 2:
            if answers.shape[1] == 1:
                return answers.iloc[:, 0].to_numpy()
            return answers.to_dict(orient="records")
        return answers


def open_mlflow(workspace: Workspace, version: Version) -> PyfuncModel:
    """The model of a version that MLflow logged, loaded by MLflow, of which this runs the code.

    Raises NotFound when its files are not in this store, and Invalid when nothing says what it
    takes, MLflow is not installed, or a package that it needs is not.
    """
    if not any(one.path == f"{FOLDER}/MLmodel" for one in version.files):
        raise NotFound(
            f"The files of {version.name} are not in this store: {version.source or 'no source'}.",
            hint="Log it through this server's artifacts, as mlflow-artifacts:/, to deploy it.",
        )
    if not version.signature.inputs:
        raise Invalid(
            f"{version.name} was logged without a signature by columns: what does it take?",
            hint="Log it with signature=, or with a table as input_example=.",
        )
    try:
        from mlflow import pyfunc
    except ImportError:
        raise Invalid(
            f"{version.name} was logged by MLflow, which is not installed here.",
            hint=f"Install it where it is served: pip install {_needed(version)}",
        ) from None
    folder = place_files(workspace, version.files)[FOLDER]
    try:
        loaded: Any = pyfunc.load_model(str(folder))
    except ImportError as error:
        raise Invalid(
            f"{version.name} needs a package that is not installed here: {error}.",
            hint=f"Install what it was logged with: pip install {_needed(version)}",
        ) from error
    return PyfuncModel(loaded)


def _needed(version: Version) -> str:
    pinned = dict(version.environment.distributions)
    packages = [f"{name}=={number}" for name, number in sorted(pinned.items())]
    if "mlflow" not in pinned and "mlflow-skinny" not in pinned:
        packages.insert(0, "mlflow-skinny pandas")
    return " ".join(packages)
