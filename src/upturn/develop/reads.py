"""What a task reads by itself: the files that it opens and the folders that it lists, as seen.

Python tells audit hooks of every file that it opens. Not seen are native readers (they are named
with `up.File`), other processes that the step starts, and questions such as `Path.exists()`.
"""

import contextlib
import functools
import importlib
import os
import stat
import sys
import threading
import time
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Literal

from upturn.core.executor import Call, File
from upturn.core.owncode import is_own_file
from upturn.core.records import Read
from upturn.core.settings import Settings
from upturn.develop.contents import (
    ABSENT,
    UNSETTLED_NS,
    digest_of,
    is_settled,
    relative,
    stamp_of,
    status_of,
)
from upturn.develop.ref import map_refs
from upturn.stores.workspace import Workspace

Kind = Literal["file", "names", "tree", "database"]
_Key = tuple[Kind, str]
_EVENTS = frozenset({"open", "os.listdir", "os.scandir", "sqlite3.connect", "os.rename"})
_SYSTEM = ("/proc/", "/dev/", "/sys/")
_IMPORTLIB = os.path.dirname(importlib.__file__ or "") + os.sep
_BY_DESCRIPTOR = ("shutil.py", "<frozen os>", "os.py")
# What reads code as code: that is followed by name.
_CODE_READERS = ("linecache.py", "tokenize.py", "inspect.py", "pkgutil.py", "runpy.py")
_current: "Reads | None" = None
_installed = False
_lasting: dict[_Key, "_First"] = {}  # what the process read when it imported the user's modules


@dataclass(frozen=True, slots=True)
class _First:
    """How a thing was when it was first read."""

    stamp: str  # empty for nothing
    digest: str | None  # None when the stamp is sure to tell of a change


@dataclass(slots=True)
class Seen:
    """What a task read, and what of it changed meanwhile."""

    reads: tuple[Read, ...] = ()
    changed: tuple[str, ...] = ()
    lasting: tuple[Read, ...] = ()


@dataclass(slots=True)
class Reads:
    """What the running task has read so far."""

    home: str
    root: str
    given: tuple[str, ...]  # inputs already
    pid: int
    began_ns: int
    seen: dict[_Key, _First] = field(default_factory=dict[_Key, _First])
    # Written from nothing by the task itself, with the stamp of what was there before.
    made: dict[str, str] = field(default_factory=dict[str, str])
    touched: set[str] = field(default_factory=set[str])  # changed by the task itself
    changed: set[str] = field(default_factory=set[str])
    asking: threading.local = field(default_factory=threading.local)

    def hear(self, event: str, args: tuple[Any, ...], frame: FrameType) -> None:
        """Note what an audit event tells of."""
        if getattr(self.asking, "now", False) or os.getpid() != self.pid:
            return  # our own questions; a process that the step forked
        self.asking.now = True
        try:
            self._hear(event, args, frame)
        except Exception as error:  # noqa: BLE001  # it would be raised in the step
            self.changed.add(f"{event} {args[:1]!r}: {error}")
        finally:
            self.asking.now = False

    def _hear(self, event: str, args: tuple[Any, ...], frame: FrameType) -> None:
        path = _path_of(args[0], event)
        if path is None or _reads_code(frame):
            return
        match event:
            case "open":
                self._opened(path, args[1], args[2], frame)
            case "sqlite3.connect":
                self.note("database", path, frame)
                self.note("database", f"{path}-wal", frame)
            case "os.rename":
                target = _path_of(args[1], event)
                self.note("file", path, frame)  # without it there is nothing to rename
                if target is not None:
                    self._wrote(target, anew=path in self.made)
            case _:
                self.note("names", path, frame)

    def _opened(self, path: str, mode: str | None, flags: int, frame: FrameType) -> None:
        caller = os.path.basename(frame.f_code.co_filename)
        if mode is None and caller in _BY_DESCRIPTOR:
            return  # relative to a descriptor that the event does not tell
        how = flags & os.O_ACCMODE
        # Whether there is a file decides what O_EXCL does; tempfile's names are of its own making.
        asks = flags & os.O_EXCL and caller != "tempfile.py"
        anew = flags & (os.O_TRUNC | os.O_EXCL)
        if asks or (how != os.O_WRONLY and not anew):
            self.note("file", path, frame)
        if how != os.O_RDONLY:
            known = ("file", path) in self.seen or path in self.touched
            self._wrote(path, anew=bool(anew) and not known)

    def _wrote(self, path: str, *, anew: bool) -> None:
        if not anew:
            self.touched.add(path)
        elif path not in self.made:
            status = status_of(path)
            self.made[path] = stamp_of(status) if status is not None else ""

    def note(self, kind: Kind, path: str, frame: FrameType | None = None) -> None:
        """Note that the task reads what is at the path now."""
        key = (kind, path)
        if key in self.seen or self._is_no_input(path):
            return
        status = status_of(path)
        if status is not None and self.made.get(path, stamp_of(status)) != stamp_of(status):
            return  # it was made indeed: opening it did not fail
        if path in self.touched:
            self.changed.add(path)
        if status is None:
            first = _First("", None)
        elif kind in ("file", "database") and not stat.S_ISREG(status.st_mode):
            return
        elif kind == "file" and is_settled(status, time.time_ns()):
            first = _First(stamp_of(status), None)
        else:
            if kind == "database" and time.time_ns() - status.st_mtime_ns < UNSETTLED_NS:
                self.changed.add(path)  # its status would not tell of a change that follows
            first = _First(stamp_of(status), digest_of(path, kind)[0])
        self.seen[key] = first
        if frame is not None and _is_importing(frame):
            _lasting[key] = first

    def _is_no_input(self, path: str) -> bool:
        return (
            path.startswith((self.home, *_SYSTEM))
            or any(path == one or path.startswith(one + os.sep) for one in self.given)
            or not is_own_file(path)
        )

    def finish(self) -> Seen:
        """What was read. What changed meanwhile is no certain input, so it is named apart."""
        self.remember()
        found: dict[_Key, Read] = {}
        for key, first in {**_lasting, **self.seen}.items():
            read = self._judged(key, first)
            if read is not None:
                found[key] = read
        return Seen(
            tuple(found[key] for key in sorted(found)),
            tuple(sorted(relative(path, self.root) for path in self.changed)),
            tuple(found[key] for key in sorted(_lasting) if key in found),
        )

    def remember(self) -> None:
        """Keep in mind what was read for a cache of the user's own."""
        if self.seen and _has_filled_a_cache():
            _lasting.update(self.seen)

    def _judged(self, key: _Key, first: _First) -> Read | None:
        kind, path = key
        if path in self.changed:
            return None
        status = status_of(path)
        if status is None and first.stamp and self._is_younger(first.stamp):
            return None  # it came and went with the task
        digest, stamp = digest_of(path, kind)
        stamp_now = "" if status is None else stamp_of(status)
        same = digest == first.digest if first.digest is not None else stamp_now == first.stamp
        if not same:
            if not (digest == ABSENT and not first.stamp):
                self.changed.add(path)
                return None
        return Read(relative(path, self.root), kind, digest, stamp)

    def _is_younger(self, stamp: str) -> bool:
        # File systems tell the time by the tick before: a file may be younger and look older.
        return int(stamp.split(":")[3]) > self.began_ns


def _path_of(given: Any, event: str) -> str | None:
    if given is None:
        given = "."  # os.listdir()
    if isinstance(given, int):
        return None
    path = os.fsdecode(given)
    if event == "sqlite3.connect":
        path = path.removeprefix("file:").partition("?")[0] if path.startswith("file:") else path
        if path in ("", ":memory:"):
            return None
    return os.path.abspath(path)


def _reads_code(frame: FrameType) -> bool:
    file = frame.f_code.co_filename
    return file.startswith(("<frozen importlib", "<frozen zipimport", _IMPORTLIB)) or (
        file.endswith(_CODE_READERS) and not is_own_file(file)
    )


def _is_importing(frame: FrameType | None) -> bool:
    """Whether a module is being imported: what it reads, the process remembers."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


_filled: dict[int, int] = {}  # caches of the user's functions, and how much is in them


def _has_filled_a_cache() -> bool:
    """Whether a `functools.cache` of the user's own grew: the process remembers what was read."""
    grew = False
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if file is None or not is_own_file(file):
            continue
        for value in list(vars(module).values()):
            if isinstance(value, functools._lru_cache_wrapper):  # pyright: ignore[reportPrivateUsage]
                size = value.cache_info().currsize
                grew = grew or size > _filled.get(id(value), 0)
                _filled[id(value)] = size
    return grew


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if _current is not None and event in _EVENTS:
        _current.hear(event, args, sys._getframe(1))  # pyright: ignore[reportPrivateUsage]


@contextlib.contextmanager
def watching(settings: Settings, call: Call) -> Generator[Reads]:
    """Note what is read in here: the call runs."""
    global _current, _installed  # noqa: PLW0603  # as the hook is: of the process
    if not _installed:
        sys.addaudithook(_hook)  # for good: a hook can't be taken away
        _installed = True
    _current = Reads(
        home=str(settings.home) + os.sep,
        root=str(settings.root),
        given=_given(call),
        pid=os.getpid(),
        began_ns=time.time_ns(),
    )
    reads = _current
    try:
        yield reads
    except BaseException:
        reads.remember()
        raise
    finally:
        _current = None


def remembered(workspace: Workspace) -> tuple[Read, ...]:
    """What this process remembers having read, as it was then."""
    root = str(workspace.settings.root)
    return tuple(
        Read(relative(path, root), kind, _digest_then(first, kind, path), first.stamp)
        for (kind, path), first in _lasting.items()
    )


def _digest_then(first: _First, kind: Kind, path: str) -> str:
    if first.digest is not None or not first.stamp:
        return first.digest or ABSENT
    status = status_of(path)
    same = status is not None and stamp_of(status) == first.stamp
    return digest_of(path, kind)[0] if same else "unknown"


def note_read(path: str) -> None:
    """Note that the running task reads the file or the folder, if a task runs here."""
    if _current is not None and _current.pid == os.getpid():
        path = os.path.abspath(path)
        _current.note("tree" if os.path.isdir(path) else "file", path, sys._getframe(1))  # pyright: ignore[reportPrivateUsage]


@contextlib.contextmanager
def unseen() -> Generator[None]:
    """What this thread opens in here is none of the running task's doing."""
    reads = _current
    if reads is None or getattr(reads.asking, "now", False):
        yield
        return
    reads.asking.now = True
    try:
        yield
    finally:
        reads.asking.now = False


def _given(call: Call) -> tuple[str, ...]:
    found: list[str] = []

    def look(leaf: Any) -> Any:
        if isinstance(leaf, File):
            found.append(os.path.abspath(leaf.path))
        return leaf

    arguments: Iterable[Any] = (*call.args, *call.kwargs.values())
    for argument in arguments:
        map_refs(argument, look)
    return tuple(found)
