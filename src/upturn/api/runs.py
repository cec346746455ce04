"""Runs as operations: search, get, metrics and curves, tags and notes, compare, remove, restore."""

from datetime import datetime
from typing import Any

import msgspec

from upturn.api.operation import AnyOperation, Ask, Operation, Page, Request
from upturn.api.paging import LIMIT, Limit
from upturn.api.visible import hidden
from upturn.core.errors import Invalid, NotFound, did_you_mean
from upturn.core.naming import Description, Removal
from upturn.core.query import parse_order, parse_where
from upturn.core.records import Run, RunState
from upturn.core.time import from_micros
from upturn.core.tracking import Both, Curve, Point, RunRow, Series, StoredFile, Term
from upturn.develop.runs import is_driven
from upturn.develop.side_by_side import SideBySide, side_by_side

_VALUES = ("params", "metrics", "tags")
_PAGE = 1_000  # runs that are removed or restored in one transaction


class RunSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A run as lists show it; params, metrics (last values) and tags where they were asked for."""

    id: str
    name: str
    flow: str
    group: str
    project: str
    who: str
    source: str
    status: str
    started_at: datetime
    ended_at: datetime | None = None
    removed_at: datetime | None = None
    parent: str | None = None
    note: str = ""  # of a single run
    params: dict[str, str] | None = None
    metrics: dict[str, float] | None = None
    tags: dict[str, str] | None = None


class ListRuns(Request, frozen=True, kw_only=True):
    """Runs that fit `where`, in the language of docs/runs.md; `fields`: 'params,metrics,tags'."""

    where: str = ""
    order: str = ""
    flow: str = ""
    group: str = ""
    project: str = ""
    removed: bool = False
    fields: str = ""
    limit: Limit = LIMIT
    cursor: str = ""


class OneRun(Request, frozen=True, kw_only=True):
    """The run of an id."""

    run: str


class OneCurve(Request, frozen=True, kw_only=True):
    """A metric of a run, of one scope ('train/3') or of all, for a plot of some points."""

    run: str
    name: str
    scope: str | None = None
    points: int = 320


class OneHistory(Request, frozen=True, kw_only=True):
    """The points of a metric, `limit` of them from the `after`-th on."""

    run: str
    name: str
    scope: str | None = None
    after: int = 0
    limit: int = 10_000


class SetRun(Request, frozen=True, kw_only=True):
    """What is to be added or changed: a tag of null is removed; parameters never change."""

    run: str
    name: str | None = None
    note: str | None = None
    params: dict[str, str] = {}  # noqa: RUF012  # a struct copies its defaults
    tags: dict[str, str | None] = {}  # noqa: RUF012


class FilesOf(Request, frozen=True, kw_only=True):
    """The files of a run at or below a path."""

    run: str
    under: str = ""


class CompareRuns(Request, frozen=True, kw_only=True):
    """Runs to be shown side by side."""

    runs: tuple[str, ...]


class SomeRuns(Request, frozen=True, kw_only=True):
    """Runs by their ids, or all that fit a condition."""

    runs: tuple[str, ...] = ()
    where: str = ""
    why: str = ""


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    """The runs that were changed."""

    runs: tuple[str, ...]


def list_runs(ask: Ask, request: ListRuns) -> Page[RunSeen]:
    """The runs that fit, newest first unless told otherwise."""
    fields = [name.strip() for name in request.fields.split(",") if name.strip()]
    for name in fields:
        if name not in _VALUES:
            raise Invalid(f"A run shows no {name!r}.", hint=did_you_mean(name, _VALUES))
    terms = [parse_where(request.where, now=ask.now)]
    if request.flow:
        terms.append(Term(of="run", name="flow", op="=", value=request.flow))
    found = ask.workspace.tracking.search(
        Both(tuple(term for term in terms if term is not None)),
        projects=_projects(ask, request.project),
        groups=[request.group] if request.group else None,
        removed=request.removed,
        order=parse_order(request.order),
        limit=request.limit,
        cursor=request.cursor,
    )
    return Page(tuple(_with_values(ask, found.rows, fields)), found.cursor)


def get_run(ask: Ask, request: OneRun) -> RunSeen:
    """One run with its parameters, last metrics, tags and note."""
    row = _row(ask, request.run)
    (seen,) = _with_values(ask, [row], list(_VALUES))
    note = ask.workspace.meta.find(Description, f"run/{row.id}")
    return msgspec.structs.replace(seen, note=note.text if note is not None else "")


def metrics_of(ask: Ask, request: OneRun) -> Page[Series]:
    """The metrics of a run, each in a few numbers, by name and scope."""
    row = _row(ask, request.run)
    return Page(tuple(ask.workspace.tracking.series([row.id])[row.id]))


def curve_of(ask: Ask, request: OneCurve) -> Curve:
    """A metric for a plot, every peak included."""
    row = _row(ask, request.run)
    points = min(max(request.points, 4), 10_000)
    tracking = ask.workspace.tracking
    curve = tracking.curve(row.id, request.name, scope=request.scope, points=points)
    if not curve.points:
        known = {one.name for one in tracking.series([row.id])[row.id]}
        hint = did_you_mean(request.name, known)
        raise NotFound(f"Run {row.id} logged no {request.name!r}.", hint=hint)
    return curve


def history_of(ask: Ask, request: OneHistory) -> Page[Point]:
    """The points of a metric by step, instant and value."""
    row = _row(ask, request.run)
    if not 0 < request.limit <= 100_000:
        raise Invalid("From 1 to 100,000 points are given at once.", hint="Go on with `after`.")
    points = ask.workspace.tracking.history(
        row.id, request.name, scope=request.scope, after=request.after, limit=request.limit
    )
    return Page(tuple(points))


def set_run(ask: Ask, request: SetRun) -> RunSeen:
    """Name a run, write about it, tag it, or add parameters."""
    row = _row(ask, request.run)
    workspace = ask.workspace
    workspace.tracking.log(row.id, params=request.params, tags=request.tags)
    if request.note is not None:
        path, who = f"run/{row.id}", ask.asker.name
        workspace.meta.add(Description(path=path, text=request.note, who=who, at=ask.now))
    if request.name is not None:
        last = workspace.meta.find(RunState, row.id)
        state = last or RunState(run=row.id, status=row.status, at=ask.now)
        workspace.meta.add(msgspec.structs.replace(state, seq=0, name=request.name))
    return get_run(ask, OneRun(run=row.id))


def files_of(ask: Ask, request: FilesOf) -> Page[StoredFile]:
    """The files of a run, by path."""
    row = _row(ask, request.run)
    return Page(tuple(ask.workspace.tracking.files(row.id, under=request.under)))


def compare_runs(ask: Ask, request: CompareRuns) -> SideBySide:
    """Parameters that differ, and metrics, of several runs."""
    runs = [_row(ask, run).id for run in dict.fromkeys(request.runs)]
    return side_by_side(ask.workspace.tracking, runs)


def remove_runs(ask: Ask, request: SomeRuns) -> Changed:
    """Remove runs from what is shown; everything is kept until `upturn gc` comes by."""
    return _change(ask, request, removed=True)


def restore_runs(ask: Ask, request: SomeRuns) -> Changed:
    """Show runs again that were removed."""
    return _change(ask, request, removed=False)


def _change(ask: Ask, request: SomeRuns, *, removed: bool) -> Changed:
    if bool(request.runs) == bool(request.where.strip()):
        raise Invalid("Which runs? Either `runs` or `where` says so.")
    if request.runs:
        rows = [_row(ask, run) for run in dict.fromkeys(request.runs)]
        ids = [row.id for row in rows if (row.removed_at is not None) is not removed]
    else:
        ids = _all_that_fit(ask, request.where, removed=not removed)
    for start in range(0, len(ids), _PAGE):
        ask.workspace.meta.put(
            *[
                Removal(
                    path=f"run/{run}",
                    removed=removed,
                    why=request.why,
                    who=ask.asker.name,
                    at=ask.now,
                )
                for run in ids[start : start + _PAGE]
            ]
        )
    return Changed(runs=tuple(ids))


def _all_that_fit(ask: Ask, where: str, *, removed: bool) -> list[str]:
    """The ids of all runs that fit, read before any of them is changed."""
    condition = parse_where(where, now=ask.now)
    projects = _projects(ask, "")
    ids: list[str] = []
    cursor = ""
    while True:
        page = ask.workspace.tracking.search(
            condition, projects=projects, removed=removed, limit=_PAGE, cursor=cursor
        )
        ids += [row.id for row in page.rows]
        cursor = page.cursor
        if not cursor:
            return ids


def _projects(ask: Ask, wanted: str) -> list[str] | None:
    """The projects to look in; None for all."""
    if wanted:
        return [wanted] if ask.asker.may_see(wanted) else []
    return None if ask.asker.projects is None else sorted(ask.asker.projects)


def _row(ask: Ask, run: str) -> RunRow:
    """The run of an id, for who may see it. Raises NotFound."""
    run = run.removeprefix("run/")
    row = ask.workspace.tracking.rows([run]).get(run)
    if row is None or not ask.asker.may_see(row.project):
        raise hidden("run", run)
    return row


def _with_values(ask: Ask, rows: Any, fields: list[str]) -> list[RunSeen]:
    tracking = ask.workspace.tracking
    ids: list[str] = [row.id for row in rows]
    params = tracking.params(ids) if "params" in fields else {}
    series = tracking.series(ids) if "metrics" in fields else {}
    tags = tracking.tags([f"run/{run}" for run in ids]) if "tags" in fields else {}
    return [
        _seen(ask, row, params.get(row.id), series.get(row.id), tags.get(f"run/{row.id}"))
        for row in rows
    ]


def _status(ask: Ask, row: RunRow) -> str:
    """As recorded; 'lost' when the process that drives it is gone."""
    if row.source != "flow" or row.status not in ("queued", "running"):
        return row.status
    run = ask.workspace.meta.find(Run, row.id)
    return row.status if run is None or is_driven(ask.workspace, run) else "lost"


def _seen(
    ask: Ask,
    row: RunRow,
    params: dict[str, str] | None,
    series: list[Series] | None,
    tags: dict[str, str] | None,
) -> RunSeen:
    metrics = None
    if series is not None:
        metrics = {one.name: one.last for one in sorted(series, key=lambda one: one.at)}
    return RunSeen(
        id=row.id,
        name=row.name,
        flow=row.flow,
        group=row.group,
        project=row.project,
        who=row.who,
        source=row.source,
        status=_status(ask, row),
        started_at=from_micros(row.started_at),
        ended_at=None if row.ended_at is None else from_micros(row.ended_at),
        removed_at=None if row.removed_at is None else from_micros(row.removed_at),
        parent=row.parent,
        params=params,
        metrics=metrics,
        tags=tags,
    )


_RUN = "/api/v1/runs/{run}"
LIST_RUNS = Operation("runs.list", "GET", "/api/v1/runs", ListRuns, Page[RunSeen], list_runs)
GET_RUN = Operation("runs.get", "GET", _RUN, OneRun, RunSeen, get_run)
METRICS = Operation("runs.metrics", "GET", f"{_RUN}/metrics", OneRun, Page[Series], metrics_of)
CURVE = Operation("runs.curve", "GET", f"{_RUN}/curve", OneCurve, Curve, curve_of)
HISTORY = Operation("runs.history", "GET", f"{_RUN}/history", OneHistory, Page[Point], history_of)
FILES = Operation("runs.files", "GET", f"{_RUN}/files", FilesOf, Page[StoredFile], files_of)
SET_RUN = Operation("runs.set", "PATCH", _RUN, SetRun, RunSeen, set_run, role="editor")
COMPARE = Operation(
    "runs.compare", "POST", "/api/v1/runs/compare", CompareRuns, SideBySide, compare_runs
)
REMOVE = Operation(
    "runs.remove", "POST", "/api/v1/runs/remove", SomeRuns, Changed, remove_runs, role="editor"
)
RESTORE = Operation(
    "runs.restore", "POST", "/api/v1/runs/restore", SomeRuns, Changed, restore_runs, role="editor"
)
OPERATIONS: tuple[AnyOperation, ...] = (
    LIST_RUNS,
    GET_RUN,
    METRICS,
    CURVE,
    HISTORY,
    FILES,
    SET_RUN,
    COMPARE,
    REMOVE,
    RESTORE,
)
