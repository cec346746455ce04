"""up.compare: runs side by side: the parameters that differ, their metrics, and curves together."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import msgspec

from upturn.core.errors import Invalid, NotFound, did_you_mean
from upturn.core.tracking import Curve, TrackingStore
from upturn.develop.handles import Run
from upturn.stores.workspace import Workspace, open_workspace

_MOST = 100


class SideBySide(msgspec.Struct, frozen=True, kw_only=True):
    """Runs in an order, and for each name a value of every run, None where it has none."""

    runs: tuple[str, ...]
    params: dict[str, tuple[str | None, ...]]  # those that are not the same in all
    same: dict[str, str]  # parameters that are
    metrics: dict[str, tuple[float | None, ...]]  # last values


def side_by_side(tracking: TrackingStore, runs: Sequence[str]) -> SideBySide:
    """What runs have in common, and what they haven't. Raises Invalid for none or too many."""
    if not 0 < len(runs) <= _MOST:
        raise Invalid(f"From 1 to {_MOST} runs can be compared, not {len(runs)}.")
    params = tracking.params(runs)
    series = tracking.series(runs)
    last = {
        run: {one.name: one.last for one in sorted(series[run], key=lambda one: one.at)}
        for run in runs
    }
    differ: dict[str, tuple[str | None, ...]] = {}
    same: dict[str, str] = {}
    for name in _names(params[run] for run in runs):
        values = tuple(params[run].get(name) for run in runs)
        first = values[0]
        if first is not None and all(value == first for value in values):
            same[name] = first
        else:
            differ[name] = values
    metrics = {
        name: tuple(last[run].get(name) for run in runs)
        for name in _names(last[run] for run in runs)
    }
    return SideBySide(runs=tuple(runs), params=differ, same=same, metrics=metrics)


def compare(
    *runs: "Run | str | Iterable[Run | str]", workspace: Workspace | None = None
) -> "Comparison":
    """Runs side by side: handles, ids, or a list of them as `up.runs` gives.

    >>> import upturn as up
    >>> up.compare(up.runs(where="metric.auc > 0.9"))  # doctest: +SKIP

    Raises NotFound for what is no run, and Invalid for none.
    """
    workspace = workspace or open_workspace()
    found: list[Run] = []
    for one in runs:
        several = [one] if isinstance(one, Run | str) else one
        found += [
            each if isinstance(each, Run) else Run(each, workspace=workspace) for each in several
        ]
    return Comparison(workspace, [run.id for run in found])


class Comparison:
    """Runs side by side; `table` is an Arrow table of a row a run, which any data frame takes."""

    def __init__(self, workspace: Workspace, runs: Sequence[str]) -> None:
        self._workspace = workspace
        self._found = side_by_side(workspace.tracking, list(dict.fromkeys(runs)))

    @property
    def runs(self) -> list[str]:
        """The ids of the runs."""
        return list(self._found.runs)

    @property
    def params(self) -> dict[str, dict[str, str | None]]:
        """The parameters that are not the same in all runs: by name, then by run."""
        return {name: self._by_run(values) for name, values in self._found.params.items()}

    @property
    def metrics(self) -> dict[str, dict[str, float | None]]:
        """The last values of metrics: by name, then by run."""
        return {name: self._by_run(values) for name, values in self._found.metrics.items()}

    def curves(self, metric: str, *, points: int = 320) -> dict[str, Curve]:
        """The metric's curve of each run that logged it. Raises NotFound when none did."""
        if metric not in self._found.metrics:
            hint = did_you_mean(metric, self._found.metrics)
            raise NotFound(f"None of these runs logged {metric!r}.", hint=hint)
        tracking = self._workspace.tracking
        found = {run: tracking.curve(run, metric, points=points) for run in self._found.runs}
        return {run: curve for run, curve in found.items() if curve.points}

    @property
    def table(self) -> Any:
        """A pyarrow.Table of a row a run: its id, the parameters that differ, the metrics."""
        import pyarrow as pa

        columns: dict[str, Any] = {"run": pa.array(self._found.runs, pa.string())}
        for name, values in self._found.params.items():
            columns[f"param.{name}"] = pa.array(values, pa.string())
        for name, numbers in self._found.metrics.items():
            columns[f"metric.{name}"] = pa.array(numbers, pa.float64())
        return pa.table(columns)

    def __repr__(self) -> str:
        found = self._found
        return (
            f"<{len(found.runs)} runs, {len(found.params)} parameters that differ, "
            f"{len(found.metrics)} metrics>"
        )

    def _repr_html_(self) -> str:
        rows = [("", self._found.runs)]
        rows += [(name, values) for name, values in self._found.params.items()]
        rows += [
            (name, tuple("" if value is None else f"{value:.6g}" for value in values))
            for name, values in self._found.metrics.items()
        ]
        lines = [
            f"<tr><th>{escape(name)}</th>"
            + "".join(f"<td>{escape(value or '')}</td>" for value in values)
            + "</tr>"
            for name, values in rows
        ]
        return f"<table>{''.join(lines)}</table>"

    def _by_run(self, values: Sequence[Any]) -> dict[str, Any]:
        return dict(zip(self._found.runs, values, strict=True))


def _names(tables: Iterable[dict[str, Any]]) -> list[str]:
    return sorted({name for table in tables for name in table})
