"""Stewardship: a server's steward process, started, replaced when it dies, and ended with it."""

import os
import secrets
import signal
import socket
import subprocess
import sys
from time import monotonic

from upturn.core.settings import Settings

NOTHING_TO_DO = 0  # the status with which a steward without duties ends
_FIRST_BACKOFF_S = 0.2
_LAST_BACKOFF_S = 30.0
_YOUNG_S = 10.0
_ENDS_S = 25.0  # it lets what it does come to its end first


class Stewardship:
    """Keeps one steward running. `look` is to be called now and then."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # The same for each steward of this server: a new one goes on where the last one died.
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._start_at = 0.0
        self._backoff_s = 0.0
        self._over = settings.bundle is not None  # what is served from a folder has no duties

    @property
    def pid(self) -> int:
        """Its process; 0 when there is none."""
        return 0 if self._process is None else self._process.pid

    def look(self) -> str:
        """Start it, or another one when it has died; returns what is to be said of that."""
        now = monotonic()
        said = ""
        if self._process is not None and (status := self._process.poll()) is not None:
            pid, self._process = self._process.pid, None
            if status == NOTHING_TO_DO:
                self._over = True  # there is nothing to do
            else:
                young = now - self._started_at < _YOUNG_S
                longer = min(_LAST_BACKOFF_S, 2 * self._backoff_s or _FIRST_BACKOFF_S)
                self._backoff_s = longer if young else 0.0
                self._start_at = now + self._backoff_s
                said = f"The steward {pid} is gone ({_how(status)}). It is replaced."
        if self._process is None and not self._over and now >= self._start_at:
            self._start(now)
        return said

    def end(self) -> None:
        """Ask it to end; `finish` waits for that."""
        self._over = True
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def finish(self) -> None:
        """Wait until it has ended, and see to it that it has."""
        self._over = True
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_ENDS_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def kill(self) -> None:
        """End it at once."""
        self._over = True
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _start(self, now: float) -> None:
        settings = self._settings
        self._started_at = now
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-P",
                "-m",
                "upturn.server.steward",
                str(os.getpid()),
                str(settings.root),
                self._owner,
            ],
            stdin=subprocess.DEVNULL,
            cwd=settings.root,
            env={**os.environ, "UPTURN_HOME": str(settings.home)},
            process_group=0,
        )


def _how(status: int) -> str:
    if status > 0:
        return f"status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
