"""The points of metrics, for MLflow's clients and charts."""

from collections.abc import Iterable
from math import isfinite
from operator import attrgetter
from typing import Any

from upturn.adapters.mlflow.call import Call, Route
from upturn.adapters.mlflow.errors import SEE, MlflowError
from upturn.adapters.mlflow.nouns import number
from upturn.adapters.mlflow.pages import offset_of, token_of
from upturn.adapters.mlflow.reading import Ask, Int64
from upturn.adapters.mlflow.runs import RunAsk
from upturn.core.tracking import Point

_BULK_MOST = 25_000
_RUNS_MOST = 100
_SAMPLE_MOST = 2500
_EXACT_TO = 5000  # a longer metric is shown as a curve that keeps its extremes


class GetHistory(RunAsk, frozen=True, kw_only=True):
    """The points of a metric of a run."""

    needs = ("run_id", "metric_key")

    metric_key: str = ""
    max_results: Int64 | None = None
    page_token: str = ""


class GetBulk(Ask, frozen=True, kw_only=True):
    """The points of a metric of several runs."""

    run_id: list[str] = []
    metric_key: str | None = None
    max_results: Int64 = _BULK_MOST


class GetInterval(Ask, frozen=True, kw_only=True):
    """Some points of a metric of several runs, spread over all of them."""

    needs = ("run_ids", "metric_key")

    run_ids: list[str] = []
    metric_key: str = ""
    start_step: Int64 | None = None
    end_step: Int64 | None = None
    max_results: Int64 = _SAMPLE_MOST


def get_history(call: Call, asked: GetHistory) -> Any:
    """The points of a metric by time, all of them or a page."""
    most = asked.max_results
    if most is not None and most <= 0:
        raise MlflowError(
            f"Invalid value {most} for parameter 'max_results' supplied. It must be a positive "
            "integer."
        )
    start = offset_of(asked.page_token)
    points: list[Point] = []
    for run in _seen(call, [asked.run]):
        points = _by_time(call.workspace.tracking.history(run, asked.metric_key))
    end = len(points) if most is None else start + most
    answer: dict[str, Any] = {}
    if points[start:end]:
        answer["metrics"] = [_json(point) for point in points[start:end]]
    if end < len(points):
        answer["next_page_token"] = token_of(end)
    return answer


def get_bulk(call: Call, asked: GetBulk) -> Any:
    """The points of a metric of several runs, run by run."""
    if not asked.run_id:
        raise MlflowError("GetMetricHistoryBulk request must specify at least one run_id.")
    if len(asked.run_id) > _RUNS_MOST:
        raise MlflowError(
            f"GetMetricHistoryBulk request cannot specify more than {_RUNS_MOST} run_ids. "
            f"Received {len(asked.run_id)} run_ids."
        )
    if asked.metric_key is None:
        raise MlflowError("GetMetricHistoryBulk request must specify a metric_key.")
    most = max(0, min(asked.max_results, _BULK_MOST))
    found: list[dict[str, Any]] = []
    for run in sorted(_seen(call, asked.run_id)):
        if len(found) >= most:
            break
        points = _by_time(call.workspace.tracking.history(run, asked.metric_key))
        found += [{**_json(point), "run_id": run} for point in points[: most - len(found)]]
    return {"metrics": found}


def get_interval(call: Call, asked: GetInterval) -> Any:
    """Some points of a metric of each of several runs, the first and the last among them."""
    if len(asked.run_ids) > _RUNS_MOST:
        raise MlflowError(
            f"GetMetricHistoryBulkInterval request must specify at most {_RUNS_MOST} run_ids. "
            f"Received {len(asked.run_ids)} run_ids.{SEE}"
        )
    if not 1 <= asked.max_results <= _SAMPLE_MOST:
        raise MlflowError(f"max_results must be between 1 and {_SAMPLE_MOST}.{SEE}")
    if (asked.start_step is None) != (asked.end_step is None):
        raise MlflowError("If either start step or end step are specified, both must be specified.")
    first, last = asked.start_step, asked.end_step
    if first is not None and last is not None and first > last:
        raise MlflowError(
            "end_step must be greater than start_step. "
            f"Found start_step={first} and end_step={last}."
        )
    found: list[dict[str, Any]] = []
    seen = _seen(call, asked.run_ids)
    for run in asked.run_ids:
        if run in seen:
            found += [{**_json(point), "run_id": run} for point in _some(call, run, asked)]
    return {"metrics": found} if found else {}


def sampled(points: list[Point], most: int) -> list[Point]:
    """At most that many of the points: the first of equal parts, and the last one.

    >>> [point.step for point in sampled([Point("m", 1.0, step) for step in range(10)], 4)]
    [0, 3, 6, 9]
    """
    if len(points) <= most:
        return points
    size, longer = divmod(len(points), most)
    starts = [part * size + min(part, longer) for part in range(most)]
    starts[-1] = len(points) - 1
    return [points[start] for start in starts]


def _some(call: Call, run: str, asked: GetInterval) -> list[Point]:
    tracking, name, most = call.workspace.tracking, asked.metric_key, asked.max_results
    if asked.start_step is None:
        count = sum(one.count for one in tracking.series([run])[run] if one.name == name)
        if count > _EXACT_TO and most > 2:
            curve = tracking.curve(run, name, points=most)
            parts = zip(curve.steps, curve.values, curve.at, strict=True)
            return sampled([Point(name, value, step, at) for step, value, at in parts], most)
    points = tracking.history(run, name)
    if asked.start_step is not None and asked.end_step is not None:
        inside = range(asked.start_step, asked.end_step + 1)
        points = [point for point in points if point.step in inside]
    return sampled(points, most)


def _seen(call: Call, runs: Iterable[str]) -> set[str]:
    """Those of the runs that are there for who asks: the others have no points, as in MLflow."""
    rows = call.workspace.tracking.rows(runs)
    return {run for run, row in rows.items() if call.sees(row.project)}


def _by_time(points: Iterable[Point]) -> list[Point]:
    return sorted(points, key=attrgetter("at"))  # equal ones stay as they are: by step and value


def _json(point: Point) -> dict[str, Any]:
    return {
        "key": point.name,
        "value": point.value if isfinite(point.value) else number(point.value),
        "timestamp": point.at // 1000,
        "step": point.step,
    }


ROUTES = (
    Route("GET", "metrics/get-history", GetHistory, get_history, "viewer"),
    Route("GET", "metrics/get-history-bulk", GetBulk, get_bulk, "viewer"),
    Route("GET", "metrics/get-history-bulk-interval", GetInterval, get_interval, "viewer"),
)
