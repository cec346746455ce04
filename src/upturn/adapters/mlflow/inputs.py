"""What runs say that they used and made: datasets and logged models."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from upturn.adapters.mlflow.call import Call, Route
from upturn.adapters.mlflow.errors import MlflowError, missing_value, too_long
from upturn.adapters.mlflow.experiments import DEFAULT, get_experiment
from upturn.adapters.mlflow.grammar import Clause, holds
from upturn.adapters.mlflow.limits import check_run_id
from upturn.adapters.mlflow.nouns import active_run
from upturn.adapters.mlflow.reading import Ask, Int64, KeyValue
from upturn.core.datasets import DatasetUse, ModelUse

CONTEXT = "mlflow.data.context"
_MOST_GROUPS = 20
_MOST_SUMMARIES = 1000


class Dataset(msgspec.Struct, frozen=True, kw_only=True):
    """What a dataset is, as a client says."""

    name: str = ""
    digest: str = ""
    source_type: str = ""
    source: str = ""
    schema: str | None = None
    profile: str | None = None


class DatasetInput(msgspec.Struct, frozen=True, kw_only=True):
    """A dataset that a run used, and how."""

    dataset: Dataset | None = None
    tags: list[KeyValue] = []


class LoggedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A logged model that a run used or made."""

    model_id: str = ""
    step: Int64 = 0


class LogInputs(Ask, frozen=True, kw_only=True):
    """Say what a run uses."""

    needs = ("run_id",)

    run_id: str = ""
    datasets: list[DatasetInput] = []
    models: list[LoggedModel] = []


class LogOutputs(Ask, frozen=True, kw_only=True):
    """Say what a run made."""

    needs = ("run_id",)

    run_id: str = ""
    models: list[LoggedModel] | None = None


class SearchDatasets(Ask, frozen=True, kw_only=True):
    """The datasets that runs of experiments used."""

    experiment_ids: list[str] = []


def log_inputs(call: Call, asked: LogInputs) -> None:
    """Say what a run uses; saying it again changes nothing."""
    check_run_id(asked.run_id)
    for given in asked.datasets:
        _check(given)
    row = active_run(call, asked.run_id)
    used = call.workspace.meta.select(DatasetUse, run=row.id)
    known = {(use.name, use.digest) for use in used}
    fresh: list[DatasetUse | ModelUse] = []
    for given in asked.datasets:
        dataset = given.dataset
        assert dataset is not None
        if (dataset.name, dataset.digest) in known:
            continue
        known.add((dataset.name, dataset.digest))
        fresh.append(
            DatasetUse(
                run=row.id,
                group=row.group or DEFAULT,
                name=dataset.name,
                digest=dataset.digest,
                source_type=dataset.source_type,
                source=dataset.source,
                schema=dataset.schema,
                profile=dataset.profile,
                tags={tag.key: tag.value for tag in given.tags},
                at=call.now,
            )
        )
    fresh += [
        ModelUse(run=row.id, model=model.model_id, role="input", at=call.now)
        for model in _named(asked.models)
    ]
    if fresh:
        call.workspace.meta.put(*fresh)


def log_outputs(call: Call, asked: LogOutputs) -> None:
    """Say what a run made."""
    if asked.models is None:
        raise missing_value("models")
    row = active_run(call, asked.run_id)
    call.workspace.meta.put(
        *(
            ModelUse(run=row.id, model=model.model_id, role="output", step=model.step, at=call.now)
            for model in _named(asked.models)
        )
    )


def search_datasets(call: Call, asked: SearchDatasets) -> Any:
    """The datasets that runs of experiments used."""
    if not asked.experiment_ids:
        raise MlflowError("SearchDatasets request must specify at least one experiment_id.")
    if len(asked.experiment_ids) > _MOST_GROUPS:
        raise MlflowError(
            f"SearchDatasets request cannot specify more than {_MOST_GROUPS} experiment_ids. "
            f"Received {len(asked.experiment_ids)} experiment_ids."
        )
    groups = [get_experiment(call, one).group.id for one in asked.experiment_ids]
    found: dict[tuple[str, ...], dict[str, str]] = {}
    for use in call.workspace.meta.select(DatasetUse, group=groups):
        context = use.tags.get(CONTEXT)
        said = {"experiment_id": use.group, "name": use.name, "digest": use.digest}
        if context is not None:
            said["context"] = context
        found.setdefault(tuple(said.values()), said)
    summaries = list(found.values())[:_MOST_SUMMARIES]
    return {"dataset_summaries": summaries} if summaries else {}


def runs_of_datasets(call: Call, groups: Sequence[str], clauses: Iterable[Clause]) -> Iterable[str]:
    """The runs of those groups with, for each clause, a dataset that fits it."""
    uses = call.workspace.meta.select(DatasetUse, group=list(groups)) if groups else []
    fitting: set[str] | None = None
    for clause in clauses:
        runs = {use.run for use in uses if _fits(use, clause)}
        fitting = runs if fitting is None else fitting & runs
    return sorted(fitting or ())


def _fits(use: DatasetUse, clause: Clause) -> bool:
    if clause.key == "context":
        left = use.tags.get(CONTEXT)
    else:
        left = use.name if clause.key == "name" else use.digest
    return left is not None and holds(clause.op, left, clause.value)


def _named(models: Iterable[LoggedModel]) -> Iterable[LoggedModel]:
    for model in models:
        if not model.model_id:
            raise missing_value("model_id")
        yield model


def _check(given: DatasetInput) -> None:
    dataset = given.dataset
    if dataset is None:
        raise MlflowError("Dataset cannot be None")
    for name, value, most in (
        ("name", dataset.name, 500),
        ("digest", dataset.digest, 36),
        ("source", dataset.source, 65_535),
        ("schema", dataset.schema or "", 1_048_575),
        ("profile", dataset.profile or "", 16_777_215),
    ):
        if len(value) > most:
            raise too_long(name, most)
    for tag in given.tags:
        if len(tag.key) > 255:
            raise too_long("key", 255)
        if len(tag.value) > 500:
            raise too_long("value", 500)


ROUTES = (
    Route("POST", "runs/log-inputs", LogInputs, log_inputs),
    Route("POST", "runs/outputs", LogOutputs, log_outputs),
    Route("POST", "experiments/search-datasets", SearchDatasets, search_datasets, "viewer"),
)
