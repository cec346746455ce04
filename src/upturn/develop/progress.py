"""Progress: how far a task is, as the task itself says while it loops."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar, overload

from upturn.core.errors import Invalid
from upturn.core.executor import Progressed
from upturn.develop import context

if TYPE_CHECKING:
    from typing import Self

T = TypeVar("T")

_EVERY_S = 0.2  # between two messages of one level
_LEVELS = 2  # a loop, and one within it; what is nested deeper is not told
_SLOW_S = 0.01  # where so few items take so long, the clock is read after each one
_AT_ONCE = 8  # items between two looks at the clock, which costs as much as the rest


class Bar:
    """How far a loop is. `advance` says so."""

    def __init__(self, total: int | None, title: str) -> None:
        self.done: int = 0
        self.total = total
        self.title = title
        self._task = context.task.get()
        self._level = _LEVELS

    def __enter__(self) -> Self:
        """Begin."""
        if self._task is not None:
            self._level = _telling.enter(self, self._task)
            self._tell(time.monotonic())
        return self

    def __exit__(self, *_: object) -> None:
        """End, however far it came."""
        if self._task is not None:
            self._tell(time.monotonic(), last=not self._level)
            _telling.leave(self)

    def advance(self, by: int = 1) -> None:
        """Say that so many more are done."""
        self.done += by
        if self._task is not None:
            self._tell(time.monotonic())

    def over(self, items: Iterable[T]) -> Iterator[T]:
        """Yield the items, and count those that the loop is done with."""
        with self:
            look, seen = 1, time.monotonic()
            done = 0
            try:
                for item in items:
                    yield item
                    done += 1
                    if done >= look:
                        now = time.monotonic()
                        look = done + (1 if now - seen > _SLOW_S else _AT_ONCE)
                        seen = now
                        self.done = done
                        self._tell(now)
            finally:
                self.done = done

    def _tell(self, now: float, *, last: bool = False) -> None:
        task = self._task
        if task is None or not _telling.is_due(self._level, now, last=last):
            return
        if context.task.get() is task:  # a generator may be closed long after its task ended
            task.send(Progressed(task.call.id, self.done, self.total, self.title, self._level))


class _Telling:
    """The bars of the task that this process runs, and when they were told last."""

    def __init__(self) -> None:
        self._task: context.TaskContext | None = None
        self._bars: list[Bar] = []
        self._due = [0.0] * _LEVELS

    def enter(self, bar: Bar, task: context.TaskContext) -> int:
        """How deep the bar is nested."""
        if task is not self._task:
            self._task, self._bars, self._due = task, [], [0.0] * _LEVELS
        self._bars.append(bar)
        return len(self._bars) - 1

    def leave(self, bar: Bar) -> None:
        """The bar has ended."""
        if bar in self._bars:
            self._bars.remove(bar)

    def is_due(self, level: int, now: float, *, last: bool) -> bool:
        """Whether the level may speak. The last word comes a little earlier."""
        if level >= _LEVELS or now < self._due[level] - last * _EVERY_S * 0.9:
            return False
        self._due[level] = now + _EVERY_S
        return True


_telling = _Telling()


@overload
def progress(iterable: Iterable[T], *, total: int | None = None, title: str = "") -> Iterable[T]: ...
@overload
def progress(*, total: int | None = None, title: str = "") -> Bar: ...
def progress(
    iterable: Iterable[T] | None = None, *, total: int | None = None, title: str = ""
) -> Iterable[T] | Bar:
    """Loop over something and show in the terminal how far it is; outside a task, only loop.

    Without something to loop over it is a bar: `with up.progress(total=n) as bar: bar.advance(k)`.

    >>> import upturn as up
    >>> sum(up.progress([1, 2, 3], title="adding"))
    6
    """
    if total is not None and (not isinstance(total, int) or total < 0):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise Invalid(f"total is {total!r}, not how many items there are.")
    if iterable is None:
        return Bar(total, title)
    if context.task.get() is None:
        return iterable
    return Bar(_length(iterable) if total is None else total, title).over(iterable)


def _length(iterable: Iterable[object]) -> int | None:
    try:
        return len(iterable)  # pyright: ignore[reportArgumentType]
    except Exception:  # noqa: BLE001  # what has a length that can't be known is none to fail for
        return None
