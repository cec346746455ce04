"""Waiting in tests: for a condition, with a deadline, and for processes to be gone."""

import os
import time
from collections.abc import Callable
from pathlib import Path

PROC = Path("/proc/self").exists()


def until(condition: Callable[[], object], what: str = "it never came", *, within_s: float = 30):
    """Wait until the condition holds; fail after so many seconds, saying what was wrong."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


def lives(pid: int) -> bool:
    """Return whether a process runs; one that is dead and not asked about yet does not."""
    if PROC:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return False
        return stat.rpartition(")")[2].split()[0] != "Z"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
