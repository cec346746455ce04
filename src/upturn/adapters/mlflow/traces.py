"""Traces of MLflow's clients: kept as they come, so that what logs them by itself goes on.

Their spans are files, which clients upload to where a trace's tag says.
"""

from contextlib import suppress
from typing import Any
from uuid import uuid4

import msgspec

from upturn.adapters.mlflow.assessments import assessed
from upturn.adapters.mlflow.call import Call, Route
from upturn.adapters.mlflow.errors import MISSING, MlflowError, missing_value
from upturn.adapters.mlflow.experiments import active_experiment, get_experiment
from upturn.adapters.mlflow.grammar import (
    NULL_OPS,
    NUMBER_OPS,
    TEXT_OPS,
    Clause,
    Grammar,
    holds,
    parse_filter,
)
from upturn.adapters.mlflow.kept_traces import (
    RUNS,
    Said,
    began_ms,
    change_trace,
    get_trace,
    info_json,
    keep_trace,
    known,
    location_json,
    traces_of,
)
from upturn.adapters.mlflow.model_nouns import tags_json
from upturn.adapters.mlflow.nouns import get_run
from upturn.adapters.mlflow.pages import offset_of, token_of
from upturn.adapters.mlflow.reading import Ask, Int64, KeyValue
from upturn.adapters.mlflow.spans import spans_text
from upturn.core.logged_models import Trace
from upturn.core.time import from_micros

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
_ALSO = {  # other names of attributes
    "execution_time": "execution_time_ms",
    "execution_duration": "execution_time_ms",
}
_PROMPTS = "mlflow.linkedPrompts"
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
        "text",
        "execution_time_ms",
        *_ALSO,
    ),
    numeric=frozenset(
        {"timestamp", "timestamp_ms", "execution_time_ms", "execution_time", "execution_duration"}
    ),
    nullable=("tag", "metadata"),
    ops={"number": NUMBER_OPS, "attribute": TEXT_OPS, "tag": TEXT_OPS, "metadata": TEXT_OPS},
)
_MOST = 100
_PAGE_MOST = 500
_LINKS_MOST = 100
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


class Link(Ask, frozen=True, kw_only=True):
    """Traces that belong to a run."""

    needs = ("trace_ids", "run_id")

    trace_ids: list[str] = []
    run_id: str = ""


class PromptUsed(msgspec.Struct, frozen=True, kw_only=True):
    """A version of a prompt."""

    name: str = ""
    version: str = ""


class LinkPrompts(OneTrace, frozen=True, kw_only=True):
    """Prompts that a trace used."""

    needs = ("trace_id",)

    prompt_versions: list[PromptUsed] = []


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
    said: Said = dict(info)  # pyright: ignore[reportUnknownArgumentType]
    location = said.get("trace_location") or {}
    group = str(location.get("mlflow_experiment", {}).get("experiment_id", "") or "0")
    trace = said.get("trace_id")
    if not isinstance(trace, str) or not 0 < len(trace) <= 64 or "/" in trace:
        raise missing_value("trace.trace_info.trace_id")
    group = active_experiment(call, group).group.id
    said.pop("traceId", None)
    said.pop(RUNS, None)
    given = said.pop("assessments", None)
    if isinstance(given, list):
        said["assessments"] = [
            one if one.get("assessment_id") else assessed(call, trace, one)
            for one in given  # pyright: ignore[reportUnknownVariableType]
        ]
    return {"trace": {"trace_info": info_json(keep_trace(call, trace, group, said))}}


def get(call: Call, asked: OneTrace) -> Any:
    """A trace."""
    return {"trace": {"trace_info": info_json(get_trace(call, asked.trace_id))}}


def set_tag(call: Call, asked: Tag) -> None:
    """Tag a trace."""
    change_trace(
        call,
        asked.trace_id or asked.request_id,
        lambda said: said | {"tags": said.get("tags", {}) | {asked.key: asked.value}},
    )


def delete_tag(call: Call, asked: Tag) -> None:
    """Take a tag from a trace."""
    trace = asked.trace_id or asked.request_id

    def without(said: Said) -> Said:
        tags = dict(said.get("tags", {}))
        if tags.pop(asked.key, None) is None:
            raise MlflowError(
                f"No trace tag with key '{asked.key}' for trace with ID '{trace}'", MISSING
            )
        return said | {"tags": tags}

    change_trace(call, trace, without)


def link(call: Call, asked: Link) -> None:
    """Say that traces belong to a run; those that are not there are left out."""
    if len(asked.trace_ids) > _LINKS_MOST:
        raise MlflowError(
            f"Cannot link more than {_LINKS_MOST} traces to a run in a single request. Provided "
            f"{len(asked.trace_ids)} traces."
        )
    run = get_run(call, asked.run_id).id
    for trace in asked.trace_ids:
        with suppress(MlflowError):
            change_trace(
                call, trace, lambda said: said | {RUNS: sorted({*said.get(RUNS, []), run})}
            )


def link_prompts(call: Call, asked: LinkPrompts) -> None:
    """Note which prompts a trace used, in the tag in which clients look for them."""
    used = [{"name": one.name, "version": one.version} for one in asked.prompt_versions]

    def linked(said: Said) -> Said:
        tags = dict(said.get("tags", {}))
        try:
            held = msgspec.json.decode(tags.get(_PROMPTS, "[]"), type=list[dict[str, str]])
        except msgspec.DecodeError:
            held = []
        held += [one for one in used if one not in held]
        return said | {"tags": tags | {_PROMPTS: msgspec.json.encode(held).decode()}}

    change_trace(call, asked.trace_id, linked)


def search(call: Call, asked: Search) -> Any:
    """Traces that fit, newest first."""
    found, token = _search(call, asked)
    answer: dict[str, Any] = {}
    if found:
        answer["traces"] = [info_json(one) for one in found]
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
    shown = traces_of(call, [str(int(asked.experiment_id))])
    if asked.request_ids:
        gone = [one for one in shown if one.id in asked.request_ids]
    else:
        until = asked.max_timestamp_millis or 0
        gone = [one for one in shown if began_ms(one) <= until]
        if asked.max_traces is not None:
            gone = sorted(gone, key=began_ms)[: asked.max_traces]
    for one in gone:
        call.workspace.meta.put(msgspec.structs.replace(one, seq=0, removed=True, at=call.now))
    return {"traces_deleted": len(gone)}


def start_old(call: Call, asked: StartOld) -> Any:
    """Keep a trace that begins."""
    group = active_experiment(call, asked.experiment_id).group.id
    trace = f"tr-{uuid4().hex}"
    said: Said = {
        "trace_id": trace,
        "trace_location": location_json(group),
        "request_time": _time_text(asked.timestamp_ms),
        "state": "IN_PROGRESS",
        "trace_metadata": {one.key: one.value for one in asked.request_metadata},
        "tags": {one.key: one.value for one in asked.tags},
    }
    return {"trace_info": _old(keep_trace(call, trace, group, said))}


def end_old(call: Call, asked: EndOld) -> Any:
    """Say how a trace ended."""
    state = str(asked.status)
    state = _STATES.get(state, state) or "OK"
    took = max(0, asked.timestamp_ms - began_ms(get_trace(call, asked.request_id)))

    def ended(said: Said) -> Said:
        metadata = {one.key: one.value for one in asked.request_metadata}
        tags = {one.key: one.value for one in asked.tags}
        return said | {
            "state": state,
            "execution_duration": f"{took / 1000:.3f}s",
            "trace_metadata": said.get("trace_metadata", {}) | metadata,
            "tags": said.get("tags", {}) | tags,
        }

    return {"trace_info": _old(change_trace(call, asked.request_id, ended))}


def get_old(call: Call, asked: OneTrace) -> Any:
    """A trace, as clients before version 3 read it."""
    return {"trace_info": _old(get_trace(call, asked.request_id))}


def _old(trace: Trace) -> Said:
    """A trace in the form of version 2."""
    said = info_json(trace)
    state = said.get("state", "OK")
    return {
        "request_id": trace.id,
        "experiment_id": trace.group,
        "timestamp_ms": began_ms(trace),
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


def _time_text(milliseconds: int) -> str:
    try:
        at = from_micros(milliseconds * 1000)
    except (OverflowError, ValueError, OSError):
        raise MlflowError(f"Invalid timestamp: {milliseconds}") from None
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}Z"


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
    shown = traces_of(call, [str(int(one)) for one in experiments])
    fitting = [one for one in shown if _fits(call, one, clauses)]
    fitting.reverse()  # what came last is first, among those that began at once
    fitting.sort(key=began_ms, reverse=True)
    if any("asc" in one.lower().split() for one in asked.order_by):
        fitting.reverse()
    end = start + most
    return fitting[start:end], token_of(end) if len(fitting) > end else ""


def _fits(call: Call, trace: Trace, clauses: tuple[Clause, ...]) -> bool:
    if not clauses:
        return True
    said = known(trace)
    tags, metadata = said.get("tags") or {}, said.get("trace_metadata") or {}
    attributes: Said = {
        "timestamp": began_ms(trace),
        "timestamp_ms": began_ms(trace),
        "execution_time_ms": round(_seconds(said.get("execution_duration")) * 1000),
        "status": said.get("state"),
        "state": said.get("state"),
        "name": tags.get("mlflow.traceName"),
        "request_id": trace.id,
        "trace_id": trace.id,
    }
    attributes |= {other: attributes[name] for other, name in _ALSO.items()}
    held = {"attribute": attributes, "tag": tags, "metadata": metadata}
    for one in clauses:
        if one.kind == "attribute" and one.key == "run_id":
            runs = [metadata.get("mlflow.sourceRun"), *said.get(RUNS, [])]
            if not any(holds(one.op, run, one.value) for run in runs if run is not None):
                return False
            continue
        if one.kind == "attribute" and one.key == "text":
            value: Any = spans_text(call, trace)
        else:
            value = held[one.kind].get(one.key)
        if one.op in NULL_OPS:
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
    Route("POST", "traces/link-to-run", Link, link),
    Route("POST", "traces/link-prompts", LinkPrompts, link_prompts),
    Route("POST", "traces", StartOld, start_old, version=2),
    Route("PATCH", "traces/{request_id}", EndOld, end_old, version=2),
    Route("GET", "traces/{request_id}/info", OneTrace, get_old, "viewer", version=2),
    Route("GET", "traces", Search, search_old, "viewer", version=2),
    Route("PATCH", "traces/{request_id}/tags", Tag, set_tag, version=2),
    Route("DELETE", "traces/{request_id}/tags", Tag, delete_tag, version=2),
)
