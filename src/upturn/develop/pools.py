"""Pools: one LocalPool for the flow's own environment, and one for each that a step asks for."""

import contextlib
import selectors
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from upturn.core.executor import Call, Event, Failed, InEnv, Resources
from upturn.core.settings import Settings
from upturn.develop.builds import Build, folder_of, is_built
from upturn.develop.launch import launch_within
from upturn.develop.pool import LocalPool

_LONGEST_WAIT_S = 0.1  # each pool looks after its own workers when it is polled


class Pools:
    """Runs each call in its environment, which is built first if need be; implements Executor.

    A call waits while its environment is built, which does not count as its time.
    """

    def __init__(
        self, settings: Settings, *, preload: Sequence[str] = (), folders: Sequence[str] = ()
    ) -> None:
        self._settings = settings
        self._preload = preload
        self._folders = folders
        self._main = LocalPool(settings, preload=preload, folders=folders)
        self._others: dict[str, LocalPool] = {}  # by the digest of the lock, as all that follows
        self._builds: dict[str, Build] = {}
        self._waiting: dict[str, list[Call]] = {}
        self._failed: deque[Event] = deque()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._main, selectors.EVENT_READ)

    @property
    def capacity(self) -> Resources:
        """What the calls that run at once may use, in all environments together."""
        return self._main.capacity

    @property
    def gpus(self) -> tuple[str, ...]:
        """The names of its GPUs."""
        return self._main.gpus

    @property
    def alive(self) -> bool:
        """Whether it can take calls."""
        return self._main.alive

    def start(self, call: Call) -> None:
        """Run the call in its environment, once that is there."""
        if call.env is None:
            self._main.start(call)
        elif call.env.digest in self._waiting:
            self._waiting[call.env.digest].append(call)
        elif self._has(call.env):
            self._pool(call.env).start(call)
        else:
            self._waiting[call.env.digest] = [call]
            self._builds[call.env.digest] = Build(
                self._settings, call.env, _teller(call.output_file), self._main.wake
            )

    def kill(self, call: str) -> None:
        """End the call, and a build that nobody else waits for, now."""
        for digest, calls in list(self._waiting.items()):
            self._waiting[digest] = [other for other in calls if other.id != call]
            if not self._waiting[digest]:
                del self._waiting[digest]
                self._builds.pop(digest).cancel()
        for pool in (self._main, *self._others.values()):
            pool.kill(call)

    def poll(self, timeout_s: float | None) -> Sequence[Event]:
        """What happened, after at most so long."""
        if not self._others and not self._waiting and not self._failed:
            return self._main.poll(timeout_s)
        events = self._collect()
        if not events:
            most = _LONGEST_WAIT_S
            self._selector.select(most if timeout_s is None else min(timeout_s, most))
            events = self._collect()
        return events

    def wake(self) -> None:
        """Let a `poll` that waits return. Thread-safe."""
        self._main.wake()

    def close(self) -> None:
        """End all processes and builds."""
        self._waiting.clear()
        for build in self._builds.values():
            build.cancel()
        self._builds.clear()
        self._selector.close()
        for pool in (self._main, *self._others.values()):
            pool.close()
        self._others.clear()

    def _collect(self) -> list[Event]:
        for digest, build in list(self._builds.items()):
            if build.over:
                del self._builds[digest]
                self._after(build, self._waiting.pop(digest))
        events = [event for pool in (self._main, *self._others.values()) for event in pool.poll(0)]
        events = [*self._failed, *events]
        self._failed.clear()
        return events

    def _after(self, build: Build, calls: list[Call]) -> None:
        for call in calls:
            if build.problem is None and call.env is not None:
                self._pool(call.env).start(call)
            elif build.problem is not None:
                self._failed.append(Failed(call.id, build.problem, 0.0))

    def _has(self, env: InEnv) -> bool:
        """Whether the environment is there; that its folder was deleted is seen."""
        return is_built(folder_of(self._settings, env))

    def _pool(self, env: InEnv) -> LocalPool:
        pool = self._others.get(env.digest)
        if pool is not None and pool.alive:
            return pool
        if pool is not None:
            self._failed.extend(pool.poll(0))  # what became of the calls that it had
            self._selector.unregister(pool)
            pool.close()
        launch = launch_within(folder_of(self._settings, env), self._folders)
        pool = LocalPool(self._settings, preload=self._preload, launch=launch)
        self._others[env.digest] = pool
        self._selector.register(pool, selectors.EVENT_READ)
        return pool


def _teller(output_file: str) -> Callable[[str], None]:
    """Says what a build does in the output of the task that waits for it."""

    def tell(line: str) -> None:
        path = Path(output_file)
        with contextlib.suppress(OSError):  # a full disk fails the build itself
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a") as file:
                file.write(f"{line}\n")

    return tell
