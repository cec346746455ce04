"""AccessLog: a line of JSON for each request, written by a thread of its own.

A request only leaves its note. When more notes wait than the disk or the reader takes, they are
dropped and counted, and the log itself says how many.
"""

import contextlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from upturn.core.errors import Invalid
from upturn.deploy.serve.asgi import Scope
from upturn.deploy.serve.seen import Seen

_MAX_WAITING = 20_000
_GATHER_S = 0.05  # what comes within it is written at once
_FOLLOW_S = 1.0  # how often it is looked whether the file still has its name
_CLOSE_S = 2.0  # what the end waits for a reader that is slow
_PIPE_BYTES = 4096  # what a pipe takes whole: lines of several workers don't mix in it
_MAX_PATH = 200
_log = logging.getLogger("upturn.serve")


class Line(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A request as its line says it."""

    time: datetime  # when it came
    method: str
    path: str
    status: int
    seconds: float
    bytes: int  # of the answer's body
    endpoint: str = ""
    arms: Sequence[str] = ()
    versions: Sequence[str] = ()
    rows: int = 0
    request: str = ""
    code: str = ""  # of an error
    trace: str = ""


class Dropped(msgspec.Struct, frozen=True):
    """Stands for lines that could not be written in time."""

    time: datetime
    dropped: int


class AccessLog:
    """An Observer that writes lines to a file, or to stdout for '-'. Raises OSError if it can't.

    A file that was moved away, to be kept or compressed, is begun anew within a second.
    """

    def __init__(
        self, target: str, *, max_waiting: int = _MAX_WAITING, follow_s: float = _FOLLOW_S
    ) -> None:
        self._path = None if target == "-" else Path(target)
        self._max_waiting = max_waiting
        self._follow_s = follow_s
        self._refused = 0  # counted by the event loop's thread
        self._failed = 0  # counted by the writer's
        self._complained = False  # of a write that failed, and none has worked since
        self._torn = False  # it failed in the midst of the lines
        self._said = 0  # of the dropped ones, how many the log tells of
        self._waiting: deque[Seen] = deque()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._looked_at = time.monotonic()
        self._encode = msgspec.json.Encoder().encode
        self._file = self._open()
        self._thread = threading.Thread(target=self._run, name="access log", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Lines that the log does not have."""
        return self._refused + self._failed

    def begin(self, seen: Seen, scope: Scope) -> None:
        """See Observer."""

    def end(self, seen: Seen) -> None:
        """See Observer."""
        if len(self._waiting) >= self._max_waiting:
            self._refused += 1
            return
        self._waiting.append(seen)
        if not self._wake.is_set():
            self._wake.set()

    def close(self) -> None:
        """Write what waits; a reader that takes nothing is not waited for."""
        self._closing.set()
        self._wake.set()
        self._thread.join(_CLOSE_S)

    # In the thread

    def _run(self) -> None:
        while not (self._closing.is_set() and not self._waiting):
            self._wake.wait()
            self._closing.wait(_GATHER_S)
            self._wake.clear()
            self._write_out()
        if self._path is not None and self._file >= 0:
            os.close(self._file)

    def _write_out(self) -> None:
        waiting = self._waiting
        count = len(waiting)
        lines = [self._encode(_line(waiting.popleft())) + b"\n" for _ in range(count)]
        dropped = self.dropped
        if dropped > self._said:
            told = Dropped(_instant(time.time()), dropped - self._said)
            lines.append(self._encode(told) + b"\n")
        try:
            self._follow()
            for part in _parts(lines, _PIPE_BYTES if self._path is None else 1 << 20):
                self._write(part)
            self._complained = False
            self._said = dropped
        except OSError as error:
            self._failed += count
            if not self._complained:
                _log.warning("The access log can't be written: %s.", error.strerror or error)
            self._complained = True

    def _write(self, data: bytes) -> None:
        rest = memoryview(b"\n" + data if self._torn else data)
        whole = len(rest)
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
            self._torn = False
        except OSError:
            self._torn = self._torn or len(rest) < whole
            raise

    def _follow(self) -> None:
        """Open the file again if its name is no longer its own."""
        now = time.monotonic()
        if self._path is None or now - self._looked_at < self._follow_s:
            return
        self._looked_at = now
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(self._file), self._path.stat()):
                return
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        self._torn = False
        self._file = _append_to(self._path)

    def _open(self) -> int:
        return 1 if self._path is None else _append_to(self._path)


def check_access_log(target: str) -> None:
    """Raise Invalid unless there can be an access log, before anything is started."""
    if target in ("", "-"):
        return
    try:
        os.close(_append_to(Path(target)))
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise Invalid(
            f"The access log {target!r} can't be written: {why.lower()}.",
            hint="Name a file in a directory that there is, or '-' for stdout.",
        ) from None


def _append_to(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)


def _line(seen: Seen) -> Line:
    return Line(
        time=_instant(seen.at),
        method=seen.method,
        path=seen.path[:_MAX_PATH],
        status=seen.status,
        seconds=round(seen.ended - seen.started, 6),
        bytes=seen.bytes,
        endpoint=seen.endpoint,
        arms=seen.arms,
        versions=seen.versions,
        rows=seen.rows,
        request=seen.request,
        code=seen.code,
        trace=seen.trace,
    )


def _instant(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def _parts(lines: Iterable[bytes], most: int) -> Iterable[bytes]:
    """Whole lines together, as many as fit."""
    part: list[bytes] = []
    size = 0
    for line in lines:
        if part and size + len(line) > most:
            yield b"".join(part)
            part, size = [], 0
        part.append(line)
        size += len(line)
    if part:
        yield b"".join(part)
