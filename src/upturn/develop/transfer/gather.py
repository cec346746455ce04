"""Gather: what a run refers to: the runs that it can't do without, and all that is said of it."""

from collections.abc import Sequence
from typing import Any

import msgspec

from upturn.core.errors import Conflict, Invalid, NotFound
from upturn.core.ids import task_path, version_path
from upturn.core.logged_models import LoggedModel, LoggedModelState, Trace
from upturn.core.naming import Description, Removal
from upturn.core.query import parse_where
from upturn.core.records import (
    Artifact,
    DatasetUse,
    Edge,
    Exhibit,
    Group,
    Memo,
    ModelUse,
    Run,
    RunState,
    Task,
    TaskState,
    Version,
)
from upturn.core.time import utcnow
from upturn.core.tracking import Both
from upturn.develop.runs import is_driven, view_run
from upturn.develop.transfer.section import Section, digests_of
from upturn.stores.workspace import Workspace

_PAGE = 1000
_AT_ONCE = 500  # keys that are asked for together


def chosen(
    workspace: Workspace, runs: Sequence[str], *, where: str = "", group: str = ""
) -> list[str]:
    """The ids of the runs that are meant, by ids or their beginnings, or all that fit.

    Raises NotFound, and Invalid when it is not said which.
    """
    if not (runs or where.strip() or group) or (runs and (where.strip() or group)):
        raise Invalid(
            "Which runs are meant?", hint="Say their ids, or a condition (--where), or a group."
        )
    if runs:
        return list(dict.fromkeys(view_run(workspace, run).run.id for run in runs))
    quoted = group.replace("'", "''")
    asked = [where, f"group = '{quoted}'" if group else ""]
    terms = [parse_where(text, now=utcnow()) for text in asked]
    condition = Both(tuple(term for term in terms if term is not None))
    found: list[str] = []
    cursor = ""
    while True:
        page = workspace.tracking.search(condition, limit=_PAGE, cursor=cursor)
        found += [row.id for row in page.rows]
        cursor = page.cursor
        if not cursor:
            break
    if not found:
        raise NotFound("No run fits.", hint="List runs with: upturn runs")
    return found


def with_what_they_need(
    workspace: Workspace, runs: Sequence[str], *, children: bool = True
) -> list[Run]:
    """The runs, and those without which they can't be read, each after what it is part of.

    These are the runs that a run is part of, its children, and the runs whose outputs its tasks
    reused, took as inputs or ran again. Raises Conflict when one of them goes on.
    """
    found: dict[str, Run] = {}
    todo = [(run, children) for run in reversed(runs)]
    whole: set[str] = set()
    while todo:
        id, down = todo.pop()
        run = found.get(id) or workspace.meta.find(Run, id)
        if run is None or (id in found and (not down or id in whole)):
            continue
        if id not in found:
            found[id] = run
            todo += [(other, False) for other in _referred(workspace, run)]
        if down:
            whole.add(id)
            below = workspace.meta.select(Run, parent=id)
            todo += [(one.id, True) for one in below if _is_shown(workspace, f"run/{one.id}")]
    for run in found.values():
        _check_ended(workspace, run)
    return _parents_first(found)


def _is_shown(workspace: Workspace, path: str) -> bool:
    """Whether nobody has removed it: what was removed does not come back elsewhere unasked."""
    removal = workspace.meta.find(Removal, path)
    return removal is None or not removal.removed


def _referred(workspace: Workspace, run: Run) -> set[str]:
    paths = {run.rerun_of} if run.rerun_of else set[str | None]()
    for task in workspace.meta.select(Task, run=run.id):
        paths |= {item.made_by for item in task.inputs}
    paths |= {state.reused_from for state in workspace.meta.select(TaskState, run=run.id)}
    runs = {path.split("/")[1] for path in paths if path and path.startswith("run/")}
    for use in workspace.meta.select(ModelUse, run=run.id):
        model = workspace.meta.find(LoggedModel, use.model)
        if model is not None and model.run is not None:
            runs.add(model.run)
    if run.parent is not None:
        runs.add(run.parent)
    return runs - {run.id}


def _check_ended(workspace: Workspace, run: Run) -> None:
    state = workspace.meta.find(RunState, run.id)
    if (state is None or state.status in ("queued", "running")) and is_driven(workspace, run):
        raise Conflict(
            f"Run {run.id} of {run.flow!r} goes on.",
            hint="Wait for its end, or leave it out.",
            run=run.id,
        )


def _parents_first(found: dict[str, Run]) -> list[Run]:
    order: dict[str, Run] = {}
    for run in found.values():
        line = [run]
        while line[-1].parent in found and line[-1].parent not in order:
            line.append(found[line[-1].parent])
        for one in reversed(line):
            order[one.id] = one
    return list(order.values())


class Traces:
    """Which traces are of which run, read once for each group."""

    def __init__(self, workspace: Workspace) -> None:
        self._meta = workspace.meta
        self._groups: dict[str, dict[str, list[Trace]]] = {}

    def of(self, run: Run) -> list[Trace]:
        """The traces that were made in a run, by id."""
        if run.group not in self._groups:
            last = {one.id: one for one in self._meta.select(Trace, group=run.group)}
            by_run: dict[str, list[Trace]] = {}
            for trace in sorted(last.values(), key=lambda one: one.id):
                if not trace.removed and trace.group == run.group:
                    by_run.setdefault(_source_run(trace), []).append(trace)
            self._groups[run.group] = by_run
        return self._groups[run.group].get(run.id, [])


def _source_run(trace: Trace) -> str:
    try:
        info = msgspec.json.decode(trace.info)
    except msgspec.MsgspecError:
        return ""
    metadata: Any = info.get("trace_metadata") if isinstance(info, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return str(metadata.get("mlflow.sourceRun", "")) if isinstance(metadata, dict) else ""  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]


def gathered(workspace: Workspace, run: Run, traces: Traces, *, seen: set[str]) -> Section:
    """All that is said of a run, but its points and blobs. `seen` are models of earlier ones."""
    meta = workspace.meta
    section = Section()
    group = meta.find(Group, run.group)
    if group is not None:
        section.records.append(_unnumbered(group))
    section.records.append(run)
    for kind in (RunState, Task, TaskState, Exhibit, DatasetUse, ModelUse):
        section.records += meta.select(kind, run=run.id)
    models = {one.id: one for one in meta.select(LoggedModel, run=run.id)}
    for use in section.of(ModelUse):  # of no run, it comes with the first that used it
        model = meta.find(LoggedModel, use.model)
        if model is not None and model.run is None:
            models[model.id] = model
    models = {
        id: model
        for id, model in models.items()
        if id not in seen and _is_shown(workspace, f"logged/{id}")
    }
    seen |= models.keys()
    section.records += models.values()
    for id in models:
        section.records += meta.select(LoggedModelState, id=id)
    section.records += [_unnumbered(trace) for trace in traces.of(run)]
    section.records += [
        version
        for version in meta.select(Version, run=run.id)
        if _is_shown(workspace, version_path(version.model, version.number))
    ]
    for path in sorted(section.paths):
        said = meta.find(Description, path)
        if said is not None:
            section.records.append(_unnumbered(said))
    section.records += _memos(workspace, section)
    section.records += _edges(workspace, section)
    section.params = {id: said for id, said in _params(workspace, section).items() if said}
    tags = workspace.tracking.tags(sorted(section.paths))
    section.tags = {path: said for path, said in tags.items() if said}
    for keeper in sorted(section.keepers):
        section.files += workspace.tracking.files(keeper)
    section.records += _artifacts(workspace, section)
    return section


def _params(workspace: Workspace, section: Section) -> dict[str, dict[str, str]]:
    return workspace.tracking.params(section.owners)


def _memos(workspace: Workspace, section: Section) -> list[Memo]:
    """What the store remembers of the run's tasks: the last of each, by their digests."""
    keys = sorted({task.memo for task in section.of(Task)})
    found: dict[str, Memo] = {}
    for begin in range(0, len(keys), _AT_ONCE):
        for memo in workspace.meta.select(Memo, memo=keys[begin : begin + _AT_ONCE]):
            if memo.task.startswith(f"run/{section.run.id}/"):
                found[memo.memo] = _unnumbered(memo)
    return [found[key] for key in sorted(found)]


def _edges(workspace: Workspace, section: Section) -> list[Edge]:
    """What the run, its tasks and versions were made from, and which artifacts its tasks made."""
    run = section.run.id
    tasks = {task_path(run, one.step, one.index) for one in section.of(TaskState)}
    tasks |= {task_path(run, one.step, one.index) for one in section.of(Task)}
    versions = {version_path(one.model, one.number) for one in section.of(Version)}
    own = sorted({f"run/{run}", *tasks, *versions})
    found: set[Edge] = set()
    for begin in range(0, len(own), _AT_ONCE):
        some = own[begin : begin + _AT_ONCE]
        found |= set(workspace.meta.select(Edge, target=some))
        made = workspace.meta.select(Edge, source=some)
        found |= {edge for edge in made if edge.target.startswith("artifact/")}
    return sorted(found, key=lambda edge: (edge.target, edge.role, edge.source))


def _artifacts(workspace: Workspace, section: Section) -> list[Artifact]:
    digests = sorted(set(digests_of(section)))
    found: list[Artifact] = []
    for begin in range(0, len(digests), _AT_ONCE):
        found += workspace.meta.select(Artifact, digest=digests[begin : begin + _AT_ONCE])
    return sorted(found, key=lambda one: one.digest)


def _unnumbered(record: Any) -> Any:
    """The record without its place among those that other stores count otherwise."""
    return msgspec.structs.replace(record, seq=0)
