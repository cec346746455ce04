"""Housekeeping: `python -m upturn.deploy.housekeeping` seals, compacts and shortens the Logs.

It runs beside the servers now and then, in a process of its own and at a low priority: what it does
would keep a server from answering. Nothing depends on when it runs, or on its coming to an end.
"""

import gc
import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from upturn.core.errors import UpturnError
from upturn.core.records import Endpoint
from upturn.core.time import utcnow
from upturn.deploy.endpoint import kept_for
from upturn.stores.segments import is_waiting
from upturn.stores.workspace import Workspace, open_workspace

if TYPE_CHECKING:
    from upturn.stores.compaction import Tidied

_NICE = 10
_log = logging.getLogger("upturn.log")


@dataclass(frozen=True, slots=True)
class Kept:
    """What was done to an endpoint's Log, whose rows are kept for as long as `keep_log` says."""

    endpoint: str
    done: "Tidied"
    keep_log: str | None

    def __str__(self) -> str:
        """One line for people."""
        done, said = self.done, list[str]()
        if done.sealed:
            said.append(f"{_counted(done.sealed, 'journal')} sealed")
        if done.merged:
            said.append(f"{_counted(done.merged, 'file')} merged into {done.into}")
        if done.removed:
            rows, files = _counted(done.removed_rows, "row"), _counted(done.removed, "file")
            said.append(f"{rows} in {files} removed, which came in more than {self.keep_log} ago")
        return f"{self.endpoint}: {', '.join(said)}"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def main() -> int:
    """Look after the Logs of the home that the environment names, once; returns an exit status.

    It prints which rows it removed for good; what else it does changes nothing for anybody.
    """
    os.nice(_NICE)
    gc.disable()  # it looks for cycles, makes none, and is gone soon
    try:
        workspace = open_workspace()
    except UpturnError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_status
    try:
        for kept in keep_logs(workspace, now=utcnow()):
            if kept.done.removed:
                sys.stdout.write(f"{kept}\n")
    except KeyboardInterrupt:
        return 130
    finally:
        workspace.close()
    return 0


def keep_logs(
    workspace: Workspace, *, now: datetime, grace: timedelta = timedelta(minutes=1)
) -> Iterator[Kept]:
    """Look after every endpoint's Log; yields what was done to those that needed something.

    An endpoint whose files make trouble is said in the log, and keeps nobody else's from its turn.
    """
    from upturn.stores.compaction import Tidied, tidy

    endpoints = {one.name: one for one in workspace.meta.last_each(Endpoint)}
    for directory in _directories(workspace):
        endpoint = endpoints.get(directory.name)
        keep_log = None if endpoint is None else endpoint.keep_log
        keep = None if keep_log is None else kept_for(keep_log)
        try:
            done = tidy(directory, now=now, keep=keep, grace=grace)
        except Exception:  # noqa: BLE001 (said here; the next round tries again)
            _log.exception("The files in %s can't be tidied.", directory)
            continue
        if done != Tidied():
            yield Kept(directory.name, done, keep_log)


def is_needed(workspace: Workspace) -> bool:
    """Whether a journal waits that nobody writes any more; a few system calls an endpoint."""
    return any(map(is_waiting, _directories(workspace)))


def _directories(workspace: Workspace) -> list[Path]:
    root = workspace.log_dir
    return sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []


if __name__ == "__main__":
    sys.exit(main())
