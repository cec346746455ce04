"""MLflow's events: what its webhooks are told of, in its words, read from the same records."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec
from blake3 import blake3

from upturn.core.ids import version_path
from upturn.core.naming import Description, Model, Removal, Tagging
from upturn.core.record import Record
from upturn.core.records import Alias, Version
from upturn.model.catalog import came_by_renaming
from upturn.model.finding import model_path
from upturn.stores.workspace import Workspace

PROMPT = "mlflow.prompt.is_prompt"
_TEXT = "mlflow.prompt.text"
_OF_PROMPTS = (PROMPT, "_mlflow_prompt_type")
_OURS = "upturn.version."  # tags that clients do not see
_SET_TAG: dict[str, Any] = {"key": "example_key", "value": "example_value"}
_TAG: dict[str, Any] = {"key": "example_key"}
_NEW: dict[str, Any] = {"tags": {"example_key": "example_value"}}

# Each with the message that a test sends.
EXAMPLES: dict[str, dict[str, Any]] = {
    "registered_model.created": {
        "name": "example_model",
        **_NEW,
        "description": "An example registered model",
    },
    "model_version.created": {
        "name": "example_model",
        "version": "1",
        "source": "models:/123",
        "run_id": "abcd1234abcd5678",
        **_NEW,
        "description": "An example model version",
    },
    "model_version_tag.set": {"name": "example_model", "version": "1", **_SET_TAG},
    "model_version_tag.deleted": {"name": "example_model", "version": "1", **_TAG},
    "model_version_alias.created": {
        "name": "example_model",
        "alias": "example_alias",
        "version": "1",
    },
    "model_version_alias.deleted": {"name": "example_model", "alias": "example_alias"},
    "prompt.created": {"name": "example_prompt", **_NEW, "description": "An example prompt"},
    "prompt_version.created": {
        "name": "example_prompt",
        "version": "1",
        "template": "Hello {{name}}!",
        **_NEW,
        "description": "An example prompt version",
    },
    "prompt_tag.set": {"name": "example_prompt", **_SET_TAG},
    "prompt_tag.deleted": {"name": "example_prompt", **_TAG},
    "prompt_version_tag.set": {"name": "example_prompt", "version": "1", **_SET_TAG},
    "prompt_version_tag.deleted": {"name": "example_prompt", "version": "1", **_TAG},
    "prompt_alias.created": {"name": "example_prompt", "alias": "example_alias", "version": "1"},
    "prompt_alias.deleted": {"name": "example_prompt", "alias": "example_alias"},
}
TYPES = tuple(EXAMPLES)


class MlflowEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened, as MLflow's webhooks are told of it."""

    id: str  # the same whenever it is read from the same record
    type: str  # 'model_version.created'
    project: str
    path: str  # of what it is about
    at: datetime
    data: dict[str, Any]

    def body(self) -> str:
        """What is posted: MLflow's `entity`, `action`, `timestamp` and `data`."""
        return body_of(self.type, self.at, self.data)


def body_of(type: str, at: datetime, data: dict[str, Any]) -> str:
    """A message in MLflow's form.

    >>> from datetime import UTC
    >>> body_of("prompt.created", datetime(2027, 1, 1, tzinfo=UTC), {"name": "greet"})[:40]
    '{"entity":"prompt","action":"created","t'
    """
    entity, _, action = type.partition(".")
    message = {"entity": entity, "action": action, "timestamp": at.isoformat(), "data": data}
    return msgspec.json.encode(message).decode()


def mlflow_event_of(workspace: Workspace, record: Record) -> MlflowEvent | None:
    """What a record tells MLflow's webhooks of, if it is anything."""
    read = _BY_KIND.get(type(record))
    return None if read is None else read(workspace, record)


def _model(workspace: Workspace, record: Any) -> MlflowEvent | None:
    model: Model = record
    if model.renamed_to is not None or model.created_at != model.at:
        return None  # it is called otherwise, and not new
    path = model_path(model.name)
    tags = _first_tags(workspace, path, model.at)
    text = _text(workspace, path) or ""
    kind = "prompt" if _says_prompt(tags) else "registered_model"
    if kind == "prompt":
        tags = {key: value for key, value in tags.items() if key not in _OF_PROMPTS}
    data = {"name": model.name, "tags": tags, "description": text}
    return _event(workspace, record, f"{kind}.created", path, model.name, model.at, data)


def _version(workspace: Workspace, record: Any) -> MlflowEvent | None:
    version: Version = record
    if came_by_renaming(workspace, version.model, version.at):
        return None
    path = version_path(version.model, version.number)
    tags = _first_tags(workspace, path, version.at)
    data: dict[str, Any] = {"name": version.model, "version": str(version.number)}
    kind = "prompt_version" if _is_prompt(workspace, version.model) else "model_version"
    if kind == "prompt_version":
        data["template"] = tags.pop(_TEXT, None)
        tags = {key: value for key, value in tags.items() if key not in _OF_PROMPTS}
    else:
        own = f"mlflow-artifacts:/upturn/{version.model}/{version.number}/artifacts"
        data |= {"source": version.source or own, "run_id": version.run}
    data |= {"tags": tags, "description": _text(workspace, path) or None}
    return _event(workspace, record, f"{kind}.created", path, version.model, version.at, data)


def _alias(workspace: Workspace, record: Any) -> MlflowEvent | None:
    alias: Alias = record
    if came_by_renaming(workspace, alias.model, alias.at):
        return None
    data: dict[str, Any] = {"name": alias.model, "alias": alias.name}
    action = "created" if alias.number else "deleted"
    if alias.number:
        data["version"] = str(alias.number)
    elif _went_with_its_version(workspace, alias):
        return None
    kind = "prompt_alias" if _is_prompt(workspace, alias.model) else "model_version_alias"
    path = model_path(alias.model)
    return _event(workspace, record, f"{kind}.{action}", path, alias.model, alias.at, data)


def _tagging(workspace: Workspace, record: Any) -> MlflowEvent | None:
    tagging: Tagging = record
    of, _, name = tagging.path.partition("/")
    model, _, number = name.rpartition(":") if of == "version" else (name, "", "")
    prompt = _is_prompt(workspace, model)
    if of == "model" and not prompt:
        return None  # MLflow tells of tags of versions and of prompts
    kind = ("prompt" if of == "model" else "prompt_version") if prompt else "model_version"
    data: dict[str, Any] = {"name": model} | ({"version": number} if number else {})
    data["key"] = tagging.name
    if tagging.value is not None:
        data["value"] = tagging.value
    action = "deleted" if tagging.value is None else "set"
    what = f"{kind}_tag.{action}"
    return _event(workspace, record, what, tagging.path, model, tagging.at, data)


def _went_with_its_version(workspace: Workspace, alias: Alias) -> bool:
    before = workspace.meta.find(Alias, alias.model, alias.name, alias.seq - 1)
    if before is None:
        return False
    paths = (version_path(alias.model, before.number), model_path(alias.model))
    removals = (workspace.meta.find(Removal, path) for path in paths)
    return any(one is not None and one.removed and one.at == alias.at for one in removals)


def _event(
    workspace: Workspace,
    record: Record,
    type: str,
    path: str,
    model: str,
    at: datetime,
    data: dict[str, Any],
) -> MlflowEvent:
    key = "/".join(str(getattr(record, name)) for name in record.key)
    name = f"mlflow/{record.table}/{key}/{at.isoformat()}"
    digest = blake3(name.encode("utf-8", "surrogateescape")).digest()
    id = str(uuid.UUID(bytes=digest[:16], version=4))  # receivers may take it for one
    found = workspace.meta.find(Model, model)
    project = found.project if found is not None else workspace.settings.project
    return MlflowEvent(id=id, type=type, project=project, path=path, at=at, data=data)


def _tags(workspace: Workspace, path: str) -> dict[str, str]:
    tags = workspace.tracking.tags([path])[path]
    return {key: value for key, value in tags.items() if not key.startswith(_OURS)}


def _first_tags(workspace: Workspace, path: str, at: datetime) -> dict[str, str]:
    """The tags that it was made with: those that were set by themselves are told of so."""
    later = {one.name for one in workspace.meta.select(Tagging, path=path) if one.at > at}
    return {key: value for key, value in _tags(workspace, path).items() if key not in later}


def _text(workspace: Workspace, path: str) -> str | None:
    found = workspace.meta.find(Description, path)
    return None if found is None else found.text


def _is_prompt(workspace: Workspace, model: str) -> bool:
    return _says_prompt(_tags(workspace, model_path(model)))


def _says_prompt(tags: dict[str, str]) -> bool:
    return tags.get(PROMPT, "").lower() == "true"


_BY_KIND: dict[type[Record], Callable[[Workspace, Any], MlflowEvent | None]] = {
    Model: _model,
    Version: _version,
    Alias: _alias,
    Tagging: _tagging,
}


def mlflow_kinds() -> tuple[type[Record], ...]:
    """The kinds of records that tell of MLflow's events."""
    return tuple(_BY_KIND)
