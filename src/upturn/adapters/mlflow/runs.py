"""MLflow's runs: made, found, changed, removed and restored."""

import base64
import binascii
import random
import uuid
from typing import Any

from upturn.adapters.mlflow.call import Call, Route
from upturn.adapters.mlflow.errors import MlflowError, wrong_type
from upturn.adapters.mlflow.experiments import active_experiment
from upturn.adapters.mlflow.inputs import runs_of_datasets
from upturn.adapters.mlflow.limits import RESULTS_MOST, check_results, check_time
from upturn.adapters.mlflow.nouns import (
    END,
    PARENT,
    RUN_NAME,
    active_run,
    artifact_uri,
    get_run,
    info_json,
    locations,
    runs_json,
)
from upturn.adapters.mlflow.reading import Ask, Int64, KeyValue
from upturn.adapters.mlflow.run_search import ordered, searched
from upturn.adapters.mlflow.views import removed_of, status_of, view_of
from upturn.core.errors import Invalid
from upturn.core.naming import Removal
from upturn.core.records import Edge, Run, RunState
from upturn.core.time import from_micros
from upturn.core.tracking import RunRow

_FIRST = "amber brisk calm clever eager fair gentle keen lively lucid merry nimble quiet swift"
GOING = ("running", "queued")
_SECOND = "ash birch crane elm finch fox hare heron lark lynx maple otter pine robin swan wren"


class RunAsk(Ask, frozen=True, kw_only=True):
    """Something about a run, which older clients name `run_uuid`."""

    needs = ("run_id",)

    run_id: str = ""
    run_uuid: str = ""

    @property
    def run(self) -> str:
        """The run's id."""
        return self.run_id or self.run_uuid


class CreateRun(Ask, frozen=True, kw_only=True):
    """Make a run."""

    experiment_id: str = ""
    user_id: str = ""
    start_time: Int64 | None = None
    run_name: str = ""
    tags: list[KeyValue] = []


class UpdateRun(RunAsk, frozen=True, kw_only=True):
    """Change how a run stands, or what it is called."""

    status: int | str | None = None
    end_time: Int64 | None = None
    run_name: str = ""


class SearchRuns(Ask, frozen=True, kw_only=True):
    """Find runs."""

    experiment_ids: list[str] = []
    filter: str = ""
    run_view_type: int | str = 1
    max_results: Int64 = 1000
    order_by: list[str] = []
    page_token: str = ""


def create(call: Call, asked: CreateRun) -> Any:
    """Make a run."""
    experiment = active_experiment(call, asked.experiment_id)
    tags = {tag.key: tag.value for tag in asked.tags}  # as they are, unlike those set later
    tagged = tags.get(RUN_NAME, "")
    if asked.run_name and tagged and asked.run_name != tagged:
        raise MlflowError(
            "Both 'run_name' argument and 'mlflow.runName' tag are specified, but with different "
            f"values (run_name='{asked.run_name}', mlflow.runName='{tagged}')."
        )
    name = asked.run_name or tagged or some_name()
    started = call.now
    if asked.start_time is not None:
        check_time(asked.start_time, "start_time")
        started = from_micros(asked.start_time * 1000)
    run = Run(
        id=uuid.uuid4().hex,
        flow="",
        entry="",
        params={},
        project=experiment.group.project,
        started_at=started,
        parent=tags.get(PARENT) or None,
        name=name,
        group=experiment.group.id,
        who=asked.user_id,
        source="mlflow",
    )
    call.workspace.meta.add(run)
    if (task := call.task_path) is not None:
        call.workspace.meta.put(Edge(source=task, target=f"run/{run.id}", role="began"))
    call.workspace.tracking.log(run.id, tags={**tags, RUN_NAME: name})
    return {"run": runs_json(call, [get_run(call, run.id)])[0]}


def get(call: Call, asked: RunAsk) -> Any:
    """A run by its id."""
    return {"run": runs_json(call, [get_run(call, asked.run)])[0]}


def update(call: Call, asked: UpdateRun) -> Any:
    """Change how a run stands, or what it is called."""
    row = active_run(call, asked.run)
    status = None if asked.status is None else status_of(asked.status)
    if asked.end_time is not None:
        check_time(asked.end_time, "end_time")
    # Code inside a task may open its flow's run and close it again: the run goes on.
    if row.source == "mlflow" and (status is not None or asked.end_time is not None):
        status = status or row.status
        at = call.now
        if asked.end_time is not None and status not in GOING:
            at = from_micros(asked.end_time * 1000)
        call.workspace.meta.add(RunState(run=row.id, status=status, at=at))
        if asked.end_time is not None and status in GOING:
            call.workspace.tracking.log(row.id, tags={END: str(asked.end_time)})
    # A name that comes with a status is that of a new run, for which the client takes this one.
    if asked.run_name and (row.source == "mlflow" or asked.status is None):
        rename(call, row, asked.run_name)
    row = get_run(call, row.id)
    path = f"run/{row.id}"
    end = None if row.ended_at is not None else call.workspace.tracking.tags([path])[path].get(END)
    return {"run_info": info_json(row, locations(call, [row])[row.group], end)}


def rename(call: Call, row: RunRow, name: str) -> None:
    """Give a run another name, as it and its tag say."""
    row = get_run(call, row.id)
    at = call.now if row.ended_at is None else from_micros(row.ended_at)
    call.workspace.meta.add(RunState(run=row.id, status=row.status, at=at, name=name))
    call.workspace.tracking.log(row.id, tags={RUN_NAME: name})


def delete(call: Call, asked: RunAsk) -> None:
    """Remove a run from what is shown."""
    _remove(call, asked.run, removed=True)


def restore(call: Call, asked: RunAsk) -> None:
    """Show a removed run again."""
    _remove(call, asked.run, removed=False)


def search(call: Call, asked: SearchRuns) -> Any:
    """Runs that fit a filter, a page of them."""
    if asked.max_results > RESULTS_MOST:
        raise wrong_type("max_results", asked.max_results)
    check_results(asked.max_results)
    groups = [_group_id(one) for one in asked.experiment_ids]
    places: dict[str, str] = {}

    def uri(row: RunRow) -> str:
        if row.group not in places:
            places.update(locations(call, [row]))
        return artifact_uri(row, places[row.group])

    where, fits = searched(
        asked.filter, runs_of=lambda clauses: runs_of_datasets(call, groups, clauses), uri=uri
    )
    order = ordered(asked.order_by)
    removed = removed_of(view_of(asked.run_view_type, "run_view_type"))
    cursor = _cursor(asked.page_token)
    rows: list[RunRow] = []
    if not groups:
        return {}
    while True:
        try:
            page = call.workspace.tracking.search(
                where,
                projects=call.projects,
                groups=groups,
                removed=removed,
                order=order,
                limit=asked.max_results - len(rows),
                cursor=cursor,
            )
        except Invalid as error:
            if cursor and cursor == _cursor(asked.page_token):
                raise MlflowError(f"Invalid page token: {error.message}") from None
            raise
        rows += [row for row in page.rows if fits is None or fits(row)]
        cursor = page.cursor
        if not cursor or len(rows) >= asked.max_results:
            break
    answer: dict[str, Any] = {}
    if rows:
        answer["runs"] = runs_json(call, rows)
    if cursor:
        answer["next_page_token"] = base64.b64encode(cursor.encode()).decode()
    return answer


def some_name() -> str:
    """A name for a run that nobody named."""
    first, second = random.choice(_FIRST.split()), random.choice(_SECOND.split())
    return f"{first}-{second}-{random.randint(0, 999)}"


def _remove(call: Call, run: str, *, removed: bool) -> None:
    row = get_run(call, run)
    call.workspace.meta.add(
        Removal(path=f"run/{row.id}", removed=removed, who=call.asker.name, at=call.now)
    )


def _group_id(given: str) -> str:
    if not given.lstrip("-").isdecimal():
        raise MlflowError(
            f"Invalid experiment ID '{given}'. Experiment ID must be a valid integer."
        )
    return str(int(given))


def _cursor(token: str) -> str:
    try:
        return base64.b64decode(token, validate=True).decode()
    except (binascii.Error, ValueError):
        raise MlflowError("Invalid page token, could not base64-decode") from None


ROUTES = (
    Route("POST", "runs/create", CreateRun, create),
    Route("GET", "runs/get", RunAsk, get, "viewer"),
    Route("POST", "runs/update", UpdateRun, update),
    Route("POST", "runs/delete", RunAsk, delete),
    Route("POST", "runs/restore", RunAsk, restore),
    Route("POST", "runs/search", SearchRuns, search, "viewer"),
)
