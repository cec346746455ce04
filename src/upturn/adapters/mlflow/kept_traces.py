"""Traces as they are kept: found, changed one change after another, and said in MLflow's JSON."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

import msgspec

from upturn.adapters.mlflow.call import Call
from upturn.adapters.mlflow.errors import MISSING, MlflowError
from upturn.adapters.mlflow.experiments import get_experiment
from upturn.core.errors import Conflict, Invalid
from upturn.core.logged_models import Trace
from upturn.core.time import instant, micros

LOCATION = "mlflow.artifactLocation"
RUNS = "upturn.runs"  # what is known of a trace and not said: the runs that it was linked to
Said = dict[str, Any]
_TRIES = 20


def find_trace(call: Call, trace: str) -> Trace | None:
    """A trace that is there for who asks."""
    found = call.workspace.meta.find(Trace, trace)
    if found is None or found.removed:
        return None
    get_experiment(call, found.group)  # which refuses what is not theirs to see
    return found


def get_trace(call: Call, trace: str) -> Trace:
    """A trace. Raises MlflowError when there is none for who asks."""
    found = find_trace(call, trace)
    if found is None:
        raise MlflowError(f"Trace with ID '{trace}' not found.", MISSING)
    return found


def traces_of(call: Call, groups: Iterable[str]) -> list[Trace]:
    """The traces of experiments, as they are now."""
    last = {one.id: one for one in call.workspace.meta.select(Trace, group=list(groups))}
    return [one for one in last.values() if not one.removed]


def keep_trace(call: Call, trace: str, group: str, said: Said) -> Trace:
    """Keep a trace that is new, or all that is now said of one."""
    text = _text(trace, group, said)
    return call.workspace.meta.add(Trace(id=trace, group=group, info=text, at=call.now))


def change_trace(call: Call, trace: str, change: Callable[[Said], Said]) -> Trace:
    """Change what is said of a trace. Whoever else changes it meanwhile loses nothing by it."""
    for _ in range(_TRIES):
        found = get_trace(call, trace)
        text = _text(found.id, found.group, change(known(found)))
        changed = Trace(id=found.id, seq=found.seq + 1, group=found.group, info=text, at=call.now)
        try:
            return call.workspace.meta.add(changed)
        except Conflict:
            continue
    raise MlflowError(f"Trace with ID '{trace}' is being changed by others.", "RESOURCE_CONFLICT")


def known(trace: Trace) -> Said:
    """All that is known of a trace."""
    return msgspec.json.decode(trace.info)


def info_json(trace: Trace) -> Said:
    """A trace as MLflow says it."""
    said = known(trace)
    said.pop(RUNS, None)
    return said


def began_ms(trace: Trace) -> int:
    """When it began, in milliseconds; when it came, where it doesn't say."""
    text = known(trace).get("request_time")
    try:
        at: datetime = instant(str(text).replace("Z", "+00:00")) if text else trace.at
    except (Invalid, ValueError):
        at = trace.at
    return micros(at) // 1000


def location_json(group: str) -> Said:
    """Where a trace is: in its experiment."""
    return {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": group}}


def _text(trace: str, group: str, said: Said) -> str:
    tags = dict(said.get("tags") or {})
    tags.setdefault(LOCATION, f"mlflow-artifacts:/{group}/traces/{trace}/artifacts")
    whole = {**said, "tags": tags, "trace_location": location_json(group)}
    return msgspec.json.encode(whole).decode()
