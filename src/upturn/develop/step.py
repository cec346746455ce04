"""Step: a plain function that runs as a task when a flow calls it."""

import functools
import inspect
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, Generic, ParamSpec, TypeVar, cast, overload

from upturn.core.errors import Invalid
from upturn.core.size import size_bytes
from upturn.core.time import duration
from upturn.develop import context
from upturn.develop.env import Env
from upturn.develop.frames import kinds_of
from upturn.develop.options import RAISE, StepOptions
from upturn.develop.ref import Ref

P = ParamSpec("P")
R = TypeVar("R")
Exceptions = type[BaseException] | tuple[type[BaseException], ...]


class Step(Generic[P, R]):
    """A function that becomes a task when a flow calls it; anywhere else it is just called."""

    def __init__(self, function: Callable[P, R], options: StepOptions) -> None:
        if not callable(function):
            raise Invalid("@up.step decorates a function.")
        if inspect.iscoroutinefunction(function):
            raise Invalid(
                f"{function.__name__} is async, and a step has a process to itself.",
                hint="Write a plain def; call asyncio.run inside it where you need to.",
            )
        functools.update_wrapper(self, function)
        self.function = function
        self.options = options
        self.name = function.__name__
        self.signature = inspect.signature(function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """In a flow: a Ref to what the function will return, at once. Elsewhere: the value."""
        session = context.session.get()
        if session is None:
            return self.function(*args, **kwargs)
        return cast(R, session.submit(self, args, kwargs))

    def map(self, *iterables: Iterable[Any], **constants: Any) -> list[R]:
        """One call for each item of the positional iterables together; keywords the same for all.

        Iterables of different lengths are an error. A Ref to a list is waited for.

        >>> import upturn as up
        >>> @up.step
        ... def power(base: int, exponent: int) -> int:
        ...     return base**exponent
        >>> power.map([1, 2, 3], exponent=2)
        [1, 4, 9]
        """
        columns = [list(_items(iterable, self.name)) for iterable in iterables]
        if not columns:
            raise Invalid(
                f"{self.name}.map() maps its positional arguments, and was given none.",
                hint=f"Write {self.name}.map(values, constant=…).",
            )
        if len({len(column) for column in columns}) > 1:
            lengths = " and ".join(str(len(column)) for column in columns)
            raise Invalid(f"{self.name}.map() was given iterables of {lengths} items.")
        call = cast(Callable[..., R], self)
        return [call(*items, **constants) for items in zip(*columns, strict=True)]

    def __repr__(self) -> str:
        return f"<Step {self.name}>"


def _items(iterable: Any, name: str) -> Iterable[Any]:
    if isinstance(iterable, Ref):
        return cast("Ref[Iterable[Any]]", iterable).get()
    if isinstance(iterable, str | bytes) or not isinstance(iterable, Iterable):
        raise Invalid(
            f"{name}.map() maps over lists, and was given {iterable!r}.",
            hint="What is the same for every call is given by keyword.",
        )
    return cast(Iterable[Any], iterable)


@overload
def step(function: Callable[P, R], /) -> Step[P, R]: ...
@overload
def step(
    *,
    cpus: int = 1,
    memory: str | int | None = None,
    gpus: int = 0,
    retries: int = 0,
    retry_on: Exceptions | None = None,
    timeout: str | float | timedelta | None = None,
    cache: bool | str | timedelta = True,
    on_error: Any = RAISE,
    env: Env | None = None,
) -> Callable[[Callable[P, R]], Step[P, R]]: ...
def step(
    function: Callable[..., Any] | None = None,
    /,
    *,
    cpus: int = 1,
    memory: str | int | None = None,
    gpus: int = 0,
    retries: int = 0,
    retry_on: Exceptions | None = None,
    timeout: str | float | timedelta | None = None,
    cache: bool | str | timedelta = True,
    on_error: Any = RAISE,
    env: Env | None = None,
) -> Any:
    """Make a function a step.

    Each of its tasks keeps `cpus` cores, `memory` ('2GB') and `gpus` GPUs from other tasks while it
    runs; a task that uses more than its memory, with all processes that it starts, is ended. A
    failed attempt is repeated up to `retries` times, with growing pauses, or only when it failed
    with one of the exceptions `retry_on` (a timeout counts as TimeoutError, too much memory as
    MemoryError, the death of its process as ChildProcessError). An attempt that takes longer than
    `timeout` ('10m') is killed. When the last attempt has failed, the value `on_error`, if one is
    given, takes the place of the output. `cache=False` runs it in every run (but not twice in one
    that is resumed); `cache="7d"` lets its results expire. `env=up.env("pandas==2.3")` runs it with
    those packages instead of the flow's.

    >>> import upturn as up
    >>> @up.step(retries=2, timeout="10m", memory="2GB")
    ... def double(x: int) -> int:
    ...     return 2 * x
    >>> double(4)
    8
    """
    if cpus < 1 or retries < 0 or gpus < 0:
        raise Invalid("A step takes at least one core, and no fewer than 0 GPUs and retries.")
    if env is not None and not isinstance(env, Env):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise Invalid(f"env={env!r} is no environment.", hint="Write env=up.env('pandas==2.3').")
    options = StepOptions(
        cpus=cpus,
        memory_bytes=None if memory is None else size_bytes(memory),
        gpus=gpus,
        retries=retries,
        retry_on=None if retry_on is None else _names_of(retry_on),
        timeout=None if timeout is None else duration(timeout),
        cache=cache if isinstance(cache, bool) else duration(cache),
        on_error=on_error,
        env=env,
    )
    if function is not None:
        return Step(function, options)
    return lambda decorated: Step(decorated, options)


def _names_of(exceptions: Exceptions) -> tuple[str, ...]:
    kinds: tuple[Any, ...] = exceptions if isinstance(exceptions, tuple) else (exceptions,)
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise Invalid(
                f"retry_on is {kind!r}, which is no exception class.",
                hint="Write retry_on=ConnectionError, or a tuple of several.",
            )
    return tuple(kinds_of(kind)[0] for kind in kinds)
