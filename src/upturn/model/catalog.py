"""Catalog: models as named things, made, described, renamed, removed and restored."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from upturn.core.errors import Conflict, Invalid
from upturn.core.ids import version_path
from upturn.core.naming import Description, Model, Proposal, Protection, Removal, Stage, Tagging
from upturn.core.record import Record
from upturn.core.records import Alias, Edge, Version
from upturn.core.who import who as who_is_it
from upturn.model.aliases import check_name
from upturn.model.finding import get_version, is_removed, model_path, no_model
from upturn.stores.workspace import Workspace


def find_model(workspace: Workspace, name: str) -> Model | None:
    """The model of that name, removed or not; None when there is none, or it was renamed."""
    found = workspace.meta.find(Model, name)
    if found is not None:
        return found if found.renamed_to is None else None
    first = workspace.meta.select(Version, model=name, limit=1)
    if not first:
        return None
    at = first[0].at  # from before models had a record
    project = workspace.settings.project
    return Model(name=name, project=project, who="", created_at=at, at=at)


def get_model(workspace: Workspace, name: str) -> Model:
    """The model of that name. Raises NotFound when there is none, or it was removed."""
    found = find_model(workspace, name)
    if found is None or is_removed(workspace, model_path(name)):
        raise no_model(workspace, name)
    return found


def create_model(
    workspace: Workspace,
    name: str,
    *,
    project: str | None = None,
    who: str | None = None,
    now: datetime,
    checked: bool = True,
) -> Model:
    """Make a model that has no version yet, or one that was removed, anew.

    Raises Conflict when there is one, and Invalid for a name that can't be one, unless the caller
    has `checked` it by rules of its own.
    """
    if checked:
        check_name(name, "a model")
    found = find_model(workspace, name)
    if found is not None and not is_removed(workspace, model_path(name)):
        raise Conflict(f"There is a model {name!r} already.", hint="Take another name.", model=name)
    workspace.meta.put(*naming(workspace, name, now=now, who=who, project=project))
    return get_model(workspace, name)


def naming(
    workspace: Workspace, name: str, *, now: datetime, who: str | None, project: str | None
) -> list[Record]:
    """What is to be written so that there is a model of that name: mostly nothing."""
    who = who or who_is_it()
    said: list[Record] = []
    found = workspace.meta.find(Model, name)
    removed = is_removed(workspace, model_path(name))
    if found is None or found.renamed_to is not None or removed:
        kept = None if found is None or found.renamed_to is not None else found.project
        project = kept or project or workspace.settings.project
        said.append(Model(name=name, project=project, who=who, created_at=now, at=now))
    if removed:
        said.append(Removal(path=model_path(name), removed=False, who=who, at=now))
    return said


def restoring(
    workspace: Workspace, version: Version, *, now: datetime, who: str | None
) -> list[Record]:
    """What is to be written so that a version is shown: mostly nothing."""
    path = version_path(version.model, version.number)
    if not is_removed(workspace, path):
        return []
    return [Removal(path=path, removed=False, who=who or who_is_it(), at=now)]


def describe(
    workspace: Workspace, path: str, text: str, *, now: datetime, who: str | None = None
) -> Description:
    """Say what a thing is, in Markdown."""
    said = Description(path=path, text=text, who=who or who_is_it(), at=now)
    return workspace.meta.add(said)


def tag(
    workspace: Workspace,
    path: str,
    tags: Mapping[str, str | None],
    *,
    now: datetime,
    who: str | None = None,
) -> None:
    """Set tags of a model or a version, None removes one, and note that they were set."""
    workspace.tracking.tag(path, tags)
    who = who or who_is_it()
    workspace.meta.put(
        *(Tagging(path=path, name=name, value=tags[name], who=who, at=now) for name in tags)
    )


def description_of(workspace: Workspace, path: str) -> str:
    """What was said of a thing last; '' when nothing was."""
    found = workspace.meta.find(Description, path)
    return found.text if found is not None else ""


# Removing: nothing is lost, and no number is given twice


def remove_model(
    workspace: Workspace, name: str, *, why: str, now: datetime, who: str | None = None
) -> None:
    """Take a model, its versions and its aliases from what is shown. Routes go on serving them."""
    get_model(workspace, name)
    who = who or who_is_it()
    paths = [model_path(name), *(version_path(name, one) for one in _shown(workspace, name))]
    said: list[Record] = [
        Removal(path=path, removed=True, why=why, who=who, at=now) for path in paths
    ]
    workspace.meta.put(*said, *_without_aliases(workspace, name, None, why, who, now))


def remove_version(
    workspace: Workspace, version: Version, *, why: str, now: datetime, who: str | None = None
) -> None:
    """Take a version, and the aliases that point to it, from what is shown."""
    who = who or who_is_it()
    path = version_path(version.model, version.number)
    said = Removal(path=path, removed=True, why=why, who=who, at=now)
    aliases = _without_aliases(workspace, version.model, version.number, why, who, now)
    workspace.meta.put(said, *aliases)


def restore_model(
    workspace: Workspace, name: str, *, now: datetime, who: str | None = None
) -> Model:
    """Show a model again, with the versions and aliases that were removed with it."""
    removal = workspace.meta.find(Removal, model_path(name))
    if removal is None or not removal.removed:
        return get_model(workspace, name)
    who = who or who_is_it()
    paths = [model_path(name)]
    for version in workspace.meta.select(Version, model=name):
        path = version_path(name, version.number)
        last = workspace.meta.find(Removal, path)
        if last is not None and last.removed and last.at == removal.at:
            paths.append(path)
    said: list[Record] = [Removal(path=path, removed=False, who=who, at=now) for path in paths]
    for last in workspace.meta.last_each(Alias, model=name):
        if not last.number and last.at == removal.at:
            earlier = workspace.meta.select(Alias, model=name, name=last.name)[-2]
            said.append(msgspec.structs.replace(earlier, seq=0, why="restored", who=who, at=now))
    workspace.meta.put(*said)
    return get_model(workspace, name)


def restore_version(
    workspace: Workspace, name: str, number: int, *, now: datetime, who: str | None = None
) -> Version:
    """Show a version again. Raises NotFound when there is none, or its model is removed."""
    get_model(workspace, name)
    found = workspace.meta.find(Version, name, number) if 0 < number < 2**63 else None
    if found is not None:
        workspace.meta.put(*restoring(workspace, found, now=now, who=who))
    return get_version(workspace, f"{name}:{number}")


def _shown(workspace: Workspace, name: str) -> list[int]:
    numbers = [version.number for version in workspace.meta.select(Version, model=name)]
    return [one for one in numbers if not is_removed(workspace, version_path(name, one))]


def _without_aliases(
    workspace: Workspace, name: str, number: int | None, why: str, who: str, now: datetime
) -> list[Record]:
    return [
        Alias(model=name, name=one.name, number=0, why=why or "removed", at=now, who=who)
        for one in workspace.meta.last_each(Alias, model=name)
        if one.number and number in (None, one.number)
    ]


# Renaming: versions never change, so they are written again under the new name


def rename_model(
    workspace: Workspace,
    name: str,
    to: str,
    *,
    now: datetime,
    who: str | None = None,
    checked: bool = True,
) -> Model:
    """Call a model something else: its versions are there with the same numbers, its aliases move.

    Raises Conflict when there is, or was, a model of the new name: its numbers are taken.
    """
    if checked:
        check_name(to, "a model")
    found = get_model(workspace, name)
    if to == name:
        raise Invalid(f"The model is called {name!r} already.", hint="Take another name.")
    taken = workspace.meta.select(Version, model=to, limit=1)
    if find_model(workspace, to) is not None and not is_removed(workspace, model_path(to)):
        raise Conflict(f"There is a model {to!r} already.", hint="Take another name.", model=to)
    if taken:
        raise Conflict(
            f"There was a model {to!r}, whose numbers are taken.", hint="Take another name."
        )
    who = who or who_is_it()
    new = Model(name=to, project=found.project, who=who, created_at=found.created_at, at=now)
    old = msgspec.structs.replace(found, seq=0, renamed_to=to, who=who, at=now)
    said: list[Record] = [old, new]
    if is_removed(workspace, model_path(to)):
        said.append(Removal(path=model_path(to), removed=False, who=who, at=now))
    said += _moved_versions(workspace, name, to, who=who, now=now)
    said += _moved(workspace, model_path(name), model_path(to))
    for alias in workspace.meta.select(Alias, model=name):  # with their history
        said.append(msgspec.structs.replace(alias, model=to, seq=0))
    for kind in (Protection, Proposal):
        for one in workspace.meta.select(kind, model=name):
            said.append(msgspec.structs.replace(one, model=to, seq=0))
    workspace.meta.put(*said)
    return new


def came_by_renaming(workspace: Workspace, model: str, at: datetime) -> bool:
    """Whether what is of a model since then was written again when the model got its name."""
    return any(
        one.renamed_to is None and one.created_at < one.at and at < one.at
        for one in workspace.meta.select(Model, name=model)
    )


def _moved_versions(
    workspace: Workspace, name: str, to: str, *, who: str, now: datetime
) -> list[Record]:
    said: list[Record] = []
    stages = {one.number: one for one in workspace.meta.last_each(Stage, model=name)}
    for version in workspace.meta.select(Version, model=name):
        was, now_at = version_path(name, version.number), version_path(to, version.number)
        said.append(msgspec.structs.replace(version, model=to))
        said.append(Edge(source=was, target=now_at, role="renamed"))
        said += _moved(workspace, was, now_at)
        if version.number in stages:
            said.append(msgspec.structs.replace(stages[version.number], model=to, seq=0))
        if is_removed(workspace, was):
            said.append(Removal(path=now_at, removed=True, who=who, at=now))
        else:  # whoever takes the old name again begins without them
            why = f"renamed to {to}"
            said.append(Removal(path=was, removed=True, why=why, who=who, at=now))
    return said


def _moved(workspace: Workspace, path: str, to: str) -> Sequence[Record]:
    text = workspace.meta.find(Description, path)
    return [] if text is None else [msgspec.structs.replace(text, path=to, seq=0)]
