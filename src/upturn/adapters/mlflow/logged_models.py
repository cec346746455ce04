"""Logged models of MLflow 3: models of an experiment, before anybody registers them."""

import re
from typing import Any, Literal
from uuid import uuid4

import msgspec

from upturn.adapters.mlflow.call import Call, Route
from upturn.adapters.mlflow.errors import MISSING, MlflowError, missing_value
from upturn.adapters.mlflow.experiments import active_experiment, get_experiment
from upturn.adapters.mlflow.grammar import (
    NUMBER_OPS,
    TEXT_OPS,
    Clause,
    Grammar,
    holds,
    parse_filter,
)
from upturn.adapters.mlflow.model_nouns import millis, tags_json
from upturn.adapters.mlflow.nouns import number
from upturn.adapters.mlflow.pages import offset_of, token_of
from upturn.adapters.mlflow.paths import plain_path
from upturn.adapters.mlflow.places import Download, Place, download, listed
from upturn.adapters.mlflow.reading import Ask, Int64, KeyValue
from upturn.core.logged_models import LoggedModel, LoggedModelState
from upturn.core.naming import Removal
from upturn.core.tracking import Series

_STATUSES: dict[str, Literal["pending", "ready", "failed"]] = {
    "1": "pending",
    "2": "ready",
    "3": "failed",
    "LOGGED_MODEL_PENDING": "pending",
    "LOGGED_MODEL_READY": "ready",
    "LOGGED_MODEL_UPLOAD_FAILED": "failed",
}
_SAID = {
    "pending": "LOGGED_MODEL_PENDING",
    "ready": "LOGGED_MODEL_READY",
    "failed": "LOGGED_MODEL_UPLOAD_FAILED",
}
_NAME = re.compile(r"[^/:.%\"']*")
_MOST = 50
_PAGE_MOST = 1000
_ATTRIBUTES = (
    "name",
    "model_name",
    "model_id",
    "model_type",
    "status",
    "source_run_id",
    "creation_time",
    "creation_timestamp",
    "last_updated_timestamp",
    "experiment_id",
)
MODELS = Grammar(
    kinds={
        name: kind
        for kind, names in {
            "attribute": ("attribute", "attributes"),
            "metric": ("metric", "metrics"),
            "parameter": ("param", "params"),
            "tag": ("tag", "tags"),
        }.items()
        for name in names
    },
    said=("metrics", "params", "tags", "attributes"),
    attributes=_ATTRIBUTES,
    numeric=frozenset({"creation_time", "creation_timestamp", "last_updated_timestamp"}),
    listed=frozenset({"name", "model_id", "source_run_id", "status", "model_type"}),
    ordered=_ATTRIBUTES,
    ops={"number": NUMBER_OPS, "metric": NUMBER_OPS, "parameter": TEXT_OPS, "tag": TEXT_OPS},
)


class CreateModel(Ask, frozen=True, kw_only=True):
    """A model that is about to be logged."""

    needs = ("experiment_id",)

    experiment_id: str = ""
    name: str = ""
    model_type: str = ""
    source_run_id: str = ""
    params: list[KeyValue] = []
    tags: list[KeyValue] = []


class OneModel(Ask, frozen=True, kw_only=True):
    """A logged model; one that was deleted only when that is allowed."""

    model_id: str = ""
    allow_deleted: bool = False


class Finalize(OneModel, frozen=True, kw_only=True):
    """How the logging of a model ended."""

    needs = ("status",)

    status: int | str = ""


class SetTags(OneModel, frozen=True, kw_only=True):
    """Tags of a logged model."""

    tags: list[KeyValue] = []


class DeleteTag(OneModel, frozen=True, kw_only=True):
    """A tag that a logged model shall no longer have."""

    tag_key: str = ""


class LogParams(OneModel, frozen=True, kw_only=True):
    """Parameters of a logged model."""

    params: list[KeyValue] = []


class DatasetFilter(msgspec.Struct, frozen=True, kw_only=True):
    """A dataset, on which metrics were measured."""

    dataset_name: str = ""
    dataset_digest: str = ""


class OrderBy(msgspec.Struct, frozen=True, kw_only=True):
    """What logged models are sorted by."""

    field_name: str = ""
    ascending: bool = True
    dataset_name: str = ""
    dataset_digest: str = ""


class Search(Ask, frozen=True, kw_only=True):
    """What logged models are searched for."""

    needs = ("experiment_ids",)

    experiment_ids: list[str] = []
    filter: str = ""
    datasets: list[DatasetFilter] = []
    max_results: Int64 | None = None
    order_by: list[OrderBy] = []
    page_token: str = ""


class ListArtifacts(OneModel, frozen=True, kw_only=True):
    """What is in a folder of a logged model."""

    artifact_directory_path: str = ""
    page_token: str = ""


class GetArtifact(OneModel, frozen=True, kw_only=True):
    """A file of a logged model."""

    artifact_file_path: str = ""


class _Known:
    """A logged model with all that is said of it."""

    def __init__(
        self,
        model: LoggedModel,
        state: LoggedModelState | None,
        params: dict[str, str],
        tags: dict[str, str],
        series: list[Series],
    ) -> None:
        self.model = model
        self.status = state.status if state else "pending"
        self.updated_at = state.at if state else model.at
        self.params = params
        self.tags = tags
        self.series = series


def tags_path(model: str) -> str:
    """The path of a logged model, as tags and removals know it."""
    return f"logged/{model}"


def create(call: Call, asked: CreateModel) -> Any:
    """Note a model that is about to be logged."""
    experiment = active_experiment(call, asked.experiment_id)
    if _NAME.fullmatch(asked.name) is None:
        raise MlflowError(
            f"Invalid model name ({asked.name!r}) provided. Model name must be a non-empty string "
            "and cannot contain the following characters: ('/', ':', '.', '%', '\"', \"'\")"
        )
    made = LoggedModel(
        id=f"m-{uuid4().hex}",
        group=experiment.group.id,
        run=asked.source_run_id or call.task_run,
        name=asked.name or f"model-{uuid4().hex[:8]}",
        type=asked.model_type,
        who=call.asker.name,
        at=call.now,
    )
    call.workspace.meta.put(made, LoggedModelState(id=made.id, status="pending", at=call.now))
    _log_params(call, made.id, asked.params)
    if asked.tags:
        call.workspace.tracking.tag(tags_path(made.id), _pairs(asked.tags))
    return {"model": _json(_known(call, [made])[0])}


def get(call: Call, asked: OneModel) -> Any:
    """A logged model."""
    return {"model": _json(_known(call, [_found(call, asked)])[0])}


def finalize(call: Call, asked: Finalize) -> Any:
    """Say how the logging of a model ended."""
    status = _STATUSES.get(str(asked.status))
    if status is None:
        raise MlflowError(f"Unknown logged model status: {asked.status}")
    model = _found(call, asked)
    call.workspace.meta.put(LoggedModelState(id=model.id, status=status, at=call.now))
    return {"model": _json(_known(call, [model])[0])}


def delete(call: Call, asked: OneModel) -> None:
    """Remove a logged model from what is shown."""
    model = _found(call, asked)
    who = call.asker.name
    said = Removal(path=tags_path(model.id), removed=True, why="MLflow", who=who, at=call.now)
    call.workspace.meta.put(said)


def set_tags(call: Call, asked: SetTags) -> None:
    """Tag a logged model."""
    model = _found(call, asked)
    if asked.tags:
        call.workspace.tracking.tag(tags_path(model.id), _pairs(asked.tags))


def delete_tag(call: Call, asked: DeleteTag) -> None:
    """Take a tag from a logged model."""
    model = _found(call, asked)
    path = tags_path(model.id)
    if asked.tag_key not in call.workspace.tracking.tags([path])[path]:
        raise MlflowError(
            f"No tag with key {asked.tag_key!r} found for model with ID {model.id!r}.", MISSING
        )
    call.workspace.tracking.tag(path, {asked.tag_key: None})


def log_params(call: Call, asked: LogParams) -> None:
    """Log parameters of a logged model."""
    _log_params(call, _found(call, asked).id, asked.params)


def search(call: Call, asked: Search) -> Any:
    """Logged models that fit, newest first unless told otherwise."""
    most = _MOST if not asked.max_results else asked.max_results
    if not 1 <= most <= _PAGE_MOST:
        raise MlflowError(
            f"Invalid value {most} for parameter 'max_results' supplied. It must be a positive "
            f"integer, and at most {_PAGE_MOST}"
        )
    clauses = parse_filter(asked.filter, MODELS)
    start = offset_of(asked.page_token)
    for experiment in asked.experiment_ids:
        get_experiment(call, experiment)
    groups = [str(int(one)) for one in asked.experiment_ids]
    held = call.workspace.meta.select(LoggedModel, group=groups)
    paths = [tags_path(one.id) for one in held]
    gone = {one.path: one.removed for one in call.workspace.meta.select(Removal, path=paths)}
    shown = [one for one in held if not gone.get(tags_path(one.id))]
    fitting = [one for one in _known(call, shown) if _fits(one, clauses, asked.datasets)]
    fitting.reverse()  # newest first
    for order in reversed(asked.order_by):
        _sort(fitting, order)
    end = start + most
    answer: dict[str, Any] = {}
    if fitting[start:end]:
        answer["models"] = [_json(one) for one in fitting[start:end]]
    return {**answer, "next_page_token": token_of(end)} if len(fitting) > end else answer


def list_artifacts(call: Call, asked: ListArtifacts) -> Any:
    """What is in a folder of a logged model."""
    model = _found(call, asked)
    files = listed(call, Place(model.id, plain_path(asked.artifact_directory_path)))
    answer: dict[str, Any] = {"root_uri": location(model)}
    return {**answer, "files": files} if files else answer


def get_artifact(call: Call, asked: GetArtifact) -> Download:
    """A file of a logged model."""
    if not asked.artifact_file_path:
        raise MlflowError(
            'Request must include the "artifact_file_path" query parameter.', "BAD_REQUEST"
        )
    model = _found(call, asked)
    return download(call, Place(model.id, plain_path(asked.artifact_file_path)))


def location(model: LoggedModel) -> str:
    """Where the files of a logged model are."""
    return f"mlflow-artifacts:/{model.group}/models/{model.id}/artifacts"


def _found(call: Call, asked: OneModel) -> LoggedModel:
    found = call.workspace.meta.find(LoggedModel, asked.model_id)
    if found is not None:
        removal = call.workspace.meta.find(Removal, tags_path(found.id))
        if removal is None or not removal.removed or asked.allow_deleted:
            get_experiment(call, found.group)  # which refuses what is not theirs to see
            return found
    raise MlflowError(f"Logged model with ID '{asked.model_id}' not found.", MISSING)


def _log_params(call: Call, model: str, params: list[KeyValue]) -> None:
    for param in params:
        if not param.key:
            raise missing_value("params.key")
    if params:
        call.workspace.tracking.log(model, params=dict(_pairs(params)))


def _pairs(given: list[KeyValue]) -> dict[str, str]:
    return {one.key: one.value for one in given}


def _known(call: Call, models: list[LoggedModel]) -> list[_Known]:
    ids = [model.id for model in models]
    if not ids:
        return []
    tracking = call.workspace.tracking
    params, series = tracking.params(ids), tracking.series(ids)
    tags = tracking.tags([tags_path(one) for one in ids])
    states = {one.id: one for one in call.workspace.meta.last_each(LoggedModelState, id=ids)}
    return [
        _Known(
            model,
            states.get(model.id),
            params[model.id],
            tags[tags_path(model.id)],
            series[model.id],
        )
        for model in models
    ]


def _json(known: _Known) -> dict[str, Any]:
    model = known.model
    info: dict[str, Any] = {
        "model_id": model.id,
        "experiment_id": model.group,
        "name": model.name,
        "creation_timestamp_ms": millis(model.at),
        "last_updated_timestamp_ms": millis(known.updated_at),
        "artifact_uri": location(model),
        "status": _SAID[known.status],
        "model_type": model.type,
        "source_run_id": model.run or "",
    }
    if known.tags:
        info["tags"] = tags_json(known.tags)
    data: dict[str, Any] = {}
    if known.params:
        data["params"] = tags_json(known.params)
    if known.series:
        data["metrics"] = [_metric_json(model.id, one) for one in known.series]
    return {"info": info, "data": data}


def _metric_json(model: str, series: Series) -> dict[str, Any]:
    run, name, digest = _measured(series)
    said: dict[str, Any] = {
        "key": series.name,
        "value": number(series.last),
        "timestamp": series.at // 1000,
        "step": series.step,
        "model_id": model,
        "run_id": run,
    }
    if name:
        said |= {"dataset_name": name, "dataset_digest": digest}
    return said


def _measured(series: Series) -> tuple[str, str, str]:
    """By which run and on which dataset, by name and digest, something was measured."""
    try:
        run, name, digest = msgspec.json.decode(series.scope, type=tuple[str, str, str])
    except msgspec.DecodeError:
        return series.scope, "", ""
    return run, name, digest


def _attribute(known: _Known, key: str) -> Any:
    model = known.model
    return {
        "name": model.name,
        "model_name": model.name,
        "model_id": model.id,
        "model_type": model.type,
        "status": known.status.upper(),
        "source_run_id": model.run or "",
        "creation_time": millis(model.at),
        "creation_timestamp": millis(model.at),
        "last_updated_timestamp": millis(known.updated_at),
        "experiment_id": model.group,
    }[key]


def _fits(known: _Known, clauses: tuple[Clause, ...], datasets: list[DatasetFilter]) -> bool:
    for one in clauses:
        if one.kind == "metric":
            values = [found.last for found in _on(known.series, one.key, datasets)]
            if not any(holds(one.op, value, one.value) for value in values):
                return False
        elif one.kind == "attribute":
            if not holds(one.op, _attribute(known, one.key), one.value):
                return False
        else:
            said = known.params if one.kind == "parameter" else known.tags
            if one.op in ("IS NULL", "IS NOT NULL"):
                if (one.key in said) != (one.op == "IS NOT NULL"):
                    return False
            elif one.key not in said or not holds(one.op, said[one.key], one.value):
                return False
    if datasets and not any(one.kind == "metric" for one in clauses):
        return any(_is_on(series, datasets) for series in known.series)
    return True


def _on(series: list[Series], name: str, datasets: list[DatasetFilter]) -> list[Series]:
    return [one for one in series if one.name == name and (not datasets or _is_on(one, datasets))]


def _is_on(series: Series, datasets: list[DatasetFilter]) -> bool:
    _, name, digest = _measured(series)
    return any(one.dataset_name == name and one.dataset_digest in ("", digest) for one in datasets)


def _sort(models: list[_Known], order: OrderBy) -> None:
    kind, dot, key = order.field_name.partition(".")
    if dot and MODELS.kinds.get(kind) == "metric":
        on = [DatasetFilter(dataset_name=order.dataset_name, dataset_digest=order.dataset_digest)]

        def value(known: _Known) -> Any:
            found = _on(known.series, key, on if order.dataset_name else [])
            return max(found, key=lambda one: (one.at, one.step)).last if found else None

    else:
        name = key if dot else order.field_name
        if name not in _ATTRIBUTES:
            raise MlflowError(
                f"Invalid order by field name: {order.field_name}. It must be an attribute or a "
                f"metric: {', '.join(_ATTRIBUTES)}, metrics.NAME"
            )

        def value(known: _Known) -> Any:
            return _attribute(known, name)

    there = [one for one in models if value(one) is not None]
    absent = [one for one in models if value(one) is None]
    models[:] = [*sorted(there, key=value, reverse=not order.ascending), *absent]


_ONE = "logged-models/{model_id}"
ROUTES = (
    Route("POST", "logged-models", CreateModel, create),
    Route("POST", "logged-models/search", Search, search, "viewer"),
    Route("GET", _ONE, OneModel, get, "viewer"),
    Route("PATCH", _ONE, Finalize, finalize),
    Route("DELETE", _ONE, OneModel, delete),
    Route("PATCH", f"{_ONE}/tags", SetTags, set_tags),
    Route("DELETE", f"{_ONE}/tags/{{tag_key}}", DeleteTag, delete_tag),
    Route("POST", f"{_ONE}/params", LogParams, log_params),
    Route("GET", f"{_ONE}/artifacts/directories", ListArtifacts, list_artifacts, "viewer"),
    Route("GET", f"{_ONE}/artifacts/files", GetArtifact, get_artifact, "viewer"),
)
