"""Models: what can be asked of and done to models and their versions."""

from typing import Any

import msgspec

from upturn.api import aliases
from upturn.api.model_answers import (
    ModelInfo,
    VersionInfo,
    model_info,
    project_for,
    seen_model,
    seen_version,
    version_info,
)
from upturn.api.operation import AnyOperation, Ask, Operation, Page, Request
from upturn.api.paging import LIMIT, Limit, cut, page_by, read_cursor
from upturn.core.errors import UpturnError
from upturn.core.ids import version_path
from upturn.core.records import Version
from upturn.model.card import Card, card_of, code_of
from upturn.model.catalog import (
    create_model,
    describe,
    find_model,
    remove_model,
    remove_version,
    rename_model,
    restore_model,
    restore_version,
    tag,
)
from upturn.model.difference import Difference, difference
from upturn.model.finding import get_version, list_models, list_versions, model_path


class ListModels(Request, frozen=True, kw_only=True):
    """Models, by name; those that were removed, when asked."""

    project: str = ""
    removed: bool = False
    limit: Limit = LIMIT
    cursor: str = ""


class OneModel(Request, frozen=True, kw_only=True):
    """A model."""

    model: str


class CreateModel(Request, frozen=True, kw_only=True):
    """A new model, which has no version yet."""

    name: str
    project: str = ""
    description: str = ""
    tags: dict[str, str] = msgspec.field(default_factory=dict)


class ChangeModel(Request, frozen=True, kw_only=True):
    """What is said of a model: what is left out stays; a tag of null is removed."""

    model: str
    description: str | None = None
    tags: dict[str, str | None] = msgspec.field(default_factory=dict)


class RenameModel(Request, frozen=True, kw_only=True):
    """A model's new name."""

    model: str
    to: str


class RemoveModel(Request, frozen=True, kw_only=True):
    """A model to remove, and why."""

    model: str
    why: str = ""


class ListVersions(Request, frozen=True, kw_only=True):
    """Versions of a model, newest first."""

    model: str
    removed: bool = False
    limit: Limit = LIMIT
    cursor: str = ""


class OneVersion(Request, frozen=True, kw_only=True):
    """A version."""

    model: str
    version: int


class ChangeVersion(Request, frozen=True, kw_only=True):
    """What is said of a version: what is left out stays; a tag of null is removed."""

    model: str
    version: int
    description: str | None = None
    tags: dict[str, str | None] = msgspec.field(default_factory=dict)


class RemoveVersion(Request, frozen=True, kw_only=True):
    """A version to remove, and why."""

    model: str
    version: int
    why: str = ""


class Compare(Request, frozen=True, kw_only=True):
    """A version, and the one that it is compared with: 'delays:7', 'delays@champion'."""

    model: str
    version: int
    to: str


def _list_models(ask: Ask, request: ListModels) -> Page[ModelInfo]:
    """The models that the asker may see, by name."""
    found = [
        find_model(ask.workspace, one)
        for one in list_models(ask.workspace, removed=request.removed)
    ]
    seen = [one for one in found if one is not None and ask.asker.may_see(one.project)]
    if request.project:
        seen = [one for one in seen if one.project == request.project]
    part = page_by(seen, key=lambda one: one.name, cursor=request.cursor, limit=request.limit)
    return Page(tuple(model_info(ask, one) for one in part.items), part.cursor)


def _get_model(ask: Ask, request: OneModel) -> ModelInfo:
    """A model, also one that was removed; by a name of before, too."""
    return model_info(ask, seen_model(ask, request.model, removed=True))


def _create_model(ask: Ask, request: CreateModel) -> ModelInfo:
    """Make a model that has no version yet."""
    project = project_for(ask, request.project)
    who = ask.asker.name
    made = create_model(ask.workspace, request.name, project=project, who=who, now=ask.now)
    _say(ask, model_path(made.name), request.description or None, dict(request.tags))
    return model_info(ask, made)


def _change_model(ask: Ask, request: ChangeModel) -> ModelInfo:
    """Describe a model, or tag it."""
    model = seen_model(ask, request.model)
    _say(ask, model_path(model.name), request.description, request.tags)
    return model_info(ask, model)


def _rename_model(ask: Ask, request: RenameModel) -> ModelInfo:
    """Call a model something else: its versions are there with the same numbers."""
    model = seen_model(ask, request.model)
    return model_info(ask, rename(ask, model.name, request.to))


def rename(ask: Ask, name: str, to: str, *, checked: bool = True) -> Any:
    """Rename a model with its tags, and return it."""
    made = rename_model(ask.workspace, name, to, now=ask.now, who=ask.asker.name, checked=checked)
    versions = ask.workspace.meta.select(Version, model=name)
    paths = {model_path(name): model_path(to)}
    paths |= {version_path(name, one.number): version_path(to, one.number) for one in versions}
    for path, tags in ask.workspace.tracking.tags(paths).items():
        if tags:
            ask.workspace.tracking.tag(paths[path], tags)
    return made


def _remove_model(ask: Ask, request: RemoveModel) -> ModelInfo:
    """Take a model from what is shown, with its versions and aliases. Routes go on serving them."""
    model = seen_model(ask, request.model)
    remove_model(ask.workspace, model.name, why=request.why, now=ask.now, who=ask.asker.name)
    return model_info(ask, model)


def _restore_model(ask: Ask, request: OneModel) -> ModelInfo:
    """Show a model again, with the versions and aliases that were removed with it."""
    name = seen_model(ask, request.model, removed=True).name
    return model_info(ask, restore_model(ask.workspace, name, now=ask.now, who=ask.asker.name))


def _list_versions(ask: Ask, request: ListVersions) -> Page[VersionInfo]:
    """The versions of a model, newest first."""
    name = seen_model(ask, request.model, removed=True).name
    held = ask.workspace.meta.find(Version, name) is not None
    found = list_versions(ask.workspace, name, removed=request.removed) if held else []
    newest_first = found[::-1]
    if request.cursor:
        (before,) = read_cursor(request.cursor, tuple[int])
        newest_first = [one for one in newest_first if one.number < before]
    part = cut(newest_first, request.limit, lambda one: (one.number,))
    return Page(tuple(version_info(ask, one) for one in part.items), part.cursor)


def _get_version(ask: Ask, request: OneVersion) -> VersionInfo:
    """A version."""
    return version_info(ask, seen_version(ask, request.model, request.version))


def _change_version(ask: Ask, request: ChangeVersion) -> VersionInfo:
    """Describe a version, or tag it."""
    version = seen_version(ask, request.model, request.version)
    path = version_path(version.model, version.number)
    _say(ask, path, request.description, request.tags)
    return version_info(ask, version)


def _remove_version(ask: Ask, request: RemoveVersion) -> VersionInfo:
    """Take a version from what is shown. Routes go on serving it."""
    version = seen_version(ask, request.model, request.version)
    remove_version(ask.workspace, version, why=request.why, now=ask.now, who=ask.asker.name)
    return version_info(ask, version)


def _restore_version(ask: Ask, request: OneVersion) -> VersionInfo:
    """Show a version again."""
    name = seen_model(ask, request.model).name
    who = ask.asker.name
    restored = restore_version(ask.workspace, name, request.version, now=ask.now, who=who)
    return version_info(ask, restored)


def _card(ask: Ask, request: OneVersion) -> Card:
    """All that is known of a version: data, code, parameters, metrics, where it serves."""
    version = seen_version(ask, request.model, request.version)
    return _card_of(ask, version)


def _card_page(card: Card) -> str:
    from upturn.improve.page.card import card_page

    return card_page(card)


def _compare(ask: Ask, request: Compare) -> Difference:
    """What changed from the version to the other one: data, code, parameters, metrics."""
    before = seen_version(ask, request.model, request.version)
    seen_model(ask, request.to.partition("@")[0].partition(":")[0])
    after = get_version(ask.workspace, request.to)
    return _differences(ask, before, after)


def _differences(ask: Ask, before: Version, after: Version) -> Difference:
    """What changed from one version to another."""
    code = _code_changes(ask, before, after)
    return difference(_card_of(ask, before), _card_of(ask, after), code)


def _code_changes(ask: Ask, before: Version, after: Version) -> list[str]:
    """What changed in the code of the steps that fitted two versions, as unified diffs."""

    from upturn.develop.fingerprint import Fingerprint, changes
    from upturn.stores import values

    found: list[str] = []
    for version in (before, after):
        code = code_of(ask.workspace, version)
        if code is None or not code.digest:
            return []
        found.append(code.digest)
    if found[0] == found[1]:
        return []
    try:
        old, new = (
            msgspec.convert(values.load(ask.workspace.blobs, one), Fingerprint) for one in found
        )
    except (UpturnError, msgspec.ValidationError):
        return ["The code of one of them is no longer in the store."]
    return changes(old, new)


def _card_of(ask: Ask, version: Version) -> Card:
    path = version_path(version.model, version.number)
    return card_of(ask.workspace, version, tags=ask.workspace.tracking.tags([path])[path])


def _say(ask: Ask, path: str, text: str | None, tags: dict[str, Any]) -> None:
    if tags:
        tag(ask.workspace, path, tags, now=ask.now, who=ask.asker.name)
    if text is not None:
        describe(ask.workspace, path, text, now=ask.now, who=ask.asker.name)


_MODELS = "/api/v1/models"
_MODEL = "/api/v1/models/{model}"
_VERSION = "/api/v1/models/{model}/versions/{version}"

LIST_MODELS = Operation("models.list", "GET", _MODELS, ListModels, Page[ModelInfo], _list_models)
GET_MODEL = Operation("models.get", "GET", _MODEL, OneModel, ModelInfo, _get_model)
CREATE_MODEL = Operation(
    "models.create", "POST", _MODELS, CreateModel, ModelInfo, _create_model, "editor", 201
)
CHANGE_MODEL = Operation(
    "models.change", "PATCH", _MODEL, ChangeModel, ModelInfo, _change_model, "editor"
)
RENAME_MODEL = Operation(
    "models.rename", "POST", f"{_MODEL}/rename", RenameModel, ModelInfo, _rename_model, "editor"
)
REMOVE_MODEL = Operation(
    "models.remove", "DELETE", _MODEL, RemoveModel, ModelInfo, _remove_model, "editor"
)
RESTORE_MODEL = Operation(
    "models.restore", "POST", f"{_MODEL}/restore", OneModel, ModelInfo, _restore_model, "editor"
)
LIST_VERSIONS = Operation(
    "versions.list", "GET", f"{_MODEL}/versions", ListVersions, Page[VersionInfo], _list_versions
)
GET_VERSION = Operation("versions.get", "GET", _VERSION, OneVersion, VersionInfo, _get_version)
CHANGE_VERSION = Operation(
    "versions.change", "PATCH", _VERSION, ChangeVersion, VersionInfo, _change_version, "editor"
)
REMOVE_VERSION = Operation(
    "versions.remove", "DELETE", _VERSION, RemoveVersion, VersionInfo, _remove_version, "editor"
)
RESTORE_VERSION = Operation(
    "versions.restore",
    "POST",
    f"{_VERSION}/restore",
    OneVersion,
    VersionInfo,
    _restore_version,
    "editor",
)
CARD = Operation(
    "versions.card", "GET", f"{_VERSION}/card", OneVersion, Card, _card, page=_card_page
)
DIFF = Operation("versions.diff", "GET", f"{_VERSION}/diff", Compare, Difference, _compare)

OPERATIONS: tuple[AnyOperation, ...] = (
    LIST_MODELS,
    GET_MODEL,
    CREATE_MODEL,
    CHANGE_MODEL,
    RENAME_MODEL,
    REMOVE_MODEL,
    RESTORE_MODEL,
    LIST_VERSIONS,
    GET_VERSION,
    CHANGE_VERSION,
    REMOVE_VERSION,
    RESTORE_VERSION,
    CARD,
    DIFF,
    *aliases.OPERATIONS,
)
