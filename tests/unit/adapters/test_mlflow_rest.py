"""MLflow's REST API on our store: what it answers, and how it refuses."""

import base64
import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from unit.adapters.mlflow_api import PREFIX, Api
from upturn.adapters.mlflow.app import MlflowApi
from upturn.core.naming import Group
from upturn.core.records import Run, RunState
from upturn.core.time import utcnow
from upturn.core.tracking import Point
from upturn.develop.collect import plan_collection
from upturn.stores.workspace import Workspace, open_workspace

BAD = "INVALID_PARAMETER_VALUE"
NONE = "RESOURCE_DOES_NOT_EXIST"


@pytest.fixture
def workspace() -> Iterator[Workspace]:
    opened = open_workspace()
    yield opened
    opened.close()


@pytest.fixture
def api(workspace: Workspace) -> Api:
    return Api(workspace)


# What is asked


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (
            {"name": 123},
            "Invalid value 123 for parameter 'name' supplied:  Hint: Value was of type",
        ),
        ({}, "Missing value for required parameter 'name'."),
        ({"name": None}, "Missing value for required parameter 'name'."),
        ({"name": ""}, "Missing value for required parameter 'name'."),
        ({"name": "x", "artifact_location": 9.0}, "Invalid value 9.0 for parameter 'artifact_loc"),
        ({"name": "x", "tags": "5"}, "Invalid value \"5\" for parameter 'tags' supplied"),
        ({"name": "x" * 501}, "'name' exceeds the maximum length of 500 characters"),
        ({"name": "x", "artifact_location": "runs:/a"}, "cannot be a runs:/ URI"),
        ({"name": "x", "artifact_location": "s3://a#b"}, "can't include fragments"),
        ({"name": "x", "tags": [{"key": "k", "value": "v" * 20_001}]}, "'value' exceeds"),
        ({"name": "x", "tags": [{"key": "a/../b", "value": "v"}]}, "would resolve to 'b'"),
    ],
)
def test_a_wrong_field_is_named(api: Api, body: dict[str, Any], says: str) -> None:
    status, code, message = api.refused("experiments/create", **body)
    assert (status, code) == (400, BAD)
    assert says in message


def test_requests_are_read_as_protobuf_reads_them(api: Api) -> None:
    run = api.run(start_time="12", tags=[{"key": "a", "value": None}], nobody="knows")
    info = api.get("runs/get", run_uuid=run)["run"]["info"]
    assert info["start_time"] == 12
    api.post("runs/set-tag", runId=run, key="camel", value="case")
    api.post("runs/log-metric", run_id=run, key="m", value="1.5", timestamp="3", step="4")
    data = api.get("runs/get", run_id=run)["run"]["data"]
    assert data["metrics"] == [{"key": "m", "value": 1.5, "timestamp": 3, "step": 4}]
    assert {"key": "camel", "value": "case"} in data["tags"]
    body = json.dumps(json.dumps({"run_id": run, "key": "twice", "value": "coded"}))
    answer = api.http.post(
        f"{PREFIX}runs/set-tag", content=body, headers={"content-type": "application/json"}
    )
    assert answer.status_code == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", None])
def test_only_json_is_taken(api: Api, kind: str | None) -> None:
    headers = {"content-type": kind} if kind else {}
    answer = api.http.post(f"{PREFIX}experiments/create", content=b'{"name": "x"}', headers=headers)
    assert api.said(answer)[:2] == (400, BAD)
    assert "Content-Type" in answer.json()["message"]


@pytest.mark.parametrize("body", [b"{", b"[1]", b"\xff", b'{"name": "\\ud800"}', b"[" * 100_000])
def test_what_is_no_json_object_is_a_mistake_of_the_user(api: Api, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    answer = api.http.post(f"{PREFIX}experiments/create", content=body, headers=headers)
    assert api.said(answer)[:2] == (400, BAD)


@pytest.mark.parametrize(
    "path",
    [
        "/api/2.0/mlflow/nothing",
        "/api/3.0/mlflow/gateway/endpoints/list",
        "/api/2.0/mlflow",
        "/ajax-api/2.0/mlflow/scorers/list",
        "/api/2.0/mlflow-artifacts/other",
    ],
)
def test_what_is_not_there_is_said_in_the_clients_form(api: Api, path: str) -> None:
    assert MlflowApi(api.workspace).takes(path)
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        answer = api.http.request(method, path)
        assert api.said(answer)[:2] == (404, "ENDPOINT_NOT_FOUND")


def test_the_rest_of_the_server_is_not_mlflows(api: Api) -> None:
    for path in ("/", "/v1/endpoints", "/api/v1/runs", "/health/live", "/api/2.0"):
        assert not MlflowApi(api.workspace).takes(path)


def test_every_prefix_answers(api: Api) -> None:
    for prefix in ("/api/2.0", "/ajax-api/2.0", "/api/3.0", "/ajax-api/3.0"):
        answer = api.http.get(f"{prefix}/mlflow/experiments/get", params={"experiment_id": "0"})
        assert answer.json()["experiment"]["name"] == "Default"
    assert api.http.get("/health").text == "OK"
    assert api.http.get("/api/3.0/mlflow/server-info").json()["workspaces_enabled"] is False


# Experiments


def test_the_default_experiment_is_there(api: Api) -> None:
    found = api.get("experiments/get-by-name", experiment_name="Default")["experiment"]
    assert found["experiment_id"] == "0"
    assert found["artifact_location"] == "mlflow-artifacts:/0"
    assert found["lifecycle_stage"] == "active"
    assert "tags" not in found


def test_an_experiment_is_a_group(api: Api, workspace: Workspace) -> None:
    number = api.experiment("a/b é", tags=[{"key": "k", "value": "v"}])
    assert workspace.meta.get(Group, number).name == "a/b é"
    found = api.get("experiments/get", experiment_id=number)["experiment"]
    assert found["tags"] == [{"key": "k", "value": "v"}]
    api.post("experiments/update", experiment_id=number, new_name="c")
    assert workspace.meta.get(Group, number).name == "c"
    assert api.refused_get("experiments/get-by-name", experiment_name="a/b é") == (
        404,
        NONE,
        "Could not find experiment with name 'a/b é'",
    )


def test_names_of_experiments_are_unique(api: Api) -> None:
    first = api.experiment("x")
    assert api.refused("experiments/create", name="x") == (
        400,
        "RESOURCE_ALREADY_EXISTS",
        "Experiment(name=x) already exists.",
    )
    second = api.experiment("y")
    status, code, _ = api.refused("experiments/update", experiment_id=second, new_name="x")
    assert (status, code) == (400, "RESOURCE_ALREADY_EXISTS")
    api.post("experiments/delete", experiment_id=first)
    assert api.refused("experiments/create", name="x")[1] == "RESOURCE_ALREADY_EXISTS"


@pytest.mark.parametrize(
    ("number", "status", "says"),
    [
        ("77", 404, "No Experiment with id=77 exists"),
        ("-1", 404, "No Experiment with id=-1 exists"),
        ("abc", 400, "Invalid experiment ID 'abc'. Experiment ID must be a valid integer."),
    ],
)
def test_an_experiment_that_is_not_there(api: Api, number: str, status: int, says: str) -> None:
    assert api.refused_get("experiments/get", experiment_id=number)[::2] == (status, says)
    for path in ("experiments/delete", "experiments/restore", "runs/create"):
        assert api.refused(path, experiment_id=number)[0] == status


def test_removing_an_experiment_removes_its_runs_and_restoring_brings_them_back(api: Api) -> None:
    number = api.experiment()
    run = api.run(number)
    api.post("experiments/delete", experiment_id=number)
    assert api.get("experiments/get", experiment_id=number)["experiment"]["lifecycle_stage"] == (
        "deleted"
    )
    assert api.get("runs/get", run_id=run)["run"]["info"]["lifecycle_stage"] == "deleted"
    assert api.refused("experiments/delete", experiment_id=number)[:2] == (404, NONE)
    assert "must be in the 'active' state" in api.refused("runs/create", experiment_id=number)[2]
    for path, more in (
        ("experiments/update", {"new_name": "z"}),
        ("experiments/set-experiment-tag", {"key": "k", "value": "v"}),
    ):
        assert api.refused(path, experiment_id=number, **more)[0] == 400
    api.post("experiments/restore", experiment_id=number)
    assert api.get("runs/get", run_id=run)["run"]["info"]["lifecycle_stage"] == "active"
    assert api.refused("experiments/restore", experiment_id=number)[:2] == (404, NONE)


def test_tags_of_experiments(api: Api) -> None:
    number = api.experiment()
    api.post("experiments/set-experiment-tag", experiment_id=number, key="k", value="a\nb")
    api.post("experiments/set-experiment-tag", experiment_id=number, key="k", value="")
    found = api.get("experiments/get", experiment_id=number)["experiment"]
    assert found["tags"] == [{"key": "k", "value": ""}]
    api.post("experiments/delete-experiment-tag", experiment_id=number, key="k")
    assert api.refused("experiments/delete-experiment-tag", experiment_id=number, key="k") == (
        404,
        NONE,
        f"No tag with name: k in experiment with id {number}",
    )


def names(api: Api, **asked: Any) -> list[str]:
    return [one["name"] for one in api.post("experiments/search", **asked)["experiments"]]


def test_searching_experiments(api: Api) -> None:
    for name, value in (("a", "value"), ("ab", "vaLue"), ("Abc", None)):
        api.experiment(name, tags=[{"key": "key", "value": value}] if value else [])
    assert names(api) == ["Abc", "ab", "a", "Default"]
    assert names(api, filter="attribute.name = 'a'") == ["a"]
    assert names(api, filter="name != 'a'") == ["Abc", "ab", "Default"]
    assert names(api, filter="name LIKE 'a%'") == ["ab", "a"]
    assert names(api, filter="name ILIKE 'a%'") == ["Abc", "ab", "a"]
    assert names(api, filter="tag.key = 'value'") == ["a"]
    assert names(api, filter="tag.key != 'value'") == ["ab"]
    assert names(api, filter="tags.key ILIKE '%alu%'") == ["ab", "a"]
    assert names(api, filter="tags.key IS NULL") == ["Abc", "Default"]
    assert names(api, filter="tags.key IS NOT NULL AND name = 'ab'") == ["ab"]
    assert names(api, filter="experiment_id IN ('0', '2')") == ["ab", "Default"]
    assert names(api, filter="creation_time > 0 AND last_update_time >= 1") == names(api)
    assert names(api, order_by=["name DESC"]) == ["ab", "a", "Default", "Abc"]
    first = api.post("experiments/search", max_results=2)
    assert [one["name"] for one in first["experiments"]] == ["Abc", "ab"]
    second = api.get("experiments/search", max_results=2, page_token=first["next_page_token"])
    assert [one["name"] for one in second["experiments"]] == ["a", "Default"]
    assert "next_page_token" not in second
    api.post("experiments/delete", experiment_id="2")
    assert names(api, view_type="ACTIVE_ONLY") == ["Abc", "a", "Default"]
    assert names(api, view_type=2) == ["ab"]
    assert names(api, view_type="ALL") == ["Abc", "ab", "a", "Default"]


@pytest.mark.parametrize(
    "asked",
    [
        {"max_results": 0},
        {"max_results": 50_001},
        {"view_type": "SOME"},
        {"page_token": "x"},
        {"page_token": base64.b64encode(b'{"offset": -3}').decode()},
        {"page_token": base64.b64encode(b"[]").decode()},
        {"filter": "metrics.a > 1"},
        {"order_by": ["tags.x"]},
        {"filter": "experiment_id LIKE '1%'"},
        {"filter": "experiment_id = 'x'"},
    ],
)
def test_searches_that_cannot_be(api: Api, asked: dict[str, Any]) -> None:
    assert api.refused("experiments/search", **asked)[:2] == (400, BAD)


# Runs


def test_an_end_that_is_said_of_a_run_that_goes_on_is_kept(api: Api) -> None:
    run = api.run()
    said = api.post("runs/update", run_id=run, status="RUNNING", end_time=789)["run_info"]
    found = api.get("runs/get", run_id=run)["run"]
    assert said == found["info"]
    assert (said["status"], said["end_time"]) == ("RUNNING", 789)
    assert [tag["key"] for tag in found["data"]["tags"]] == ["mlflow.runName"]
    api.post("runs/update", run_id=run, status="FINISHED", end_time=987)
    assert api.get("runs/get", run_id=run)["run"]["info"]["end_time"] == 987


def test_a_run_is_a_run_of_ours(api: Api, workspace: Workspace) -> None:
    made = api.post(
        "runs/create",
        experiment_id="0",
        user_id="ada",
        start_time=456,
        run_name="my name",
        tags=[{"key": "mlflow.parentRunId", "value": "7"}, {"key": "my", "value": "tag"}],
    )["run"]
    run = made["info"]["run_id"]
    assert made["info"] == {
        "run_uuid": run,
        "run_id": run,
        "experiment_id": "0",
        "run_name": "my name",
        "user_id": "ada",
        "status": "RUNNING",
        "start_time": 456,
        "artifact_uri": f"mlflow-artifacts:/0/{run}/artifacts",
        "lifecycle_stage": "active",
    }
    assert made == api.get("runs/get", run_id=run)["run"]
    assert {tag["key"]: tag["value"] for tag in made["data"]["tags"]} == {
        "mlflow.parentRunId": "7",
        "mlflow.runName": "my name",
        "my": "tag",
    }
    stored = workspace.meta.get(Run, run)
    assert (stored.source, stored.who, stored.name, stored.parent) == (
        "mlflow",
        "ada",
        "my name",
        "7",
    )


def test_how_a_run_ends(api: Api, workspace: Workspace) -> None:
    run = api.run()
    for status, ours in (
        ("SCHEDULED", "queued"),
        ("RUNNING", "running"),
        (4, "failed"),
        ("KILLED", "cancelled"),
        ("FINISHED", "done"),
    ):
        info = api.post("runs/update", run_id=run, status=status, end_time=5000)["run_info"]
        assert info["run_id"] == run
        assert workspace.tracking.rows([run])[run].status == ours
    assert (info["status"], info["end_time"]) == ("FINISHED", 5000)
    renamed = api.post("runs/update", run_id=run, run_name="later")["run_info"]
    assert (renamed["run_name"], renamed["status"], renamed["end_time"]) == (
        "later",
        "FINISHED",
        5000,
    )
    api.post("runs/set-tag", run_id=run, key="mlflow.runName", value="last")
    assert api.get("runs/get", run_id=run)["run"]["info"]["run_name"] == "last"
    assert api.refused("runs/update", run_id=run, status="DONE")[:2] == (400, BAD)
    assert api.refused("runs/update", run_id=run, end_time=10**17)[:2] == (400, BAD)


def test_a_run_without_a_name_is_given_one(api: Api) -> None:
    info = api.get("runs/get", run_id=api.run())["run"]["info"]
    assert info["run_name"].count("-") == 2
    status, _, message = api.refused(
        "runs/create",
        experiment_id="0",
        run_name="a",
        tags=[{"key": "mlflow.runName", "value": "b"}],
    )
    assert status == 400
    assert "but with different values" in message


def test_a_removed_run_cannot_be_changed(api: Api) -> None:
    run = api.run()
    api.post("runs/delete", run_id=run)
    api.post("runs/delete", run_id=run)
    assert api.get("runs/get", run_id=run)["run"]["info"]["lifecycle_stage"] == "deleted"
    says = f"The run {run} must be in the 'active' state. Current state is deleted."
    metric = {"key": "m", "value": 1, "timestamp": 1}
    for path, more in (
        ("runs/log-metric", metric),
        ("runs/log-parameter", {"key": "p", "value": "v"}),
        ("runs/set-tag", {"key": "t", "value": "v"}),
        ("runs/delete-tag", {"key": "t"}),
        ("runs/log-batch", {"metrics": [metric]}),
        ("runs/update", {"status": "FINISHED"}),
        ("runs/log-inputs", {"datasets": []}),
        ("runs/outputs", {"models": [{"model_id": "m-1"}]}),
    ):
        assert api.refused(path, run_id=run, **more) == (400, BAD, says)
    api.post("runs/restore", run_id=run)
    api.post("runs/log-metric", run_id=run, **metric)


def test_a_run_that_is_not_there(api: Api) -> None:
    expected = (404, NONE, "Run with id=nothing not found")
    assert api.refused_get("runs/get", run_id="nothing") == expected
    for path, more in (
        ("runs/delete", {}),
        ("runs/restore", {}),
        ("runs/log-metric", {"key": "m", "value": 1, "timestamp": 1}),
        ("runs/log-batch", {}),
        ("runs/set-tag", {"key": "t"}),
    ):
        assert api.refused(path, run_id="nothing", **more) == expected
    assert api.refused_get("artifacts/list", run_id="nothing") == expected
    assert api.get("metrics/get-history", run_id="nothing", metric_key="m") == {}
    assert api.refused("runs/log-batch", run_id="a/b")[:2] == (400, BAD)


# Values


def test_metrics_that_are_no_numbers(api: Api) -> None:
    run = api.run()
    for key, value in (("nan", "NaN"), ("inf", "Infinity"), ("-inf", "-Infinity"), ("one", 1)):
        api.post("runs/log-metric", run_id=run, key=key, value=value, timestamp=1)
    found = {
        one["key"]: one["value"]
        for one in api.get("runs/get", run_id=run)["run"]["data"]["metrics"]
    }
    assert found == {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity", "one": 1.0}
    history = api.get("metrics/get-history", run_id=run, metric_key="nan")["metrics"]
    assert history == [{"key": "nan", "value": "NaN", "timestamp": 1, "step": 0}]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"run_id": 31}, "Invalid value 31 for parameter 'run_id' supplied"),
        ({"run_id": None}, "Missing value for required parameter 'run_id'"),
        ({"key": 31}, "Invalid value 31 for parameter 'key' supplied"),
        ({"key": None}, "Missing value for required parameter 'key'"),
        ({"key": "a*b"}, "Names may only contain alphanumerics"),
        ({"key": "a//b"}, "would resolve to 'a/b'"),
        ({"key": "../a"}, "would resolve to '../a'"),
        ({"key": "k" * 251}, "'Metric name' exceeds the maximum length of 250 characters"),
        ({"value": None}, "Missing value for required parameter 'value'"),
        ({"value": "foo"}, "Invalid value \"foo\" for parameter 'value' supplied"),
        ({"value": True}, "Invalid value true for parameter 'value' supplied"),
        ({"step": "foo"}, "Invalid value \"foo\" for parameter 'step' supplied"),
        ({"step": 1.5}, "Invalid value 1.5 for parameter 'step' supplied"),
        ({"step": 2**63}, "for parameter 'step' supplied"),
        ({"timestamp": "foo"}, "Invalid value \"foo\" for parameter 'timestamp' supplied"),
        ({"timestamp": -1}, "Timestamp must be a nonnegative long (64-bit integer)"),
        ({"timestamp": 2**63 - 1}, "for parameter 'timestamp' supplied"),
    ],
)
def test_a_metric_that_cannot_be_logged(api: Api, wrong: dict[str, Any], says: str) -> None:
    right = {"run_id": api.run(), "key": "m", "value": 1, "timestamp": 1, "step": 1}
    status, code, message = api.refused("runs/log-metric", **{**right, **wrong})
    assert (status, code) == (400, BAD)
    assert says in message


def test_the_last_value_is_that_of_the_greatest_step_then_time_then_value(api: Api) -> None:
    run = api.run()
    for value, timestamp, step in ((5, 10, 1), (1, 30, 0), (3, 20, 1), (4, 20, 1), (9, 99, -3)):
        api.post(
            "runs/log-metric", run_id=run, key="m", value=value, timestamp=timestamp, step=step
        )
    metrics = api.get("runs/get", run_id=run)["run"]["data"]["metrics"]
    assert metrics == [{"key": "m", "value": 4.0, "timestamp": 20, "step": 1}]


def test_a_point_that_is_logged_twice_is_there_once(api: Api) -> None:
    run = api.run()
    for _ in range(2):
        api.post("runs/log-metric", run_id=run, key="m", value=1, timestamp=1, step=1)
        metric = {"key": "b", "value": "NaN", "timestamp": 1}
        api.post("runs/log-batch", run_id=run, metrics=[metric, metric])
    for key in ("m", "b"):
        found = api.get("metrics/get-history", run_id=run, metric_key=key)
        assert len(found["metrics"]) == 1


def test_a_parameter_does_not_change(api: Api) -> None:
    run = api.run()
    for _ in range(2):
        api.post("runs/log-parameter", run_id=run, key="p", value="old")
    assert api.refused("runs/log-parameter", run_id=run, key="p", value="new") == (
        400,
        BAD,
        "Changing param values is not allowed. Param with key='p' was already logged with "
        f"value='old' for run ID='{run}'. Attempted logging new value 'new'.",
    )
    status, _, message = api.refused(
        "runs/log-batch",
        run_id=run,
        params=[{"key": "p", "value": "new"}, {"key": "q", "value": "1"}],
        metrics=[{"key": "m", "value": 1, "timestamp": 1}],
    )
    assert status == 400
    assert "[{'key': 'p', 'old_value': 'old', 'new_value': 'new'}]" in message
    data = api.get("runs/get", run_id=run)["run"]["data"]
    assert data["params"] == [{"key": "p", "value": "old"}]
    assert "metrics" not in data


def test_empty_and_long_values(api: Api) -> None:
    run = api.run()
    api.post("runs/log-parameter", run_id=run, key="empty")
    api.post("runs/log-parameter", run_id=run, key="long", value="x" * 7000)
    api.post("runs/set-tag", run_id=run, key="empty", value="")
    api.post("runs/set-tag", run_id=run, key="long", value="x" * 9000)
    data = api.get("runs/get", run_id=run)["run"]["data"]
    params = {one["key"]: one["value"] for one in data["params"]}
    tags = {one["key"]: one["value"] for one in data["tags"]}
    assert (params["empty"], len(params["long"])) == ("", 6000)
    assert (tags["empty"], len(tags["long"])) == ("", 8000)


def test_tags_change_and_go(api: Api) -> None:
    run = api.run()
    api.post("runs/set-tag", run_id=run, key="t", value="a")
    api.post("runs/log-batch", run_id=run, tags=[{"key": "t", "value": v} for v in "bc"])
    tags = api.get("runs/get", run_id=run)["run"]["data"]["tags"]
    assert {"key": "t", "value": "c"} in tags
    api.post("runs/delete-tag", run_id=run, key="t")
    assert api.refused("runs/delete-tag", run_id=run, key="t") == (
        404,
        NONE,
        f"No tag with name: t in run with id {run}",
    )


@pytest.mark.parametrize(
    ("batch", "says"),
    [
        ({"metrics": "foo"}, "Invalid value \"foo\" for parameter 'metrics' supplied"),
        ({"params": "foo"}, "Invalid value \"foo\" for parameter 'params' supplied"),
        ({"tags": "foo"}, "Invalid value \"foo\" for parameter 'tags' supplied"),
        (
            {"metrics": [{"key": "m", "value": 2.5}]},
            "Missing value for required parameter 'metrics[0].timestamp'",
        ),
        ({"params": [{"value": "x"}]}, "Missing value for required parameter 'params[0].key'"),
        (
            {"metrics": [{"key": "m", "value": 1, "timestamp": 1}] * 1001},
            "can contain at most 1000 metrics. Got 1001 metrics. Please split up metrics across",
        ),
        (
            {"params": [{"key": f"p{i}", "value": "x"} for i in range(101)]},
            "at most 100 params. Got 101 params.",
        ),
        ({"tags": [{"key": "t", "value": "x"}] * 101}, "at most 100 tags. Got 101 tags."),
        (
            {
                "metrics": [{"key": "m", "value": 1, "timestamp": 1}] * 901,
                "params": [{"key": f"p{i}", "value": "x"} for i in range(100)],
            },
            "at most 1000 metrics, params, and tags. Got 1001",
        ),
        (
            {"params": [{"key": "p", "value": "x"}, {"key": "p", "value": "x"}]},
            "Duplicate parameter keys have been submitted: ['p'].",
        ),
        (
            {
                "metrics": [
                    {"key": "ok", "value": 1, "timestamp": 1},
                    {"key": "a:*", "value": 1, "timestamp": 1},
                ]
            },
            "Invalid value \"a:*\" for parameter 'metrics[1].name' supplied",
        ),
    ],
)
def test_a_batch_that_cannot_be_logged(api: Api, batch: dict[str, Any], says: str) -> None:
    run = api.run()
    status, code, message = api.refused("runs/log-batch", run_id=run, **batch)
    assert (status, code) == (400, BAD)
    assert says in message
    data = api.get("runs/get", run_id=run)["run"]["data"]
    assert "metrics" not in data
    assert "params" not in data


def test_history_comes_by_time_in_pages(api: Api) -> None:
    run = api.run()
    points = [(step, 100 - step // 2) for step in range(10)]
    for step, timestamp in points:
        api.post("runs/log-metric", run_id=run, key="m", value=1, timestamp=timestamp, step=step)
    expected = sorted(points, key=lambda point: (point[1], point[0]))
    found: list[tuple[int, int]] = []
    query: dict[str, Any] = {"run_id": run, "metric_key": "m", "max_results": 4}
    while True:
        page = api.get("metrics/get-history", **query)
        found += [(one["step"], one["timestamp"]) for one in page["metrics"]]
        if "next_page_token" not in page:
            break
        query["page_token"] = page["next_page_token"]
    assert found == expected
    whole = api.get("metrics/get-history", run_id=run, metric_key="m")["metrics"]
    assert [(one["step"], one["timestamp"]) for one in whole] == expected
    assert api.get("metrics/get-history", run_id=run, metric_key="none") == {}
    for wrong in ({"max_results": 0}, {"max_results": "x"}, {"page_token": "?"}):
        assert api.refused_get("metrics/get-history", run_id=run, metric_key="m", **wrong)[0] == 400


def test_history_of_several_runs(api: Api) -> None:
    runs = sorted(api.run() for _ in range(2))
    for run in runs:
        for step in range(3):
            api.post("runs/log-metric", run_id=run, key="m", value=step, timestamp=1, step=step)
    found = api.get("metrics/get-history-bulk", run_id=[*runs, "none"], metric_key="m")["metrics"]
    assert [(one["run_id"], one["step"]) for one in found] == [
        (run, step) for run in runs for step in range(3)
    ]
    some = api.get("metrics/get-history-bulk", run_id=runs, metric_key="m", max_results=4)
    assert some["metrics"] == found[:4]
    for query, says in (
        ({"metric_key": "m"}, "must specify at least one run_id"),
        (
            {"run_id": [str(i) for i in range(101)], "metric_key": "m"},
            "cannot specify more than 100",
        ),
        ({"run_id": runs}, "must specify a metric_key"),
    ):
        assert says in api.refused_get("metrics/get-history-bulk", **query)[2]


def test_a_few_points_of_many(api: Api, workspace: Workspace) -> None:
    run = api.run()
    points = [Point("m", math.sin(step), step, step * 1000) for step in range(10)]
    workspace.tracking.log(run, points=points)

    def steps(**query: Any) -> list[int]:
        found = api.get("metrics/get-history-bulk-interval", run_ids=run, metric_key="m", **query)
        return [one["step"] for one in found.get("metrics", [])]

    assert steps() == list(range(10))
    assert steps(max_results=5) == [0, 2, 4, 6, 9]
    assert steps(max_results=1) == [9]
    assert steps(start_step=2, end_step=4) == [2, 3, 4]
    assert steps(start_step=50, end_step=60) == []
    many = [Point("long", 0.0, step, step) for step in range(20_000)]
    many[777] = Point("long", 99.0, 777, 777)
    for at in range(0, len(many), 1000):
        workspace.tracking.log(run, points=many[at : at + 1000])
    found = api.get(
        "metrics/get-history-bulk-interval", run_ids=run, metric_key="long", max_results=320
    )["metrics"]
    assert len(found) <= 320
    assert (found[0]["step"], found[-1]["step"]) == (0, 19_999)
    for query, says in (
        ({"metric_key": "m"}, "Missing value for required parameter 'run_ids'."),
        ({"run_ids": "x"}, "Missing value for required parameter 'metric_key'"),
        ({"run_ids": [str(i) for i in range(101)], "metric_key": "m"}, "at most 100 run_ids."),
        ({"run_ids": run, "metric_key": "m", "max_results": 0}, "between 1 and 2500"),
        ({"run_ids": run, "metric_key": "m", "start_step": 1}, "both must be specified."),
        (
            {"run_ids": run, "metric_key": "m", "start_step": 1, "end_step": 0},
            "end_step must be greater than start_step.",
        ),
    ):
        assert says in api.refused_get("metrics/get-history-bulk-interval", **query)[2]


# Search


def found_runs(api: Api, experiment: str, text: str = "", **more: Any) -> list[str]:
    answer = api.post("runs/search", experiment_ids=[experiment], filter=text, **more)
    return [run["info"]["run_name"] for run in answer.get("runs", [])]


def test_every_comparator_of_a_search(api: Api) -> None:
    number = api.experiment()
    for index, (name, value, text) in enumerate(
        [("one", 1.0, "Alpha"), ("two", 2.0, "beta"), ("three", 3.0, "100%")]
    ):
        run = api.run(number, run_name=name, start_time=index, user_id=f"u{index}")
        api.post("runs/log-metric", run_id=run, key="m x", value=value, timestamp=1)
        api.post("runs/log-parameter", run_id=run, key="p", value=text)
        api.post("runs/set-tag", run_id=run, key="t.a", value=text)
        if name == "two":
            api.post("runs/update", run_id=run, status="FINISHED", end_time=77)
    bare = api.run(number, run_name="bare", start_time=9)
    for text, expected in {
        "": ["bare", "three", "two", "one"],
        "metrics.`m x` > 1": ["three", "two"],
        "metrics.`m x` >= 2 AND metrics.`m x` < 3": ["two"],
        "metrics.`m x` <= 2": ["two", "one"],
        "metrics.`m x` = 1.0": ["one"],
        "metrics.`m x` != 1": ["three", "two"],
        "params.p = 'beta'": ["two"],
        "params.p != 'beta'": ["three", "one"],
        "params.p LIKE 'al%'": [],
        "params.p ILIKE 'al%'": ["one"],
        "params.p IS NULL": ["bare"],
        "params.p IS NOT NULL": ["three", "two", "one"],
        "tags.`t.a` = 'Alpha'": ["one"],
        "tags.t.a LIKE '%a'": ["two", "one"],
        "tags.t.a IS NULL": ["bare"],
        "attributes.status = 'FINISHED'": ["two"],
        "status != 'FINISHED'": ["bare", "three", "one"],
        "status LIKE 'RUN%'": ["bare", "three", "one"],
        "attribute.start_time > 0 AND start_time <= 2": ["three", "two"],
        "end_time = 77": ["two"],
        "run_name = 'two'": ["two"],
        "run_name ILIKE 'T%'": ["three", "two"],
        "user_id = 'u1'": ["two"],
        f"run_id = '{bare}'": ["bare"],
        f"run_id IN ('{bare}', 'x')": ["bare"],
        f"run_id NOT IN ('{bare}')": ["three", "two", "one"],
        f"artifact_uri = 'mlflow-artifacts:/{number}/{bare}/artifacts'": ["bare"],
        f"artifact_uri LIKE '%{bare}%'": ["bare"],
        "tags.`mlflow.runName` = 'two'": ["two"],
    }.items():
        assert found_runs(api, number, text) == expected, text
    for order, expected in {
        "metrics.`m x` ASC": ["one", "two", "three", "bare"],
        "metrics.`m x` DESC": ["three", "two", "one", "bare"],
        "params.p": ["three", "one", "two", "bare"],
        "start_time ASC": ["one", "two", "three", "bare"],
        "run_name": ["bare", "one", "three", "two"],
        "end_time DESC": ["two", "bare", "three", "one"],
    }.items():
        assert found_runs(api, number, order_by=[order]) == expected, order


def test_pages_of_a_search(api: Api) -> None:
    number = api.experiment()
    runs = sorted(api.run(number, start_time=1) for _ in range(10))
    found: list[str] = []
    asked: dict[str, Any] = {"experiment_ids": [number], "max_results": 4}
    sizes = []
    while True:
        page = api.post("runs/search", **asked)
        found += [run["info"]["run_id"] for run in page["runs"]]
        sizes.append(len(page["runs"]))
        if "next_page_token" not in page:
            break
        asked["page_token"] = page["next_page_token"]
    assert found == runs
    assert sizes == [4, 4, 2]


def test_what_a_search_looks_through(api: Api) -> None:
    first, second = api.experiment("a"), api.experiment("b")
    here, there, gone = api.run(first), api.run(second), api.run(first)
    api.post("runs/delete", run_id=gone)

    def ids(**more: Any) -> set[str]:
        answer = api.post("runs/search", **more)
        return {run["info"]["run_id"] for run in answer.get("runs", [])}

    assert ids(experiment_ids=[first]) == {here}
    assert ids(experiment_ids=[first, second]) == {here, there}
    assert ids(experiment_ids=[first], run_view_type="DELETED_ONLY") == {gone}
    assert ids(experiment_ids=[first], run_view_type=3) == {here, gone}
    assert ids(experiment_ids=[]) == ids() == ids(experiment_ids=["99"]) == set()


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"max_results": 50_001}, "Invalid value 50001 for parameter 'max_results' supplied"),
        ({"max_results": 0}, "It must be a positive integer"),
        ({"max_results": "x"}, "Invalid value \"x\" for parameter 'max_results' supplied"),
        ({"experiment_ids": ["x"]}, "Experiment ID must be a valid integer."),
        ({"experiment_ids": "0"}, "Invalid value \"0\" for parameter 'experiment_ids' supplied"),
        ({"filter": "metrics.a >"}, "Invalid clause(s) in filter string"),
        ({"filter": 7}, "Invalid value 7 for parameter 'filter' supplied"),
        ({"order_by": ["foo"]}, "Invalid attribute key 'foo'"),
        ({"order_by": [1]}, "Invalid value [1] for parameter 'order_by' supplied"),
        ({"order_by": ["dataset.name"]}, "Invalid identifier type 'dataset'"),
        ({"run_view_type": "NONE"}, "for parameter 'run_view_type' supplied"),
        ({"page_token": "é"}, "Invalid page token"),
        ({"page_token": base64.b64encode(b"nonsense").decode()}, "Invalid page token"),
    ],
)
def test_a_search_that_cannot_be(api: Api, asked: dict[str, Any], says: str) -> None:
    status, code, message = api.refused("runs/search", **{"experiment_ids": ["0"], **asked})
    assert (status, code) == (400, BAD)
    assert says in message


# Datasets and models


def dataset(name: str, digest: str, context: str | None = None) -> dict[str, Any]:
    tags = [{"key": "mlflow.data.context", "value": context}] if context else []
    said = {"name": name, "digest": digest, "source_type": "local", "source": "x"}
    return {"dataset": said, "tags": tags}


def test_datasets_of_runs(api: Api) -> None:
    number = api.experiment()
    first, second = api.run(number, run_name="first"), api.run(number, run_name="second")
    given = dataset("d1", "11", "training")
    given["dataset"]["schema"] = "s"
    api.post("runs/log-inputs", run_id=first, datasets=[given, given])
    api.post("runs/log-inputs", run_id=first, datasets=[given])
    api.post("runs/log-inputs", run_id=second, datasets=[dataset("d2", "22")])
    assert api.get("runs/get", run_id=first)["run"]["inputs"] == {"dataset_inputs": [given]}
    for text, expected in {
        "dataset.name = 'd1'": ["first"],
        "datasets.name LIKE 'd%'": ["second", "first"],
        "dataset.digest IN ('22', '33')": ["second"],
        "dataset.context = 'training'": ["first"],
        "dataset.name = 'd1' AND dataset.digest = '22'": [],
        "dataset.name != 'd1'": ["second"],
    }.items():
        assert set(found_runs(api, number, text)) == set(expected), text
    found = api.post("experiments/search-datasets", experiment_ids=[number])["dataset_summaries"]
    assert found == [
        {"experiment_id": number, "name": "d1", "digest": "11", "context": "training"},
        {"experiment_id": number, "name": "d2", "digest": "22"},
    ]
    for asked, says in (
        ({}, "SearchDatasets request must specify at least one experiment_id."),
        ({"experiment_ids": ["0"] * 21}, "SearchDatasets request cannot specify more than 20"),
    ):
        assert says in api.refused("experiments/search-datasets", **asked)[2]
    long = dataset("x" * 501, "1")
    assert "'name' exceeds" in api.refused("runs/log-inputs", run_id=first, datasets=[long])[2]


def test_models_that_runs_used_and_made(api: Api) -> None:
    run = api.run()
    api.post("runs/log-inputs", run_id=run, models=[{"model_id": "m-1"}])
    api.post("runs/outputs", run_id=run, models=[{"model_id": "m-2", "step": 7}])
    found = api.get("runs/get", run_id=run)["run"]
    assert found["inputs"] == {"model_inputs": [{"model_id": "m-1"}]}
    assert found["outputs"] == {"model_outputs": [{"model_id": "m-2", "step": 7}]}


def test_models_as_older_clients_log_them(api: Api) -> None:
    run = api.run()
    model = {
        "artifact_path": "model",
        "flavors": {"python_function": {"config": {"a": 1}, "env": "x"}},
        "utc_time_created": "now",
        "run_id": run,
    }
    for _ in range(2):
        api.post("runs/log-model", run_id=run, model_json=json.dumps(model))
    tags = {
        tag["key"]: tag["value"] for tag in api.get("runs/get", run_id=run)["run"]["data"]["tags"]
    }
    history = json.loads(tags["mlflow.log-model.history"])
    assert [one["flavors"] for one in history] == [{"python_function": {"env": "x"}}] * 2
    for text, says in (("{", "Malformed model info."), ("{}", "missing mandatory fields")):
        assert says in api.refused("runs/log-model", run_id=run, model_json=text)[2]


# Our own runs


def test_runs_of_flows_are_seen_and_go_on_when_a_client_closes_them(
    api: Api, workspace: Workspace
) -> None:
    run = Run(
        id="k3f9x2",
        flow="delays",
        entry="flights.py:delays",
        params={"depth": 3},
        project=workspace.settings.project,
        started_at=utcnow(),
        group="0",
        who="ada",
    )
    workspace.meta.put(run, RunState(run="k3f9x2", status="running", at=utcnow()))
    workspace.tracking.log("k3f9x2", points=[Point("auc", 0.5, 1, 5000)], scope="train/0")
    workspace.tracking.log("k3f9x2", points=[Point("auc", 0.7, 2, 6000)], scope="train/1")
    found = api.get("runs/get", run_id="k3f9x2")["run"]
    assert found["data"]["params"] == [{"key": "depth", "value": "3"}]
    assert found["data"]["metrics"] == [{"key": "auc", "value": 0.7, "timestamp": 6, "step": 2}]
    api.post("runs/log-parameter", run_id="k3f9x2", key="more", value="1")
    api.post("runs/update", run_id="k3f9x2", status="FINISHED", end_time=1)
    assert workspace.tracking.rows(["k3f9x2"])["k3f9x2"].status == "running"


def test_gc_leaves_the_files_of_runs_that_are_shown(api: Api, workspace: Workspace) -> None:
    kept, removed = api.run(), api.run()
    digests = {}
    for run in (kept, removed):
        path = f"0/{run}/artifacts/a.txt"
        url = f"/api/2.0/mlflow-artifacts/artifacts/{path}"
        assert api.http.put(url, content=run.encode()).status_code == 200
        digests[run] = workspace.tracking.files(run)[0].digest
    long_ago = time.time() - 90 * 86_400
    for digest in digests.values():
        os.utime(workspace.settings.home / "blobs" / digest[:2] / digest[2:], (long_ago, long_ago))
    assert plan_collection(workspace).blobs == {}
    api.post("runs/delete", run_id=removed)
    assert plan_collection(workspace).blobs == {}  # it can be restored for as long as others stay
    at_once = plan_collection(workspace, older_than=timedelta())
    assert set(at_once.blobs) == {digests[removed]}
    api.post("runs/restore", run_id=removed)
    assert plan_collection(workspace).blobs == {}


# Who may


@dataclass(frozen=True)
class Someone:
    name: str
    role: str
    projects: frozenset[str] | None


class As:
    """The API as it answers someone."""

    def __init__(self, workspace: Workspace, role: str, *projects: str) -> None:
        self.someone = Someone("eve", role, frozenset(projects) if projects else None)
        self.app = MlflowApi(workspace)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app({**scope, "upturn.asker": self.someone}, receive, send)


def api_of(workspace: Workspace, role: str, *projects: str) -> Api:
    from starlette.testclient import TestClient

    api = Api(workspace)
    api.http = TestClient(As(workspace, role, *projects), base_url="http://localhost")  # type: ignore[arg-type]
    return api


def test_viewers_look_and_change_nothing(workspace: Workspace) -> None:
    run = Api(workspace).run()
    viewer = api_of(workspace, "viewer")
    assert viewer.get("runs/get", run_id=run)
    assert viewer.post("runs/search", experiment_ids=["0"])["runs"]
    for path, body in (
        ("runs/create", {"experiment_id": "0"}),
        ("runs/set-tag", {"run_id": run, "key": "k"}),
        ("experiments/delete", {"experiment_id": "0"}),
    ):
        assert viewer.refused(path, **body)[:2] == (403, "PERMISSION_DENIED")
    url = f"/api/2.0/mlflow-artifacts/artifacts/0/{run}/artifacts/x"
    assert viewer.said(viewer.http.put(url, content=b"x"))[:2] == (403, "PERMISSION_DENIED")
    assert viewer.said(viewer.http.delete(url))[:2] == (403, "PERMISSION_DENIED")


def test_projects_do_not_see_each_other(workspace: Workspace) -> None:
    ours, theirs = Api(workspace), api_of(workspace, "admin", "elsewhere")
    run, secret = ours.run(), ours.experiment("secret")
    url = f"/api/2.0/mlflow-artifacts/artifacts/0/{run}/artifacts/x.txt"
    assert ours.http.put(url, content=b"secret").status_code == 200
    assert theirs.refused_get("runs/get", run_id=run)[:2] == (404, NONE)
    assert theirs.refused_get("experiments/get", experiment_id=secret)[:2] == (404, NONE)
    assert theirs.refused("runs/set-tag", run_id=run, key="k")[:2] == (404, NONE)
    assert theirs.said(theirs.http.get(url))[:2] == (404, NONE)
    assert theirs.said(theirs.http.put(url, content=b"y"))[:2] == (404, NONE)
    assert theirs.post("runs/search", experiment_ids=["0", secret]) == {}
    bulk = theirs.get("metrics/get-history-bulk", run_id=run, metric_key="m")
    assert bulk == {"metrics": []}
    own = theirs.experiment("secret")
    assert own != secret
    mine = theirs.run("0")
    assert theirs.get("runs/get", run_id=mine)["run"]["info"]["experiment_id"] != "0"
    seen = {one["name"] for one in theirs.post("experiments/search")["experiments"]}
    assert seen == {"Default", "secret"}
