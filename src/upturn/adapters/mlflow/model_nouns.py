"""Registered models and their versions as MLflow's clients see them: found, checked, and said."""

import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from upturn.adapters.mlflow.call import Call
from upturn.adapters.mlflow.errors import MISSING, MlflowError, bad_value, missing_value, too_long
from upturn.adapters.mlflow.limits import KEY_MOST, check_name
from upturn.adapters.mlflow.reading import KeyValue
from upturn.core.catalog import CatalogSearch, Compare, ModelRow, VersionRow
from upturn.core.ids import version_path
from upturn.core.naming import Description, Model
from upturn.core.records import Alias, Version
from upturn.core.time import from_micros, micros
from upturn.model.catalog import find_model, tag
from upturn.model.finding import current_name, is_removed, model_path

VALUE_MOST = 100_000  # characters of a tag's value
_ALIAS_MOST = 255
_ALIAS = re.compile(r"[\w\-]*")
_NUMBERED = re.compile(r"[vV]\d+")
STAGES = ("None", "Staging", "Production", "Archived")
ACTIVE = ("Staging", "Production")
OF_VERSION = "upturn.version."  # tags in which what MLflow says of a version is kept
RUN_LINK = f"{OF_VERSION}run_link"
MODEL_ID = f"{OF_VERSION}model_id"
PROMPT = "mlflow.prompt.is_prompt"


@dataclass(frozen=True, slots=True)
class Seen:
    """A model with all that is said of it, and the newest version of each stage."""

    model: Model
    tags: dict[str, str]
    description: str | None
    aliases: dict[str, int]
    latest: tuple["SeenVersion", ...]
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class SeenVersion:
    """A version with all that is said of it."""

    version: Version
    tags: dict[str, str]
    description: str | None
    stage: str
    updated_at: datetime


def check_model_name(name: str, path: str = "name") -> None:
    """Refuse what is no name of a registered model."""
    if not name.strip():
        raise missing_value(path, see=False)
    if "/" in name or ":" in name:
        raise MlflowError(f"Invalid model name '{name}'. Names cannot contain '/' or ':'.")
    normal = posixpath.normpath(name)
    if normal != name or normal in (".", ".."):
        raise bad_value(
            "name",
            name,
            "Names may be treated as files in certain cases, and must not resolve to other names "
            f"when treated as such. This name would resolve to {normal!r}",
        )


def check_model_tag(key: str, value: str) -> None:
    """Refuse what is no tag of a registered model or a version."""
    check_name(key, "key")
    if len(key) > KEY_MOST:
        raise too_long("key", KEY_MOST)
    if len(value) > VALUE_MOST:
        raise too_long("value", VALUE_MOST)


def check_alias(alias: str) -> None:
    """Refuse what is no alias."""
    if not alias:
        raise MlflowError("Registered model alias name cannot be empty.")
    if _ALIAS.fullmatch(alias) is None:
        raise MlflowError(
            f"Invalid alias name: '{alias}'. Names may only contain alphanumerics, underscores "
            "(_), and dashes (-)."
        )
    if len(alias) > _ALIAS_MOST:
        raise too_long("Registered model alias name", _ALIAS_MOST)


def check_alias_is_free(alias: str) -> None:
    """Refuse an alias that means something already."""
    if alias.lower() == "latest":
        raise MlflowError("'latest' alias name (case insensitive) is reserved.")
    if _NUMBERED.fullmatch(alias):
        raise MlflowError(f"Version alias name '{alias}' is reserved.")


def number_of(version: str) -> int:
    """A version's number. Raises MlflowError for what is none."""
    try:
        return int(version)
    except ValueError:
        raise MlflowError(f"Parameter 'version' must be an integer, got '{version}'.") from None


def stage_of(stage: str) -> str:
    """A stage as it is written. Raises MlflowError for what is none."""
    for known in STAGES:
        if known.lower() == stage.lower():
            return known
    raise MlflowError(
        f"Invalid Model Version stage: {stage}. Value must be one of {', '.join(STAGES)}."
    )


def get_model(call: Call, name: str) -> Model:
    """A model by its name. Raises MlflowError when there is none for who asks."""
    check_model_name(name)
    found = find_model(call.workspace, name)
    if (
        found is None
        or is_removed(call.workspace, model_path(name))
        or not call.sees(found.project)
    ):
        raise MlflowError(f"Registered Model with name={name} not found", MISSING)
    return found


def get_version(call: Call, name: str, version: str) -> Version:
    """A version that is shown. Raises MlflowError when there is none for who asks."""
    check_model_name(name)
    number = number_of(version)
    model = find_model(call.workspace, current_name(call.workspace, name))
    found = None
    if model is not None and model.name == name and call.sees(model.project):
        if 0 < number < 2**63 and not is_removed(call.workspace, model_path(name)):
            found = call.workspace.meta.find(Version, name, number)
    if found is None or is_removed(call.workspace, version_path(name, number)):
        raise no_version(name, version)
    return found


def seen_model(call: Call, model: Model) -> Seen:
    """The model with all that is said of it."""
    search = CatalogSearch(where=(Compare("attribute", "name", "=", model.name),), limit=1)
    rows = call.workspace.tracking.find_models(search).rows
    if not rows:  # somebody removed it just now
        raise MlflowError(f"Registered Model with name={model.name} not found", MISSING)
    return seen_models(call, rows)[0]


def seen_models(call: Call, rows: Sequence[ModelRow]) -> list[Seen]:
    """Models with all that is said of them and of their latest versions, read together."""
    names = [row.name for row in rows]
    if not names:
        return []
    workspace = call.workspace
    models = {one.name: one for one in workspace.meta.last_each(Model, name=names)}
    latest: dict[str, list[SeenVersion]] = {name: [] for name in names}
    for one in seen_versions(call, workspace.tracking.find_latest(names)):
        latest[one.version.model].append(one)
    said, aliases = _Said(call, list(map(model_path, names))), aliases_by_model(call, names)
    found: list[Seen] = []
    for row in rows:
        model, path = models.get(row.name) or find_model(workspace, row.name), model_path(row.name)
        if model is not None:
            updated, texts = from_micros(row.updated_at), said.text(path)
            versions = tuple(latest[row.name])
            found.append(Seen(model, said.tags[path], texts, aliases[row.name], versions, updated))
    return found


def seen_versions(call: Call, rows: Sequence[VersionRow]) -> list[SeenVersion]:
    """Versions with all that is said of them, read together."""
    if not rows:
        return []
    models, numbers = {row.model for row in rows}, {row.number for row in rows}
    selected = call.workspace.meta.select(Version, model=list(models), number=list(numbers))
    held = {(one.model, one.number): one for one in selected}
    said = _Said(call, [version_path(row.model, row.number) for row in rows])
    return [
        SeenVersion(
            version=held[row.model, row.number],
            tags=said.tags[path := version_path(row.model, row.number)],
            description=said.text(path),
            stage=row.stage,
            updated_at=from_micros(row.updated_at),
        )
        for row in rows
        if (row.model, row.number) in held
    ]


def seen_version(call: Call, version: Version) -> SeenVersion:
    """A version with all that is said of it."""
    search = CatalogSearch(
        where=(
            Compare("attribute", "name", "=", version.model),
            Compare("attribute", "number", "=", version.number),
        ),
        limit=1,
    )
    found = seen_versions(call, call.workspace.tracking.find_versions(search).rows)
    if not found:  # somebody removed it just now
        raise no_version(version.model, str(version.number))
    return found[0]


def no_version(model: str, version: str) -> MlflowError:
    """That there is no such version."""
    return MlflowError(f"Model Version (name={model}, version={version}) not found", MISSING)


def aliases_by_model(call: Call, names: Sequence[str]) -> dict[str, dict[str, int]]:
    """The numbers that aliases point to, by model and alias."""
    found: dict[str, dict[str, int]] = {name: {} for name in names}
    for alias in call.workspace.meta.last_each(Alias, model=list(names)) if names else []:
        if alias.number:
            found[alias.model][alias.name] = alias.number
    return found


class _Said:
    """What is said of things by their paths."""

    def __init__(self, call: Call, paths: Sequence[str]) -> None:
        self.tags = call.workspace.tracking.tags(paths)
        told = call.workspace.meta.select(Description, path=list(paths))
        self._texts = {one.path: one.text for one in told}

    def text(self, path: str) -> str | None:
        """The description; None when nobody gave one."""
        return self._texts.get(path)


def model_json(seen: Seen) -> dict[str, Any]:
    """A registered model."""
    said: dict[str, Any] = {
        "name": seen.model.name,
        "creation_timestamp": millis(seen.model.created_at),
        "last_updated_timestamp": millis(seen.updated_at),
        "user_id": seen.model.who,
    }
    if seen.description is not None:
        said["description"] = seen.description
    if seen.latest:
        said["latest_versions"] = [version_json(one, seen.aliases) for one in seen.latest]
    if seen.tags:
        said["tags"] = tags_json(seen.tags)
    if seen.aliases:
        said["aliases"] = [
            {"alias": alias, "version": str(number)} for alias, number in seen.aliases.items()
        ]
    return said


def version_json(seen: SeenVersion, aliases: Mapping[str, int]) -> dict[str, Any]:
    """A version of a registered model."""
    version = seen.version
    said: dict[str, Any] = {
        "name": version.model,
        "version": str(version.number),
        "creation_timestamp": millis(version.at),
        "last_updated_timestamp": millis(seen.updated_at),
        "current_stage": seen.stage,
        "source": version.source or own_location(version),
        "status": "READY",
    }
    said["description"] = seen.description or ""
    if version.run is not None:
        said["run_id"] = version.run
    for name, kept in (("run_link", RUN_LINK), ("model_id", MODEL_ID)):
        if kept in seen.tags:
            said[name] = seen.tags[kept]
    tags = {key: value for key, value in seen.tags.items() if not key.startswith(OF_VERSION)}
    if tags:
        said["tags"] = tags_json(tags)
    pointing = [alias for alias, number in aliases.items() if number == version.number]
    if pointing:
        said["aliases"] = pointing
    return said


def own_location(version: Version) -> str:
    """Where MLflow's clients find a version that our own code registered."""
    return f"mlflow-artifacts:/upturn/{version.model}/{version.number}/artifacts"


def tags_json(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Tags, as lists of their keys and values."""
    return [{"key": key, "value": value} for key, value in tags.items()]


def tags_of(given: Iterable[KeyValue]) -> dict[str, str]:
    """Tags that a request gives, checked; of one that is there twice, the last."""
    for one in given:
        check_model_tag(one.key, one.value)
    return {one.key: one.value for one in given}


def tag_by_itself(call: Call, path: str, key: str, value: str | None) -> None:
    """Set a tag of a model or a version, or (None) take it away, and have webhooks told."""
    tag(call.workspace, path, {key: value}, now=call.now, who=call.asker.name)


def millis(at: datetime) -> int:
    """An instant in milliseconds since 1970."""
    return micros(at) // 1000
