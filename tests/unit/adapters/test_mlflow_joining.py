"""The variables by which MLflow's client joins a run: what they are, and when there are none."""

import json
from datetime import UTC, datetime
from urllib.parse import unquote, urlsplit

import pytest

from upturn.adapters.mlflow.joining import joined
from upturn.core.records import Run
from upturn.server.access.mlflow import without_task

RUN = Run(
    id="k3f9x2",
    flow="delays",
    entry="flights.py:delays",
    params={},
    project="p",
    started_at=datetime(2013, 4, 1, tzinfo=UTC),
    group="3",
)
SERVER = "http://127.0.0.1:8600"


def _values(environ: dict[str, str], token: str = "") -> dict[str, str]:
    found = joined(RUN, "träin", 3, server=SERVER, token=token, environ=environ)
    return {name: setting.value for name, setting in found.items()}


def test_they_name_the_server_the_run_and_the_task() -> None:
    values = _values({}, token="upt_secret")
    assert values["MLFLOW_RUN_ID"] == "k3f9x2"
    assert values["MLFLOW_EXPERIMENT_ID"] == "3"
    assert values["MLFLOW_TRACKING_TOKEN"] == "upt_secret"
    assert json.loads(values["MLFLOW_RUN_CONTEXT"])["upturn.task"] == "run/k3f9x2/träin/3"
    assert "MLFLOW_TRACKING_TOKEN" not in _values({})


@pytest.mark.parametrize(
    "rest",
    [
        "/api/2.0/mlflow/runs/log-metric",
        "/api/3.0/mlflow/logged-models/m-1",
        "/api/2.0/mlflow-artifacts/artifacts/a%2Fb",
        "/version",
    ],
)
def test_the_server_knows_the_task_by_the_path(rest: str) -> None:
    path = urlsplit(_values({})["MLFLOW_TRACKING_URI"] + rest).path
    asked = {"path": unquote(path), "raw_path": path.encode()}
    found = without_task(asked)
    assert found["upturn.task"] == ("k3f9x2", "träin/3")
    assert found["path"] == unquote(rest)
    assert found["raw_path"] == rest.encode()


@pytest.mark.parametrize(
    "path", ["/run/r/s/0", "/run/r/s/0/api/v1/runs", "/run/r/s/x/version", "/run/../s/0/metrics"]
)
def test_no_other_path_is_read_that_way(path: str) -> None:
    asked = {"path": path, "raw_path": path.encode()}
    assert without_task(asked) is asked


def test_what_the_user_has_set_stays() -> None:
    assert _values({"MLFLOW_TRACKING_URI": "http://elsewhere:5000"}) == {}
    assert _values({"MLFLOW_TRACKING_URI": "databricks"}) == {}
    for own in (SERVER, f"{SERVER}/", "http://localhost:8600"):
        assert _values({"MLFLOW_TRACKING_URI": own})["MLFLOW_RUN_ID"] == "k3f9x2"
    values = _values({"MLFLOW_ASYNC_LOGGING_BUFFERING_SECONDS": "5", "MLFLOW_EXPERIMENT_NAME": "x"})
    assert "MLFLOW_ASYNC_LOGGING_BUFFERING_SECONDS" not in values
    assert "MLFLOW_EXPERIMENT_ID" not in values
