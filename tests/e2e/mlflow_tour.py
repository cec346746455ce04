"""What an MLflow client does in a day, for any version of it: the tracking URI is its argument."""

import math
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException


def main(uri: str) -> None:
    """Use the server in every way that this version can."""
    mlflow.set_tracking_uri(uri)
    client = MlflowClient(uri)
    name = f"tour of {mlflow.__version__}"
    experiment = mlflow.set_experiment(name).experiment_id
    client.set_experiment_tag(experiment, "k", "v")
    assert client.get_experiment_by_name(name).tags["k"] == "v"
    assert experiment in {one.experiment_id for one in client.search_experiments()}

    with mlflow.start_run(run_name="first") as run:
        mlflow.log_params({"depth": 3, "text": "ü/é"})
        for step in range(5):
            mlflow.log_metric("loss", 1 / (step + 1), step=step)
        mlflow.log_metrics({"nan": math.nan, "inf": math.inf})
        mlflow.set_tag("team", "blue")
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "a.txt").write_text("a")
            (Path(folder) / "deep").mkdir()
            (Path(folder) / "deep" / "b.txt").write_text("b")
            mlflow.log_artifacts(folder, "files")
        mlflow.log_text("text", "ü b.txt")
        with mlflow.start_run(nested=True):
            pass
    number = run.info.run_id
    found = client.get_run(number)
    assert found.info.status == "FINISHED"
    assert found.data.params == {"depth": "3", "text": "ü/é"}
    assert found.data.metrics["loss"] == 0.2
    assert math.isnan(found.data.metrics["nan"])
    assert found.data.metrics["inf"] == math.inf
    assert len(client.get_metric_history(number, "loss")) == 5
    assert {file.path for file in client.list_artifacts(number)} == {"files", "ü b.txt"}
    assert mlflow.artifacts.load_text(f"{run.info.artifact_uri}/files/deep/b.txt") == "b"

    client.log_batch(
        number,
        [Metric("many", step, step, step) for step in range(1000)],
        [],
        [RunTag("batch", "yes")],
    )
    client.log_batch(number, params=[Param(f"p{i}", str(i)) for i in range(100)])
    dataset = Dataset("d", "1", "local", "x")
    client.log_inputs(number, [DatasetInput(dataset, [InputTag("mlflow.data.context", "train")])])
    assert client.get_run(number).inputs.dataset_inputs[0].dataset.name == "d"

    for text, count in {
        "metrics.loss < 0.5 AND params.depth = '3'": 1,
        "tags.team LIKE 'bl%'": 1,
        "attributes.status = 'FINISHED'": 2,
        "run_name ILIKE 'FIRST'": 1,
        "dataset.name = 'd'": 1,
        "params.depth != '3'": 0,
    }.items():
        assert len(client.search_runs([experiment], text)) == count, text
    for wrong in ("metrics.a >", "nonsense", "params.a = 3", "metrics.a = 'x'"):
        _refused("INVALID_PARAMETER_VALUE", client.search_runs, [experiment], wrong)
    _refused("INVALID_PARAMETER_VALUE", client.log_param, number, "depth", 4)
    _refused("RESOURCE_DOES_NOT_EXIST", client.get_run, "nope")
    _refused("RESOURCE_ALREADY_EXISTS", client.create_experiment, name)

    with mlflow.start_run() as background:
        for step in range(50):
            mlflow.log_metric("m", step, step=step, synchronous=False)
        mlflow.flush_async_logging()
    assert len(client.get_metric_history(background.info.run_id, "m")) == 50

    if mlflow.__version__.startswith("2."):
        _traced_as_before(client, experiment)
    else:
        _traced(client, experiment)

    client.delete_run(number)
    deleted = client.search_runs([experiment], run_view_type=ViewType.DELETED_ONLY)
    assert [one.info.run_id for one in deleted] == [number]
    client.restore_run(number)
    client.delete_experiment(experiment)
    assert client.get_experiment(experiment).lifecycle_stage == "deleted"
    client.restore_experiment(experiment)
    print(f"mlflow {mlflow.__version__} is at home")


def _traced(client: MlflowClient, experiment: str) -> None:
    @mlflow.trace
    def part(x: int) -> int:
        return x + 1

    @mlflow.trace(attributes={"deep": [1, {"a": None}]})
    def whole(x: int) -> int:
        return part(x) * 2

    assert whole(1) == 4
    low = client.start_trace("low", experiment_id=experiment, tags={"t": "1"})
    client.end_trace(low.request_id, status="ERROR")
    mlflow.flush_trace_async_logging()
    newest, oldest = client.search_traces([experiment])
    assert [len(newest.data.spans), len(oldest.data.spans)] == [1, 2]
    (failed,) = client.search_traces([experiment], filter_string="status = 'ERROR'")
    number = failed.info.request_id
    assert failed.info.tags["t"] == "1"
    client.set_trace_tag(number, "k", "v")
    assert client.search_traces([experiment], filter_string="tags.k = 'v'")
    client.delete_trace_tag(number, "t")
    assert "t" not in client.get_trace(number).info.tags
    mlflow.log_feedback(trace_id=number, name="good", value=False)
    mlflow.log_expectation(trace_id=number, name="answer", value={"is": [4]})
    held = client.get_trace(number).info.assessments
    assert {one.name: one.value for one in held} == {"good": False, "answer": {"is": [4]}}
    assert client.delete_traces(experiment, trace_ids=[number]) == 1
    _refused("RESOURCE_DOES_NOT_EXIST", client.get_trace, number)
    assert client.delete_traces(experiment, max_timestamp_millis=2**42) == 1
    assert not client.search_traces([experiment])


def _traced_as_before(client: Any, experiment: str) -> None:
    """What a client of version 2 sends when a span ends, whatever OpenTelemetry it runs with."""
    from mlflow.entities import TraceData
    from mlflow.entities.trace_status import TraceStatus

    sends = client._tracking_client
    begun = sends.start_trace(experiment, 1000, {"meta": "apple"}, {"t": "1"})
    assert begun.status == TraceStatus.IN_PROGRESS
    number = begun.request_id
    ended = sends.end_trace(number, 3500, TraceStatus.ERROR, {"more": "pear"}, {"u": "2"})
    assert (ended.execution_time_ms, ended.status) == (2500, TraceStatus.ERROR)
    assert ended.request_metadata["meta"] == "apple"
    sends._upload_trace_data(ended, TraceData())
    client.set_trace_tag(number, "k", "v")
    client.delete_trace_tag(number, "t")
    found = client.get_trace(number).info
    assert (found.tags["k"], found.tags["u"], "t" in found.tags) == ("v", "2", False)
    for text in ("status = 'ERROR'", "tags.k = 'v'", "timestamp_ms >= 1000"):
        (trace,) = client.search_traces([experiment], filter_string=text)
        assert trace.info.request_id == number
    assert client.delete_traces(experiment, max_timestamp_millis=2**42) == 1
    assert not client.search_traces([experiment])


def _refused(code: str, do: Callable[..., object], *args: object) -> None:
    try:
        do(*args)
    except MlflowException as error:
        said = error.error_code
    else:
        said = "nothing"
    assert said == code, (do, args, said)


if __name__ == "__main__":
    main(sys.argv[1])
