"""Following a run: what its tasks print, as they print it, until the run has ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import msgspec

from upturn.api.client import HttpClient
from upturn.api.listening import Heard, Listener
from upturn.cli.tail import readable
from upturn.core.records import TaskState
from upturn.develop.output import output_file, output_text, traceback_text
from upturn.develop.runs import parse_task, tasks_of, view_run
from upturn.stores.workspace import Workspace

_FRAME_S = 0.2
_LOOK_S = 3.0  # how often it is looked whether the run's driver still lives
_REST_S = 1.0  # nothing for so long after the end: nothing is on its way any more
_MOST_LOGS = 90  # that a server is asked for; it tells of 100 topics
_AT_ONCE = 1 << 20
_GOES_ON = ("queued", "running")

Say = Callable[[str, str], None]  # the task, 'train/0', and a line of it


class _News(Protocol):
    """Who says that something has happened."""

    def next(self, timeout_s: float) -> Heard | None: ...
    def add(self, topic: str, *, instead_of: str = "") -> None: ...
    def close(self) -> None: ...


class _Here:
    """This machine's store: all that is said is that it is another one."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._stamp: int | None = None

    def next(self, timeout_s: float) -> Heard | None:
        stamp = self._workspace.meta.stamp()
        if stamp != self._stamp:
            self._stamp = stamp
            return Heard("open")
        time.sleep(timeout_s)
        return None

    def add(self, topic: str, *, instead_of: str = "") -> None:
        del topic, instead_of

    def close(self) -> None:
        pass


def follow(workspace: Workspace, path: str, say: Say) -> str:
    """Say each line that the run's tasks print; what became of the run ('done', 'lost').

    `path` is RUN, RUN/STEP or RUN/STEP/INDEX. Tasks on this machine are read from their files, as
    are all of a store that is here. Those on a server's machine come with its events, over its
    restarts; those on a third one when they have ended. Raises NotFound for a run that there isn't.
    """
    name, step, index = parse_task(path)
    run = view_run(workspace, name).run.id
    settings = workspace.settings
    news: _News = _Here(workspace)
    if settings.server:
        client = HttpClient(settings.server, settings.token)
        news = Listener(client, [f"run:{run}"])
    try:
        return _Follower(workspace, run, (step, index), news, say).run_on()
    finally:
        news.close()


class _Task:
    """What was seen of a task so far."""

    def __init__(self, state: TaskState) -> None:
        self.state = state
        self.at = 0  # bytes read of its file
        self.begun = b""  # of a line whose end is not there yet
        self.told = False  # whether a server has told what it prints
        self.over = False


class _Follower:
    def __init__(
        self,
        workspace: Workspace,
        run: str,
        which: tuple[str | None, int | None],
        news: _News,
        say: Say,
    ) -> None:
        self._workspace, self._run, self._news, self._say = workspace, run, news, say
        self._step, self._index = which
        self._tasks: dict[str, _Task] = {}
        self._logs: dict[str, None] = {}  # topics, the oldest first
        self._looked_at = 0.0

    def run_on(self) -> str:
        """Until the run has ended, and all that it printed was said."""
        status = "running"
        quiet_since: float | None = None
        while True:
            heard = self._news.next(_FRAME_S)
            if heard is not None:
                self._hear(heard)
            self._read_files()
            now = time.monotonic()
            if (heard is not None and heard.kind in ("run_state", "open")) or self._is_due(now):
                self._looked_at = now
                status = view_run(self._workspace, self._run).status
            if status in _GOES_ON or heard is not None:
                quiet_since = None
                if status in _GOES_ON:
                    continue
            quiet_since = quiet_since or now
            if now - quiet_since >= (_REST_S if self._workspace.is_remote else 0.0):
                self._refresh()
                self._read_files()
                for task in self._tasks.values():
                    self._end(task)
                return status

    def _is_due(self, now: float) -> bool:
        return now - self._looked_at >= _LOOK_S

    def _hear(self, heard: Heard) -> None:
        if heard.kind == "open":
            self._refresh()
        elif heard.kind == "task_state":
            self._note(msgspec.convert(heard.data, TaskState))
        elif heard.kind == "log":
            task = self._tasks.get(heard.topic.partition("/")[2])
            if task is not None and not task.at:
                task.told = True
                self._print(task, str(heard.data).encode())

    def _refresh(self) -> None:
        for state in tasks_of(self._workspace, self._run):
            self._note(state)

    def _note(self, state: TaskState) -> None:
        if self._step not in (None, state.step) or self._index not in (None, state.index):
            return
        name = f"{state.step}/{state.index}"
        task = self._tasks.setdefault(name, _Task(state))
        if state.seq < task.state.seq:
            return
        task.state = state
        elsewhere = not output_file(self._workspace, self._run, state.step, state.index).exists()
        if elsewhere and state.status != "reused":
            self._listen_to(f"log:{self._run}/{name}")

    def _listen_to(self, log: str) -> None:
        if log in self._logs:
            return
        full = len(self._logs) >= _MOST_LOGS
        # What ended long ago has told it all.
        oldest = next((each for each in self._logs if self._ended(each)), "") if full else ""
        if oldest or not full:
            self._logs.pop(oldest, None)
            self._logs[log] = None
            self._news.add(log, instead_of=oldest)

    def _ended(self, log: str) -> bool:
        return self._tasks[log.partition("/")[2]].state.status != "running"

    def _read_files(self) -> None:
        for task in self._tasks.values():
            if task.over or task.told:
                continue
            self._read(task)
            if task.state.status != "running" and not self._workspace.is_remote:
                self._end(task)

    def _read(self, task: _Task) -> None:
        """What is new in its file, if that is on this machine."""
        state = task.state
        file = output_file(self._workspace, self._run, state.step, state.index)
        try:
            with file.open("rb") as stream:
                stream.seek(task.at)
                while data := stream.read(_AT_ONCE):
                    task.at += len(data)
                    self._print(task, data)
        except OSError:
            return

    def _print(self, task: _Task, data: bytes) -> None:
        *lines, task.begun = (task.begun + data).split(b"\n")
        for line in lines:
            self._say(f"{task.state.step}/{task.state.index}", readable(line))

    def _end(self, task: _Task) -> None:
        if task.over or task.state.status == "running":
            return
        task.over = True
        state = task.state
        if not task.told and not task.at:  # it ran elsewhere, or long ago
            source = (state.reused_from or f"run/{self._run}/{state.step}/{state.index}").split("/")
            text = output_text(self._workspace, source[1], source[2], int(source[3]))
            self._print(task, text.encode())
        if state.status == "failed":
            text = traceback_text(self._workspace, self._run, state.step, state.index)
            self._print(task, (b"\n" if task.begun else b"") + text.encode())
        if task.begun:
            self._print(task, b"\n")
