"""Artifacts of runs by the run's id: listed, and sent."""

from typing import Any

from upturn.adapters.mlflow.call import Call, Route
from upturn.adapters.mlflow.errors import MISSING, MlflowError, missing_value
from upturn.adapters.mlflow.nouns import artifact_uri, get_run, locations
from upturn.adapters.mlflow.paths import plain_path
from upturn.adapters.mlflow.places import Download, download, listed, place_in_run
from upturn.adapters.mlflow.runs import RunAsk


class ListArtifacts(RunAsk, frozen=True, kw_only=True):
    """What is in a folder of a run."""

    path: str = ""
    page_token: str = ""


class GetArtifact(RunAsk, frozen=True, kw_only=True):
    """A file of a run."""

    needs = ()

    path: str | None = None


class PresignedUrl(RunAsk, frozen=True, kw_only=True):
    """A URL of some cloud's, which nothing here has."""

    needs = ("path",)

    model_id: str = ""
    path: str = ""


def list_artifacts(call: Call, asked: ListArtifacts) -> Any:
    """What is in a folder of a run."""
    path = plain_path(asked.path)
    row = get_run(call, asked.run)
    place = place_in_run(call, row, path)
    files = [] if place is None else listed(call, place)
    answer: dict[str, Any] = {"root_uri": artifact_uri(row, locations(call, [row])[row.group])}
    return {**answer, "files": files} if files else answer


def get_artifact(call: Call, asked: GetArtifact) -> Download:
    """A file of a run."""
    if asked.path is None:
        raise missing_value("path")
    path = plain_path(asked.path)
    place = place_in_run(call, get_run(call, asked.run), path)
    if place is None:
        raise MlflowError(f"The artifacts of run {asked.run} are not kept here.", MISSING)
    return download(call, place)


def presigned(call: Call, asked: PresignedUrl) -> None:
    """Refuse, so that the client sends or fetches the file itself."""
    if asked.run:
        get_run(call, asked.run)
    raise MlflowError(
        "Presigned URLs are not supported for proxied artifact storage (artifact URI scheme: "
        "mlflow-artifacts). This endpoint requires a direct cloud storage artifact URI."
    )


ROUTES = (
    Route("GET", "artifacts/list", ListArtifacts, list_artifacts, "viewer"),
    Route("GET", "get-artifact", GetArtifact, get_artifact, "viewer"),
    Route("POST", "artifacts/presigned-upload-url", PresignedUrl, presigned),
    Route("POST", "artifacts/presigned-download-url", PresignedUrl, presigned, "viewer"),
)
