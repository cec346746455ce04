"""Events that hooks are told of, read from the records in the order in which they were put."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import msgspec
from blake3 import blake3

from upturn.core.findings import Alert, Decision
from upturn.core.ids import version_path
from upturn.core.naming import Model, Removal
from upturn.core.record import Record
from upturn.core.records import Alias, Endpoint, Run, RunState, Version
from upturn.improve.ruling import QUIET
from upturn.model.catalog import came_by_renaming
from upturn.stores.workspace import Workspace

TYPES = (
    "version.registered",
    "alias.moved",
    "model.removed",
    "model.restored",
    "run.done",
    "run.failed",
    "run.cancelled",
    "alert.raised",
    "alert.worse",
    "alert.over",
    "decision.made",
)
TEST = "hook.test"


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened, as hooks are told of it."""

    id: str  # the same whenever it is read from the same record
    type: str
    project: str
    path: str  # of what it is about
    at: datetime
    data: dict[str, Any]

    def body(self) -> str:
        """What is posted: `type`, `timestamp` and `data`, which names the project and the path."""
        whole = {"project": self.project, "path": self.path, **self.data}
        message = {"type": self.type, "timestamp": self.at, "data": whole}
        return msgspec.json.encode(message).decode()


def topics() -> list[str]:
    """What a hook can ask for: each type, and the first part of it for all that begin so."""
    return [*dict.fromkeys(name.partition(".")[0] for name in TYPES), *TYPES]


def wants(topics: tuple[str, ...], type: str) -> bool:
    """Whether a hook that asked for those is told of an event of that type.

    >>> wants(("run.failed", "alert"), "alert.over"), wants(("run.failed",), "run.done")
    (True, False)
    """
    return type in topics or type.partition(".")[0] in topics


def event_of(workspace: Workspace, record: Record) -> Event | None:
    """What a record tells of, if it is anything."""
    read = _BY_KIND.get(type(record))
    return None if read is None else read(workspace, record)


def _version(workspace: Workspace, record: Any) -> Event | None:
    version: Version = record
    if came_by_renaming(workspace, version.model, version.at):
        return None
    run = workspace.meta.find(Run, version.run) if version.run else None
    if run is not None and run.rehearsal:
        return None
    return _event(
        record,
        "version.registered",
        version_path(version.model, version.number),
        version.at,
        project=_project_of_model(workspace, version.model),
        model=version.model,
        number=version.number,
        run=version.run,
        metrics=version.metrics,
    )


def _alias(workspace: Workspace, record: Any) -> Event | None:
    alias: Alias = record
    if came_by_renaming(workspace, alias.model, alias.at):
        return None
    before = workspace.meta.find(Alias, alias.model, alias.name, alias.seq - 1)
    return _event(
        record,
        "alias.moved",
        f"model/{alias.model}",
        alias.at,
        project=_project_of_model(workspace, alias.model),
        model=alias.model,
        alias=alias.name,
        to=alias.number or None,
        was=before.number or None if before is not None else None,
        why=alias.why,
    )


def _removal(workspace: Workspace, record: Any) -> Event | None:
    removal: Removal = record
    kind, _, name = removal.path.partition("/")
    if kind != "model":
        return None
    return _event(
        record,
        "model.removed" if removal.removed else "model.restored",
        removal.path,
        removal.at,
        project=_project_of_model(workspace, name),
        model=name,
        who=removal.who,
        why=removal.why,
    )


def _run_state(workspace: Workspace, record: Any) -> Event | None:
    state: RunState = record
    if state.status not in ("done", "failed", "cancelled"):
        return None
    run = workspace.meta.find(Run, state.run)
    if run is None or run.parent is not None or run.rehearsal:
        return None
    problem = state.problem
    return _event(
        record,
        f"run.{state.status}",
        f"run/{run.id}",
        state.at,
        project=run.project,
        run=run.id,
        flow=run.flow,
        params=run.params,
        problem=None if problem is None else {"code": problem.code, "message": problem.message},
    )


def _alert(workspace: Workspace, record: Any) -> Event | None:
    alert: Alert = record
    before = workspace.meta.find(Alert, alert.endpoint, alert.name, alert.seq - 1)
    if alert.muted or (before is not None and before.status == alert.status and not before.muted):
        return None  # it is put again when it was told
    return _event(
        record,
        f"alert.{alert.status}",
        f"endpoint/{alert.endpoint}",
        alert.at,
        project=_project_of_endpoint(workspace, alert.endpoint),
        endpoint=alert.endpoint,
        alert=alert.name,
        severity=alert.severity,
        says=alert.says,
        began_at=alert.began_at,
        version=alert.version,
        owner=alert.owner,
    )


def _decision(workspace: Workspace, record: Any) -> Event | None:
    decision: Decision = record
    if decision.action in QUIET:
        return None
    return _event(
        record,
        "decision.made",
        f"endpoint/{decision.endpoint}",
        decision.recorded_at,
        project=_project_of_endpoint(workspace, decision.endpoint),
        loop=decision.loop,
        decision=decision.seq,
        action=decision.action,
        why=decision.why,
        endpoint=decision.endpoint,
    )


def _event(
    record: Record,
    type: str,
    path: str,
    at: datetime,
    *,
    project: str,
    **data: Any,
) -> Event:
    key = "/".join(str(getattr(record, name)) for name in record.key)
    name = f"{record.table}/{key}/{at.isoformat()}"
    digest = blake3(name.encode("utf-8", "surrogateescape")).hexdigest()
    return Event(id=f"msg_{digest[:28]}", type=type, project=project, path=path, at=at, data=data)


def _project_of_model(workspace: Workspace, model: str) -> str:
    record = workspace.meta.find(Model, model)
    return record.project if record is not None else workspace.settings.project


def _project_of_endpoint(workspace: Workspace, name: str) -> str:
    endpoint = workspace.meta.find(Endpoint, name)
    return _project_of_model(workspace, endpoint.model_name if endpoint is not None else name)


_BY_KIND: dict[type[Record], Callable[[Workspace, Any], Event | None]] = {
    Version: _version,
    Alias: _alias,
    Removal: _removal,
    RunState: _run_state,
    Alert: _alert,
    Decision: _decision,
}


def kinds() -> Iterator[type[Record]]:
    """The kinds of records that tell of events."""
    return iter(_BY_KIND)
