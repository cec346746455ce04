"""What MLflow's clients log to runs: metrics, parameters and tags, one by one and in batches."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from upturn.adapters.mlflow.call import Call, Route
from upturn.adapters.mlflow.errors import MISSING, MlflowError, missing_value
from upturn.adapters.mlflow.limits import (
    check_batch,
    check_metric,
    check_param,
    check_run_id,
    check_tag,
)
from upturn.adapters.mlflow.nouns import RUN_NAME, active_run
from upturn.adapters.mlflow.reading import Ask, Int64, KeyValue
from upturn.adapters.mlflow.runs import RunAsk, rename
from upturn.core.errors import Conflict
from upturn.core.tracking import Point, RunRow

_MODELS = "mlflow.log-model.history"


class MetricValue(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A value of a metric."""

    key: str = ""
    value: float | None = None
    timestamp: Int64 | None = None
    step: Int64 = 0
    model_id: str = ""
    dataset_name: str = ""
    dataset_digest: str = ""


class LogMetric(RunAsk, frozen=True, kw_only=True):
    """Log a value of a metric."""

    needs = ("run_id", "key", "value", "timestamp")

    key: str = ""
    value: float | None = None
    timestamp: Int64 | None = None
    step: Int64 = 0
    model_id: str = ""
    dataset_name: str = ""
    dataset_digest: str = ""


class LogParam(RunAsk, frozen=True, kw_only=True):
    """Log a parameter, set a tag, or remove one."""

    needs = ("run_id", "key")

    key: str = ""
    value: str = ""


class LogBatch(Ask, frozen=True, kw_only=True):
    """Log much at once."""

    needs = ("run_id",)

    run_id: str = ""
    metrics: list[MetricValue] = []
    params: list[KeyValue] = []
    tags: list[KeyValue] = []


class LogModel(Ask, frozen=True, kw_only=True):
    """Note a model that a run logged, as clients before version 3 do."""

    needs = ("run_id", "model_json")

    run_id: str = ""
    model_json: str = ""


def log_metric(call: Call, asked: LogMetric) -> None:
    """Log a value of a metric."""
    metric = MetricValue(
        key=asked.key,
        value=asked.value,
        timestamp=asked.timestamp,
        step=asked.step,
        model_id=asked.model_id,
        dataset_name=asked.dataset_name,
        dataset_digest=asked.dataset_digest,
    )
    point = _point(metric, "")
    row = active_run(call, asked.run)
    _log(call, row, points=[point])
    log_for_models(call, row, [metric])


def log_param(call: Call, asked: LogParam) -> None:
    """Log a parameter."""
    value = check_param(asked.key, asked.value)
    row = active_run(call, asked.run)
    try:
        _log(call, row, params={asked.key: value})
    except Conflict:
        old = call.workspace.tracking.params([row.id])[row.id].get(asked.key)
        raise MlflowError(
            f"Changing param values is not allowed. Param with key='{asked.key}' was already "
            f"logged with value='{old}' for run ID='{row.id}'. Attempted logging new value "
            f"'{value}'."
        ) from None


def set_tag(call: Call, asked: LogParam) -> None:
    """Set a tag of a run."""
    value = check_tag(asked.key, asked.value)
    row = active_run(call, asked.run)
    _set_tags(call, row, {asked.key: value})


def delete_tag(call: Call, asked: LogParam) -> None:
    """Remove a tag of a run."""
    row = active_run(call, asked.run)
    path = f"run/{row.id}"
    if asked.key not in call.workspace.tracking.tags([path])[path]:
        raise MlflowError(f"No tag with name: {asked.key} in run with id {row.id}", MISSING)
    _log(call, row, tags={asked.key: None})


def log_batch(call: Call, asked: LogBatch) -> None:
    """Log much at once, all of it or nothing."""
    for index, metric in enumerate(asked.metrics):
        for name in ("key", "value", "timestamp"):
            if getattr(metric, name) in (None, ""):
                raise missing_value(f"metrics[{index}].{name}")
    for kind, items in (("params", asked.params), ("tags", asked.tags)):
        for index, item in enumerate(items):
            if not item.key:
                raise missing_value(f"{kind}[{index}].key")
    check_run_id(asked.run_id)
    points = [_point(metric, f"metrics[{index}]") for index, metric in enumerate(asked.metrics)]
    params = [
        (item.key, check_param(item.key, item.value, f"params[{index}]"))
        for index, item in enumerate(asked.params)
    ]
    tags = {
        item.key: check_tag(item.key, item.value, f"tags[{index}]")
        for index, item in enumerate(asked.tags)
    }
    check_batch(len(points), len(params), len(asked.tags))
    _refuse_twice([name for name, _ in params])
    row = active_run(call, asked.run_id)
    name = tags.pop(RUN_NAME, "")
    try:
        _log(call, row, points=points, params=dict(params), tags=tags)
    except Conflict:
        old = call.workspace.tracking.params([row.id])[row.id]
        changed = [
            {"key": key, "old_value": old[key], "new_value": value}
            for key, value in params
            if old.get(key, value) != value
        ]
        raise MlflowError(
            f"Changing param values is not allowed. Params were already logged='{changed}' for "
            f"run ID='{row.id}'."
        ) from None
    if name:
        rename(call, row, name)
    log_for_models(call, row, asked.metrics)


def log_model(call: Call, asked: LogModel) -> None:
    """Note a model that a run logged."""
    try:
        model = json.loads(asked.model_json)
    except (ValueError, RecursionError):
        raise MlflowError(
            f"Malformed model info. \n {asked.model_json} \n is not a valid JSON."
        ) from None
    needed = ("artifact_path", "flavors", "utc_time_created", "run_id")
    missing = [name for name in needed if not isinstance(model, dict) or name not in model]
    if missing:
        raise MlflowError(f"Model json is missing mandatory fields: {set(missing)}")
    row = active_run(call, asked.run_id)
    known = ("run_id", "artifact_path", "utc_time_created", "model_uuid")
    said = {name: model[name] for name in known if name in model}
    said["flavors"] = {
        flavor: {key: part for key, part in config.items() if key != "config"}
        if isinstance(config, dict)
        else config
        for flavor, config in dict(model["flavors"]).items()
    }
    path = f"run/{row.id}"
    before = call.workspace.tracking.tags([path])[path].get(_MODELS, "[]")
    _log(call, row, tags={_MODELS: json.dumps([*json.loads(before), said])})


def log_for_models(call: Call, row: RunRow, metrics: Iterable[MetricValue]) -> None:
    """Log what was measured of a logged model to it, too: under the run and the dataset."""
    for metric in metrics:
        if metric.model_id:
            scope = [row.id, metric.dataset_name, metric.dataset_digest]
            call.workspace.tracking.log(
                metric.model_id, points=[_point(metric, "")], scope=json.dumps(scope)
            )


def _point(metric: MetricValue, path: str) -> Point:
    value, timestamp = metric.value, metric.timestamp
    if value is None or timestamp is None:
        raise missing_value(f"{path}.value" if path else "value")
    check_metric(metric.key, value, timestamp, path)
    return Point(metric.key, value, metric.step, timestamp * 1000)


def _log(
    call: Call,
    row: RunRow,
    *,
    points: Sequence[Point] = (),
    params: dict[str, str] | None = None,
    tags: dict[str, Any] | None = None,
) -> None:
    tracking, scope = call.workspace.tracking, call.scope_in(row.id)
    try:
        tracking.log(row.id, points=points, params=params, tags=tags, scope=scope)
    except Conflict:
        if not scope or not params:
            raise
        # Another task of the run had another value: this one's has its name before it.
        known = tracking.params([row.id])[row.id]
        apart = {
            key if known.get(key, value) == value else f"{scope}/{key}": value
            for key, value in params.items()
        }
        tracking.log(row.id, points=points, params=apart, tags=tags, scope=scope)


def _set_tags(call: Call, row: RunRow, tags: dict[str, str]) -> None:
    name = tags.pop(RUN_NAME, "")
    if name:
        rename(call, row, name)
    if tags:
        _log(call, row, tags=tags)


def _refuse_twice(names: list[str]) -> None:
    seen: set[str] = set()
    twice = [name for name in names if name in seen or seen.add(name)]
    if twice:
        raise MlflowError(
            f"Duplicate parameter keys have been submitted: {twice}. Please ensure the request "
            "contains only one param value per param key."
        )


ROUTES = (
    Route("POST", "runs/log-metric", LogMetric, log_metric),
    Route("POST", "runs/log-parameter", LogParam, log_param),
    Route("POST", "runs/set-tag", LogParam, set_tag),
    Route("POST", "runs/delete-tag", LogParam, delete_tag),
    Route("POST", "runs/log-batch", LogBatch, log_batch),
    Route("POST", "runs/log-model", LogModel, log_model),
)
