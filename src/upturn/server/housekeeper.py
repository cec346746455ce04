"""Housekeeper: has the Log tidied now and then, by a process of its own that gives way."""

import contextlib
import fcntl
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from time import monotonic

from upturn.core.settings import Settings

_MODULE = "upturn.deploy.housekeeping"
_CODE = f"""
import signal, sys
from upturn.core.parent import end_with_parent
end_with_parent(int(sys.argv.pop()), signal.SIGTERM)
from {_MODULE} import main
main()
"""
_ANYWAY_S = 600.0  # what is too old to be kept goes even when there is nothing to seal
_LAST_S = 15.0  # for the last time, at the end
_NICE = 10


class Housekeeper:
    """Starts housekeeping when journals wait that nobody writes to; one process at a time."""

    def __init__(self, settings: Settings, *, every_s: float) -> None:
        self._settings = settings
        self._every_s = every_s
        self._looked_at = monotonic()
        self._kept_at = monotonic()
        self._process: subprocess.Popen[bytes] | None = None
        self._there = find_spec(_MODULE) is not None

    def look(self) -> None:
        """Start it if it is time and there is something to do."""
        now = monotonic()
        if self._running() or now - self._looked_at < self._every_s:
            return
        self._looked_at = now
        if now - self._kept_at >= _ANYWAY_S or journals_wait(self._settings.home / "log"):
            self._kept_at = now
            self._start()

    def finish(self) -> None:
        """Once more, now that nobody writes; no longer than some seconds."""
        try:
            self._wait()
            if journals_wait(self._settings.home / "log"):
                self._start()
                self._wait()
        finally:
            self.stop()

    def stop(self) -> None:
        """End it, if it runs."""
        if self._running() and self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(2.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _wait(self) -> None:
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_LAST_S)

    def _start(self) -> None:
        if not self._there:
            return
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _CODE, str(os.getpid())],
            stdin=subprocess.DEVNULL,
            cwd=self._settings.root,
            env={**os.environ, "UPTURN_HOME": str(self._settings.home)},
            process_group=0,
        )
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, self._process.pid, _NICE)


def journals_wait(directory: Path) -> bool:
    """Whether there are journals that no writer holds the lock of."""
    return any(_is_left(path) for path in directory.glob("*/*.journal"))


def _is_left(path: Path) -> bool:
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(file)
    return True
