"""LocalPool: the executor on this machine, with warm workers forked from one fork server."""

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from upturn.core.errors import Problem, Unavailable
from upturn.core.executor import Call, Event, Failed, Finished, Resources, Started
from upturn.core.ids import new_id
from upturn.core.machine import available_bytes, process_tree, used_bytes
from upturn.core.records import Read
from upturn.core.settings import Settings
from upturn.core.size import bytes_text
from upturn.develop import wire
from upturn.develop.contents import first_changed
from upturn.develop.launch import Launch, launch_here

_GRACE_S = 0.2
_WATCH_S = 0.1  # how often the memory of running calls is looked at
_CHILD_FAILED = ("builtins.ChildProcessError", "builtins.OSError", "builtins.Exception")
_OUT_OF_MEMORY = ("builtins.MemoryError", "builtins.Exception")


@dataclass(slots=True)
class _Worker:
    name: str
    sock: socket.socket
    pid: int | None = None
    call: Call | None = None
    began: float = 0.0
    hung_up: bool = False
    doomed: bool = False
    environ: dict[str, str | None] = field(default_factory=dict[str, str | None])  # it ran with
    lasting: tuple[Read, ...] = ()  # what its modules read when they were imported

    def remembers_otherwise(self, call: Call, root: Path) -> bool:
        """Whether its modules may hold what variables or files said before they changed."""
        return any(
            self.environ.get(name, value) != value for name, value in call.environ.items()
        ) or (first_changed(self.lasting, root) is not None)

    @property
    def idle(self) -> bool:
        """Whether it waits for a call."""
        return self.call is None and not self.hung_up and not self.doomed


class LocalPool:
    """Runs calls in forked processes, as many at once as there are cores; implements Executor."""

    def __init__(
        self,
        settings: Settings,
        *,
        preload: Sequence[str] = (),
        folders: Sequence[str] = (),
        launch: Launch | None = None,
    ) -> None:
        self._capacity = Resources(
            cpus=settings.cores, memory_bytes=settings.memory_bytes, gpus=len(settings.gpus)
        )
        self._gpus = settings.gpus
        self._root = settings.root
        self._spare_bytes = min(2**30, settings.memory_bytes // 16)
        self._next_watch = 0.0
        self._workers: dict[str, _Worker] = {}
        self._events: deque[Event] = deque()
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        self._selector.register(self._wake_read, selectors.EVENT_READ, None)
        self._server, self._control = _start_fork_server(
            settings, preload, launch or launch_here(folders)
        )
        self._selector.register(self._control, selectors.EVENT_READ, None)

    @property
    def capacity(self) -> Resources:
        """What the calls that run at once may use in all."""
        return self._capacity

    @property
    def gpus(self) -> tuple[str, ...]:
        """The names of its GPUs."""
        return self._gpus

    @property
    def alive(self) -> bool:
        """Whether it can take calls: its fork server runs, and it was not closed."""
        return self._control.fileno() >= 0 and self._server.poll() is None

    def fileno(self) -> int:
        """What becomes readable when `poll` has something to do."""
        return self._selector.fileno()  # pyright: ignore[reportAttributeAccessIssue]

    def start(self, call: Call) -> None:
        """Run the call on an idle worker, or on a new one."""
        idle = [worker for worker in self._workers.values() if worker.idle]
        for worker in idle:
            if worker.remembers_otherwise(call, self._root):
                self._hang_up(worker)
        idle = [worker for worker in idle if worker.idle]
        for worker in [*idle, None]:
            chosen = worker or self._fork()
            try:
                wire.send(chosen.sock, call)
            except OSError:  # it died while it was idle, which is not the call's fault
                self._hang_up(chosen)
                if worker is not None:
                    continue
            chosen.call = call
            chosen.environ.update(call.environ)
            chosen.began = time.perf_counter()
            return

    def kill(self, call: str) -> None:
        """End the call's process and what it started, now."""
        for worker in self._workers.values():
            if worker.call is not None and worker.call.id == call:
                self._abandon(worker)
                return

    def poll(self, timeout_s: float | None) -> Sequence[Event]:
        """What happened, after at most so long."""
        for key, _ in self._selector.select(self._patience(timeout_s)):
            if key.fileobj is self._wake_read:
                with contextlib.suppress(BlockingIOError):
                    self._wake_read.recv(4096)
            elif key.fileobj is self._control:
                self._hear_server()
            else:
                self._hear(key.data)
        self._watch_memory()
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
            # A process keeps the GPUs that it first used: it ends here.
            if event.spent or (worker.call is not None and worker.call.gpus):
                self._hang_up(worker)
            worker.call = None
            worker.lasting = event.lasting
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
            self._events.append(Failed(worker.call.id, _death(status), seconds, _CHILD_FAILED))

    def _abandon(self, worker: _Worker) -> None:
        """End it, and what it still says is not heard."""
        worker.call = None
        worker.doomed = True
        self._end(worker)

    def _end(self, worker: _Worker) -> None:
        if worker.pid is None:
            return
        # By descent too: what a step started in a group or session of its own is in no other way
        # known to be its.
        for pid in process_tree(worker.pid)[1:]:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(worker.pid, signal.SIGKILL)

    # Memory: a step that takes too much is ended, with its name, before the machine is

    def _patience(self, timeout_s: float | None) -> float | None:
        if self._events:
            return 0
        if all(worker.call is None for worker in self._workers.values()):
            return timeout_s
        return _WATCH_S if timeout_s is None else min(timeout_s, _WATCH_S)

    def _watch_memory(self) -> None:
        now = time.monotonic()
        if now < self._next_watch:
            return
        self._next_watch = now + _WATCH_S
        busy = [
            (worker, worker.call)
            for worker in self._workers.values()
            if worker.call is not None and worker.pid is not None
        ]
        if not busy:
            return
        used = {worker.name: used_bytes(worker.pid or 0) for worker, _ in busy}
        for worker, call in busy:
            if call.memory_bytes is not None and used[worker.name] > call.memory_bytes:
                self._out_of_memory(worker, call, _over(call, used[worker.name], call.memory_bytes))
        if self._too_little_left(sum(used.values())):
            worker, call = max(busy, key=lambda pair: used[pair[0].name])
            # When others than our tasks fill the machine, ending a small one would not help.
            if worker.call is not None and used[worker.name] > self._spare_bytes:
                problem = _most(call, used[worker.name], len(busy), self._capacity.memory_bytes)
                self._out_of_memory(worker, call, problem)

    def _too_little_left(self, used: int) -> bool:
        if used > self._capacity.memory_bytes:
            return True
        left = available_bytes()
        return left is not None and left < self._spare_bytes

    def _out_of_memory(self, worker: _Worker, call: Call, problem: Problem) -> None:
        seconds = time.perf_counter() - worker.began
        self._abandon(worker)
        self._events.append(Failed(call.id, problem, seconds, _OUT_OF_MEMORY))


def _over(call: Call, used: int, limit: int) -> Problem:
    return Problem(
        code="step_memory",
        message=f"The step {call.step!r} used {bytes_text(used)} of memory, and may use "
        f"{bytes_text(limit)}.",
        hint="Give it more: @up.step(memory=…), or let it work on smaller parts.",
        fields={"used_bytes": used, "limit_bytes": limit},
    )


def _most(call: Call, used: int, count: int, capacity: int) -> Problem:
    among = "" if count == 1 else f", the most of the {count} tasks that ran"
    return Problem(
        code="step_memory",
        message=f"Memory ran out: the step {call.step!r} used {bytes_text(used)} of the "
        f"{bytes_text(capacity)} that runs may use{among}.",
        hint="Say what it needs, so that fewer run at once: @up.step(memory=…).",
        fields={"used_bytes": used, "limit_bytes": capacity},
    )


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
    settings: Settings, preload: Sequence[str], launch: Launch
) -> tuple["subprocess.Popen[bytes]", socket.socket]:
    ours, theirs = socket.socketpair()
    server = subprocess.Popen(
        launch.command(theirs.fileno()),
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
