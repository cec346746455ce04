"""LogWriter: appends to an endpoint's Log from a background thread; it never holds up an answer."""

import atexit
import threading
import time
import weakref
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from upturn.core.errors import Invalid, Unavailable
from upturn.core.log import FeedbackBatch, PredictionBatch
from upturn.stores import journal
from upturn.stores.forks import watch
from upturn.stores.journal import Framer, Journal, Kind
from upturn.stores.segments import Segments, seal, seal_journal, segments

__all__ = ["LogWriter", "Segments", "seal", "segments"]

_FIRST_RETRY_S = 0.1
_LAST_RETRY_S = 5.0
# As many as are read at once: with more, the garbage collector takes longer than the decoding.
_BATCHES_A_FRAME = 16


@dataclass(frozen=True, slots=True)
class _Entry:
    """A batch to write, and who is told when it is on disk; without a batch, when all before is."""

    batch: PredictionBatch | FeedbackBatch | None
    done: "Future[None] | None"

    @property
    def kind(self) -> Kind:
        return "predictions" if isinstance(self.batch, PredictionBatch) else "feedback"

    @property
    def rows(self) -> int:
        return len(self.batch.ids) if self.batch is not None else 0


class LogWriter:
    """Appends predictions and feedback to the Log in `directory`; thread-safe.

    What came within `window_s` seconds is written at once, so that the death of the process loses
    at most that; a durable batch is written and synced without waiting, with what is queued by
    then. A journal of `roll_rows` rows or `roll_s` seconds is closed and sealed as Parquet.

    While the disk fails, rows wait and are tried again; beyond `max_queued_rows` they are dropped
    and counted in `lost_rows`. Durable batches fail at once instead, and are not kept.
    """

    def __init__(
        self,
        directory: Path,
        *,
        window_s: float = 0.02,
        roll_rows: int = 20_000,
        roll_s: float = 600.0,
        max_queued_rows: int = 100_000,
    ) -> None:
        self._directory = Path(directory)
        self._window_s = window_s
        self._roll_rows = roll_rows
        self._roll_s = roll_s
        self._max_queued_rows = max_queued_rows
        self._closed = False
        self._reset()
        _WRITERS.add(self)
        watch(self)

    def write(
        self, batch: PredictionBatch | FeedbackBatch, *, durable: bool = False
    ) -> "Future[None] | None":
        """Take the batch, whose lists are the writer's from now on, and return at once.

        A durable batch's Future is done when the disk has it, or has Unavailable when it can't.
        Raises Unavailable when the writer was closed.
        """
        done: Future[None] | None = Future() if durable else None
        rows = len(batch.ids)
        with self._lock:
            if self._closed:
                raise Unavailable("The log's writer was closed.")
            if self._thread is None:
                self._start()
            fits = self._queued_rows + rows <= self._max_queued_rows
            if fits:
                self._put(_Entry(batch, done))
                self._queued_rows += rows
            elif not durable:
                self._lost_rows += rows
        if done is not None and not fits:
            done.set_exception(self._unavailable("its queue is full"))
        return done

    def flush(self) -> None:
        """Wait until all that was written so far is in a file (not until the disk has synced it).

        Raises Unavailable when the disk does not take it.
        """
        done: Future[None] = Future()
        with self._lock:
            if self._thread is None or self._closed:
                return
            self._put(_Entry(None, done))
        done.result()

    def close(self) -> None:
        """Write what is queued and seal; nothing happens the second time."""
        self.stop()
        for path in self._to_seal:
            _try_to_seal(path)
        self._to_seal.clear()

    def stop(self) -> None:
        """Write what is queued and close the journals, without sealing them."""
        with self._lock:
            self._closed = True
            thread = self._thread
            self._wake.set()
            self._hurry.set()
        if thread is not None:
            thread.join()
        for sealer in self._sealers:
            sealer.join()
        self._sealers.clear()
        _WRITERS.discard(self)

    @property
    def queued_rows(self) -> int:
        """Rows that are not in a file yet."""
        return self._queued_rows

    @property
    def lost_rows(self) -> int:
        """Rows dropped because the disk failed for too long or because they can't be encoded."""
        return self._lost_rows

    # Shared with the background thread

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._wake = threading.Event()  # there is something to do
        self._hurry = threading.Event()  # and it does not wait for the window to pass
        self._queue: deque[_Entry] = deque()
        self._queued_rows = 0
        self._lost_rows = 0
        self._thread: threading.Thread | None = None
        # Below: the background thread's own.
        self._framer = Framer()
        self._journals: dict[Kind, Journal] = {}
        self._pending: list[_Entry] = []  # what the disk did not take
        self._retry_s = 0.0
        self._retry_at = 0.0
        self._to_seal: list[Path] = []
        self._sealers: list[threading.Thread] = []

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="upturn-log", daemon=True)
        self._thread.start()

    def _put(self, entry: _Entry) -> None:
        if not self._queue:
            self._wake.set()
        self._queue.append(entry)
        if entry.done is not None and not self._hurry.is_set():
            self._hurry.set()

    def _take(self) -> tuple[list[_Entry], bool]:
        with self._lock:
            entries = list(self._queue)
            self._queue.clear()
            self._wake.clear()
            self._hurry.clear()
            return entries, self._closed

    def _settle(self, entries: Sequence[_Entry], error: Exception | None = None) -> None:
        """The entries are written, or given up because of `error`; tell who waits."""
        with self._lock:
            self._queued_rows -= sum(entry.rows for entry in entries)
            if error is not None:
                self._lost_rows += sum(entry.rows for entry in entries if entry.done is None)
        for entry in entries:
            if entry.done is None or not entry.done.set_running_or_notify_cancel():
                continue
            if error is None:
                entry.done.set_result(None)
            else:
                entry.done.set_exception(error)

    # In the background thread

    def _run(self) -> None:
        closing = False
        while not closing:
            self._wake.wait(self._idle_s())
            if self._queue or self._pending:
                self._hurry.wait(self._gather_s())
            entries, closing = self._take()
            entries = self._pending + entries
            self._pending = []
            try:
                self._write_out(entries)
            except Exception as error:  # noqa: BLE001  (a log that stops would stop serving)
                self._settle(entries, error)
                _complain("The log could not be written: %s.", error)
            self._roll(everything=closing)
        self._settle(self._pending, self._unavailable("the disk did not take it"))
        self._pending = []

    def _idle_s(self) -> float | None:
        now = time.monotonic()
        if self._pending:
            return max(0.0, self._retry_at - now)
        ages = [each.began + self._roll_s - now for each in self._journals.values()]
        return max(0.0, min(ages)) if ages else None

    def _gather_s(self) -> float:
        if self._pending:
            return max(0.0, self._retry_at - time.monotonic())
        return self._window_s

    def _write_out(self, entries: Sequence[_Entry]) -> None:
        for kind in journal.KINDS:
            mine = [entry for entry in entries if entry.batch is not None and entry.kind == kind]
            if mine:
                self._append(kind, mine)
        marks = [entry for entry in entries if entry.batch is None]
        self._settle(
            marks, self._unavailable("the disk does not take it") if self._pending else None
        )

    def _append(self, kind: Kind, entries: list[_Entry]) -> None:
        frames, entries = self._frames(entries)
        try:
            if kind not in self._journals:
                self._journals[kind] = journal.create(self._directory, kind)
            durable = any(entry.done is not None for entry in entries)
            rows = sum(entry.rows for entry in entries)
            open_one = self._journals[kind]
            if open_one.layouts < self._framer.layouts:
                frames.insert(0, self._framer.definitions(open_one.layouts))
            open_one.append(frames, rows, sync=durable)
            open_one.layouts = self._framer.layouts
        except OSError as error:
            self._failed(kind, entries, error)
            return
        self._retry_s = 0.0
        self._settle(entries)

    def _frames(self, entries: list[_Entry]) -> tuple[list[bytes], list[_Entry]]:
        """The frames, and the entries in them: what can't be encoded is given up."""
        frames: list[bytes] = []
        kept: list[_Entry] = []
        for begin in range(0, len(entries), _BATCHES_A_FRAME):
            some = entries[begin : begin + _BATCHES_A_FRAME]
            try:
                frames.append(self._frame(some))
                kept += some
            except (TypeError, ValueError, OverflowError):
                for entry in some:
                    try:
                        frames.append(self._frame([entry]))
                        kept.append(entry)
                    except (TypeError, ValueError, OverflowError) as error:
                        self._settle([entry], Invalid(f"A row can't be logged: {error}."))
                        _complain("Rows could not be logged: %s.", error)
        return frames, kept

    def _frame(self, entries: Sequence[_Entry]) -> bytes:
        return self._framer.frame([entry.batch for entry in entries if entry.batch is not None])

    def _failed(self, kind: Kind, entries: list[_Entry], error: OSError) -> None:
        """Keep what need not be durable for another try, in another journal."""
        broken = self._journals.pop(kind, None)
        if broken is not None:
            self._retire(broken)
        durable = [entry for entry in entries if entry.done is not None]
        self._settle(durable, self._unavailable(error.strerror or str(error)))
        self._pending += [entry for entry in entries if entry.done is None]
        if not self._retry_s:
            _complain("The log in %s can't be written and waits: %s.", self._directory, error)
        self._retry_s = min(_LAST_RETRY_S, 2 * self._retry_s or _FIRST_RETRY_S)
        self._retry_at = time.monotonic() + self._retry_s

    def _roll(self, *, everything: bool) -> None:
        now = time.monotonic()
        for kind, each in list(self._journals.items()):
            full = each.rows >= self._roll_rows or now - each.began >= self._roll_s
            if full or everything:
                del self._journals[kind]
                self._retire(each)
        if not everything and self._to_seal:
            # In a thread of its own: a durable batch must not wait for it.
            paths, self._to_seal = self._to_seal, []
            sealer = threading.Thread(
                target=_seal_all, args=(paths,), name="upturn-seal", daemon=True
            )
            self._sealers = [thread for thread in self._sealers if thread.is_alive()]
            self._sealers.append(sealer)
            sealer.start()

    def _retire(self, old: Journal) -> None:
        old.close()
        self._to_seal.append(old.path)

    def _unavailable(self, why: str) -> Unavailable:
        return Unavailable(
            f"The log in {self._directory} can't be written now: {why}.",
            hint="See whether its disk is full or failing.",
        )

    # Around forks and the interpreter's end

    def before_fork(self) -> None:
        """Nothing to wait for: a child takes nothing over."""

    def after_fork(self, *, child: bool) -> None:
        """In a child: what is queued is the parent's to write, and so are its journals."""
        if child:
            for each in self._journals.values():
                each.close()
            self._reset()


def _seal_all(paths: Sequence[Path]) -> None:
    for path in paths:
        _try_to_seal(path)


def _try_to_seal(path: Path) -> None:
    try:
        seal_journal(path)
    except Exception as error:  # noqa: BLE001  (its rows are safe where they are)
        _complain("%s stays a journal for now: %s.", path, error)


def _complain(text: str, *values: object) -> None:
    import logging

    logging.getLogger("upturn.log").warning(text, *values)


_WRITERS: "weakref.WeakSet[LogWriter]" = weakref.WeakSet()


def _at_exit() -> None:
    """At the interpreter's end: write what is queued, and leave sealing to whoever comes next."""
    for writer in list(_WRITERS):
        writer.stop()


atexit.register(_at_exit)
