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

_EVERY_S = 0.2  # between two messages of one level, in the long run
_BURST = 5.0  # messages at once, so that a slow item after a few quick ones finds the count right
_LEVELS = 2  # a loop, and one within it; what is nested deeper is not told
_SLOW_S = 0.01  # where so few items take so long, the clock is read after each one
_FIRST = 64  # items after each of which it is read anyway
_AT_ONCE = 16  # items between two looks at the clock, which costs as much as the rest


class Bar:
    """How far a loop is. `advance` says so."""

    def __init__(self, total: int | None, title: str) -> None:
        self.done: int = 0
        self.total = total
        self.title = title
        self._task = context.task.get()
        self._level = _LEVELS
        self._told: int | None = None

    def __enter__(self) -> Self:
        """Begin."""
        if self._task is not None:
            self._level = _telling.enter(self, self._task)
            _telling.tell(self, self._level)
        return self

    def __exit__(self, *_: object) -> None:
        """End, however far it came."""
        if self._task is not None:
            _telling.tell(self, self._level, last=not self._level)
            _telling.leave(self)

    def advance(self, by: int = 1) -> None:
        """Say that so many more are done."""
        self.done += by
        if self._task is not None:
            _telling.tell(self, self._level)

    def over(self, items: Iterable[T]) -> Iterator[T]:
        """Yield the items, and count those that the loop is done with."""
        with self:
            look, seen = 0, time.monotonic()
            for done, item in enumerate(items, 1):
                yield item
                self.done = done
                if done >= look:
                    now = time.monotonic()
                    look = done + (1 if now - seen > _SLOW_S or done < _FIRST else _AT_ONCE)
                    seen = now
                    _telling.tell(self, self._level, now)

    def send(self, level: int) -> None:
        """Tell the driver, if it does not know yet."""
        task = self._task
        if task is None or self._told == self.done:
            return
        self._told = self.done
        if context.task.get() is task:  # a generator may be closed long after its task ended
            task.send(Progressed(task.call.id, self.done, self.total, self.title, level))


class _Telling:
    """The bars of the task that this process runs, and how many messages each level has left."""

    def __init__(self) -> None:
        self._task: context.TaskContext | None = None
        self._bars: list[Bar] = []
        self._left = [_BURST] * _LEVELS
        self._at = [0.0] * _LEVELS

    def enter(self, bar: Bar, task: context.TaskContext) -> int:
        """How deep the bar is nested."""
        if task is not self._task:
            self._task, self._bars, self._left = task, [], [_BURST] * _LEVELS
        self._bars.append(bar)
        return len(self._bars) - 1

    def leave(self, bar: Bar) -> None:
        """The bar has ended."""
        if bar in self._bars:
            self._bars.remove(bar)

    def tell(self, bar: Bar, level: int, now: float | None = None, *, last: bool = False) -> None:
        """Send how far the bar and what is around it are, unless that was done just now.

        The last word may be sent on credit: what comes after the loop may take long.
        """
        if level >= _LEVELS:
            return
        now = time.monotonic() if now is None else now
        left = min(_BURST, self._left[level] + (now - self._at[level]) / _EVERY_S)
        self._at[level] = now
        sends = left >= (1 - _BURST if last else 1)
        self._left[level] = left - sends
        if sends:
            for outer, around in enumerate(self._bars[:level]):
                around.send(outer)
            bar.send(level)


_telling = _Telling()


@overload
def progress(
    iterable: Iterable[T], *, total: int | None = None, title: str = ""
) -> Iterable[T]: ...
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
