"""Steps for tests of resources: they hold cores, memory, GPUs, and fail in chosen ways."""

import ctypes
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import upturn as up
from unit.develop.steps import write


def lasting(note: str, name: str) -> str:
    """Write down when it began and ended, so that a test sees what ran at the same time."""
    write(note, f"+{name}")
    time.sleep(0.05)
    write(note, f"-{name}")
    return name


@up.step
def light(note: str, name: str) -> str:
    return lasting(note, name)


@up.step(cpus=2)
def wide(note: str, name: str) -> str:
    return lasting(note, name)


@up.step(memory="900GB")
def heavy(note: str, name: str) -> str:
    return lasting(note, name)


@up.step(gpus=1)
def on_gpu(note: str, name: str) -> str:
    lasting(note, name)
    return os.environ["CUDA_VISIBLE_DEVICES"]


@up.step(gpus=3)
def on_many_gpus() -> None: ...


@up.step(memory="150MB")
def eats(size_mb: int, *, elsewhere: bool = False) -> int:
    """Take so much memory, itself or in a process that it starts."""
    if elsewhere:
        code = f"b = bytearray({size_mb}_000_000); import time; time.sleep(60)"
        return subprocess.run([sys.executable, "-c", code], check=True).returncode
    held = bytearray(size_mb * 1_000_000)
    time.sleep(60 if size_mb > 150 else 0.3)
    return len(held)


@up.step
def eats_without_limit(size_mb: int) -> int:
    held = bytearray(size_mb * 1_000_000)
    time.sleep(60)
    return len(held)


@up.step(timeout=3.0)
def starts_a_daemon(note: str) -> None:
    """Start a process in a session of its own, which a signal to the group does not reach."""
    child = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True
    )
    write(note, str(child.pid))
    time.sleep(600)


class NotYet(ConnectionError):
    """A failure of the user's own."""


@up.step(retries=3, retry_on=(ConnectionError, TimeoutError, ChildProcessError, MemoryError))
def fails_as(note: str, how: str) -> int:
    """Fail in the way that is said, until the note has two lines."""
    write(note, how)
    if len(Path(note).read_text().splitlines()) < 2:
        ways[how]()
    return len(Path(note).read_text().splitlines())


def _raise(error: BaseException) -> Any:
    raise error


ways = {
    "a subclass": lambda: _raise(NotYet("later")),
    "another": lambda: _raise(ValueError("never")),
    "crash": lambda: ctypes.string_at(0),
}


@up.step(timeout=0.3, retries=2, retry_on=TimeoutError)
def late_at_first(note: str) -> int:
    write(note, "late")
    if len(Path(note).read_text().splitlines()) == 1:
        time.sleep(600)
    return 7


@up.step(memory="150MB", retries=1, retry_on=MemoryError)
def hungry_at_first(note: str) -> int:
    write(note, "hungry")
    if len(Path(note).read_text().splitlines()) == 1:
        held = bytearray(400_000_000)
        time.sleep(60 * bool(held))
    return 7


@up.step(on_error=-1)
def fragile(note: str, number: int) -> int:
    write(note, f"fragile {number}")
    if number % 2:
        raise ValueError("odd")
    return number


@up.step
def slow_once(note: str, number: int) -> int:
    write(note, f"slow {number}")
    time.sleep(0.2)
    if len(Path(note).read_text().splitlines()) == 1:
        raise ValueError("the first one fails")
    return number
