"""A terminal in which a command runs: a real pty, and the screen that its output makes."""

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from typing import Any

from e2e.folder import COMMAND, DEADLINE_S, Folder

_TOKEN = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|\x1b(.)|([\r\n])|([^\x1b\r\n]+)", re.DOTALL)

# Becomes the process that the terminal's Ctrl-C is for, then the command.
_IN_FRONT = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    " os.execv(sys.argv[1], sys.argv[1:])"
)


class Screen:
    """What a terminal shows, all that was scrolled away included. Knows what Upturn may write."""

    def __init__(self, text: str, width: int) -> None:
        self.rows: list[str] = [""]
        self.cursor_visible = True
        self._row = self._column = 0
        self._width = width
        for token in _TOKEN.finditer(text):
            self._take(token)

    def _take(self, token: "re.Match[str]") -> None:
        numbers, letter, other, ending, printed = token.groups()
        assert other is None, f"an escape {other!r} that nobody wrote"
        if printed:
            for char in printed:
                self._put(char)
        elif ending == "\r":
            self._column = 0
        elif ending:
            self._down()
        elif letter == "A":
            self._row = max(0, self._row - int(numbers or 1))
        elif letter == "K":
            assert numbers == "2"
            self.rows[self._row] = ""
        elif letter in "hl":
            assert numbers == "?25"
            self.cursor_visible = letter == "h"
        else:
            assert letter == "m", f"a movement {letter!r} that nobody made"

    def _put(self, char: str) -> None:
        assert char.isprintable(), f"{char!r} reached the terminal"
        if self._column == self._width:
            self._down()
            self._column = 0
        row = self.rows[self._row].ljust(self._column)
        self.rows[self._row] = row[: self._column] + char + row[self._column + 1 :]
        self._column += 1

    def _down(self) -> None:
        self._row += 1
        if self._row == len(self.rows):
            self.rows.append("")


class Terminal:
    """A command in a terminal of its own, as a user would type it there."""

    def __init__(
        self, folder: Folder, *words: str, width: int = 100, height: int = 30, **more: str
    ) -> None:
        self.width = width
        self._fd, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        environment = folder.environment(**{"TERM": "xterm-256color", "NO_COLOR": "", **more})
        for name in ("COLUMNS", "LINES"):
            environment.pop(name, None)
        self.process = subprocess.Popen(
            [sys.executable, "-c", _IN_FRONT, *COMMAND, *words],
            cwd=folder.folder,
            env=environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        self._settings: list[Any] = termios.tcgetattr(theirs)
        self._theirs = theirs
        self._data = b""

    @property
    def text(self) -> str:
        """All that came, escapes included."""
        return self._data.decode(errors="replace")

    def wait_for(self, condition: Callable[["Terminal"], object]) -> None:
        """Read until the condition holds."""
        deadline = time.monotonic() + DEADLINE_S
        while not condition(self):
            assert time.monotonic() < deadline, self.text[-3000:]
            self._read()

    def press_ctrl_c(self) -> None:
        """What the key does: the terminal sends the signal to who is in its foreground."""
        os.write(self._fd, b"\x03")

    def end(self) -> tuple[int, Screen]:
        """Wait for the command's end: its exit status, and the screen that it leaves."""
        self.wait_for(lambda _: self.process.poll() is not None)
        while self._read():
            pass
        assert termios.tcgetattr(self._theirs) == self._settings, "the terminal is not as it was"
        self.close()
        return self.process.returncode, Screen(self.text, self.width)

    def close(self) -> None:
        """Hang up."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for fd in (self._fd, self._theirs):
            with contextlib.suppress(OSError):
                os.close(fd)

    def _read(self) -> bool:
        ready, _, _ = select.select([self._fd], [], [], 0.05)
        if ready:
            self._data += os.read(self._fd, 1 << 16)
        return bool(ready)
