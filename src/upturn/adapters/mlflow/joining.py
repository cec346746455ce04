"""Joining: the variables by which MLflow's client in a task logs to the task's run."""

import json
from collections.abc import Mapping
from urllib.parse import quote, urlsplit

from upturn.core.executor import Setting
from upturn.core.ids import task_path
from upturn.core.records import Run

TASK = "upturn.task"  # the tag that names the task which began a child run, or made a model
_URI = "MLFLOW_TRACKING_URI"
_EXPERIMENT = "MLFLOW_EXPERIMENT_ID"
_NAMED = "MLFLOW_EXPERIMENT_NAME"
_RUN = "MLFLOW_RUN_ID"
_TOKEN = "MLFLOW_TRACKING_TOKEN"
_LOOPBACK = ("127.0.0.1", "localhost")


def joined(
    run: Run, step: str, index: int, *, server: str, token: str, environ: Mapping[str, str]
) -> dict[str, Setting]:
    """The variables for a task of the run, from a server's URL and a token ('' for none).

    What `environ` has already stays as it is; when that is another tracking URI, there is nothing.

    >>> from upturn.core.time import utcnow
    >>> run = Run(
    ...     id="k3f9", flow="fit", entry="fit.py:fit", params={}, project="p", started_at=utcnow()
    ... )
    >>> joined(run, "train", 0, server="http://a:1", token="", environ={_URI: "http://b"})
    {}
    >>> found = joined(run, "train", 0, server="http://a:1", token="", environ={})
    >>> found["MLFLOW_TRACKING_URI"].value
    'http://a:1/run/k3f9/train/0'
    """
    same = _same(server)
    if (chosen := environ.get(_URI, "").rstrip("/")) and chosen not in same:
        return {}
    task = task_path(run.id, step, index)
    tags = {
        "mlflow.parentRunId": run.id,
        "mlflow.source.name": run.entry,
        "mlflow.source.type": "JOB",
        TASK: task,
    }
    others = {
        _TOKEN: Setting(value=token),
        _EXPERIMENT: Setting(value=run.group, ends=(_RUN,)),
        _RUN: Setting(value=run.id),
        "MLFLOW_RUN_CONTEXT": Setting(value=json.dumps(tags)),
        "MLFLOW_ASYNC_LOGGING_BUFFERING_SECONDS": Setting(value="1"),
        # The address of a run in MLflow's own pages, which are not here.
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": Setting(value="true"),
    }
    if _NAMED in environ:  # whose experiment it is, the name says
        del others[_EXPERIMENT]
    others = {
        name: setting for name, setting in others.items() if setting.value and name not in environ
    }
    # The path tells the server which task asks.
    uri = Setting(value=f"{server}/{quote(task)}", same=same, ends=tuple(others))
    return {_URI: uri, **others}


def _same(server: str) -> tuple[str, ...]:
    """The ways to write the server's URL."""
    parts = urlsplit(server)
    if parts.hostname not in _LOOPBACK:
        return (server,)
    return tuple(
        parts._replace(netloc=f"{name}:{parts.port}" if parts.port else name).geturl()
        for name in _LOOPBACK
    )
