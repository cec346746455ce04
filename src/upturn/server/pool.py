"""Pool: the threads in which a worker does what would block its event loop."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, Protocol, TypeVar

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
    """Some threads, made when they are needed. Use it from the event loop alone."""

    def __init__(self, threads: int = _THREADS, waiting: int = _WAITING) -> None:
        self._threads = threads
        self._most = threads + waiting
        self._executor: ThreadPoolExecutor | None = None
        self._busy = 0

    async def __call__(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Do it in a thread. Raises Overloaded when too much waits already."""
        if self._busy >= self._most:
            raise Overloaded(
                "The server has too much to do.", hint="Try again in a moment.", retry_after_s=1
            )
        if self._executor is None:
            self._executor = ThreadPoolExecutor(self._threads, thread_name_prefix="api")
        self._busy += 1
        future = self._executor.submit(partial(work, *args, **kwargs))
        future.add_done_callback(self._done(asyncio.get_running_loop()))
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Finish what has begun; what waits yet is not done any more."""
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)

    def _done(self, loop: asyncio.AbstractEventLoop) -> Callable[[object], None]:
        # Whoever asked may have gone away meanwhile: the thread is busy until it is done.
        def free() -> None:
            self._busy -= 1

        def done(_: object) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(free)

        return done
