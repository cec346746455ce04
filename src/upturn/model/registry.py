"""Registry: models by name, their versions and aliases."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from upturn.core.errors import Conflict, Invalid, NotFound, did_you_mean
from upturn.core.ids import artifact_path, version_path
from upturn.core.records import Alias, Edge, Record, Run, Version
from upturn.core.schema import Answer, ColumnProfile, Profile, Signature
from upturn.model.adapters import predictor_for
from upturn.model.environment import present_environment
from upturn.model.forms import make_form, store_form
from upturn.model.model_files import store_files
from upturn.model.opening import needs_opening, open_model, stored_form
from upturn.model.profile import profile_column, profile_table
from upturn.model.signature import learn_signature
from upturn.model.tables import to_arrow
from upturn.model.user_model import Model
from upturn.stores import values
from upturn.stores.workspace import Workspace

CHAMPION = "champion"
PREDICTION = "prediction"  # the column of a profile that is the model's own
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_REF = re.compile(r"(?P<model>[^:@]*)(?::(?P<number>\d+)|@(?P<alias>[^:@]+))?")
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
    return _put(workspace, version, artifacts)


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


def _put(workspace: Workspace, version: Version, artifacts: Sequence[Record]) -> Version:
    """Write the version with its lineage in one transaction, under the next number that is free."""
    for _ in range(_RACES):
        newest = workspace.meta.find(Version, version.model)
        if newest is not None and _is_same(newest, version):
            # Another run may have come to the same version: it is where that led to, too.
            again = msgspec.structs.replace(version, number=newest.number)
            workspace.meta.put(*artifacts, *_edges(again))
            return newest
        numbered = msgspec.structs.replace(version, number=newest.number + 1 if newest else 1)
        try:
            workspace.meta.put(*artifacts, numbered, *_edges(numbered))
        except Conflict:
            continue  # somebody took the number meanwhile
        return numbered
    raise Conflict(f"Too many others register versions of {version.model!r} at the same time.")


def _edges(version: Version) -> list[Record]:
    target = version_path(version.model, version.number)
    edges: list[Record] = [
        Edge(source=artifact_path(version.artifact), target=target, role="model")
    ]
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


# Finding


def get_version(workspace: Workspace, ref: str) -> Version:
    """The version that `ref` names: 'delays:7', 'delays@champion', or 'delays' for the champion or,
    before there is one, the newest.

    Raises NotFound, with what there is, and Invalid for what is no reference.
    """
    found = _REF.fullmatch(ref)
    if found is None or not found["model"]:
        raise Invalid(
            f"{ref!r} is not a reference to a version.",
            hint="Write delays, delays:7 or delays@champion.",
        )
    model, number, alias = found["model"], found["number"], found["alias"]
    newest = workspace.meta.find(Version, model)
    if newest is None:
        raise NotFound(
            f"No model {model!r}.", hint=did_you_mean(model, list_models(workspace)), model=model
        )
    if number is not None:
        return _numbered(workspace, model, int(number))
    pointer = workspace.meta.find(Alias, model, alias or CHAMPION)
    if pointer is not None:
        return _numbered(workspace, model, pointer.number)
    if alias is None:
        return newest_version(workspace, model) or newest
    names = {one.name for one in workspace.meta.select(Alias, model=model)}
    hint = did_you_mean(alias, names) or "It has none; upturn deploy makes one its champion."
    raise NotFound(f"Model {model!r} has no alias {alias!r}.", hint=hint, model=model)


def newest_version(workspace: Workspace, model: str) -> Version | None:
    """The newest version, those of rehearsals left out; None when there is no other."""
    for version in reversed(list_versions(workspace, model)):
        run = workspace.meta.find(Run, version.run) if version.run is not None else None
        if run is None or not run.rehearsal:
            return version
    return None


def _numbered(workspace: Workspace, model: str, number: int) -> Version:
    # SQL has no greater integers, and no model has so many versions.
    found = workspace.meta.find(Version, model, number) if 0 < number < 2**63 else None
    if found is not None:
        return found
    numbers = [one.number for one in list_versions(workspace, model)]
    raise NotFound(
        f"Model {model!r} has no version {number}.", hint=_numbers_hint(numbers), model=model
    )


def _numbers_hint(numbers: Sequence[int]) -> str:
    if len(numbers) > 8:
        return f"There is: {numbers[0]} to {numbers[-1]}."
    return f"There is: {', '.join(repr(str(number)) for number in numbers)}."


def list_models(workspace: Workspace) -> list[str]:
    """The names of all models, sorted."""
    return sorted({version.model for version in workspace.meta.last_each(Version)})


def list_versions(workspace: Workspace, model: str) -> list[Version]:
    """The versions of a model, oldest first. Raises NotFound when there is no such model."""
    found = workspace.meta.select(Version, model=model)
    if not found:
        raise NotFound(f"No model {model!r}.", hint=did_you_mean(model, list_models(workspace)))
    return found


# Aliases


def set_alias(
    workspace: Workspace, model: str, alias: str, number: int, *, why: str, now: datetime
) -> Alias:
    """Point an alias of the model to a version; an alias that does already is returned as it is.

    Raises NotFound for a version that does not exist, Invalid for a name that can't be one.
    """
    check_name(alias, "an alias")
    version = get_version(workspace, f"{model}:{number}")
    current = workspace.meta.find(Alias, model, alias)
    if current is not None and current.number == version.number:
        return current
    return workspace.meta.add(Alias(model=model, name=alias, number=number, why=why, at=now))


def check_name(name: str, noun: str) -> None:
    """Raise Invalid unless the name can be one of a model or an alias."""
    if _NAME.fullmatch(name) is None:
        fitting = re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-_")[:64].lstrip("0123456789-_")
        raise Invalid(
            f"{name!r} can't be the name of {noun}.",
            hint="It takes lower-case letters, digits, _ and -, up to 64, a letter first"
            + (f": {fitting!r}." if fitting else "."),
        )
