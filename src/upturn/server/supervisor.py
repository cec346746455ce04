"""Supervisor: starts, replaces and drains workers, and spreads connections evenly over them.

It accepts each connection and passes it to the worker with the fewest, so that what waits in the
listener's queue is lost with no worker, and kept connections do not gather in one. It knows nothing
of HTTP, and imports next to nothing.
"""

import contextlib
import errno
import resource
import selectors
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from types import FrameType

from upturn.core.errors import Unavailable
from upturn.core.settings import Settings
from upturn.server import control
from upturn.server.housekeeper import Housekeeper
from upturn.server.stewardship import Stewardship
from upturn.server.worker import Worker, how_it_ended, start_worker

_TICK_S = 0.25
_BATCH = 64  # connections accepted at a time
_UNHEARD_S = 3.0  # a worker that has said nothing for so long is given no more
_FIRST_BACKOFF_S = 0.1
_LAST_BACKOFF_S = 10.0
_YOUNG_S = 5.0  # a worker that lives shorter has a reason to die, which its successor has too
_LOADING_S = 30.0  # connections wait so long for a worker that has all its models
_CLOSING_S = 20.0  # what a worker that has drained is given for its Log
_OUT_OF_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


@dataclass(frozen=True, slots=True)
class Care:
    """How many workers there are, and how they are looked after."""

    workers: int = 1
    connections: int = 4096  # open at a time; more wait unaccepted
    hang_s: float = 10.0  # a worker whose event loop stands still for so long is replaced
    start_s: float = 120.0  # the same before it is ready: a large model takes its time
    replace_s: float = 120.0  # a new worker has to be ready by then, or the old one stays
    grace_s: float = 10.0  # what requests that are being answered are given at the end
    housekeeping_s: float = 10.0
    any_host: bool = False  # they answer under any name, whoever asks
    public: bool = False  # others can reach them: they are asked who they are


class Supervisor:
    """Owns the listener until `run` returns. `on_change` hears of new pids and ended reloads."""

    def __init__(
        self,
        settings: Settings,
        listener: socket.socket,
        care: Care,
        *,
        on_listening: Callable[[], None],
        on_change: Callable[[], None],
    ) -> None:
        listener.setblocking(False)
        self._settings = settings
        self._listener = listener
        self._care = care
        self._on_listening = on_listening
        self._on_change = on_change
        self._most = _files_for(care.connections)
        self._selector = selectors.DefaultSelector()
        self._accepting = False
        self._accept_at = 0.0  # not before: there were no more file descriptors
        self._waiting: deque[socket.socket] = deque()  # accepted, and nobody's yet
        self._workers: list[Worker] = []
        self._gone = b""  # the last states of those that have ended
        self._backoff_s = 0.0
        self._start_at = 0.0
        self._announced = False
        self._unready_since = monotonic()
        self._was_ready = False
        self._to_replace: list[Worker] = []
        self._newcomer: Worker | None = None
        self._asked: set[int] = set()  # signals that have come
        self._draining = False
        self._ticked_at = monotonic()
        self._housekeeper = Housekeeper(settings, every_s=care.housekeeping_s)
        self._stewardship = Stewardship(settings)
        self.reloads = 0  # how many have ended, one way or the other
        self.reload_failed = ""  # why the last one replaced nobody

    @property
    def pids(self) -> list[int]:
        """The workers that answer; those that drain are as good as gone."""
        return [worker.pid for worker in self._workers if worker.leaves_by is None]

    @property
    def steward(self) -> int:
        """The process that does the store's duties; 0 when there is none."""
        return self._stewardship.pid

    def stop(self) -> None:
        """Drain and end. Any thread may ask."""
        self._asked.add(signal.SIGTERM)

    def run(self) -> None:
        """Serve until SIGINT, SIGTERM or `stop`, then drain. A second SIGINT ends it at once.

        Raises Unavailable when the first worker can't start, KeyboardInterrupt for that SIGINT.
        """
        with self._signals():
            try:
                while not self._draining or self._workers:
                    self._turn()
                self._stewardship.finish()
                self._housekeeper.finish()
            finally:
                self._clear()

    def _turn(self) -> None:
        for key, _ in self._selector.select(_TICK_S if self._settled else 0.05):
            key.data()
        self._obey()
        self._look_after()
        self._spread()
        self._listen()

    @property
    def _settled(self) -> bool:
        return not (self._waiting or self._to_replace or self._draining or self._accept_at)

    # Connections

    def _listen(self) -> None:
        """Accept while there is somebody to give connections to, and not too many."""
        if self._accept_at and monotonic() >= self._accept_at:
            self._accept_at = 0.0
        free = not self._draining and not self._accept_at and self._open() < self._most
        wanted = free and not self._waiting and self._choose() is not None
        if wanted and not self._accepting:
            self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        elif self._accepting and not wanted:
            self._selector.unregister(self._listener)
        self._accepting = wanted

    def _open(self) -> int:
        return sum(worker.open for worker in self._workers) + len(self._waiting)

    def _accept(self) -> None:
        for _ in range(min(_BATCH, self._most - self._open())):
            try:
                self._waiting.append(self._listener.accept()[0])
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno in _OUT_OF_FILES:
                    self._accept_at = monotonic() + 0.1
                    break  # what was accepted already hung up again

    def _spread(self) -> None:
        """Give what waits to those with the fewest connections, some at a time."""
        while self._waiting:
            shares: dict[Worker, list[socket.socket]] = {}
            for _ in range(min(len(self._waiting), _BATCH)):
                worker = self._choose(shares)
                if worker is None:
                    break
                shares.setdefault(worker, []).append(self._waiting.popleft())
            stuck = not shares
            for worker, sockets in shares.items():
                if not worker.give(sockets):
                    stuck = True
                    self._waiting.extendleft(reversed(sockets))
            if stuck:
                return

    def _choose(self, shares: dict[Worker, list[socket.socket]] | None = None) -> Worker | None:
        """Who has the fewest connections of those that can have one more now."""
        takers = [worker for worker in self._workers if worker.takes_more]
        takers = self._loaded(takers)
        heard = monotonic() - _UNHEARD_S
        takers = [worker for worker in takers if worker.heard_at > heard] or takers
        shares = shares or {}

        def burden(worker: Worker) -> tuple[int, int]:
            given = len(shares.get(worker, ()))
            return worker.open + given, worker.passed + given

        return min(takers, key=burden, default=None)

    def _loaded(self, takers: list[Worker]) -> list[Worker]:
        ready = [worker for worker in takers if worker.ready]
        if ready:
            return ready
        # At the start whoever asks is told that it loads. A worker that takes the place of one that
        # died is waited for instead: it would say that there is no such endpoint.
        waits = self._was_ready and monotonic() - self._unready_since < _LOADING_S
        return [] if waits else takers

    def _returned(self, worker: Worker) -> None:
        with contextlib.suppress(EOFError):
            while sockets := control.take_sockets(worker.connections):
                self._waiting.extend(sockets)
            return
        self._forget(worker.connections)

    # Workers

    def _start(self) -> Worker:
        care = self._care
        worker = start_worker(
            self._settings,
            hang_s=care.hang_s,
            start_s=care.start_s,
            any_host=care.any_host,
            public=care.public,
        )
        self._workers.append(worker)
        read = selectors.EVENT_READ
        self._selector.register(worker.channel, read, lambda: self._hear(worker))
        self._selector.register(worker.connections, read, lambda: self._returned(worker))
        self._on_change()
        return worker

    def _hear(self, worker: Worker) -> None:
        try:
            kinds = worker.hear()
        except (EOFError, ValueError):
            self._forget(worker.channel)
            return
        if control.HELLO in kinds and not self._announced:
            self._announced = True
            self._on_listening()
        if control.LEAVE in kinds and worker.leaves_by is None and not self._draining:
            _say(f"Worker {worker.pid} was asked to end; another one takes its place.")
            self._replace([worker])

    def _forget(self, which: "socket.socket | control.Channel") -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(which)

    def _look_after(self) -> None:
        now = monotonic()
        if now - self._ticked_at > _UNHEARD_S:  # this process was stopped, or the machine was
            for worker in self._workers:
                worker.heard_at = now
        self._ticked_at = now
        for worker in list(self._workers):
            if worker.process.poll() is not None:
                self._mourn(worker)
            else:
                worker.channel.flush()
                self._watch(worker, now)
        if any(worker.ready and worker.leaves_by is None for worker in self._workers):
            self._was_ready = True
            self._unready_since = now
        if self._draining:
            return
        self._renew()
        self._fill(now)
        self._tell()
        self._housekeeper.look()
        if self._was_ready:  # its start takes nothing from theirs
            before = self.steward
            if said := self._stewardship.look():
                _say(said)
            if self.steward != before:
                self._on_change()

    def _watch(self, worker: Worker, now: float) -> None:
        if worker.leaves_by is not None:
            if now > worker.leaves_by and not worker.killed_for:
                worker.kill("it did not end when it was asked to")
            return
        limit = self._care.hang_s if worker.ready else self._care.start_s
        if now - worker.heard_at > limit and not worker.killed_for:
            worker.kill(f"its event loop stood still for {limit:g} s, and it was killed")

    def _mourn(self, worker: Worker) -> None:
        with contextlib.suppress(EOFError, ValueError):
            worker.hear()  # the last word
        if worker.ready and not self._draining:
            self._was_ready = True
            self._unready_since = monotonic()
        self._returned(worker)
        self._waiting.extend(worker.untaken)
        worker.untaken.clear()
        self._forget(worker.channel)
        self._forget(worker.connections)
        worker.bury()
        self._workers.remove(worker)
        self._bequeath(worker.state)
        if worker.leaves_by is None and not self._draining:
            self._miss(worker)
        elif worker.killed_for or worker.process.returncode:
            _say(f"Worker {worker.pid} is gone: {how_it_ended(worker)}.")
        self._on_change()

    def _miss(self, worker: Worker) -> None:
        """It ended without being asked to."""
        why = how_it_ended(worker)
        if not self._announced:
            raise Unavailable(
                f"The server's worker could not start: {why}.", hint="What it said is above."
            )
        if worker is self._newcomer:
            self._give_up(f"the new one did not start, for {why}")
            return
        if worker in self._to_replace:
            self._to_replace.remove(worker)
            self._newcomer = None  # it has taken this one's place
            if not self._to_replace:
                self._reloaded()
        young = monotonic() - worker.started_at < _YOUNG_S
        self._backoff_s = (
            min(_LAST_BACKOFF_S, 2 * self._backoff_s or _FIRST_BACKOFF_S) if young else 0.0
        )
        self._start_at = monotonic() + self._backoff_s
        later = f" in {self._backoff_s:g} s" if self._backoff_s else ""
        _say(f"Worker {worker.pid} is gone: {why}. It is replaced{later}.")

    def _bequeath(self, state: bytes) -> None:
        """What the worker counted still counts."""
        if not state:
            return
        from upturn.deploy.serve.state import merge_gone

        self._gone = merge_gone(self._gone, state) if self._gone else merge_gone(state)

    def _fill(self, now: float) -> None:
        there = sum(
            worker.leaves_by is None and worker is not self._newcomer for worker in self._workers
        )
        if there < self._care.workers and now >= self._start_at:
            for _ in range(self._care.workers - there):
                self._start()

    def _tell(self) -> None:
        for worker in self._workers:
            if worker.greeted:
                states = [one.state for one in self._workers if one is not worker and one.state]
                worker.tell_others([*states, self._gone] if self._gone else states)

    # Replacing

    def _replace(self, workers: list[Worker]) -> None:
        self._to_replace += [one for one in workers if one not in self._to_replace]

    def _renew(self) -> None:
        """One step: a new worker is ready before an old one is asked to end."""
        self._to_replace = [one for one in self._to_replace if one in self._workers]
        newcomer = self._newcomer
        if newcomer is not None and newcomer.ready:
            self._newcomer = newcomer = None
            if self._to_replace:
                self._drain(self._to_replace.pop(0), hand_back=True)
            if not self._to_replace:
                self._reloaded()
        elif newcomer is not None and monotonic() - newcomer.started_at > self._care.replace_s:
            newcomer.kill(f"it was not ready within {self._care.replace_s:g} s")
        if newcomer is None and self._to_replace:
            self._newcomer = self._start()

    def _give_up(self, why: str) -> None:
        self._newcomer = None
        self._to_replace.clear()
        self._reloaded(why)
        _say(f"The workers are not replaced: {why}. Those that there were serve on.")

    def _reloaded(self, failed: str = "") -> None:
        self.reloads += 1
        self.reload_failed = failed
        self._on_change()

    def _drain(self, worker: Worker, *, hand_back: bool) -> None:
        worker.drain(grace_s=self._care.grace_s, hand_back=hand_back, kill_after_s=_CLOSING_S)
        self._on_change()

    # Signals

    @contextmanager
    def _signals(self) -> Generator[None]:
        """Signals wake the selector up and are obeyed there."""
        woken, waker = socket.socketpair()
        with woken, waker:
            for sock in (woken, waker):
                sock.setblocking(False)
            self._selector.register(woken, selectors.EVENT_READ, lambda: _empty(woken))
            wakeup = signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
            numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD]
            before = {number: signal.signal(number, self._note) for number in numbers}
            self._hangs_up = before[signal.SIGHUP] != signal.SIG_IGN and _has_terminal()
            try:
                yield
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)
                signal.set_wakeup_fd(wakeup)
                self._selector.close()

    def _note(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT and self._draining:
            raise KeyboardInterrupt
        self._asked.add(number)

    def _obey(self) -> None:
        asked, self._asked = self._asked, set()
        ends = asked & {signal.SIGINT, signal.SIGTERM}
        if signal.SIGHUP in asked and not ends:
            if self._hangs_up and not _has_terminal():
                ends = {signal.SIGHUP}  # the terminal was closed
            elif not self._draining:
                self._replace([one for one in self._workers if one.leaves_by is None])
        if ends and not self._draining:
            self._end()

    def _end(self) -> None:
        """Take what is in the listener's queue, close it, and have every worker drain."""
        for worker in self._workers:
            if worker.leaves_by is not None:
                self._returned(worker)
        if self._choose() is not None:
            while self._open() < self._most:
                before = len(self._waiting)
                self._accept()
                if len(self._waiting) == before:
                    break
            self._spread()
        if self._accepting:
            self._selector.unregister(self._listener)
            self._accepting = False
        self._listener.close()
        self._draining = True
        self._stewardship.end()
        for worker in self._workers:
            self._drain(worker, hand_back=False)

    def _clear(self) -> None:
        """Whatever happened: nothing survives."""
        for worker in self._workers:
            worker.kill("the server has ended")
        for worker in self._workers:
            worker.process.wait()
            worker.bury()
            self._waiting.extend(worker.untaken)
        self._workers.clear()
        for sock in self._waiting:
            sock.close()
        self._waiting.clear()
        self._stewardship.kill()
        self._housekeeper.stop()


def _files_for(connections: int) -> int:
    """As many connections as asked for, or as files may be open; the limit is raised for it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + 1024
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    return max(16, min(connections, soft - 256 if soft > 512 else soft // 2))


def _has_terminal() -> bool:
    try:
        with open("/dev/tty", "rb"):
            return True
    except OSError:
        return False


def _empty(sock: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        while sock.recv(4096):
            pass


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
