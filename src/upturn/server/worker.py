"""Worker: a worker process as its supervisor sees it."""

import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic

import msgspec

from upturn.core.settings import Settings
from upturn.server import control
from upturn.server.control import Channel, Drain, Setup

_IN_TRANSIT = (
    64  # connections that it was given and has not taken yet: more may be meant for others
)


@dataclass(eq=False, slots=True)
class Worker:
    """A process that answers connections: what it was given and what it last said."""

    process: subprocess.Popen[bytes]
    channel: Channel
    connections: socket.socket
    started_at: float
    heard_at: float
    greeted: bool = False  # it can be given connections
    ready: bool = False  # it has looked at every route that there was
    state: bytes = b""
    leaves_by: float | None = None  # it drains, and is killed then
    passed: int = 0
    taken: int = 0
    rid: int = 0
    others: list[bytes] = field(default_factory=list[bytes])  # the states that it was last told
    killed_for: str = ""
    untaken: deque[socket.socket] = field(default_factory=deque[socket.socket])

    @property
    def pid(self) -> int:
        """The process."""
        return self.process.pid

    @property
    def open(self) -> int:
        """How many connections it has, those on their way to it included."""
        return self.passed - self.rid

    @property
    def takes_more(self) -> bool:
        """Whether it takes what it is given, as far as anybody knows."""
        return self.greeted and self.leaves_by is None and self.passed - self.taken < _IN_TRANSIT

    def give(self, sockets: Sequence[socket.socket]) -> bool:
        """Give it the connections; False when it can't have them now.

        They stay open here until it says that it took them: if it dies first, they are not lost.
        """
        if not control.pass_sockets(self.connections, sockets):
            return False
        self.passed += len(sockets)
        self.untaken.extend(sockets)
        return True

    def hear(self) -> list[int]:
        """Take in what it has said, and return the kinds. Raises EOFError once it is silent."""
        kinds: list[int] = []
        for kind, payload in self.channel.read():
            kinds.append(kind)
            if kind == control.HELLO:
                self.greeted = True
            elif kind == control.STATE:
                self.ready, self.state = bool(payload[0]), payload[1:]
            elif kind == control.COUNTS:
                self.taken, self.rid = control.read_counts(payload)
                while len(self.untaken) > self.passed - self.taken:
                    self.untaken.popleft().close()
        if kinds:
            self.heard_at = monotonic()
        return kinds

    def tell_others(self, states: list[bytes]) -> None:
        """Tell it the states of the others, unless it knows them or does not listen."""
        if states == self.others:
            return
        data = control.frame(control.OTHERS, msgspec.msgpack.encode(states))
        if self.channel.send(data, may_skip=True):
            self.others = states

    def drain(self, *, grace_s: float, hand_back: bool, kill_after_s: float) -> None:
        """Let it answer what it has, and end."""
        self.leaves_by = monotonic() + grace_s + kill_after_s
        how = Drain(passed=self.passed, grace_s=grace_s, hand_back=hand_back)
        self.channel.send(control.frame(control.DRAIN, msgspec.msgpack.encode(how)))

    def kill(self, why: str) -> None:
        """End it now, with all that it has started."""
        self.killed_for = self.killed_for or why
        _kill_group(self.pid)

    def bury(self) -> None:
        """Once it has ended: end what it has left behind, and let its sockets go."""
        _kill_group(self.pid)
        self.channel.close()
        self.connections.close()


def start_worker(
    settings: Settings, *, hang_s: float, start_s: float, any_host: bool, public: bool = False
) -> Worker:
    """Start a worker: a fresh interpreter in a process group of its own."""
    ours, its = socket.socketpair()
    our_connections, its_connections = socket.socketpair()
    setup = Setup(
        parent=os.getpid(),
        root=str(settings.root),
        hang_s=hang_s,
        start_s=start_s,
        any_host=any_host,
        public=public,
    )
    descriptors = (its.fileno(), its_connections.fileno())
    arguments = [*map(str, descriptors), msgspec.json.encode(setup).decode()]
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "upturn.server.child", *arguments],
            stdin=subprocess.DEVNULL,
            pass_fds=descriptors,
            env={
                # Batches are small and workers many: more threads a worker would wait for another.
                "OMP_NUM_THREADS": "1",
                **os.environ,
                "UPTURN_HOME": str(settings.home),
                "UPTURN_ACCESS_LOG": settings.access_log,
            },
            # Ctrl-C in a terminal goes to the supervisor alone, and what a worker has started can
            # be ended with it.
            process_group=0,
        )
    except BaseException:
        ours.close()
        our_connections.close()
        raise
    finally:
        its.close()
        its_connections.close()
    our_connections.setblocking(False)
    now = monotonic()
    return Worker(process, Channel(ours), our_connections, started_at=now, heard_at=now)


def how_it_ended(worker: Worker) -> str:
    """Why the process is gone, in words.

    The kernel's own killer leaves nothing but its signal, so the guess is named as one.
    """
    status = worker.process.returncode
    if worker.killed_for:
        return worker.killed_for
    if status >= 0:
        return f"it ended with status {status}" if status else "it ended by itself"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    guess = {
        signal.SIGKILL: ", as the kernel does when memory is short",
        signal.SIGALRM: ": its event loop stood still",
    }.get(signal.Signals(-status) if name.startswith("SIG") else signal.SIGTERM, "")
    return f"it was ended by {name}{guess}"


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
