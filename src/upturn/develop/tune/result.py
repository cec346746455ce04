"""Tuning: what a tuning found; its trials, and the best of them."""

import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from upturn.core.errors import NotFound, Problem
from upturn.core.executor import Stored
from upturn.develop import context
from upturn.develop.ref import Ref
from upturn.stores import values
from upturn.stores.workspace import open_workspace

if TYPE_CHECKING:
    import pyarrow as pa

TrialStatus = Literal["done", "pruned", "failed"]
Direction = Literal["maximize", "minimize"]
_OWN_COLUMNS = ("trial", "value", "status", "task")


@dataclass(frozen=True, slots=True)
class Trial:
    """One call of the step, with the parameters that were chosen for it."""

    number: int
    params: dict[str, Any]
    status: TrialStatus
    value: float | None = None  # of the metric; of a pruned trial, where it was ended
    task: str | None = None  # its path; None outside a flow
    problem: Problem | None = None  # why it failed, or was pruned
    made: Any = field(default=None, repr=False, compare=False)  # its output, or where that is

    @property
    def output(self) -> Any:
        """What the step returned: in a flow a Ref to it, to be passed on; None if it did not."""
        if not isinstance(self.made, Stored):
            return self.made
        task = context.task.get()
        if task is not None:
            return values.load(task.workspace.blobs, self.made.digest)
        workspace = open_workspace()
        try:
            return values.load(workspace.blobs, self.made.digest)
        finally:
            workspace.close()

    def __reduce__(self) -> Any:
        # A Ref belongs to its run; what it stands for is read where it is asked for.
        made = self.made
        if isinstance(made, Ref):
            made = None if made.node.output is None else Stored(made.node.output)
        rest = (self.number, self.params, self.status, self.value, self.task, self.problem)
        return Trial, (*rest, made)


@dataclass(frozen=True, slots=True)
class Tuning:
    """All trials of a step, in order."""

    step: str
    metric: str | None  # None: what the step returns
    direction: Direction
    trials: tuple[Trial, ...]

    @property
    def best(self) -> Trial:
        """The finished trial with the best value; the first of equals.

        Raises NotFound when none was finished.
        """
        done = [trial for trial in self.trials if trial.status == "done"]
        if not done:
            raise NotFound(
                f"No trial of {self.step!r} was finished: {self._counted()}.",
                hint="Let a pruner wait longer, or look at what failed: .table()",
            )
        best = max if self.direction == "maximize" else min
        return best(done, key=lambda trial: trial.value or 0.0)

    def table(self) -> "pa.Table":
        """One row a trial: its number, its parameters, its value, status and task."""
        import pyarrow as pa

        names = list(dict.fromkeys(name for trial in self.trials for name in trial.params))
        columns: dict[str, Any] = {"trial": pa.array([trial.number for trial in self.trials])}
        for name in names:
            column = f"params.{name}" if name in _OWN_COLUMNS else name
            columns[column] = _column([trial.params.get(name) for trial in self.trials])
        columns["value"] = pa.array([trial.value for trial in self.trials], pa.float64())
        columns["status"] = pa.array([trial.status for trial in self.trials])
        columns["task"] = pa.array([trial.task for trial in self.trials], pa.string())
        return pa.table(columns)

    def _counted(self) -> str:
        found = [trial.status for trial in self.trials]
        return ", ".join(f"{found.count(status)} {status}" for status in dict.fromkeys(found))

    def __repr__(self) -> str:
        what = f"<Tuning of {self.step}: {self._counted()}"
        if not any(trial.status == "done" for trial in self.trials):
            return f"{what}>"
        best = self.best
        params = ", ".join(f"{name}={value!r}" for name, value in best.params.items())
        return f"{what}; best {self.metric or 'value'} {best.value:.4g} with {params}>"

    def _repr_html_(self) -> str:
        table = self.table()
        rows = [_row("th", table.column_names)]
        best = self.best.number if any(t.status == "done" for t in self.trials) else None
        for trial, row in zip(self.trials, table.to_pylist(), strict=True):
            rows.append(_row("td", list(row.values()), bold=trial.number == best))
        return f"<p>{html.escape(repr(self))}</p><table>{''.join(rows)}</table>"


def _column(found: list[Any]) -> Any:
    import pyarrow as pa

    try:
        return pa.array(found)
    except pa.ArrowException:  # of several types, or of one that tables don't have
        return pa.array([None if value is None else str(value) for value in found])


def _row(tag: str, cells: Sequence[Any], *, bold: bool = False) -> str:
    style = ' style="font-weight: bold"' if bold else ""
    texts = (
        "" if cell is None else f"{cell:.6g}" if isinstance(cell, float) else str(cell)
        for cell in cells
    )
    inner = "".join(f"<{tag}>{html.escape(text)}</{tag}>" for text in texts)
    return f"<tr{style}>{inner}</tr>"
