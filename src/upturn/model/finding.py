"""Finding: models by name, and versions by what people call them."""

import re
from collections.abc import Sequence

from upturn.core.catalog import CatalogSearch
from upturn.core.errors import Invalid, NotFound, did_you_mean
from upturn.core.ids import version_path
from upturn.core.naming import Model, Removal
from upturn.core.records import Alias, Run, Version
from upturn.stores.workspace import Workspace

CHAMPION = "champion"
_REF = re.compile(r"(?P<model>[^:@]*)(?::(?P<number>\d+)|@(?P<alias>[^:@]+))?")
_RENAMES = 50
_ALL = 1_000_000_000


def model_path(name: str) -> str:
    """The path of a model.

    >>> model_path("delays")
    'model/delays'
    """
    return f"model/{name}"


def is_removed(workspace: Workspace, path: str) -> bool:
    """Whether a thing is removed from what is shown."""
    last = workspace.meta.find(Removal, path)
    return last is not None and last.removed


def current_name(workspace: Workspace, model: str) -> str:
    """What a model is called now, when it was renamed; else the name itself."""
    for _ in range(_RENAMES):
        last = workspace.meta.find(Model, model)
        if last is None or last.renamed_to is None:
            return model
        model = last.renamed_to
    return model


def get_version(workspace: Workspace, ref: str) -> Version:
    """The version that `ref` names: 'delays:7', 'delays@champion', or 'delays' for the champion or,
    before there is one, the newest. A name of before is as good as the one that it has now.

    Raises NotFound, with what there is, and Invalid for what is no reference.
    """
    found = _REF.fullmatch(ref)
    if found is None or not found["model"]:
        raise Invalid(
            f"{ref!r} is not a reference to a version.",
            hint="Write delays, delays:7 or delays@champion.",
        )
    number, alias = found["number"], found["alias"]
    model = current_name(workspace, found["model"])
    if number is not None:
        return _numbered(workspace, model, int(number))
    pointer = workspace.meta.find(Alias, model, alias or CHAMPION)
    if pointer is not None and pointer.number:
        return _numbered(workspace, model, pointer.number)
    there = list_versions(workspace, model)
    if alias is None:
        return newest_version(workspace, model) or there[-1]
    names = {one.name for one in workspace.meta.last_each(Alias, model=model) if one.number}
    hint = did_you_mean(alias, names) or "It has none; upturn deploy makes one its champion."
    raise NotFound(f"Model {model!r} has no alias {alias!r}.", hint=hint, model=model)


def newest_version(workspace: Workspace, model: str) -> Version | None:
    """The newest version, those of rehearsals left out; None when there is no other."""
    for version in reversed(list_versions(workspace, current_name(workspace, model))):
        run = workspace.meta.find(Run, version.run) if version.run is not None else None
        if run is None or not run.rehearsal:
            return version
    return None


def list_models(workspace: Workspace, *, removed: bool = False) -> list[str]:
    """The names of all models that there are, or of those that were removed, sorted."""
    if not removed:
        return [row.name for row in workspace.tracking.find_models(CatalogSearch(limit=_ALL)).rows]
    models = {one.name: one for one in workspace.meta.last_each(Model)}
    names = {version.model for version in workspace.meta.last_each(Version)} | set(models)
    gone = {
        one.path.removeprefix("model/")
        for one in workspace.meta.last_each(Removal)
        if one.removed and one.path.startswith("model/")
    }
    moved = {name for name, one in models.items() if one.renamed_to is not None}
    return sorted((names - moved) & gone)


def list_versions(workspace: Workspace, model: str, *, removed: bool = False) -> list[Version]:
    """The versions of a model, oldest first, or those that were removed.

    Raises NotFound when there is no such model, or it has none.
    """
    found = workspace.meta.select(Version, model=model)
    if not found or (not removed and is_removed(workspace, model_path(model))):
        raise no_model(workspace, model)
    gone = _removed_of(workspace, model, found)
    kept = [one for one in found if (one.number in gone) == removed]
    if not kept and not removed:
        raise NotFound(
            f"Every version of model {model!r} was removed.",
            hint=f"upturn models restore {found[-1].name}",
            model=model,
        )
    return kept


def _removed_of(workspace: Workspace, model: str, versions: Sequence[Version]) -> set[int]:
    paths = [version_path(model, one.number) for one in versions]
    last = {one.path: one.removed for one in workspace.meta.select(Removal, path=paths)}
    prefix = version_path(model, 0)[:-1]
    return {int(path.removeprefix(prefix)) for path, gone in last.items() if gone}


def no_model(workspace: Workspace, model: str) -> NotFound:
    """The error that there is no such model, with the way out."""
    if workspace.meta.find(Model, model) is not None or workspace.meta.find(Version, model):
        if is_removed(workspace, model_path(model)):
            return NotFound(
                f"Model {model!r} was removed.",
                hint=f"upturn models restore {model}",
                model=model,
            )
        return NotFound(
            f"Model {model!r} has no version yet.", hint="Register one: up.register", model=model
        )
    hint = did_you_mean(model, list_models(workspace))
    return NotFound(f"No model {model!r}.", hint=hint, model=model)


def _numbered(workspace: Workspace, model: str, number: int) -> Version:
    # SQL has no greater integers, and no model has so many versions.
    found = workspace.meta.find(Version, model, number) if 0 < number < 2**63 else None
    if found is not None and not is_removed(workspace, model_path(model)):
        if not is_removed(workspace, version_path(model, number)):
            return found
        raise NotFound(
            f"Version {model}:{number} was removed.",
            hint=f"upturn models restore {model}:{number}",
            model=model,
        )
    numbers = [one.number for one in list_versions(workspace, model)]
    raise NotFound(
        f"Model {model!r} has no version {number}.", hint=_numbers_hint(numbers), model=model
    )


def _numbers_hint(numbers: Sequence[int]) -> str:
    if len(numbers) > 8:
        return f"There is: {numbers[0]} to {numbers[-1]}."
    return f"There is: {', '.join(repr(str(number)) for number in numbers)}."
