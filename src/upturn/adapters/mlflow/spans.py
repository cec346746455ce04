"""Spans of traces, which clients keep as a file of each: read, and said as OpenTelemetry does."""

import base64
import binascii
from collections.abc import Iterable
from typing import Any

import msgspec

from upturn.adapters.mlflow.call import Call, Route
from upturn.adapters.mlflow.errors import MISSING, MlflowError
from upturn.adapters.mlflow.kept_traces import Said, find_trace, get_trace, info_json
from upturn.adapters.mlflow.paths import plain_path
from upturn.adapters.mlflow.places import Download, Place, download, stored_file
from upturn.adapters.mlflow.reading import Ask
from upturn.core.logged_models import Trace

_FILE = "traces.json"
_READ_MOST = 64 * 1024 * 1024
_OLD = {"OK": "STATUS_CODE_OK", "ERROR": "STATUS_CODE_ERROR"}


class GetWhole(Ask, frozen=True, kw_only=True):
    """A trace with its spans."""

    needs = ("trace_id",)

    trace_id: str = ""
    allow_partial: bool = False


class Several(Ask, frozen=True, kw_only=True):
    """Traces by their ids; of some experiments alone, if they are named."""

    needs = ("trace_ids",)

    trace_ids: list[str] = []
    experiment_ids: list[str] | None = None


class GetFile(Ask, frozen=True, kw_only=True):
    """The file of a trace's spans, or one that is attached to them."""

    request_id: str = ""
    path: str = ""


def get_whole(call: Call, asked: GetWhole) -> Any:
    """A trace with its spans."""
    trace = get_trace(call, asked.trace_id)
    spans = _spans(call, trace)
    if spans is None and not asked.allow_partial:
        raise MlflowError(f"Trace with ID '{trace.id}' has no spans yet.", MISSING)
    return {"trace": {"trace_info": info_json(trace), "spans": spans or []}}


def get_several(call: Call, asked: Several) -> Any:
    """Traces with their spans; those that are not there are left out."""
    found: list[Said] = []
    for trace in _those(call, asked):
        spans = _spans(call, trace)
        if spans is not None:
            found.append({"trace_info": info_json(trace), "spans": spans})
    return {"traces": found} if found else {}


def get_infos(call: Call, asked: Several) -> Any:
    """Traces without their spans; those that are not there are left out."""
    found = [info_json(trace) for trace in _those(call, asked)]
    return {"trace_infos": found} if found else {}


def get_file(call: Call, asked: GetFile) -> Download:
    """The file of a trace's spans, or one that is attached to them."""
    if not asked.request_id:
        raise MlflowError('Request must include the "request_id" query parameter.', "BAD_REQUEST")
    trace = get_trace(call, asked.request_id)
    path = f"attachments/{plain_path(asked.path)}" if asked.path else _FILE
    return download(call, Place(trace.id, path))


def spans_text(call: Call, trace: Trace) -> str:
    """The file of a trace's spans, as text; nothing where there is none, or too large a one."""
    try:
        file = stored_file(call, Place(trace.id, _FILE))
    except MlflowError:
        return ""
    if file.size_bytes > _READ_MOST:
        return ""
    return bytes(call.workspace.blobs.get(file.digest)).decode("utf-8", "replace")


def _those(call: Call, asked: Several) -> Iterable[Trace]:
    for one in dict.fromkeys(asked.trace_ids):
        trace = find_trace(call, one)
        if trace is not None and (
            asked.experiment_ids is None or trace.group in asked.experiment_ids
        ):
            yield trace


def _spans(call: Call, trace: Trace) -> list[Said] | None:
    text = spans_text(call, trace)
    try:
        held = msgspec.json.decode(text).get("spans") if text else None
        return None if held is None else [_span(one) for one in held]
    except (msgspec.DecodeError, AttributeError, TypeError, ValueError, KeyError):
        return None  # a client may keep what it likes in its files


def _span(one: Said) -> Said:
    """A span of a file, in the JSON of OpenTelemetry's own form."""
    if "context" in one:  # as clients before version 3 keep it
        one = one | {
            "trace_id": _packed(one["context"]["trace_id"]),
            "span_id": _packed(one["context"]["span_id"]),
            "parent_span_id": _packed(one.get("parent_id")),
            "start_time_unix_nano": one.get("start_time"),
            "end_time_unix_nano": one.get("end_time"),
            "status": {
                "code": _OLD.get(str(one.get("status_code")), "STATUS_CODE_UNSET"),
                "message": one.get("status_message") or "",
            },
        }
    said: Said = {
        "trace_id": one["trace_id"],
        "span_id": one["span_id"],
        "name": one.get("name") or "",
        "start_time_unix_nano": one.get("start_time_unix_nano") or 0,
        "end_time_unix_nano": one.get("end_time_unix_nano") or 0,
        "attributes": _pairs(
            {name: _decoded(value) for name, value in (one.get("attributes") or {}).items()}
        ),
        "status": one.get("status") or {},
    }
    if one.get("parent_span_id"):
        said["parent_span_id"] = one["parent_span_id"]
    events = one.get("events")
    if events:
        said["events"] = [
            {
                "name": event.get("name") or "",
                "time_unix_nano": event.get("time_unix_nano") or event.get("timestamp") or 0,
                "attributes": _pairs(event.get("attributes") or {}),
            }
            for event in events
        ]
    return said


def _packed(number: Any) -> str:
    """A number in hexadecimal as its bytes in base64."""
    text = str(number or "").removeprefix("0x")
    try:
        return base64.b64encode(binascii.unhexlify(text)).decode()
    except binascii.Error:
        return ""


def _decoded(value: Any) -> Any:
    """An attribute, which clients keep as JSON."""
    if not isinstance(value, str):
        return value
    try:
        return msgspec.json.decode(value)
    except msgspec.DecodeError:
        return value


def _pairs(values: Said) -> list[Said]:
    return [{"key": name, "value": _any(value)} for name, value in values.items()]


def _any(value: Any) -> Said:
    """A value as OpenTelemetry says values of any type."""
    match value:
        case None:
            return {}
        case bool():
            return {"bool_value": value}
        case int() if -(2**63) <= value < 2**63:
            return {"int_value": value}
        case int() | float():
            return {"double_value": float(value)}
        case list():
            return {"array_value": {"values": [_any(part) for part in value]}}  # pyright: ignore[reportUnknownVariableType]
        case dict():
            return {"kvlist_value": {"values": _pairs(value)}}  # pyright: ignore[reportUnknownArgumentType]
        case _:
            return {"string_value": str(value)}


ROUTES = (
    Route("GET", "traces/get", GetWhole, get_whole, "viewer", version=3),
    Route("GET", "traces/batchGet", Several, get_several, "viewer", version=3),
    Route("POST", "traces/batchGetInfos", Several, get_infos, "viewer", version=3),
    Route("GET", "get-trace-artifact", GetFile, get_file, "viewer"),
)
