"""Watching: a monitor run by the clock, one runner at a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

from upturn.core.errors import UpturnError
from upturn.core.time import utcnow
from upturn.improve.monitor.monitor import Monitor, Tell, check
from upturn.improve.monitor.report import MonitorReport
from upturn.improve.runner import sole_runner
from upturn.stores.workspace import Workspace

Heard = Callable[[MonitorReport], object]


def run_once(
    workspace: Workspace, monitor: Monitor, now: datetime, *, tell: Tell | None = None
) -> MonitorReport:
    """`check`, unless another runner is at it. Raises Conflict then."""
    with sole_runner(workspace.meta, monitor.name, kind="monitor"):
        return check(workspace, monitor, now, tell=tell)


def run_forever(
    workspace: Workspace,
    monitor: Monitor,
    *,
    tell: Tell | None = None,
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
            _look(workspace, monitor, due, tell, heard, troubled)
            # From when it was due, not from when it ended: looks keep their time of day.
            due = max(due + monitor.every, clock())
            (wait or time.sleep)(max(0.0, (due - clock()).total_seconds()))


def _look(
    workspace: Workspace,
    monitor: Monitor,
    now: datetime,
    tell: Tell | None,
    heard: Heard | None,
    troubled: Callable[[UpturnError], None] | None,
) -> None:
    try:
        report = check(workspace, monitor, now, tell=tell)
    except UpturnError as error:
        if troubled is None:
            raise
        troubled(error)
        return
    if heard is not None:
        heard(report)
