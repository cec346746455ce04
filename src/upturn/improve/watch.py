"""Watching: a monitor run by the clock, one runner at a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

from upturn.core.errors import UpturnError
from upturn.core.records import Check
from upturn.core.time import utcnow
from upturn.improve.alerts.notify import notify
from upturn.improve.monitor.monitor import Monitor, check
from upturn.improve.monitor.report import MonitorReport
from upturn.improve.runner import sole_runner
from upturn.stores.workspace import Workspace

Heard = Callable[[MonitorReport], object]


def run_once(workspace: Workspace, monitor: Monitor, now: datetime) -> MonitorReport:
    """`check`, telling the monitor's channels. Raises Conflict while another runner is at it."""
    with sole_runner(workspace.meta, monitor.name, kind="monitor"):
        return _check(workspace, monitor, now)


def run_forever(
    workspace: Workspace,
    monitor: Monitor,
    *,
    heard: Heard | None = None,
    troubled: Callable[[UpturnError], None] | None = None,
    clock: Callable[[], datetime] = utcnow,
    wait: Callable[[float], object] | None = None,
) -> None:
    """Look every `monitor.every` until interrupted, by the clock of the machine.

    A look that fails is left to the next one, and `troubled` is told; without it, the error is
    raised. `wait` sleeps for so many seconds.
    """
    with sole_runner(workspace.meta, monitor.name, kind="monitor"):
        due = clock()
        while True:
            _look(workspace, monitor, due, heard, troubled)
            # From when it was due, not from when it ended: looks keep their time of day.
            due = max(due + monitor.every, clock())
            (wait or time.sleep)(max(0.0, (due - clock()).total_seconds()))


def _look(
    workspace: Workspace,
    monitor: Monitor,
    now: datetime,
    heard: Heard | None,
    troubled: Callable[[UpturnError], None] | None,
) -> None:
    try:
        report = _check(workspace, monitor, now)
    except UpturnError as error:
        if troubled is None:
            raise
        troubled(error)
        return
    if heard is not None:
        heard(report)


def _check(workspace: Workspace, monitor: Monitor, now: datetime) -> MonitorReport:
    def tell(monitor: Monitor, report: MonitorReport, kept: Check) -> None:
        notify(
            workspace,
            endpoint=monitor.endpoint,
            symptoms=report.symptoms,
            channels=monitor.alerts,
            owner=monitor.owner,
            version=report.version,
            check=kept.seq,
            now=now,
        )

    return check(workspace, monitor, now, tell=tell)
