"""Drain: brings what the tasks of a driver say into the store, while they run and when they end."""

import contextlib
import time
from dataclasses import dataclass

from upturn.core.errors import Corrupt, Unavailable
from upturn.core.ids import new_id
from upturn.core.tracking import Point
from upturn.develop.tracking.delivery import dead_journals, deliver, journals_of, store_of
from upturn.develop.tracking.journal import SUFFIX, Reader
from upturn.stores.workspace import Workspace

EVERY_S = 0.2
_DYING_S = 0.5  # that a killed process takes to let go of its journal


@dataclass(slots=True)
class _Task:
    stem: str
    reader: Reader | None = None


class Drain:
    """The journals of tasks that run. Not thread-safe."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._folder = workspace.settings.home / "journals"
        self._owner = new_id(8)
        self._tasks: dict[str, _Task] = {}
        self._next = 0.0

    def begin(self, path: str, attempt: int) -> str:
        """The file that an attempt at the task with that path is to log to."""
        stem = f"{path.removeprefix('run/').replace('/', '.')}.{attempt}.{self._owner}"
        self._tasks[path] = _Task(stem)
        return str(self._folder / f"{stem}{SUFFIX}")

    def next_look(self) -> float | None:
        """When `look` has something to do, on the monotonic clock; None while no task runs."""
        return self._next if self._tasks else None

    def look(self, now: float) -> dict[str, list[Point]]:
        """Bring what was logged since the last time; the points by task."""
        if now < self._next:
            return {}
        self._next = now + EVERY_S
        found: dict[str, list[Point]] = {}
        for path, task in self._tasks.items():
            # A store that is away now may be there at the next time.
            with contextlib.suppress(Unavailable):
                if points := self._bring(task, living=True):
                    found[path] = points
        return found

    def end(self, path: str) -> list[Point]:
        """Bring all that the attempt logged, before its end is told; the points since `look`.

        Raises Unavailable; the journal is then picked up by a later run.
        """
        task = self._tasks.pop(path, None)
        if task is None:
            return []
        points: list[Point] = []
        try:
            if self._open(task) is not None:
                self._wait_for_the_dying(task)
                points = self._bring(task, living=False)
                (self._folder / f"{task.stem}{SUFFIX}").unlink(missing_ok=True)
            if self._folder.is_dir() and journals_of(self._workspace.settings.home, task.stem):
                self._bring_children(task.stem)
        finally:
            if task.reader is not None:
                task.reader.close()
        return points

    def _open(self, task: _Task) -> Reader | None:
        if task.reader is None:
            with contextlib.suppress(FileNotFoundError, Corrupt):
                task.reader = Reader(self._folder / f"{task.stem}{SUFFIX}")
        return task.reader

    def _bring(self, task: _Task, *, living: bool) -> list[Point]:
        points: list[Point] = []
        reader = self._open(task)
        while reader is not None and (batch := reader.read(living=living)) is not None:
            deliver(self._workspace, reader.about, batch)
            reader.keep(batch.end)
            points += batch.points
        return points

    def _wait_for_the_dying(self, task: _Task) -> None:
        """Until its process has let go of the journal: one that was killed may not be dead yet."""
        until = time.monotonic() + _DYING_S
        while task.reader is not None and not task.reader.lock() and time.monotonic() < until:
            time.sleep(0.002)

    def _bring_children(self, stem: str) -> None:
        """Those of processes that the task forked, as far as they have ended."""
        home, store = self._workspace.settings.home, store_of(self._workspace)
        for reader in dead_journals(home, run=stem, store=store):
            while (batch := reader.read()) is not None:
                deliver(self._workspace, reader.about, batch)
                reader.keep(batch.end)
            reader.remove()
