"""LocalPool: the executor on this machine, with warm workers forked from one fork server."""

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from upturn.core.errors import Problem, Unavailable
from upturn.core.executor import Call, Event, Failed, Finished, Started
from upturn.core.ids import new_id
from upturn.core.settings import Settings
from upturn.develop import wire

_GRACE_S = 0.2


@dataclass(slots=True)
class _Worker:
    name: str
    sock: socket.socket
    pid: int | None = None
    call: str | None = None
    began: float = 0.0
    hung_up: bool = False
    doomed: bool = False

    @property
    def idle(self) -> bool:
        """Whether it waits for a call."""
        return self.call is None and not self.hung_up and not self.doomed


class LocalPool:
    """Runs calls in forked processes, as many at once as there are cores; implements Executor."""

    def __init__(
        self, settings: Settings, *, preload: Sequence[str] = (), folders: Sequence[str] = ()
    ) -> None:
        self._slots = settings.cores
        self._workers: dict[str, _Worker] = {}
        self._events: deque[Event] = deque()
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        self._selector.register(self._wake_read, selectors.EVENT_READ, None)
        self._server, self._control = _start_fork_server(settings, preload, folders)
        self._selector.register(self._control, selectors.EVENT_READ, None)

    @property
    def slots(self) -> int:
        """How many calls it runs at once."""
        return self._slots

    @property
    def alive(self) -> bool:
        """Whether it can take calls: its fork server runs, and it was not closed."""
        return self._control.fileno() >= 0 and self._server.poll() is None

    def start(self, call: Call) -> None:
        """Run the call on an idle worker, or on a new one."""
        idle = [worker for worker in self._workers.values() if worker.idle]
        for worker in [*idle, None]:
            chosen = worker or self._fork()
            try:
                wire.send(chosen.sock, call)
            except OSError:  # it died while it was idle, which is not the call's fault
                self._hang_up(chosen)
                if worker is not None:
                    continue
            chosen.call = call.id
            chosen.began = time.perf_counter()
            return

    def kill(self, call: str) -> None:
        """End the call's process and what it started, now."""
        for worker in self._workers.values():
            if worker.call == call:
                worker.call = None
                worker.doomed = True
                self._end(worker)
                return

    def poll(self, timeout_s: float | None) -> Sequence[Event]:
        """What happened, after at most so long."""
        for key, _ in self._selector.select(0 if self._events else timeout_s):
            if key.fileobj is self._wake_read:
                with contextlib.suppress(BlockingIOError):
                    self._wake_read.recv(4096)
            elif key.fileobj is self._control:
                self._hear_server()
            else:
                self._hear(key.data)
        events = list(self._events)
        self._events.clear()
        return events

    def wake(self) -> None:
        """Let a `poll` that waits return. Thread-safe."""
        with contextlib.suppress(BlockingIOError, OSError):
            self._wake_write.send(b"x")

    def close(self) -> None:
        """End all processes."""
        for worker in list(self._workers.values()):
            self._end(worker)
            worker.sock.close()
        self._workers.clear()
        self._selector.close()
        self._control.close()  # the fork server ends its workers and itself on this
        self._wake_read.close()
        self._wake_write.close()
        try:
            self._server.wait(timeout=_GRACE_S)
        except subprocess.TimeoutExpired:  # it is still importing
            self._server.kill()
            self._server.wait()

    def _fork(self) -> _Worker:
        ours, theirs = socket.socketpair()
        worker = _Worker(new_id(), ours)
        try:
            wire.send(self._control, worker.name, fds=(theirs.fileno(),))
        except OSError:
            ours.close()
            raise Unavailable(
                "The process that starts workers is gone.", hint="Run it again, or resume the run."
            ) from None
        finally:
            theirs.close()
        self._workers[worker.name] = worker
        self._selector.register(ours, selectors.EVENT_READ, worker)
        return worker

    def _hear(self, worker: _Worker) -> None:
        try:
            event, _ = wire.receive(worker.sock)
        except (EOFError, OSError):
            self._hang_up(worker)
            return
        if worker.doomed:
            return
        if isinstance(event, Started):
            worker.pid = event.pid
        elif isinstance(event, Finished | Failed):
            worker.call = None
        self._events.append(event)

    def _hang_up(self, worker: _Worker) -> None:
        """Its socket closed; why, the fork server says when it has reaped it."""
        if not worker.hung_up:
            worker.hung_up = True
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(worker.sock)
            worker.sock.close()

    def _hear_server(self) -> None:
        try:
            message, _ = wire.receive(self._control)
        except (EOFError, OSError):
            self._selector.unregister(self._control)
            self._control.close()
            for worker in list(self._workers.values()):
                self._end(worker)
                self._bury(worker, -signal.SIGKILL)
            return
        kind, name, number = message
        worker = self._workers.get(name)
        if worker is None:
            return
        if kind == "forked":
            worker.pid = number
            if worker.doomed:
                self._end(worker)
        else:
            self._drain(worker)
            self._bury(worker, number)

    def _drain(self, worker: _Worker) -> None:
        """Read what it said before it ended: its exit may be heard before its last words.

        They are here in whole. What it forked may hold its end of the socket open, so that waiting
        for the end could take forever.
        """
        if not worker.hung_up:
            worker.sock.setblocking(False)
        while not worker.hung_up:
            self._hear(worker)

    def _bury(self, worker: _Worker, status: int) -> None:
        self._hang_up(worker)
        self._workers.pop(worker.name, None)
        if worker.call is not None and not worker.doomed:
            seconds = time.perf_counter() - worker.began
            self._events.append(Failed(worker.call, _death(status), seconds))

    def _end(self, worker: _Worker) -> None:
        if worker.pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(worker.pid, signal.SIGKILL)


def _death(status: int) -> Problem:
    if status >= 0:
        return Problem(
            code="step_exited",
            message=f"The step ended its process with exit status {status}.",
            hint="A step returns a value or raises; os._exit ends the worker under it.",
            fields={"exit_status": status},
        )
    name = signal.Signals(-status).name
    hints = {
        "SIGKILL": "Somebody killed it, or the machine ran out of memory.",
        "SIGSEGV": "A native library crashed; its name may stand in the step's output.",
    }
    return Problem(
        code="step_killed",
        message=f"The step's process was ended by {name}.",
        hint=hints.get(name, ""),
        fields={"signal": name},
    )


def _start_fork_server(
    settings: Settings, preload: Sequence[str], folders: Sequence[str]
) -> tuple["subprocess.Popen[bytes]", socket.socket]:
    ours, theirs = socket.socketpair()
    path = [*(folder for folder in folders if folder not in sys.path), *sys.path]
    # Not by PYTHONPATH: what a step starts would inherit it, another Python's programs included.
    main = "import sys; sys.path[:] = sys.argv[2:]; import upturn.develop.forkserver as f; f.run()"
    server = subprocess.Popen(
        [sys.executable, "-P", "-c", main, str(theirs.fileno()), *path],
        pass_fds=(theirs.fileno(),),
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C in the terminal is the driver's to answer
    )
    theirs.close()
    setup = {
        "settings": settings,
        "preload": list(preload),
        "cwd": os.getcwd(),
    }
    wire.send(ours, setup)
    return server, ours
