"""Run, Tasks and Task: handles to what was run, which read every value when it is asked for."""

import io
import os
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import msgspec

from upturn.core import records
from upturn.core.errors import NotFound, Problem, RunFailed, Unavailable, did_you_mean
from upturn.core.ids import task_path
from upturn.core.naming import Description
from upturn.core.query import parse_order, parse_where
from upturn.core.time import utcnow
from upturn.core.tracking import Both, Curve, Term
from upturn.core.who import who
from upturn.develop.fingerprint import Fingerprint
from upturn.develop.layout import arguments_of
from upturn.develop.measured import last_of, step_of
from upturn.develop.output import output_text
from upturn.develop.run_files import download_files, find_file, load_file, open_file
from upturn.develop.runs import tasks_of, view_run
from upturn.stores import values
from upturn.stores.workspace import Workspace, open_workspace

_POLL_S = 0.1


class Run:
    """A run by the beginning of its id: its status, its tasks, and what the flow returned.

    >>> import upturn as up
    >>> up.Run("k3f9")["train"][2].output  # doctest: +SKIP

    Raises NotFound when there is no such run, and Invalid when several begin so.
    """

    def __init__(self, id: str, *, workspace: Workspace | None = None) -> None:
        self._workspace = workspace or open_workspace()
        self.record = view_run(self._workspace, id).run

    @property
    def id(self) -> str:
        """The run's id."""
        return self.record.id

    @property
    def flow(self) -> str:
        """The name of its flow."""
        return self.record.flow

    @property
    def params(self) -> dict[str, Any]:
        """The parameters of its flow, as JSON has them."""
        return self.record.params

    @property
    def started_at(self) -> datetime:
        """When it began, in UTC."""
        return self.record.started_at

    @property
    def state(self) -> records.RunState | None:
        """The last record of what became of it."""
        return self._workspace.meta.find(records.RunState, self.id)

    @property
    def status(self) -> str:
        """How it stands now: 'running', 'done', 'failed', 'cancelled', or 'lost'."""
        return view_run(self._workspace, self.id).status

    @property
    def seconds(self) -> float | None:
        """How long it took, if it has ended."""
        return view_run(self._workspace, self.id).seconds

    @property
    def problem(self) -> Problem | None:
        """Why it failed, if it did."""
        return self.state.problem if self.state is not None else None

    def result(self) -> Any:
        """What the flow returned, Refs replaced by their values. Raises RunFailed."""
        state = self.state
        if state is None or state.result is None:
            problem = self.problem or Problem(code="run_failed", message=_why_not(self.status))
            ended = "was skipped" if self.status == "skipped" else "failed"
            raise RunFailed(
                f"Run {self.id} of {self.flow!r} {ended}: {problem.message}",
                hint=f"Look with: upturn show {self.id}; go on with: upturn resume {self.id}",
                run=self.id,
            )
        return values.load(self._workspace.blobs, state.result)

    def wait(self, timeout_s: float | None = None) -> "Run":
        """Return this run when it has ended, or its process is gone. Raises Unavailable."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while (status := self.status) in ("queued", "running"):
            left = _POLL_S if deadline is None else min(_POLL_S, deadline - time.monotonic())
            if left <= 0:
                raise Unavailable(
                    f"Run {self.id} is still {status} after {timeout_s:g} s.",
                    hint=f"Look with: upturn show {self.id}; end it with: upturn cancel {self.id}",
                )
            time.sleep(left)
        return self

    @property
    def metrics(self) -> dict[str, float]:
        """The last value of each metric that it or its tasks logged; of several, the latest."""
        series = self._workspace.tracking.series([self.id])[self.id]
        return {one.name: one.last for one in sorted(series, key=lambda one: one.at)}

    def curve(self, metric: str, *, points: int = 320) -> Curve:
        """A metric for a plot of some `points`, every peak included. Raises NotFound."""
        found = self._workspace.tracking.curve(self.id, metric, points=points)
        if not found.points:
            hint = did_you_mean(metric, self.metrics)
            raise NotFound(f"Run {self.id} logged no {metric!r}.", hint=hint)
        return found

    @property
    def tags(self) -> dict[str, str]:
        """What it is tagged with."""
        return self._workspace.tracking.tags([f"run/{self.id}"])[f"run/{self.id}"]

    def tag(self, **tags: str | None) -> None:
        """Set tags; None removes one."""
        self._workspace.tracking.log(self.id, tags=tags)

    @property
    def note(self) -> str:
        """What is written about it, as Markdown."""
        found = self._workspace.meta.find(Description, f"run/{self.id}")
        return found.text if found is not None else ""

    @note.setter
    def note(self, text: str) -> None:
        path = f"run/{self.id}"
        self._workspace.meta.add(Description(path=path, text=text, who=who(), at=utcnow()))

    @property
    def files(self) -> dict[str, int]:
        """The files that it left, by path, with their bytes."""
        found = self._workspace.tracking.files(self.id)
        return {file.path: file.size_bytes for file in found}

    def open(self, path: str) -> io.BufferedReader:
        """One of its files, to read bytes of and to seek in. Raises NotFound.

        >>> import upturn as up
        >>> up.Run("k3f9").open("plots/roc.png").read()  # doctest: +SKIP

        It is mapped: however large, it takes no memory. For text: `io.TextIOWrapper(run.open(…))`.
        """
        return open_file(self._workspace, find_file(self._workspace, self.id, path))

    def load(self, path: str) -> Any:
        """What was saved at a path: a table (Arrow's), an array, JSON, text, a value, else bytes.

        Raises NotFound, and Corrupt for what is not what its name says.
        """
        return load_file(self._workspace, find_file(self._workspace, self.id, path))

    def download(self, path: str = "", *, to: str | os.PathLike[str] = ".") -> Path:
        """Bring a file, a folder of files, or all of them into the folder `to`; where it is then.

        Raises NotFound, and Unavailable when it can't be written there.
        """
        return download_files(self._workspace, self.id, path, Path(to))

    @property
    def tasks(self) -> "Tasks":
        """Its tasks, by step and index."""
        states = tasks_of(self._workspace, self.id)
        return Tasks([Task(self._workspace, state) for state in states], f"run/{self.id}")

    @property
    def steps(self) -> list[str]:
        """The names of its steps."""
        return list(dict.fromkeys(task.step for task in self.tasks))

    def __getitem__(self, step: str) -> "Tasks":
        """The tasks of a step. Raises NotFound with the steps that there are."""
        found = [task for task in self.tasks if task.step == step]
        if not found:
            hint = did_you_mean(step, self.steps)
            raise NotFound(f"Run {self.id} has no step {step!r}.", hint=hint)
        return Tasks(found, f"run/{self.id}/{step}")

    def __iter__(self) -> Iterator["Task"]:
        return iter(self.tasks)

    def __repr__(self) -> str:
        counts = " ".join(f"{step}×{len(self[step])}" for step in self.steps)
        return f"<Run {self.id} {self.flow} {self.status} {counts}>".replace(" >", ">")

    def _repr_html_(self) -> str:
        from upturn.develop.cards import run_card

        title = f"run/{self.id} {self.flow}"
        return run_card(title, self.status, self.seconds, self.params, self.problem, self.tasks)


class Task:
    """One task of a run: `output`, `inputs`, `metrics` and the rest are read when asked for."""

    def __init__(self, workspace: Workspace, state: records.TaskState) -> None:
        self._workspace = workspace
        self._state = state

    @property
    def step(self) -> str:
        """The name of its step."""
        return self._state.step

    @property
    def index(self) -> int:
        """Its number among the tasks of the step."""
        return self._state.index

    @property
    def path(self) -> str:
        """'run/k3f9/train/2'."""
        return task_path(self._state.run, self.step, self.index)

    @property
    def run(self) -> Run:
        """The run that it is a task of."""
        return Run(self._state.run, workspace=self._workspace)

    @property
    def status(self) -> str:
        """'running', 'done', 'reused', 'failed' or 'cancelled', as last recorded."""
        return self._state.status

    @property
    def seconds(self) -> float | None:
        """How long its last attempt took, if it ran and ended."""
        return self._state.seconds

    @property
    def attempt(self) -> int:
        """The number of its last attempt, from 1; 0 when it never ran."""
        return self._state.attempt

    @property
    def problem(self) -> Problem | None:
        """Why it failed, if it did."""
        return self._state.problem

    @property
    def digest(self) -> str | None:
        """The digest of its output, if it has one."""
        return self._state.output

    @property
    def artifact(self) -> records.Artifact | None:
        """What is known of its output without reading it: type, bytes, a line on what it is."""
        if self._state.output is None:
            return None
        return self._workspace.meta.find(records.Artifact, self._state.output)

    @cached_property
    def output(self) -> Any:
        """What it returned. Raises NotFound when it returned nothing, or that is not kept."""
        if self._state.output is None:
            raise NotFound(f"{self.path} has no output: it is {self.status}.")
        return values.load(self._workspace.blobs, self._state.output)

    @property
    def record(self) -> records.Task | None:
        """What it was given, as recorded; None when it was never ready to run."""
        return self._workspace.meta.find(records.Task, self._state.run, self.step, self.index)

    @property
    def inputs(self) -> dict[str, Any]:
        """Its arguments by parameter; files as their paths."""
        record = self.record
        if record is None:
            return {}
        return arguments_of(record.layout or {}, record.inputs, self._input)

    def _input(self, item: records.Input) -> Any:
        if item.path is not None:
            return Path(item.path)
        return values.load(self._workspace.blobs, item.digest)

    @property
    def reused_from(self) -> "Task | None":
        """The task whose output it uses, if it did not run itself."""
        source = self._state.reused_from
        return None if source is None else find_task(self._workspace, source)

    @property
    def metrics(self) -> dict[str, float]:
        """The last value of each metric that it logged."""
        return last_of(self._workspace.tracking, *self._logged_by)

    def history(self, metric: str) -> list[tuple[int | None, float]]:
        """Every value of a metric, with its `step=`. Raises NotFound with what was logged."""
        run, scope = self._logged_by
        found = self._workspace.tracking.history(run, metric, scope=scope)
        if not found:
            hint = did_you_mean(metric, self.metrics)
            raise NotFound(f"{self.path} logged no {metric!r}.", hint=hint)
        found.sort(key=lambda point: point.at)
        return [(step_of(point), point.value) for point in found]

    @property
    def _logged_by(self) -> tuple[str, str]:
        """The run and the scope of what it logged."""
        place = self._source
        return place["run"], f"{place['step']}/{place['index']}"

    @property
    def exhibits(self) -> list[records.Exhibit]:
        """What it showed: title and media type; `values` of them are read with `shown`."""
        return self._workspace.meta.select(records.Exhibit, **self._source)

    def shown(self, exhibit: records.Exhibit) -> bytes:
        """The bytes of one of its exhibits."""
        return values.load(self._workspace.blobs, exhibit.artifact)

    @property
    def logs(self) -> str:
        """What it printed."""
        return output_text(self._workspace, **self._source)

    @property
    def code(self) -> str:
        """The source that made up the step, its own first; without comments and docstrings."""
        record = self.record
        if record is None:
            return ""
        stored = values.load(self._workspace.blobs, record.code)
        parts = msgspec.convert(stored, Fingerprint).parts
        own = [part for part in parts if part.kind in ("function", "class", "opaque")]
        own.sort(key=lambda part: part.name.rpartition(".")[2] != self.step)
        return "\n\n".join(part.source for part in own)

    @property
    def _source(self) -> dict[str, Any]:
        """The key of the task that ran: this one, or the one whose output it uses."""
        path = self._state.reused_from or self.path
        _, run, step, index = path.split("/")
        return {"run": run, "step": step, "index": int(index)}

    def __repr__(self) -> str:
        known = self.artifact
        what = f"{known.type} {known.summary}".strip() if known is not None else ""
        return f"<Task {self.path} {self.status} {what}>".replace(" >", ">")

    def _repr_html_(self) -> str:
        from upturn.develop.cards import task_card

        return task_card(self)


class Tasks(Sequence[Task]):
    """Tasks in order. When there is one, its attributes are theirs: `run["load"].output`."""

    def __init__(self, tasks: Sequence[Task], name: str) -> None:
        self._tasks = list(tasks)
        self._name = name

    @overload
    def __getitem__(self, index: int) -> Task: ...
    @overload
    def __getitem__(self, index: slice) -> "Tasks": ...
    def __getitem__(self, index: int | slice) -> "Task | Tasks":
        if isinstance(index, slice):
            return Tasks(self._tasks[index], self._name)
        try:
            return self._tasks[index]
        except IndexError:
            raise IndexError(f"{self._name} has {len(self)} tasks, and no {index}.") from None

    def __len__(self) -> int:
        return len(self._tasks)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not hasattr(Task, name):
            raise AttributeError(f"Tasks have no attribute {name!r}")
        if len(self._tasks) != 1:
            raise AttributeError(
                f"{self._name} has {len(self)} tasks: take one, as in [0].{name}, or loop over them"
            )
        return getattr(self._tasks[0], name)

    def __repr__(self) -> str:
        return f"<{len(self)} tasks of {self._name}>"

    def _repr_html_(self) -> str:
        from upturn.develop.cards import table_of

        return table_of(self)


def runs(
    *,
    flow: str | None = None,
    where: str = "",
    order_by: str = "",
    limit: int = 20,
    workspace: Workspace | None = None,
) -> list[Run]:
    """The runs that fit, the newest first unless `order_by` says otherwise.

    `where` is a condition in the language of docs/runs.md. Raises Invalid for what is none.

    >>> import upturn as up
    >>> up.runs(flow="never_run", where="metric.auc > 0.9", order_by="metric.auc DESC")
    []
    """
    workspace = workspace or open_workspace()
    terms = [parse_where(where, now=utcnow())]
    if flow is not None:
        terms.append(Term(of="run", name="flow", op="=", value=flow))
    both = Both(tuple(term for term in terms if term is not None))
    found = workspace.tracking.search(both, order=parse_order(order_by), limit=limit)
    return [Run(row.id, workspace=workspace) for row in found.rows]


def find_task(workspace: Workspace, path: str) -> Task | None:
    """The task of a path 'run/k3f9/train/2'; None when there is none."""
    _, run, step, index = path.split("/")
    state = workspace.meta.find(records.TaskState, run, step, int(index))
    return None if state is None else Task(workspace, state)


def _why_not(status: str) -> str:
    return {
        "queued": "It waits for its turn.",
        "running": "It is still running.",
        "lost": "Its process is gone.",
    }.get(status, "It was cancelled.")
