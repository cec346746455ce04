"""Pool: the threads in which a worker does what would block its event loop."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from queue import SimpleQueue
from typing import Any, ParamSpec, Protocol, TypeVar

from upturn.deploy.serve.problems import Overloaded

P = ParamSpec("P")
T = TypeVar("T")
_THREADS = 8
_WAITING = 256  # that wait for a thread; more are refused


class InThread(Protocol):
    """What an application is given to have something done elsewhere than on the event loop."""

    def __call__(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
        """Do it in a thread, and return what it returns."""
        ...


class Pool:
    """Some threads, made when they are needed. Use it from one event loop alone.

    Of its own, as concurrent.futures' costs a short request a quarter of its time: two wake-ups of
    the loop for each answer, and a lock, a condition and a chain of two futures.
    """

    def __init__(self, threads: int = _THREADS, waiting: int = _WAITING) -> None:
        self._most_threads = threads
        self._most = threads + waiting
        self._work: SimpleQueue[_Job | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._busy = 0  # what is done or waits; who asked may have gone away meanwhile
        self._closed = False

    async def __call__(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Do it in a thread. Raises Overloaded when too much waits already."""
        if self._busy >= self._most or self._closed:
            raise Overloaded(
                "The server has too much to do.", hint="Try again in a moment.", retry_after_s=1
            )
        self._busy += 1
        if len(self._threads) < min(self._busy, self._most_threads):
            name = f"api_{len(self._threads)}"
            thread = threading.Thread(target=self._run, name=name, daemon=True)
            thread.start()
            self._threads.append(thread)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._work.put(_Job(loop, future, partial(work, *args, **kwargs)))
        return await future

    def close(self) -> None:
        """Finish what has begun; what waits yet is not done any more."""
        self._closed = True
        for _ in self._threads:
            self._work.put(None)
        for thread in self._threads:
            thread.join()

    def _done(self, future: "asyncio.Future[Any]", found: Any, error: BaseException | None) -> None:
        self._busy -= 1
        if future.done():  # cancelled: nobody waits any more
            return
        if error is None:
            future.set_result(found)
        else:
            future.set_exception(error)

    # In a thread

    def _run(self) -> None:
        while self._next():
            pass

    def _next(self) -> bool:
        # A frame of its own: a thread that waits must not hold the last request's body.
        job = self._work.get()
        if job is None:
            return False
        if self._closed:
            return True
        found: Any = None
        error: BaseException | None = None
        try:
            found = job.work()
        except StopIteration as raised:  # which no future can hold
            error = RuntimeError("What was done in a thread raised StopIteration.")
            error.__cause__ = raised
        except BaseException as raised:  # noqa: BLE001 (it is raised again where it is awaited)
            error = raised
        try:
            job.loop.call_soon_threadsafe(self._done, job.future, found, error)
        except RuntimeError:
            return False  # the loop is closed, and nobody waits any more
        return True


class _Job:
    __slots__ = ("future", "loop", "work")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        future: "asyncio.Future[Any]",
        work: Callable[[], Any],
    ) -> None:
        self.loop, self.future, self.work = loop, future, work
