"""Leavings: what a task leaves behind in MLflow's client, which thinks that a process is a run.

A script's end writes out what waits and ends its run. A worker goes on, so that is done after each
task; and what the client still remembers then, the process takes with it: it gets no other task.
"""

import contextlib
import sys
from typing import Any

_CLIENT = "mlflow.tracking.fluent"
_AUTOLOGGING = "mlflow.utils.autologging_utils"
_TRACING = "mlflow.tracing.provider"


def before() -> object:
    """What MLflow's client remembers now, for `clear_up`."""
    return _remembered()


def clear_up(then: object, *, failed: bool) -> bool:
    """Do what a process does at its end; whether the client remembers something since `then`."""
    client: Any = sys.modules.get(_CLIENT)
    if client is None or _remembered() == then:
        return False
    _try(client.flush_async_logging)
    _try(lambda: _flush_traces(client))
    ended = "FAILED" if failed else "FINISHED"
    for _ in range(_depth(client)):
        _try(lambda: client.end_run(ended))
    return True


def _remembered() -> object:
    """Whatever it can be told by, of two major versions of the client: it has no API for this."""
    client: Any = sys.modules.get(_CLIENT)
    if client is None:
        return None
    found: list[object] = [getattr(client, "_active_experiment_id", None)]
    for name in ("_active_run_stack", "_last_active_run_id", "_last_logged_model_id"):
        variable = getattr(client, name, None)
        values = variable.get_all_thread_values() if variable is not None else {}
        found.append({thread: repr(value) for thread, value in values.items() if value})
    service: Any = sys.modules.get("mlflow.tracking._tracking_service.utils")
    found.append(getattr(service, "_tracking_uri", None))
    with contextlib.suppress(AttributeError):  # how often somebody wanted to ask a server
        registry = service._tracking_store_registry
        found.append(registry._get_store_with_resolved_uri.cache_info()[:2])
    found.append(repr(getattr(sys.modules.get(_AUTOLOGGING), "AUTOLOGGING_INTEGRATIONS", None)))
    found.append(_traces())
    return found


def _traces() -> bool:
    provider: Any = sys.modules.get(_TRACING)
    with contextlib.suppress(AttributeError):
        return bool(provider.provider.once._done)
    with contextlib.suppress(AttributeError):
        return bool(provider._MLFLOW_TRACER_PROVIDER_INITIALIZED._done)
    return False


def _flush_traces(client: Any) -> None:
    if _traces():
        client.flush_trace_async_logging()


def _depth(client: Any) -> int:
    with contextlib.suppress(AttributeError):
        return len(client._active_run_stack.get())
    return 1


def _try(do: Any) -> None:
    """The step has its result: what MLflow can't take any more is said in its output alone."""
    try:
        do()
    except Exception as error:  # noqa: BLE001  # whatever a client of another tool raises
        print(f"MLflow could not end what the step began: {error}", file=sys.stderr)  # noqa: T201 (the task's)
