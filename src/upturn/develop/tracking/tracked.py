"""Tracked runs: a run of any code, which says what it does itself; its journal is brought home."""

import atexit
import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import msgspec

from upturn.core.errors import Conflict, Invalid, Problem, Unavailable, UpturnError
from upturn.core.ids import new_id
from upturn.core.records import Artifact, Exhibit, Run, RunState
from upturn.core.settings import load_settings
from upturn.core.time import utcnow
from upturn.core.tracking import StoredFile
from upturn.core.who import who
from upturn.develop import context
from upturn.develop.frames import problem_of
from upturn.develop.lease import RunLease
from upturn.develop.tracking.delivery import (
    bring,
    dead_journals,
    journals_of,
    pick_up,
    run_note,
    server_of,
    store_of,
)
from upturn.develop.tracking.journal import Journal, Reader
from upturn.develop.tracking.saving import save
from upturn.develop.tracking.sync import here, mark_offline
from upturn.develop.tracking.system import SystemMetrics
from upturn.develop.tracking.writer import Writer
from upturn.stores.workspace import Workspace, open_workspace

Ending = Literal["done", "failed", "cancelled"]
_LEASE_TTL_S = 15.0  # a library's call may keep the interpreter for seconds
_RENEW_S = 3.0
_FLUSH_S = 0.2
_PATIENCE_S = 5.0
_LONGEST_PAUSE_S = 10.0
_log = logging.getLogger("upturn")


class TrackedRun:
    """A run that goes on: use it in `with`, or call `start` and `finish`."""

    def __init__(
        self,
        group: str,
        *,
        name: str = "",
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, Any] | None = None,
        note: str = "",
        project: str | None = None,
        system_metrics: bool | None = None,
        offline: bool = False,
        workspace: Workspace | None = None,
    ) -> None:
        """Nothing is stored before it starts. Raises Invalid for what can't be a parameter."""
        if not isinstance(group, str) or not group.strip():  # pyright: ignore[reportUnnecessaryIsInstance]
            raise Invalid("A run is in a group, which has a name.", hint='up.track("churn")')
        self.id = new_id()
        self.group, self.name = group, name
        self.status: str = "queued"
        self.over = False
        self._params = {key: _plain(key, value) for key, value in (params or {}).items()}
        self._tags = tag_texts(tags or {})
        self._text, self._project = note, project
        self._wants_system = system_metrics
        self.offline = offline
        self._own = workspace is None
        self._workspace = workspace
        self._pid = os.getpid()
        self._outer: context.Sink | None = None
        self._lease: RunLease | None = None
        self._writer: Writer | None = None
        self._journal: Journal | None = None
        self._ending = threading.Event()
        self._flushing = threading.Lock()
        self._children: dict[Path, Reader] = {}  # journals of forked children
        self._pause_s, self._not_before = _FLUSH_S, 0.0
        self._system: SystemMetrics | None = None

    # Beginning and end

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _: TracebackType | None,
    ) -> None:
        """End: done, or failed with the problem, or cancelled by Ctrl-C."""
        if error is None or (isinstance(error, SystemExit) and not error.code):
            self.finish()
        elif isinstance(error, KeyboardInterrupt | GeneratorExit):
            self.finish("cancelled")
        else:
            self.finish("failed", problem=problem_of(error, code="run_failed"))

    def start(self) -> Self:
        """Begin: from now on `up.log` and the like are of this run. Raises Conflict a second time.

        A store that is away or busy is no hindrance: it gets everything later.
        """
        if self.status != "queued":
            raise Conflict(f"The run {self.id} was started already.", hint="Make another one.")
        outer = context.sink()
        if self._workspace is None:
            self._own = outer is None
            if outer is None:
                self._workspace, self.offline = _opened(offline=self.offline)
            else:
                self._workspace = outer.workspace
                self.offline = getattr(outer, "offline", False)
        workspace, settings = self._workspace, self._workspace.settings
        run = Run(
            id=self.id,
            flow=self.group,
            entry=_entry(settings.root),
            params=self._params,
            project=self._project or settings.project,
            started_at=utcnow(),
            parent=outer.run if outer is not None else None,
            name=self.name,
            who=who(),
            source="track",
        )
        self.status = "running"
        if run.parent is None:  # of a part, the whole is seen to be alive
            self._lease = RunLease(workspace.meta, new_id(12), ttl_s=_LEASE_TTL_S)
            with contextlib.suppress(Unavailable):  # then a later round says it
                self._lease.hold(self.id)
        if self.offline:
            mark_offline(settings.home, self.id)
        about = {"run": self.id, "scope": "", "store": store_of(workspace)}
        self._writer = Writer(settings.home, self.id, about)
        self._writer.note(run_note(run, self.group, self._text))
        if self._tags:
            self._writer.note({"tags": self._tags})
        self._journal = self._writer.journal
        if self._journal is None:
            raise Unavailable(
                f"Nothing can be written below {settings.home}.",
                hint="Make room on its disk, or point UPTURN_HOME to where there is some.",
            )
        self._reader = Reader(self._journal.path)
        if settings.system_metrics if self._wants_system is None else self._wants_system:
            self._system = SystemMetrics(lambda: self.take, settings.home)
            self._system()
        self.flush()
        self._thread = threading.Thread(target=self._work, name="upturn-track", daemon=True)
        self._thread.start()
        self._outer = context.tracked.get()
        context.tracked.set(self)
        context.going_on.append(self)
        atexit.register(self._at_exit)
        return self

    def finish(
        self,
        status: Ending = "done",
        *,
        problem: Problem | None = None,
        patience_s: float = _PATIENCE_S,
    ) -> None:
        """End the run, and bring what it said into the store; once is enough.

        When the store does not take it within `patience_s`, the rest is picked up later.
        """
        if self.status != "running":
            return
        self.status, self.over = status, True
        if self in context.going_on:
            context.going_on.remove(self)
        if context.tracked.get() is self:  # in a notebook, every cell has a context of its own
            context.tracked.set(self._outer)
        atexit.unregister(self._at_exit)
        assert self._writer is not None
        if os.getpid() != self._pid:  # a forked child left the block: its parent goes on with it
            self._writer.close()
            return
        self._ending.set()
        self._thread.join()
        state = RunState(run=self.id, status=status, at=utcnow(), problem=problem)
        if self._system is not None:
            self._system(last=True)
        self._writer.note({"state": msgspec.to_builtins(state)})
        self._flush_all(patience_s)

    @property
    def run(self) -> str:
        """The run's id."""
        return self.id

    @property
    def workspace(self) -> Workspace:
        """Where it is kept. Raises Invalid before it was started."""
        if self._workspace is None:
            raise Invalid(f"The run {self.id} was not started.", hint="with up.track(…) as run:")
        return self._workspace

    # What it says

    def log(self, *, step: int | None = None, **metrics: float) -> None:
        """As `up.log`, of this run, wherever the code is."""
        self.take(metrics, step)

    def tag(self, **tags: Any) -> None:
        """As `up.tag`, of this run."""
        self.note({"tags": tag_texts(tags)})

    def save(self, thing: Any, name: str = "") -> list[StoredFile]:
        """As `up.save`, of this run."""
        return save(self, thing, name)

    @property
    def take(self) -> Callable[[Mapping[str, Any], int | None], None]:
        """What takes metrics. Raises Invalid before the run was started."""
        if self._writer is None:
            raise Invalid(f"The run {self.id} was not started.", hint="with up.track(…) as run:")
        return self._writer.log

    def note(self, note: Mapping[str, Any]) -> None:
        """Take something else: tags, a file. Raises Invalid before the run was started."""
        if self._writer is None:
            raise Invalid(f"The run {self.id} was not started.", hint="with up.track(…) as run:")
        self._writer.note(note)

    def exhibit(self, title: str, media: str, artifact: Artifact) -> None:
        """Take something for the run's page."""
        exhibit = Exhibit(
            run=self.id,
            step="",
            index=0,
            title=title,
            media=media,
            artifact=artifact.digest,
            at=utcnow(),
        )
        self.note(
            {"exhibit": msgspec.to_builtins(exhibit), "artifact": msgspec.to_builtins(artifact)}
        )

    def __repr__(self) -> str:
        return f"<run/{self.id} {self.group} {self.status}>"

    # Bringing it home

    def flush(self) -> bool:
        """Bring what was said so far into the store; False when that is away, or held by others."""
        try:
            with self._flushing:
                self._bring()
        except (Unavailable, OSError) as error:
            if self._pause_s == _FLUSH_S:
                _log.warning("%s What run %s says waits on disk meanwhile.", error, self.id)
            self._pause_s = min(self._pause_s * 2, _LONGEST_PAUSE_S)
            self._not_before = time.monotonic() + self._pause_s
            return False
        except Exception as error:  # noqa: BLE001  # the user's own loop is not to end by it
            _log.warning("What run %s says can't be stored: %r.", self.id, error)
            self._not_before = time.monotonic() + _LONGEST_PAUSE_S
            return False
        self._pause_s, self._not_before = _FLUSH_S, 0.0
        return True

    def _bring(self) -> None:
        journal, writer = self._journal, self._writer
        assert journal is not None
        assert writer is not None
        journal.unspill()
        bring(self.workspace, self._reader, until=journal.end)
        if writer.forked:
            self._bring_children(journal.path)

    def _bring_children(self, own: Path) -> None:
        """Bring in what forked children say, while they live and after."""
        home = self.workspace.settings.home
        for path in journals_of(home, self.id):
            if path != own:
                with contextlib.suppress(FileNotFoundError):
                    reader = self._children.get(path) or Reader(path)
                    self._children[path] = reader
                    bring(self.workspace, reader, living=True)
        for reader in dead_journals(home, run=self.id, store=store_of(self.workspace)):
            bring(self.workspace, reader)
            reader.remove()
            if (known := self._children.pop(reader.path, None)) is not None:
                known.close()

    def _work(self) -> None:
        """The thread: about five times a second, as long as the run goes on."""
        next_lease = time.monotonic() + _RENEW_S
        self._pick_up_others()
        while not self._ending.wait(_FLUSH_S):
            now = time.monotonic()
            if self._system is not None:
                self._system()
            if now >= self._not_before:
                self.flush()
            if now >= next_lease:
                next_lease = now + _RENEW_S
                if self._lease is not None:
                    with contextlib.suppress(UpturnError, OSError):
                        self._lease.renew()

    def _pick_up_others(self) -> None:
        with contextlib.suppress(UpturnError, OSError):  # then the next run does it
            pick_up(self.workspace)

    def _flush_all(self, patience_s: float) -> None:
        until = time.monotonic() + patience_s
        while not (whole := self.flush()) and time.monotonic() < until:
            time.sleep(min(self._pause_s, 0.5))
        assert self._writer is not None
        assert self._journal is not None
        self._writer.close()
        for reader in (self._reader, *self._children.values()):
            reader.close()
        if whole and not self._journal.spilled:
            self._journal.path.unlink(missing_ok=True)
        if self._lease is not None:
            with contextlib.suppress(UpturnError, OSError):  # then it ends by itself
                self._lease.let_go()
        if self._own and all(one.workspace is not self.workspace for one in context.going_on):
            self.workspace.close()

    def _at_exit(self) -> None:
        """End with the process, when nobody has called `finish`."""
        error = getattr(sys, "last_value", None)
        if error is None:
            self.finish()
        elif isinstance(error, KeyboardInterrupt):
            self.finish("cancelled")
        else:
            self.finish("failed", problem=problem_of(error, code="run_failed"))


def tag_texts(tags: Mapping[str, Any]) -> dict[str, str | None]:
    """Tags as they are stored: text as it is, None (which removes one) too, the rest as JSON."""
    return {str(name): value if value is None else _text(value) for name, value in tags.items()}


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    try:
        return msgspec.json.encode(value).decode()
    except (TypeError, ValueError):
        return str(value)


def _plain(name: str, value: Any) -> Any:
    """A parameter as a JSON value; what JSON lacks, as its text."""
    try:
        return msgspec.json.decode(msgspec.json.encode(value, enc_hook=_builtin))
    except (TypeError, ValueError, RecursionError):
        raise Invalid(
            f"The parameter {name!r} is a {type(value).__name__}, which can't be recorded.",
            hint="Parameters are numbers, text and lists of them; up.save() takes the rest.",
            param=name,
        ) from None


def _builtin(value: Any) -> Any:
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        return value.tolist()
    return str(value)


def _opened(*, offline: bool) -> tuple[Workspace, bool]:
    """The stores that a run is kept in, and whether it is to be brought to a server later."""
    settings = load_settings()
    if server_of(settings) and not offline:
        try:
            workspace = open_workspace(settings)
            workspace.meta.lease("run/")  # somebody answers
            return workspace, False
        except Unavailable as error:
            _log.warning("%s The run is kept here; later: upturn sync", error)
            offline = True
    return here(settings), offline


def _entry(root: Path) -> str:
    """Where the code is that runs: 'train.py', or a notebook's or a terminal's name for it."""
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    if not file:
        return "interactive"
    path = Path(file).resolve()
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
