"""Data that schedules watch: what a file or a folder is like, and that it has become another."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

from blake3 import blake3

from upturn.core.schedules import Schedule, Tick
from upturn.develop.contents import digest_of, is_settled, stamp_of, status_of
from upturn.stores.workspace import Workspace

_DIGITS = 16
_HEX = re.compile(r"[0-9a-f]{64}")
_COST = 20.0  # looking takes no more than this part of the time


def as_it_is(workspace: Workspace, schedule: Schedule, file: str) -> Tick:
    """The record that the data are as they are when the schedule begins."""
    digest = content(Path(schedule.root) / file)
    cause = cause_of(workspace, schedule.name, file, digest)
    return Tick(schedule=schedule.name, cause=cause, status="done", attempt=0, at=schedule.at)


def content(path: Path) -> str:
    """The digest of a file's bytes, or of all that is in a folder; '' where nothing is."""
    text = str(path)
    digest = digest_of(text, "tree" if path.is_dir() else "file")[0]
    return digest[:_DIGITS] if _HEX.fullmatch(digest) else ""  # else it can't be read


def cause_of(workspace: Workspace, schedule: str, file: str, digest: str) -> str:
    """A cause for the content, another one each time that the data come back to it."""
    start = f"data/{file}@{digest}"
    number = sum(
        1
        for tick in workspace.meta.select(Tick, schedule=schedule)
        if tick.seq == 1 and tick.cause.partition("#")[0] == start
    )
    return f"{start}#{number + 1}" if number else start


def last_digest(workspace: Workspace, schedule: str, file: str) -> str | None:
    """The content that the schedule has dealt with last; None when it never looked."""
    start = f"data/{file}@"
    for limit in (50, None):
        for tick in workspace.meta.select(Tick, schedule=schedule, newest_first=True, limit=limit):
            if tick.cause.startswith(start):
                return tick.cause[len(start) :].partition("#")[0]
    return None


class Watch:
    """Looks at a file or a folder, and reads it when its status has changed and come to rest."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: str | None = None
        self._digest: str | None = None
        self._next = 0.0

    def look(self) -> str | None:
        """The digest of the content when it was last at rest; None before it ever was."""
        began = time.monotonic()
        if began < self._next:
            return self._digest
        stamp, settled = _status(self._path)
        self._next = time.monotonic() + max(1.0, _COST * (time.monotonic() - began))
        if stamp != self._stamp and settled:
            digest = content(self._path)
            if _status(self._path)[0] == stamp:  # else the next look reads it again
                self._stamp, self._digest = stamp, digest
        return self._digest


def _status(path: Path) -> tuple[str, bool]:
    """A text that is another one after any change below the path, and whether it is at rest."""
    now = time.time_ns()
    whole, settled = blake3(), True
    members = [str(path)]
    if path.is_dir():
        members = [
            os.path.join(folder, name)
            for folder, folders, files in os.walk(path)
            for name in sorted((*files, *folders))
        ]
    for member in members:
        status = status_of(member)
        if status is not None:
            whole.update(f"{member}\0{stamp_of(status)}\0".encode("utf-8", "surrogateescape"))
            settled = settled and is_settled(status, now)
    return whole.hexdigest(), settled
