"""Tokens: cores, memory and GPUs of an executor, lent to the tasks that run."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from upturn.core.executor import Resources

T = TypeVar("T")


class Tokens:
    """What is free of an executor's resources.

    A task that wants more cores or memory than there are runs alone.
    """

    def __init__(self, capacity: Resources, gpus: Sequence[str] = ()) -> None:
        self._cpus = capacity.cpus
        self._memory_bytes = capacity.memory_bytes
        self._gpus = list(gpus)
        self._lent = 0

    def lacking(self, needs: Resources) -> frozenset[str]:
        """Which resources there is not enough of now."""
        alone = not self._lent
        lacks = {
            "cpus": needs.cpus > self._cpus and not alone,
            "memory": needs.memory_bytes > self._memory_bytes and not alone,
            "gpus": needs.gpus > len(self._gpus),
        }
        return frozenset(name for name, lacking in lacks.items() if lacking)

    def take(self, needs: Resources) -> tuple[str, ...]:
        """Lend them; the names of the GPUs among them."""
        self._lent += 1
        self._cpus -= needs.cpus
        self._memory_bytes -= needs.memory_bytes
        gpus, self._gpus = self._gpus[: needs.gpus], self._gpus[needs.gpus :]
        return tuple(gpus)

    def give_back(self, needs: Resources, gpus: tuple[str, ...]) -> None:
        """Have them back."""
        self._lent -= 1
        self._cpus += needs.cpus
        self._memory_bytes += needs.memory_bytes
        self._gpus.extend(gpus)


@dataclass(slots=True)
class _Waiting(Generic[T]):
    number: int
    item: T


class Queue(Generic[T]):
    """Who waits for tokens, by what they need.

    Who needs nothing of what an earlier one lacks may pass it, so that a task for a GPU holds up no
    other; who needs some of it may not, so that nobody waits for ever.

    >>> queue, tokens = Queue[str](), Tokens(Resources(cpus=2), gpus=["0"])
    >>> for name, gpus in (("a", 1), ("b", 1), ("c", 0)):
    ...     queue.put(name, Resources(gpus=gpus))
    >>> started = []
    >>> while (found := queue.take(tokens)) is not None:
    ...     started.append(found)
    >>> started
    [('a', ('0',)), ('c', ())]
    """

    def __init__(self) -> None:
        self._lines: dict[Resources, deque[_Waiting[T]]] = {}
        self._count = 0

    def put(self, item: T, needs: Resources) -> None:
        """Wait in line."""
        self._count += 1
        self._lines.setdefault(needs, deque()).append(_Waiting(self._count, item))

    def take(self, tokens: Tokens) -> tuple[T, tuple[str, ...]] | None:
        """The first whose turn it is, with the GPUs that it gets; its tokens are taken."""
        lacking: frozenset[str] = frozenset()
        for needs, line in sorted(self._lines.items(), key=lambda pair: pair[1][0].number):
            if _wanted(needs) & lacking:
                continue
            lacks = tokens.lacking(needs)
            if lacks:
                lacking |= lacks
                continue
            item = line.popleft().item
            if not line:
                del self._lines[needs]
            return item, tokens.take(needs)
        return None

    def __bool__(self) -> bool:
        return bool(self._lines)


def _wanted(needs: Resources) -> set[str]:
    amounts = {"cpus": needs.cpus, "memory": needs.memory_bytes, "gpus": needs.gpus}
    return {name for name, amount in amounts.items() if amount}
