"""MLflow's experiments: our groups."""

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlparse

from upturn.adapters.mlflow.call import Call, Route
from upturn.adapters.mlflow.errors import EXISTS, MISSING, MlflowError, bad_value
from upturn.adapters.mlflow.grammar import (
    LIST_OPS,
    NULL_OPS,
    NUMBER_OPS,
    TEXT_OPS,
    Clause,
    Grammar,
    holds,
    parse_filter,
    parse_order,
)
from upturn.adapters.mlflow.limits import check_group_name, check_group_tag, check_results
from upturn.adapters.mlflow.pages import offset_of, token_of
from upturn.adapters.mlflow.reading import Ask, Int64, KeyValue
from upturn.adapters.mlflow.views import View, view_of
from upturn.core.errors import Conflict
from upturn.core.naming import Group, Removal
from upturn.core.time import micros
from upturn.stores import groups

DEFAULT = "0"
LOCATION = "upturn.artifact_location"  # a tag that says where a client wants its artifacts
_LOCATION_MOST = 2048
_ATTRIBUTES = ("creation_time", "experiment_id", "last_update_time", "name")
EXPERIMENTS = Grammar(
    kinds={"attribute": "attribute", "tag": "tag", "tags": "tag"},
    said=("attribute", "tag", "tags"),
    attributes=_ATTRIBUTES,
    numeric=frozenset({"creation_time", "last_update_time"}),
    listed=frozenset({"experiment_id"}),
    quoting=False,
    ops={"number": NUMBER_OPS, "attribute": LIST_OPS, "tag": TEXT_OPS | NULL_OPS},
)


class Experiment:
    """A group as it is now: its record, when and whether it was removed, and its tags."""

    __slots__ = ("group", "removal", "tags")

    def __init__(self, group: Group, removal: Removal | None, tags: dict[str, str]) -> None:
        self.group = group
        self.removal = removal
        self.tags = tags

    @property
    def is_removed(self) -> bool:
        """Whether it is not shown any more."""
        return self.removal is not None and self.removal.removed

    @property
    def location(self) -> str:
        """Where the artifacts of its runs are."""
        return self.tags.get(LOCATION) or f"mlflow-artifacts:/{self.group.id}"

    @property
    def updated_ms(self) -> int:
        """When it was last changed."""
        at = self.group.at if self.removal is None else max(self.group.at, self.removal.at)
        return micros(at) // 1000

    def attribute(self, name: str) -> Any:
        """What a filter means by an attribute."""
        match name:
            case "name":
                return self.group.name
            case "experiment_id":
                return int(self.group.id)
            case "creation_time":
                return micros(self.group.created_at) // 1000
            case _:
                return self.updated_ms

    def sort_key(self, name: str) -> Any:
        """As `attribute`, to the microsecond: what was made within one sorts as it was made."""
        return self.group.created_at if name == "creation_time" else self.attribute(name)

    def as_json(self) -> dict[str, Any]:
        """As MLflow says it."""
        said: dict[str, Any] = {
            "experiment_id": self.group.id,
            "name": self.group.name,
            "artifact_location": self.location,
            "lifecycle_stage": "deleted" if self.is_removed else "active",
            "last_update_time": self.updated_ms,
            "creation_time": micros(self.group.created_at) // 1000,
        }
        tags = [{"key": key, "value": value} for key, value in shown(self.tags).items()]
        return {**said, "tags": tags} if tags else said


def shown(tags: dict[str, str]) -> dict[str, str]:
    """The tags without those of our own."""
    return {name: value for name, value in tags.items() if name != LOCATION}


def get_experiment(call: Call, number: str, view: View = "all") -> Experiment:
    """An experiment by its id. Raises MlflowError when there is none for who asks."""
    number = number or DEFAULT
    if not re.fullmatch(r"-?\d{1,30}", number):
        raise MlflowError(
            f"Invalid experiment ID '{number}'. Experiment ID must be a valid integer."
        )
    number = str(int(number))
    group = default_group(call) if number == DEFAULT else call.workspace.meta.find(Group, number)
    if group is not None and call.sees(group.project):
        found = experiments_of(call, [group])[0]
        if view == "all" or found.is_removed == (view == "removed"):
            return found
    raise MlflowError(f"No Experiment with id={number} exists", MISSING)


def active_experiment(call: Call, number: str) -> Experiment:
    """An experiment that may be changed."""
    found = get_experiment(call, number)
    if found.is_removed:
        raise MlflowError(
            f"The experiment {found.group.id} must be in the 'active' state. Current state is "
            "deleted."
        )
    return found


def experiments_of(call: Call, some: Iterable[Group]) -> list[Experiment]:
    """The groups with what is known of them."""
    found = list(some)
    paths = [f"group/{group.id}" for group in found]
    removals: dict[str, Removal] = {}
    for at in range(0, len(paths), 500):
        for removal in call.workspace.meta.select(Removal, path=paths[at : at + 500]):
            removals[removal.path] = removal  # the last one holds
    tags = call.workspace.tracking.tags(paths)
    return [
        Experiment(group, removals.get(path), tags.get(path, {}))
        for group, path in zip(found, paths, strict=True)
    ]


def default_group(call: Call) -> Group:
    """The project's own 'Default', made when it is missing; '0' where the store is at home."""
    meta, home = call.workspace.meta, call.workspace.settings.project
    own = groups.default_group(meta, home)
    if call.project == home:
        return own
    return groups.make_group(meta, call.project, groups.DEFAULT_NAME, who=call.asker.name)


def named_group(call: Call, name: str) -> Group | None:
    """The group of that name in the project, if there is one, be it removed."""
    return groups.find_group(call.workspace.meta, call.project, name)


def make_group(call: Call, name: str) -> Group:
    """A new group. Raises MlflowError when the name is taken."""
    try:
        return groups.new_group(call.workspace.meta, call.project, name, who=call.asker.name)
    except Conflict:
        raise MlflowError(f"Experiment(name={name}) already exists.", EXISTS) from None


class CreateExperiment(Ask, frozen=True, kw_only=True):
    """Make an experiment."""

    needs = ("name",)

    name: str = ""
    artifact_location: str = ""
    tags: list[KeyValue] = []


class ById(Ask, frozen=True, kw_only=True):
    """An experiment by its id."""

    needs = ("experiment_id",)

    experiment_id: str = ""


class ByName(Ask, frozen=True, kw_only=True):
    """An experiment by its name."""

    needs = ("experiment_name",)

    experiment_name: str = ""


class UpdateExperiment(Ask, frozen=True, kw_only=True):
    """Give an experiment another name."""

    needs = ("experiment_id", "new_name")

    experiment_id: str = ""
    new_name: str = ""


class ExperimentTag(Ask, frozen=True, kw_only=True):
    """Set or remove a tag of an experiment."""

    needs = ("experiment_id", "key")

    experiment_id: str = ""
    key: str = ""
    value: str = ""


class SearchExperiments(Ask, frozen=True, kw_only=True):
    """Find experiments."""

    max_results: Int64 = 1000
    page_token: str = ""
    filter: str = ""
    order_by: list[str] = []
    view_type: int | str = 1


def create(call: Call, asked: CreateExperiment) -> Any:
    """Make an experiment."""
    check_group_name(asked.name)
    _check_location(asked.artifact_location)
    tags: dict[str, str | None] = {
        tag.key: check_group_tag(tag.key, tag.value) for tag in asked.tags
    }
    default_group(call)
    if named_group(call, asked.name) is not None:
        raise MlflowError(f"Experiment(name={asked.name}) already exists.", EXISTS)
    group = make_group(call, asked.name)
    if asked.artifact_location:
        tags[LOCATION] = asked.artifact_location
    if tags:
        call.workspace.tracking.tag(f"group/{group.id}", tags)
    return {"experiment_id": group.id}


def get(call: Call, asked: ById) -> Any:
    """An experiment by its id."""
    return {"experiment": get_experiment(call, asked.experiment_id).as_json()}


def get_by_name(call: Call, asked: ByName) -> Any:
    """An experiment by its name."""
    if asked.experiment_name == "Default":
        default_group(call)
    group = named_group(call, asked.experiment_name)
    if group is None:
        raise MlflowError(f"Could not find experiment with name '{asked.experiment_name}'", MISSING)
    return {"experiment": experiments_of(call, [group])[0].as_json()}


def search(call: Call, asked: SearchExperiments) -> Any:
    """Experiments that fit a filter, a page of them."""
    check_results(asked.max_results)
    clauses = parse_filter(asked.filter, EXPERIMENTS)
    orders = [parse_order(text, EXPERIMENTS) for text in asked.order_by]
    if not orders:
        orders = [("attribute", "creation_time", False), ("attribute", "experiment_id", True)]
    view = view_of(asked.view_type, "view_type")
    start = offset_of(asked.page_token)
    default_group(call)
    groups = (one for one in call.workspace.meta.last_each(Group) if call.sees(one.project))
    found = [
        one
        for one in experiments_of(call, (one for one in groups if one.id.isdecimal()))
        if view in ("all", "removed" if one.is_removed else "active")
        and all(_fits(one, clause) for clause in clauses)
    ]
    if not any(key == "experiment_id" for _, key, _ in orders):
        orders = [*orders, ("attribute", "experiment_id", False)]
    for kind, key, ascending in reversed(orders):
        if kind != "attribute":
            raise MlflowError(f"Invalid order_by entity: {kind}")
        found.sort(key=lambda one: one.sort_key(key), reverse=not ascending)
    end = start + asked.max_results
    answer: dict[str, Any] = {"experiments": [one.as_json() for one in found[start:end]]}
    if end < len(found):
        answer["next_page_token"] = token_of(end)
    return answer


def update(call: Call, asked: UpdateExperiment) -> None:
    """Give an experiment another name."""
    check_group_name(asked.new_name)
    found = get_experiment(call, asked.experiment_id)
    if found.is_removed:
        raise MlflowError("Cannot rename a non-active experiment.", "INVALID_STATE")
    if asked.new_name == found.group.name:
        return
    group = found.group
    try:
        call.workspace.meta.add(
            Group(
                id=group.id,
                name=asked.new_name,
                project=group.project,
                who=call.asker.name,
                created_at=group.created_at,
                at=call.now,
            )
        )
    except Conflict:
        raise MlflowError(f"Experiment(name={asked.new_name}) already exists.", EXISTS) from None


def delete(call: Call, asked: ById) -> None:
    """Remove an experiment and its runs from what is shown."""
    found = get_experiment(call, asked.experiment_id, "active")
    _remove(call, found.group.id, removed=True)


def restore(call: Call, asked: ById) -> None:
    """Show a removed experiment again, with its runs."""
    found = get_experiment(call, asked.experiment_id, "removed")
    _remove(call, found.group.id, removed=False)


def set_tag(call: Call, asked: ExperimentTag) -> None:
    """Set a tag of an experiment."""
    value = check_group_tag(asked.key, asked.value)
    found = active_experiment(call, asked.experiment_id)
    call.workspace.tracking.tag(f"group/{found.group.id}", {asked.key: value})


def delete_tag(call: Call, asked: ExperimentTag) -> None:
    """Remove a tag of an experiment."""
    found = active_experiment(call, asked.experiment_id)
    if asked.key not in shown(found.tags):
        raise MlflowError(
            f"No tag with name: {asked.key} in experiment with id {found.group.id}", MISSING
        )
    call.workspace.tracking.tag(f"group/{found.group.id}", {asked.key: None})


def _remove(call: Call, number: str, *, removed: bool) -> None:
    cursor = ""
    paths = [f"group/{number}"]
    while True:
        page = call.workspace.tracking.search(
            groups=[number], removed=not removed, limit=10_000, cursor=cursor
        )
        paths += [f"run/{row.id}" for row in page.rows]
        cursor = page.cursor
        if not cursor:
            break
    who = call.asker.name
    call.workspace.meta.put(
        *(Removal(path=path, removed=removed, who=who, at=call.now) for path in paths)
    )


def _fits(one: Experiment, clause: Clause) -> bool:
    if clause.kind == "tag":
        left = shown(one.tags).get(clause.key)
        if clause.op in NULL_OPS:
            return (left is None) == (clause.op == "IS NULL")
        return left is not None and holds(clause.op, left, clause.value)
    value: Any = clause.value
    if clause.key == "experiment_id":
        if clause.op not in ("=", "!=", "IN", "NOT IN"):
            raise MlflowError(f"Invalid comparator for experiment_id: {clause.op}")
        value = tuple(map(_number, value)) if isinstance(value, tuple) else _number(value)
    return holds(clause.op, one.attribute(clause.key), value)


def _number(text: str) -> int:
    if not re.fullmatch(r"-?\d{1,30}", text):
        raise MlflowError(f"Invalid experiment ID '{text}'. Experiment ID must be a valid integer.")
    return int(text)


def _check_location(location: str) -> None:
    """Refuse where no artifacts can be."""
    if not location:
        return
    if len(location) > _LOCATION_MOST:
        raise MlflowError(
            "Invalid artifact path length. The length of the artifact path cannot be greater than "
            f"{_LOCATION_MOST} characters."
        )
    try:
        parsed = urlparse(location)
    except ValueError:
        raise bad_value("artifact_location", location) from None
    if parsed.fragment or parsed.params:
        raise MlflowError("'artifact_location' URL can't include fragments or params.")
    if ".." in parsed.query:
        raise MlflowError(f"Invalid query string: {parsed.query}")
    if parsed.scheme == "runs":
        raise MlflowError(f"Artifact location cannot be a runs:/ URI. Given: '{location}'")


ROUTES = (
    Route("POST", "experiments/create", CreateExperiment, create),
    Route("GET", "experiments/get", ById, get, "viewer"),
    Route("GET", "experiments/get-by-name", ByName, get_by_name, "viewer"),
    Route("POST", "experiments/search", SearchExperiments, search, "viewer"),
    Route("GET", "experiments/search", SearchExperiments, search, "viewer"),
    Route("POST", "experiments/update", UpdateExperiment, update),
    Route("POST", "experiments/delete", ById, delete),
    Route("POST", "experiments/restore", ById, restore),
    Route("POST", "experiments/set-experiment-tag", ExperimentTag, set_tag),
    Route("POST", "experiments/delete-experiment-tag", ExperimentTag, delete_tag),
)
