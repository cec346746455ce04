"""Runs as MLflow's clients see them: found, checked, and said in its JSON."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from upturn.adapters.mlflow.call import Call
from upturn.adapters.mlflow.errors import MISSING, MlflowError
from upturn.adapters.mlflow.experiments import DEFAULT, LOCATION
from upturn.adapters.mlflow.run_search import STATUSES
from upturn.core.datasets import DatasetUse, ModelUse
from upturn.core.tracking import RunRow, Series

RUN_NAME = "mlflow.runName"
PARENT = "mlflow.parentRunId"
END = "upturn.end_time"  # a tag that keeps what a client said of the end of a run that goes on
_AT_ONCE = 500  # runs that are asked for in one go
Number = float | str


def get_run(call: Call, run: str) -> RunRow:
    """A run by its id. Raises MlflowError when there is none for who asks."""
    row = call.workspace.tracking.rows([run]).get(run)
    if row is None or not call.sees(row.project):
        raise MlflowError(f"Run with id={run} not found", MISSING)
    return row


def active_run(call: Call, run: str) -> RunRow:
    """A run that may be changed."""
    row = get_run(call, run)
    if row.removed_at is not None:
        raise MlflowError(f"The run {run} must be in the 'active' state. Current state is deleted.")
    return row


def artifact_uri(row: RunRow, location: str) -> str:
    """Where a run's artifacts are, below its experiment's."""
    base, mark, query = location.partition("?")
    return f"{base.rstrip('/')}/{row.id}/artifacts{mark}{query}"


def locations(call: Call, rows: Iterable[RunRow]) -> dict[str, str]:
    """Where the artifacts of the runs' experiments are, by group."""
    groups = {row.group for row in rows}
    tags = call.workspace.tracking.tags([f"group/{group or DEFAULT}" for group in groups])
    return {
        group: tags.get(f"group/{group or DEFAULT}", {}).get(
            LOCATION, f"mlflow-artifacts:/{group or DEFAULT}"
        )
        for group in groups
    }


def number(value: float) -> Number:
    """A number in protobuf's JSON, which has no other way to say what is none."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def last_points(series: Iterable[Series]) -> list[Series]:
    """The last value of each metric, whatever logged it within the run."""
    last: dict[str, Series] = {}
    for one in series:
        before = last.get(one.name)
        if before is None or (one.step, one.at, one.last) > (before.step, before.at, before.last):
            last[one.name] = one
    return list(last.values())


def info_json(row: RunRow, location: str, end: str | None = None) -> dict[str, Any]:
    """What a run is, and how it stands; `end` is what its tag END says."""
    info: dict[str, Any] = {
        "run_uuid": row.id,
        "experiment_id": row.group or DEFAULT,
        "run_name": row.name or row.id,
        "user_id": row.who,
        "status": STATUSES[row.status],
        "start_time": row.started_at // 1000,
        "artifact_uri": artifact_uri(row, location),
        "lifecycle_stage": "active" if row.removed_at is None else "deleted",
        "run_id": row.id,
    }
    if row.ended_at is not None:
        info["end_time"] = row.ended_at // 1000
    elif end is not None:
        info["end_time"] = int(end)
    return info


def runs_json(call: Call, rows: Sequence[RunRow]) -> list[dict[str, Any]]:
    """Runs with everything that they said of themselves."""
    places = locations(call, rows)
    said: list[dict[str, Any]] = []
    for at in range(0, len(rows), _AT_ONCE):
        said += _some(call, rows[at : at + _AT_ONCE], places)
    return said


def _some(call: Call, rows: Sequence[RunRow], places: dict[str, str]) -> list[dict[str, Any]]:
    ids = [row.id for row in rows]
    tracking = call.workspace.tracking
    params, series = tracking.params(ids), tracking.series(ids)
    tags = tracking.tags([f"run/{run}" for run in ids])
    datasets: dict[str, list[DatasetUse]] = {}
    for use in call.workspace.meta.select(DatasetUse, run=ids):
        datasets.setdefault(use.run, []).append(use)
    models: dict[str, list[ModelUse]] = {}
    for use in call.workspace.meta.select(ModelUse, run=ids):
        models.setdefault(use.run, []).append(use)
    return [
        {
            "info": info_json(row, places[row.group], tags[f"run/{row.id}"].get(END)),
            "data": _data(row, series[row.id], params[row.id], tags[f"run/{row.id}"]),
            "inputs": _inputs(datasets.get(row.id, ()), models.get(row.id, ())),
            "outputs": _outputs(models.get(row.id, ())),
        }
        for row in rows
    ]


def _data(
    row: RunRow, series: list[Series], params: dict[str, str], tags: dict[str, str]
) -> dict[str, Any]:
    if row.name:
        tags = {RUN_NAME: row.name, **tags}
    if row.parent and PARENT not in tags:
        tags = {**tags, PARENT: row.parent}
    tags = {name: value for name, value in tags.items() if name != END}
    parts = {
        "metrics": [
            {
                "key": one.name,
                "value": number(one.last),
                "timestamp": one.at // 1000,
                "step": one.step,
            }
            for one in last_points(series)
        ],
        "params": [{"key": key, "value": value} for key, value in params.items()],
        "tags": [{"key": key, "value": value} for key, value in tags.items()],
    }
    return {name: part for name, part in parts.items() if part}


def _inputs(datasets: Iterable[DatasetUse], models: Iterable[ModelUse]) -> dict[str, Any]:
    used = [dataset_json(use) for use in datasets]
    inputs = [{"model_id": use.model} for use in models if use.role == "input"]
    parts = {"dataset_inputs": used, "model_inputs": inputs}
    return {name: part for name, part in parts.items() if part}


def dataset_json(use: DatasetUse) -> dict[str, Any]:
    """A dataset as a run's input."""
    dataset = {
        "name": use.name,
        "digest": use.digest,
        "source_type": use.source_type,
        "source": use.source,
    }
    if use.schema is not None:
        dataset["schema"] = use.schema
    if use.profile is not None:
        dataset["profile"] = use.profile
    said: dict[str, Any] = {"dataset": dataset}
    if use.tags:
        said["tags"] = [{"key": key, "value": value} for key, value in use.tags.items()]
    return said


def _outputs(models: Iterable[ModelUse]) -> dict[str, Any]:
    made = [{"model_id": use.model, "step": use.step} for use in models if use.role == "output"]
    return {"model_outputs": made} if made else {}
