"""Groups: finding and making them, under a name that is unique within a project."""

from collections.abc import Iterator

from upturn.core.errors import Conflict, Invalid, Unavailable
from upturn.core.metastore import MetaStore
from upturn.core.naming import Group
from upturn.core.time import utcnow
from upturn.core.who import who as this_person

DEFAULT_ID, DEFAULT_NAME = "0", "Default"  # what MLflow calls them
_TRIES = 100


def find_group(meta: MetaStore, project: str, name: str) -> Group | None:
    """The group of that name in a project, removed or not; None when there is none."""
    for named in {group.id for group in meta.select(Group, name=name)}:
        group = meta.find(Group, named)
        if group is not None and group.name == name and group.project == project:
            return group
    return None


def make_group(meta: MetaStore, project: str, name: str, *, who: str = "") -> Group:
    """The group of that name in a project, made when there is none. Of several makers, one does."""
    for id in _ids(meta, name):
        found = find_group(meta, project, name)
        if found is not None:
            return found
        try:
            return _add(meta, id, project, name, who)
        except Conflict:
            continue  # somebody made this one, or another with the id
    raise Unavailable(f"The group {name!r} can't be made: too many others are being made.")


def new_group(meta: MetaStore, project: str, name: str, *, who: str = "") -> Group:
    """A new group. Raises Conflict when there is one of that name in the project."""
    for id in _ids(meta, name):
        _check_free(meta, project, name)
        try:
            return _add(meta, id, project, name, who)
        except Conflict:
            continue
    raise Unavailable(f"The group {name!r} can't be made: too many others are being made.")


def default_group(meta: MetaStore, project: str) -> Group:
    """The group '0', in the project when it is made now."""
    return meta.find(Group, DEFAULT_ID) or make_group(meta, project, DEFAULT_NAME)


def rename_group(meta: MetaStore, group: Group, name: str, *, who: str = "") -> Group:
    """The group under another name. Raises Conflict when there is one of that name."""
    if name == group.name:
        return group
    _check_free(meta, group.project, name)
    return meta.add(
        Group(
            id=group.id,
            name=_checked(name),
            project=group.project,
            who=who or this_person(),
            created_at=group.created_at,
            at=utcnow(),
        )
    )


def _check_free(meta: MetaStore, project: str, name: str) -> None:
    found = find_group(meta, project, name)
    if found is not None:
        raise Conflict(
            f"There is a group {name!r} in {project!r} already.",
            hint="Take it, or choose another name.",
            group=found.id,
        )


def _add(meta: MetaStore, id: str, project: str, name: str, who: str) -> Group:
    now = utcnow()
    who = who or this_person()
    name = _checked(name)
    return meta.add(
        Group(id=id, seq=1, name=name, project=project, who=who, created_at=now, at=now)
    )


def _ids(meta: MetaStore, name: str) -> Iterator[str]:
    """Ids to try one after another: the next, and beyond those that are not ours to see."""
    last, ahead = "", 0
    for _ in range(_TRIES):
        next_id = _next_id(meta, name)
        ahead = 2 * ahead + 1 if next_id == last else 0
        last = next_id
        yield str(int(next_id) + ahead)


def _next_id(meta: MetaStore, name: str) -> str:
    if name == DEFAULT_NAME and meta.find(Group, DEFAULT_ID) is None:
        return DEFAULT_ID
    taken = [int(group.id) for group in meta.last_each(Group) if group.id.isdecimal()]
    return str(max(taken, default=0) + 1)


def _checked(name: str) -> str:
    if not name.strip():
        raise Invalid("A group needs a name.")
    return name
