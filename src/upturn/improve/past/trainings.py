"""Trainings: each window is trained on once, by one thread, whoever asks for it."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import datetime
from typing import NamedTuple

from upturn.improve.actions import train
from upturn.improve.evidence import Trained, TrainingFailed
from upturn.improve.loop import Trains

Made = Trained | TrainingFailed


class Window(NamedTuple):
    """What to train, and on which data: [start, until)."""

    flow: Trains
    start: datetime
    until: datetime

    @property
    def key(self) -> tuple[int, datetime, datetime]:
        """What makes it the same training."""
        return id(self.flow), self.start, self.until


class Interrupted(BaseException):
    """Raised in a policy's thread when the rehearsal ends early."""


class Trainings:
    """Trainings by their window: each done once here, and not again in another process.

    They run in the thread that made this, one after another, and Ctrl-C ends them as it would any
    run. Other threads that ask wait for it, while `serve` does what they ask. All others rest
    meanwhile: a training takes what cores there are, and where its threads wait for one that has to
    share a core it can take ten times as long.
    """

    def __init__(self, heard: Callable[[str], None]) -> None:
        self._heard = heard
        self._owner = threading.get_ident()
        self._lock = threading.Lock()
        self._asked: queue.SimpleQueue[Window | None] = queue.SimpleQueue()
        self._made: dict[tuple[int, datetime, datetime], Future[Made]] = {}
        self._stopped = False
        self._rest = threading.Event()  # set while nothing trains
        self._rest.set()
        self.seconds = 0.0

    def on(self, window: Window) -> Made:
        """What training on that window made."""
        if threading.get_ident() == self._owner:
            future = self._future(window)[0]
            self._run(window, future)
            return future.result()
        self.check()
        future, new = self._future(window)
        if new:
            self._asked.put(window)
        return future.result()

    def serve(self, tasks: Sequence[Future[None]]) -> None:
        """Train what is asked for until the tasks are done. Raises what ended one of them."""
        for task in tasks:
            task.add_done_callback(lambda _: self._asked.put(None))
        while not all(task.done() for task in tasks):
            window = self._asked.get()
            if window is not None:
                self._run(window, self._future(window)[0])
            _raise_failures(tasks)
        _raise_failures(tasks)  # also of those that ended before anything was asked for

    def stop(self) -> None:
        """End the threads that ask, or wait, for a training."""
        with self._lock:
            self._stopped = True
            waiting = [one for one in self._made.values() if not one.done()]
        for future in waiting:
            future.set_exception(Interrupted())
        self._rest.set()

    def check(self) -> None:
        """Wait while something trains. Raises Interrupted when the rehearsal ends early."""
        self._rest.wait()
        if self._stopped:
            raise Interrupted

    def versions(self) -> dict[int, Trained]:
        """All versions that were trained here."""
        with self._lock:
            done = [one.result() for one in self._made.values() if _made(one)]
        return {one.version: one for one in done if isinstance(one, Trained)}

    @property
    def count(self) -> int:
        """How many trainings there were, of different windows."""
        return sum(_made(one) for one in self._made.values())

    def _future(self, window: Window) -> tuple[Future[Made], bool]:
        with self._lock:
            new = window.key not in self._made
            if new:
                self._made[window.key] = Future()
            return self._made[window.key], new

    def _run(self, window: Window, future: Future[Made]) -> None:
        if future.done():
            return
        self._heard(f"training on {window.start:%Y-%m-%d} to {window.until:%Y-%m-%d}")
        began = time.perf_counter()
        self._rest.clear()
        try:
            made = train(window.flow, window.start, window.until)
        except Exception as error:  # noqa: BLE001  # whoever asked gets it
            future.set_exception(error)
        else:
            self.seconds += time.perf_counter() - began
            future.set_result(made)
        finally:
            self._rest.set()


def _made(future: Future[Made]) -> bool:
    return future.done() and future.exception() is None


def _raise_failures(tasks: Sequence[Future[None]]) -> None:
    for task in tasks:
        if task.done():
            task.result()
