"""Writer: the journals of one run in this process and in those that it forks."""

import contextlib
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from upturn.develop.tracking.journal import Journal, new_path, number_of, step_of
from upturn.stores.forks import watch


class Writer:
    """Writes to a journal that is made when something is said; a forked child makes its own.

    `log` is the journal's own once there is one, for every call between costs.
    """

    def __init__(
        self, home: Path, stem: str, about: Mapping[str, Any], *, path: Path | None = None
    ) -> None:
        """The journal is at `path`, or at a new one in the home, whose name begins with `stem`."""
        self._home, self._stem, self._about = home, stem, dict(about)
        self._path = path
        self._making = threading.RLock()
        self._closed = False
        self.journal: Journal | None = None
        self.forked = False  # there may be journals of children
        self.pid = os.getpid()
        self.log: Callable[[Mapping[str, Any], int | None], None] = self._first
        watch(self)

    def note(self, note: Mapping[str, Any]) -> None:
        """Write something else than metrics."""
        journal = self._made()
        if journal is not None:
            journal.note(note)

    def close(self) -> None:
        """Close the journal. What is said later goes nowhere."""
        with self._making:
            self._closed = True
            if self.journal is not None:
                self.journal.close()
            self.log = _checked

    def before_fork(self) -> None:
        """Nothing is to be half made."""
        self._making.acquire()

    def after_fork(self, *, child: bool) -> None:
        """A child begins anew, beside its parent's journal."""
        self.forked = True
        if not child:
            self._making.release()
            return
        self._making = threading.RLock()
        self._path = None
        if self.journal is not None:
            self.journal.forget()
            self.journal = None
        if not self._closed:
            self.log = self._first

    def _first(self, metrics: Mapping[str, Any], step: int | None) -> None:
        _checked(metrics, step)
        journal = self._made()
        if journal is not None:
            journal.log(metrics, step)

    def _made(self) -> Journal | None:
        with self._making:
            if self.journal is None and not self._closed:
                path = self._path or new_path(self._home, self._stem)
                # Where not even a file can be made, the user's own code is to go on.
                with contextlib.suppress(OSError):
                    self.journal = Journal(path, self._about)
                    self.log = self.journal.log
            return self.journal


def _checked(metrics: Mapping[str, Any], step: int | None) -> None:
    """Refuse what is no number where it is said, whether anybody listens or not."""
    for name, value in metrics.items():
        number_of(name, value)
    if step is not None:
        step_of(step)
