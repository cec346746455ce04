"""Forks: what open files, locks and threads do when their process is forked."""

import os
import weakref
from typing import Protocol


class ForkAware(Protocol):
    """Something with files, locks or threads that must not be shared with a forked child."""

    def before_fork(self) -> None:
        """Come to rest: nothing may be half done in the memory that the child gets."""
        ...

    def after_fork(self, *, child: bool) -> None:
        """Go on; a child begins anew, with nothing of its parent's."""
        ...


def watch(thing: ForkAware) -> None:
    """Tell `thing` of every fork, as long as it lives."""
    _watched.add(thing)


_watched: "weakref.WeakSet[ForkAware]" = weakref.WeakSet()
_at_rest: list[ForkAware] = []  # between before and after: the same ones, kept alive


def _before() -> None:
    for thing in list(_watched):
        thing.before_fork()
        _at_rest.append(thing)


def _after(*, child: bool) -> None:
    for thing in _at_rest:
        thing.after_fork(child=child)
    _at_rest.clear()


os.register_at_fork(
    before=_before,
    after_in_parent=lambda: _after(child=False),
    after_in_child=lambda: _after(child=True),
)
