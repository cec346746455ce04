"""Card: all that is known of a version, put together from the records that led to it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec

from upturn.core.ids import artifact_path, version_path
from upturn.core.lineage import upstream
from upturn.core.naming import Proposal
from upturn.core.records import (
    Artifact,
    Edge,
    Endpoint,
    Environment,
    Form,
    Input,
    Route,
    Run,
    Task,
    Version,
)
from upturn.core.schema import ColumnProfile, Signature
from upturn.model.aliases import aliases_of, proposals
from upturn.model.catalog import description_of, find_model
from upturn.model.finding import is_removed, model_path
from upturn.stores.workspace import Workspace

_MOST_FILES = 100


class DataFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a version was trained on: the table, and the files that it was made from."""

    digest: str
    type: str = ""
    summary: str = ""  # '80789 rows × 22 columns'
    rows: int = 0
    files: tuple[str, ...] = ()


class CodeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The code that made a version: where it is, and the step that fitted the model."""

    entry: str  # 'flights.py:delays'
    task: str = ""  # the path of the task that made the model
    digest: str = ""  # of that step's code, with all of the user's own that it uses


class Serving(msgspec.Struct, frozen=True, kw_only=True):
    """One arm of an endpoint's route that a version answers for."""

    endpoint: str
    revision: int
    arm: str
    share: float
    shadow: bool
    since: datetime


class ColumnBrief(msgspec.Struct, frozen=True, kw_only=True):
    """A column of the training data in a line."""

    name: str
    kind: Literal["number", "category"]
    missing: float  # the share of rows
    mean: float | None = None
    std: float | None = None
    low: float | None = None
    high: float | None = None
    most: tuple[tuple[str, float], ...] = ()  # the most frequent categories, with their shares


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of a version."""

    model: str
    number: int
    project: str
    at: datetime
    who: str
    description: str
    model_description: str
    tags: dict[str, str]
    aliases: tuple[str, ...]
    removed: bool
    run: str | None
    task: str | None
    format: Literal["value", "mlflow"]
    artifact: str
    artifact_type: str
    source: str
    data: DataFacts | None
    code: CodeFacts | None
    params: dict[str, Any]
    metrics: dict[str, float]
    slices: dict[str, dict[str, float]]  # of 'auc/carrier=AA': {'carrier=AA': {'auc': …}}
    signature: Signature
    environment: Environment
    form: Form | None
    profile: tuple[ColumnBrief, ...]
    serves: tuple[Serving, ...]
    approvals: tuple[Proposal, ...]


def card_of(
    workspace: Workspace, version: Version, *, tags: Mapping[str, str] | None = None
) -> Card:
    """The card of a version, from its record and what lineage leads to."""
    meta = workspace.meta
    path = version_path(version.model, version.number)
    run = meta.find(Run, version.run) if version.run is not None else None
    model = find_model(workspace, version.model)
    stored = meta.find(Artifact, version.artifact) if version.artifact else None
    overall, slices = by_slice(version.metrics)
    pointing = aliases_of(workspace, version.model).items()
    said = proposals(workspace, version.model)
    return Card(
        model=version.model,
        number=version.number,
        project=model.project if model else "",
        at=version.at,
        who=run.who if run is not None else "",
        description=description_of(workspace, path),
        model_description=description_of(workspace, model_path(version.model)),
        tags=dict(tags or {}),
        aliases=tuple(alias for alias, number in pointing if number == version.number),
        removed=is_removed(workspace, path),
        run=version.run,
        task=version.task,
        format=version.format,
        artifact=version.artifact,
        artifact_type=stored.type if stored is not None else "",
        source=version.source,
        data=_data_of(workspace, version),
        code=code_of(workspace, version),
        params=version.params,
        metrics=overall,
        slices=slices,
        signature=version.signature,
        environment=version.environment,
        form=version.form,
        profile=tuple(map(brief, version.profile.columns)),
        serves=tuple(_serving(workspace, version)),
        approvals=tuple(one for one in said if one.number == version.number),
    )


def by_slice(
    metrics: Mapping[str, float],
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Metrics over all rows, and by the part of the rows that their names say.

    >>> by_slice({"auc": 0.9, "auc/carrier=AA": 0.8, "loss/val": 0.1})
    ({'auc': 0.9, 'loss/val': 0.1}, {'carrier=AA': {'auc': 0.8}})
    """
    overall: dict[str, float] = {}
    slices: dict[str, dict[str, float]] = {}
    for name, value in metrics.items():
        metric, slash, part = name.partition("/")
        if slash and metric and "=" in part:
            slices.setdefault(part, {})[metric] = value
        else:
            overall[name] = value
    return overall, slices


def brief(column: ColumnProfile) -> ColumnBrief:
    """A column's profile in a line."""
    seen = column.count - column.missing
    most = sorted(zip(column.values, column.counts, strict=False), key=lambda one: -one[1])[:3]
    return ColumnBrief(
        name=column.name,
        kind=column.kind,
        missing=column.missing / column.count if column.count else 0.0,
        mean=column.mean,
        std=column.std,
        low=column.low,
        high=column.high,
        most=tuple((value, count / seen) for value, count in most) if seen else (),
    )


def code_of(workspace: Workspace, version: Version) -> CodeFacts | None:
    """The code that made the model; None when no flow registered it."""
    run = workspace.meta.find(Run, version.run) if version.run is not None else None
    if run is None:
        return None
    maker = _maker(workspace, version)
    if maker is None:
        return CodeFacts(entry=run.entry)
    task = f"run/{maker.run}/{maker.step}/{maker.index}"
    return CodeFacts(entry=run.entry, task=task, digest=maker.code)


def _maker(workspace: Workspace, version: Version) -> Task | None:
    """The task that made what the registering one was given as the model."""
    registering = _task(workspace, version.task)
    if registering is None:
        return None
    given = (one.made_by for one in registering.inputs if one.name == "model")
    return _task(workspace, next(given, None)) or registering


def _task(workspace: Workspace, path: str | None) -> Task | None:
    parts = (path or "").split("/")
    if len(parts) != 4 or not parts[3].isdecimal():
        return None
    return workspace.meta.find(Task, parts[1], parts[2], int(parts[3]))


def _data_of(workspace: Workspace, version: Version) -> DataFacts | None:
    if not version.data:
        return None
    known = workspace.meta.find(Artifact, version.data)
    return DataFacts(
        digest=version.data,
        type=known.type if known else "",
        summary=known.summary if known else "",
        rows=version.profile.rows,
        files=tuple(_files_behind(workspace, artifact_path(version.data))),
    )


def _files_behind(workspace: Workspace, path: str) -> Sequence[str]:
    """The files that a thing was made from, by the paths that tasks were given."""
    found: dict[str, None] = {}
    for node in upstream(path, lambda at: workspace.meta.select(Edge, target=at)):
        if node.edge is None or not node.path.startswith("file/"):
            continue
        digest = node.path.removeprefix("file/")
        task = _task(workspace, node.edge.target)
        inputs: tuple[Input, ...] = task.inputs if task is not None else ()
        names = [one.path for one in inputs if one.digest == digest and one.path]
        found[names[0] if names else node.path] = None
        if len(found) >= _MOST_FILES:
            break
    return sorted(found)


def _serving(workspace: Workspace, version: Version) -> list[Serving]:
    found: list[Serving] = []
    for endpoint in workspace.meta.last_each(Endpoint):
        route = workspace.meta.find(Route, endpoint.name)
        if route is None or route.model != version.model:
            continue
        found += [
            Serving(
                endpoint=endpoint.name,
                revision=route.revision,
                arm=arm.name,
                share=arm.share,
                shadow=arm.shadow,
                since=route.at,
            )
            for arm in route.arms
            if arm.version == version.number
        ]
    return found
