"""Traces of MLflow's clients: kept as they come, so that what logs them by itself goes on.

Their spans are files, which clients upload to where a trace's tag says.
"""

from datetime import datetime
from typing import Any
from uuid import uuid4

import msgspec

from upturn.adapters.mlflow.call import Call, Route
from upturn.adapters.mlflow.errors import MISSING, MlflowError, missing_value
from upturn.adapters.mlflow.experiments import active_experiment, get_experiment
from upturn.adapters.mlflow.grammar import (
    NUMBER_OPS,
    TEXT_OPS,
    Clause,
    Grammar,
    holds,
    parse_filter,
)
from upturn.adapters.mlflow.model_nouns import tags_json
from upturn.adapters.mlflow.pages import offset_of, token_of
from upturn.adapters.mlflow.reading import Ask, Int64, KeyValue
from upturn.core.errors import Invalid
from upturn.core.logged_models import Trace
from upturn.core.time import from_micros, instant, micros

LOCATION = "mlflow.artifactLocation"
_KINDS = {
    "attribute": "attribute",
    "attributes": "attribute",
    "trace": "attribute",
    "tag": "tag",
    "tags": "tag",
    "request_metadata": "metadata",
    "metadata": "metadata",
    "trace_metadata": "metadata",
}
TRACES = Grammar(
    kinds=_KINDS,
    said=("attribute", "tag", "request_metadata"),
    attributes=(
        "timestamp",
        "timestamp_ms",
        "status",
        "state",
        "name",
        "request_id",
        "trace_id",
        "run_id",
    ),
    numeric=frozenset({"timestamp", "timestamp_ms"}),
    ops={"number": NUMBER_OPS, "attribute": TEXT_OPS, "tag": TEXT_OPS, "metadata": TEXT_OPS},
)
_MOST = 100
_PAGE_MOST = 500
_STATES = {"0": "STATE_UNSPECIFIED", "1": "OK", "2": "ERROR", "3": "IN_PROGRESS"}


class Start(Ask, frozen=True, kw_only=True):
    """A whole trace, but for its spans."""

    needs = ("trace",)

    trace: dict[str, Any] = {}


class OneTrace(Ask, frozen=True, kw_only=True):
    """A trace."""

    trace_id: str = ""
    request_id: str = ""


class Tag(OneTrace, frozen=True, kw_only=True):
    """A tag of a trace."""

    needs = ("key",)

    key: str = ""
    value: str = ""


class Search(Ask, frozen=True, kw_only=True):
    """What traces are searched for."""

    locations: list[dict[str, Any]] = []
    experiment_ids: list[str] = []
    filter: str = ""
    max_results: Int64 | None = None
    order_by: list[str] = []
    page_token: str = ""


class Delete(Ask, frozen=True, kw_only=True):
    """Traces of an experiment that shall no longer be shown."""

    needs = ("experiment_id",)

    experiment_id: str = ""
    max_timestamp_millis: Int64 | None = None
    max_traces: Int64 | None = None
    request_ids: list[str] = []


class StartOld(Ask, frozen=True, kw_only=True):
    """A trace that begins, as clients before version 3 say it."""

    needs = ("experiment_id",)

    experiment_id: str = ""
    timestamp_ms: Int64 = 0
    request_metadata: list[KeyValue] = []
    tags: list[KeyValue] = []


class EndOld(OneTrace, frozen=True, kw_only=True):
    """A trace that ended, as clients before version 3 say it."""

    timestamp_ms: Int64 = 0
    status: str | int = ""
    request_metadata: list[KeyValue] = []
    tags: list[KeyValue] = []


def start(call: Call, asked: Start) -> Any:
    """Keep a trace."""
    info = asked.trace.get("trace_info")
    if not isinstance(info, dict):
        raise missing_value("trace.trace_info")
    said: dict[str, Any] = dict(info)
    location = said.get("trace_location") or {}
    group = str(location.get("mlflow_experiment", {}).get("experiment_id", "") or "0")
    trace = said.get("trace_id")
    if not isinstance(trace, str) or not 0 < len(trace) <= 64 or "/" in trace:
        raise missing_value("trace.trace_info.trace_id")
    group = active_experiment(call, group).group.id
    said.pop("traceId", None)
    _put(call, trace, group, said)
    return {"trace": {"trace_info": _info(_found(call, trace))}}


def get(call: Call, asked: OneTrace) -> Any:
    """A trace."""
    return {"trace": {"trace_info": _info(_found(call, asked.trace_id))}}


def set_tag(call: Call, asked: Tag) -> None:
    """Tag a trace."""
    _tagged(call, asked, asked.value)


def delete_tag(call: Call, asked: Tag) -> None:
    """Take a tag from a trace."""
    found = _found(call, asked.trace_id or asked.request_id)
    if asked.key not in _info(found).get("tags", {}):
        raise MlflowError(
            f"No trace tag with key '{asked.key}' for trace with ID '{found.id}'", MISSING
        )
    _tagged(call, asked, None)


def search(call: Call, asked: Search) -> Any:
    """Traces that fit, newest first."""
    found, token = _search(call, asked)
    answer: dict[str, Any] = {}
    if found:
        answer["traces"] = [_info(one) for one in found]
    return {**answer, "next_page_token": token} if token else answer


def search_old(call: Call, asked: Search) -> Any:
    """Traces that fit, as clients before version 3 read them."""
    found, token = _search(call, asked)
    answer: dict[str, Any] = {}
    if found:
        answer["traces"] = [_old(one) for one in found]
    return {**answer, "next_page_token": token} if token else answer


def delete(call: Call, asked: Delete) -> Any:
    """Take traces from what is shown."""
    get_experiment(call, asked.experiment_id)
    if asked.request_ids and asked.max_timestamp_millis is not None:
        raise MlflowError("Either max_timestamp_millis or trace_ids must be specified, not both.")
    if not asked.request_ids and asked.max_timestamp_millis is None:
        raise MlflowError("Either `max_timestamp_millis` or `trace_ids` must be specified.")
    shown = _of_groups(call, [str(int(asked.experiment_id))])
    if asked.request_ids:
        gone = [one for one in shown if one.id in asked.request_ids]
    else:
        until = asked.max_timestamp_millis or 0
        gone = [one for one in shown if _began(one) <= until]
        if asked.max_traces is not None:
            gone = sorted(gone, key=_began)[: asked.max_traces]
    for one in gone:
        call.workspace.meta.put(msgspec.structs.replace(one, seq=0, removed=True, at=call.now))
    return {"traces_deleted": len(gone)}


def start_old(call: Call, asked: StartOld) -> Any:
    """Keep a trace that begins."""
    group = active_experiment(call, asked.experiment_id).group.id
    trace = f"tr-{uuid4().hex}"
    said: dict[str, Any] = {
        "trace_id": trace,
        "trace_location": _location(group),
        "request_time": _time_text(asked.timestamp_ms),
        "state": "IN_PROGRESS",
        "trace_metadata": {one.key: one.value for one in asked.request_metadata},
        "tags": {one.key: one.value for one in asked.tags},
    }
    _put(call, trace, group, said)
    return {"trace_info": _old(_found(call, trace))}


def end_old(call: Call, asked: EndOld) -> Any:
    """Say how a trace ended."""
    found = _found(call, asked.request_id)
    said = _info(found)
    state = str(asked.status)
    said["state"] = _STATES.get(state, state) or "OK"
    took = max(0, asked.timestamp_ms - _began(found))
    said["execution_duration"] = f"{took / 1000:.3f}s"
    said["trace_metadata"] = said.get("trace_metadata", {}) | {
        one.key: one.value for one in asked.request_metadata
    }
    said["tags"] = said.get("tags", {}) | {one.key: one.value for one in asked.tags}
    _put(call, found.id, found.group, said)
    return {"trace_info": _old(_found(call, found.id))}


def get_old(call: Call, asked: OneTrace) -> Any:
    """A trace, as clients before version 3 read it."""
    return {"trace_info": _old(_found(call, asked.request_id))}


def _put(call: Call, trace: str, group: str, said: dict[str, Any]) -> None:
    tags = dict(said.get("tags") or {})
    tags.setdefault(LOCATION, f"mlflow-artifacts:/{group}/traces/{trace}/artifacts")
    info = msgspec.json.encode({**said, "tags": tags, "trace_location": _location(group)})
    call.workspace.meta.put(Trace(id=trace, group=group, info=info.decode(), at=call.now))


def _location(group: str) -> dict[str, Any]:
    return {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": group}}


def _found(call: Call, trace: str) -> Trace:
    found = call.workspace.meta.find(Trace, trace)
    if found is None or found.removed:
        raise MlflowError(f"Trace with ID '{trace}' not found.", MISSING)
    get_experiment(call, found.group)  # which refuses what is not theirs to see
    return found


def _tagged(call: Call, asked: Tag, value: str | None) -> None:
    found = _found(call, asked.trace_id or asked.request_id)
    said = _info(found)
    tags = {key: one for key, one in said.get("tags", {}).items() if key != asked.key}
    if value is not None:
        tags[asked.key] = value
    _put(call, found.id, found.group, {**said, "tags": tags})


def _info(trace: Trace) -> dict[str, Any]:
    return msgspec.json.decode(trace.info)


def _old(trace: Trace) -> dict[str, Any]:
    """A trace in the form of version 2."""
    said = _info(trace)
    state = said.get("state", "OK")
    return {
        "request_id": trace.id,
        "experiment_id": trace.group,
        "timestamp_ms": _began(trace),
        "execution_time_ms": round(_seconds(said.get("execution_duration")) * 1000),
        "status": _STATES.get(str(state), state),
        "request_metadata": tags_json(said.get("trace_metadata") or {}),
        "tags": tags_json(said.get("tags") or {}),
    }


def _seconds(text: Any) -> float:
    try:
        return float(str(text or "0s").rstrip("s"))
    except ValueError:
        return 0.0


def _began(trace: Trace) -> int:
    """When it began, in milliseconds; when it came, where it doesn't say."""
    text = _info(trace).get("request_time")
    try:
        at: datetime = instant(str(text).replace("Z", "+00:00")) if text else trace.at
    except (Invalid, ValueError):
        at = trace.at
    return micros(at) // 1000


def _time_text(milliseconds: int) -> str:
    try:
        at = from_micros(milliseconds * 1000)
    except (OverflowError, ValueError, OSError):
        raise MlflowError(f"Invalid timestamp: {milliseconds}") from None
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}Z"


def _of_groups(call: Call, groups: list[str]) -> list[Trace]:
    last = {one.id: one for one in call.workspace.meta.select(Trace, group=groups)}
    return [one for one in last.values() if not one.removed]


def _search(call: Call, asked: Search) -> tuple[list[Trace], str]:
    most = _MOST if not asked.max_results else asked.max_results
    if not 1 <= most <= _PAGE_MOST:
        raise MlflowError(
            f"Invalid value {most} for parameter 'max_results' supplied: It must be at most "
            f"{_PAGE_MOST}, but got value {most}"
        )
    experiments = [
        *asked.experiment_ids,
        *(
            str(one.get("mlflow_experiment", {}).get("experiment_id", ""))
            for one in asked.locations
        ),
    ]
    if not experiments:
        raise missing_value("locations")
    for one in experiments:
        get_experiment(call, one)
    clauses = parse_filter(asked.filter, TRACES)
    start = offset_of(asked.page_token)
    shown = _of_groups(call, [str(int(one)) for one in experiments])
    fitting = sorted((one for one in shown if _fits(one, clauses)), key=_began, reverse=True)
    if any("asc" in one.lower().split() for one in asked.order_by):
        fitting.reverse()
    end = start + most
    return fitting[start:end], token_of(end) if len(fitting) > end else ""


def _fits(trace: Trace, clauses: tuple[Clause, ...]) -> bool:
    if not clauses:
        return True
    said = _info(trace)
    tags, metadata = said.get("tags") or {}, said.get("trace_metadata") or {}
    attributes: dict[str, Any] = {
        "timestamp": _began(trace),
        "timestamp_ms": _began(trace),
        "status": said.get("state"),
        "state": said.get("state"),
        "name": tags.get("mlflow.traceName"),
        "request_id": trace.id,
        "trace_id": trace.id,
        "run_id": metadata.get("mlflow.sourceRun"),
    }
    held = {"attribute": attributes, "tag": tags, "metadata": metadata}
    for one in clauses:
        value = held[one.kind].get(one.key)
        if one.op in ("IS NULL", "IS NOT NULL"):
            if (value is not None) != (one.op == "IS NOT NULL"):
                return False
        elif value is None or not holds(one.op, value, one.value):
            return False
    return True


ROUTES = (
    Route("POST", "traces", Start, start, version=3),
    Route("GET", "traces/{trace_id}", OneTrace, get, "viewer", version=3),
    Route("POST", "traces/search", Search, search, "viewer", version=3),
    Route("PATCH", "traces/{trace_id}/tags", Tag, set_tag, version=3),
    Route("DELETE", "traces/{trace_id}/tags", Tag, delete_tag, version=3),
    Route("POST", "traces/delete-traces", Delete, delete),
    Route("POST", "traces", StartOld, start_old, version=2),
    Route("PATCH", "traces/{request_id}", EndOld, end_old, version=2),
    Route("GET", "traces/{request_id}/info", OneTrace, get_old, "viewer", version=2),
    Route("GET", "traces", Search, search_old, "viewer", version=2),
    Route("PATCH", "traces/{request_id}/tags", Tag, set_tag, version=2),
    Route("DELETE", "traces/{request_id}/tags", Tag, delete_tag, version=2),
)
