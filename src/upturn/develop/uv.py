"""uv, called as a program: where it is, running it, and what it said when it failed."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

from upturn.core.errors import Unavailable

_LAST_LINES = 12
_TOLD = ("Downloading", "Downloaded", "Building", "Built", "Installing", "Installed Python")


class Cancelled(Exception):
    """The job was cancelled."""


def find_uv() -> str:
    """The path of uv: on the PATH, or beside this Python. Raises Unavailable."""
    beside = Path(sys.executable).with_name("uv")
    found = shutil.which("uv") or (str(beside) if os.access(beside, os.X_OK) else None)
    if found is None:
        raise Unavailable(
            "Environments of steps are built by uv, which is not here.", hint="pip install uv"
        )
    return found


class Job:
    """One or several calls of uv after each other, which another thread may cancel."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.cancelled = False
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def run(self, *arguments: str | Path, hold: int | None = None) -> None:
        """Run uv to its end; `hold` is a file descriptor that it keeps open as long as it lives.

        Raises Unavailable with uv's last words when it fails, and Cancelled.
        """
        program = find_uv()
        with self._lock:
            if self.cancelled:
                raise Cancelled
            process = self._process = subprocess.Popen(
                [program, *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                pass_fds=() if hold is None else (hold,),
                start_new_session=True,  # Ctrl-C in the terminal is ours to answer
            )
        try:
            last = self._listen(process)
        except BaseException:
            _kill(process)
            raise
        finally:
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
        if self.cancelled:
            raise Cancelled
        if process.returncode:
            raise Unavailable("\n".join(last).strip() or f"uv ended with {process.returncode}.")

    def cancel(self) -> None:
        """End it now. Thread-safe."""
        with self._lock:
            self.cancelled = True
            if self._process is not None and self._process.poll() is None:
                _kill(self._process)

    def _listen(self, process: "subprocess.Popen[str]") -> deque[str]:
        last = deque[str](maxlen=_LAST_LINES)
        assert process.stdout is not None
        for line in process.stdout:
            last.append(line.rstrip())
            if line.strip().startswith(_TOLD):
                self.say(line.strip())
        return last


def _kill(process: "subprocess.Popen[str]") -> None:
    """With what it started: the build of a source package."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
