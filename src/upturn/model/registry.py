"""Registry: a fitted model becomes the next version of a name."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from upturn.core.errors import Conflict, Invalid
from upturn.core.ids import artifact_path, version_path
from upturn.core.records import Edge, Record, Run, Version
from upturn.core.schema import Answer, ColumnProfile, Profile, Signature
from upturn.model.adapters import predictor_for
from upturn.model.aliases import check_name, set_alias
from upturn.model.catalog import naming, restoring
from upturn.model.environment import present_environment
from upturn.model.finding import CHAMPION, get_version, list_models, list_versions, newest_version
from upturn.model.forms import make_form, store_form
from upturn.model.model_files import store_files
from upturn.model.opening import needs_opening, open_model, stored_form
from upturn.model.profile import profile_column, profile_table
from upturn.model.signature import learn_signature
from upturn.model.tables import to_arrow
from upturn.model.user_model import Model
from upturn.stores import values
from upturn.stores.workspace import Workspace

__all__ = [
    "CHAMPION",
    "baseline",
    "check_name",
    "get_version",
    "list_models",
    "list_versions",
    "newest_version",
    "put_version",
    "register_version",
    "set_alias",
]

PREDICTION = "prediction"  # the column of a profile that is the model's own
_SCORED_ROWS = 20_000  # enough for the distribution of the scores: 1,000 rows a bin
_RACES = 50


def register_version(
    workspace: Workspace,
    name: str,
    model: Any,
    *,
    data: Any = None,
    target: str | Sequence[str] | None = None,
    exclude: Sequence[str] = (),
    nullable: Sequence[str] = (),
    answer: Answer = "probability",
    files: Mapping[str, Path | str] | None = None,
    run: str | None = None,
    task: str | None = None,
    params: Mapping[str, Any] | None = None,
    metrics: Mapping[str, float] | None = None,
    code: str = "",
    data_digest: str | None = None,
    model_digest: str | None = None,
    now: datetime,
) -> Version:
    """Register a fitted model as the next version of `name`, and return that.

    `data` is the table that it was fitted on: the signature and the baseline profile are learned
    from it. With a digest, the model or the data is stored already. When the newest version has the
    same model, data, signature, parameters, metrics and code, that one is returned instead. Raises
    Invalid for a name that can't be one, and for a model and data that do not fit each other.
    """
    check_name(name, "a model")
    if data is None:
        raise Invalid(
            f"What {name!r} takes can't be learned without the data that it was fitted on.",
            hint="Give data=, a table with the model's inputs and the target.",
        )
    if files and not isinstance(model, Model):
        raise Invalid(
            f"A {type(model).__name__} is not loaded with files.",
            hint="Write a class of your own that is: class Mine(up.Model).",
        )
    stored = stored_form(model)
    held, made = store_files(workspace, files or {})
    artifacts: list[Record] = [*made]
    if needs_opening(stored):
        if model_digest is None or stored is not model:
            artifacts.append(saved := values.save(workspace.blobs, stored, sync=True))
            model_digest = saved.digest
        model = open_model(workspace, model_digest, held)
    signature = learn_signature(
        data, model, target=target, exclude=exclude, nullable=nullable, answer=answer
    )
    if model_digest is None:
        artifacts.append(saved := values.save(workspace.blobs, model, sync=True))
        model_digest = saved.digest
    if data_digest is None:
        artifacts.append(saved := values.save(workspace.blobs, data, sync=True))
        data_digest = saved.digest
    version = Version(
        model=name,
        artifact=model_digest,
        data=data_digest,
        signature=signature,
        profile=Profile(rows=0, columns=()),
        environment=present_environment(),
        run=run,
        task=task,
        params=dict(params or {}),
        metrics=dict(metrics or {}),
        code=code,
        at=now,
        files=held,
    )
    newest = workspace.meta.find(Version, name)
    if newest is None or not _is_same(newest, version):
        version = msgspec.structs.replace(version, profile=baseline(data, model, signature))
        version, made = _with_form(workspace, version, model, data)
        artifacts += made
    return put_version(workspace, version, artifacts)


def _with_form(
    workspace: Workspace, version: Version, model: Any, data: Any
) -> tuple[Version, list[Record]]:
    """The version with its faster equal form, or with why there is none, and what was stored."""
    plain = predictor_for(model, version.signature)
    form, found = make_form(model, plain, to_arrow(data, index=False))
    if found is None:
        return msgspec.structs.replace(version, form=form), []
    saved = store_form(workspace, found)
    return msgspec.structs.replace(version, form=form, form_artifact=saved.digest), [saved]


def put_version(
    workspace: Workspace,
    version: Version,
    artifacts: Sequence[Record] = (),
    *,
    who: str | None = None,
    project: str | None = None,
    always: bool = False,
) -> Version:
    """Write the version with its lineage in one transaction, under the next number that is free.

    The model is there from then on, again if it was removed. The newest version is returned when
    it is the same in all that counts, unless there is `always` to be a new one.
    """
    run = workspace.meta.find(Run, version.run) if version.run is not None else None
    project = project or (run.project if run is not None else None)
    for _ in range(_RACES):
        newest = workspace.meta.find(Version, version.model)
        said = naming(workspace, version.model, now=version.at, who=who, project=project)
        if not always and newest is not None and _is_same(newest, version):
            # Another run may have come to the same version: it is where that led to, too.
            again = msgspec.structs.replace(version, number=newest.number)
            said += restoring(workspace, newest, now=version.at, who=who)
            workspace.meta.put(*artifacts, *said, *_edges(again))
            return newest
        numbered = msgspec.structs.replace(version, number=newest.number + 1 if newest else 1)
        try:
            workspace.meta.put(*artifacts, *said, numbered, *_edges(numbered))
        except Conflict:
            continue  # somebody took the number meanwhile
        return numbered
    raise Conflict(f"Too many others register versions of {version.model!r} at the same time.")


def _edges(version: Version) -> list[Record]:
    target = version_path(version.model, version.number)
    edges: list[Record] = []
    if version.artifact:
        edges.append(Edge(source=artifact_path(version.artifact), target=target, role="model"))
    if version.data is not None:
        edges.append(Edge(source=artifact_path(version.data), target=target, role="data"))
    if version.task is not None:
        edges.append(Edge(source=version.task, target=target, role="registered"))
    return edges


def _is_same(one: Version, other: Version) -> bool:
    """Whether they differ in nothing but which run registered them, when, and beside what."""

    def facts(version: Version) -> bytes:
        return msgspec.msgpack.encode(
            (
                version.artifact,
                version.data,
                version.signature,
                version.params,
                version.metrics,
                version.code,
                version.files,
            ),
            enc_hook=str,
            order="deterministic",
        )

    return facts(one) == facts(other)


def baseline(data: Any, model: Any, signature: Signature) -> Profile:
    """The profile of the inputs, and of the model's answers to a sample of the rows.

    The answers' column is named `prediction`: the scores, else the labels; models that answer
    something else have none. Dates and times have no profile: they always move on.
    """
    table = to_arrow(data, index=False)
    names = [field.name for field in signature.inputs if field.type not in ("date", "datetime")]
    profile = profile_table(table, names)
    step = -(-table.num_rows // _SCORED_ROWS)
    sample = table.take(np.arange(0, table.num_rows, step)) if step > 1 else table
    prediction = _prediction_profile(sample, model, signature)
    if prediction is None:
        return profile
    return msgspec.structs.replace(profile, columns=(*profile.columns, prediction))


def _prediction_profile(sample: Any, model: Any, signature: Signature) -> ColumnProfile | None:
    import pyarrow as pa

    if signature.output in ("scores", "json"):
        return None
    predicted = predictor_for(model, signature).predict(sample)
    if predicted.scores is not None:
        return profile_column(PREDICTION, pa.array(predicted.scores))
    texts = [str(one).lower() if isinstance(one, bool) else str(one) for one in predicted.answers]
    return profile_column(PREDICTION, pa.array(texts, pa.string()))
