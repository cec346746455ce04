"""What the calls of the executor's contract run, in workers."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import upturn as up


def add(a: int, b: int = 1) -> int:
    return a + b


def total(parts: dict[str, list[int]]) -> int:
    return sum(sum(part) for part in parts.values())


def content(path: Path) -> str:
    return path.read_text()


def speak(text: str) -> None:
    print(text)
    print(text.upper(), file=sys.stderr)
    os.write(1, b"from below\n")


def measure(count: int) -> None:
    for at in range(count):
        up.log(step=at, loss=1 / (at + 1))
    up.show("a picture", title="it")


def measure_in_a_thread() -> None:
    thread = threading.Thread(target=lambda: up.log(inside=1.0))
    thread.start()
    thread.join()


def big(size: int) -> bytes:
    return bytes(size)


def fail_at_length(size: int) -> None:
    raise ValueError("x" * size)


def fail(text: str) -> None:
    error = ValueError(text)
    error.add_note("a note")
    raise error


def leave(status: int) -> None:
    os._exit(status)


def leave_politely() -> None:
    sys.exit(3)


def speak_and_leave() -> None:
    up.log(last=1.0)
    os._exit(0)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def crash() -> None:
    ctypes.string_at(0)


def fill_the_disk() -> bytes:
    """Return what does not fit: no file of this process may grow beyond 100 kB any more."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    return os.urandom(200_000)


def pid() -> int:
    return os.getpid()


def start_and_sleep(note: str) -> None:
    """Start a child process, write both ids down, and never return."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(note).write_text(f"{os.getpid()} {child.pid}\n")
    time.sleep(600)


def fork_and_die(note: str) -> None:
    """Leave a forked child behind, which holds every file that this process had open."""
    child = os.fork()
    if child == 0:
        time.sleep(600)
    Path(note).write_text(f"{child}\n")
    os._exit(7)


def meet(folder: str, name: str, others: int) -> None:
    """Return when so many others are here too: they must run at the same time."""
    Path(folder, name).touch()
    deadline = time.monotonic() + 20
    while len(list(Path(folder).iterdir())) <= others:
        assert time.monotonic() < deadline
        time.sleep(0.005)
