"""LogWriter: appends to an endpoint's Log from a background thread; it never holds up an answer."""

import atexit
import threading
import time
import weakref
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

from upturn.core.errors import Invalid, Unavailable
from upturn.core.log import FeedbackBatch, Gap, PredictionBatch
from upturn.stores.appender import UNFIT, Appender, Frame, Rows, frame_slices
from upturn.stores.forks import watch
from upturn.stores.journal import Kind
from upturn.stores.segments import Segments, seal, seal_journal, segments

__all__ = ["LogWriter", "Segments", "seal", "segments"]

_FIRST_RETRY_S = 0.1
_LAST_RETRY_S = 5.0
_LATE_S = 0.003  # after its window: then nobody has called the thread
_GIVEN_S = 50e-6  # what it takes a thread to wake up
_LOOK_S = 0.001  # between two looks whether the disk is done
_GAP_ENDS_S = 1.0  # after its last loss: what is lost before belongs to the same gap
_KINDS: tuple[tuple[Kind, type[Rows]], ...] = (
    ("predictions", PredictionBatch),
    ("feedback", FeedbackBatch),
)
_Durable = tuple[Rows, "Future[None]"]


class LogWriter:
    """Appends predictions and feedback to the Log in `directory`; thread-safe.

    What came within `window_s` seconds is written and synced together, so that nothing that may
    happen loses more than that and what came while the disk synced. A durable batch does not wait
    for the window; it goes with what is queued by then. A journal of `roll_rows` rows or `roll_s`
    seconds is closed, and `seal` makes it a Parquet file.

    While the disk fails, rows wait and are tried again; beyond `max_queued_rows` or
    `max_queued_bytes` they are dropped and counted in `lost_rows`, and once the disk takes writes
    again a Gap in the Log says so. Durable batches fail at once instead, and are not kept.
    """

    def __init__(
        self,
        directory: Path,
        *,
        window_s: float = 0.01,
        roll_rows: int = 50_000,
        roll_s: float = 600.0,
        max_queued_rows: int = 100_000,
        max_queued_bytes: int = 64 * 2**20,
    ) -> None:
        self._directory = Path(directory)
        self._window_s = window_s
        self._roll_rows = roll_rows
        self._roll_s = roll_s
        self._max_queued_rows = max_queued_rows
        self._max_queued_bytes = max_queued_bytes
        self._closed = False
        self._reset()
        _WRITERS.add(self)
        watch(self)

    def write(self, batch: Rows, *, durable: bool = False) -> "Future[None] | None":
        """Take the batch, whose lists are the writer's from now on, and return at once.

        A durable batch's Future is done when the disk has it, or has Unavailable when it can't.
        Raises Unavailable when the writer was closed.
        """
        rows = len(batch.ids)
        with self._lock:
            if durable or not self._open or self._queued_rows + rows > self._max_queued_rows:
                return self._write_with_care(batch, rows, durable=durable)
            self._queued_rows += rows
            if not self._queue:
                self._begin_window()
            self._queue.append(batch)
        if time.monotonic() > self._give_way_at:
            self._give_way()
        return None

    def flush(self) -> None:
        """Wait until all that was written so far is on disk.

        Raises Unavailable when the disk does not take it.
        """
        done: Future[None] = Future()
        with self._lock:
            if self._thread is None or self._closed:
                return
            self._flushes.append(done)
            self._hurry_up()
        done.result()

    def close(self) -> None:
        """Write what is queued and seal; nothing happens the second time."""
        self.stop()
        while self._appender.retired:
            _try_to_seal(self._appender.retired.pop())

    def stop(self) -> None:
        """Write what is queued and close the journals, which others may seal then."""
        with self._lock:
            self._closed = True
            self._open = False
            thread = self._thread
            self._hurry_up()
        if thread is not None:
            thread.join()
        _WRITERS.discard(self)

    @property
    def queued_rows(self) -> int:
        """Rows that are not on disk yet."""
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
        self._queue: list[Rows] = []
        self._durable: list[_Durable] = []
        self._flushes: list[Future[None]] = []
        self._queued_rows = 0
        self._lost_rows = 0
        self._due = 0.0  # when the window of what is queued is over, on the monotonic clock
        self._give_way_at = 0.0
        self._on_disk = False  # the thread has the disk write
        self._gap: Gap | None = None  # what was lost, and is not said in the Log yet
        self._thread: threading.Thread | None = None
        self._open = False  # the thread runs, and has room for what is queued
        # Below: the background thread's own.
        self._appender = Appender(self._directory, roll_rows=self._roll_rows, roll_s=self._roll_s)
        self._pending: dict[Kind, list[Frame]] = {}  # what the disk did not take
        self._retry_s = 0.0
        self._retry_at = 0.0

    def _write_with_care(self, batch: Rows, rows: int, *, durable: bool) -> "Future[None] | None":
        """With the lock held: what is not the usual case."""
        if self._closed:
            raise Unavailable("The log's writer was closed.")
        if self._thread is None:
            self._open = True
            self._thread = threading.Thread(target=self._run, name="upturn-log", daemon=True)
            self._thread.start()
        done: Future[None] | None = Future() if durable else None
        fits = self._open and self._queued_rows + rows <= self._max_queued_rows
        if fits:
            self._queued_rows += rows
            if done is None:
                if not self._queue:
                    self._begin_window()
                self._queue.append(batch)
            else:
                self._durable.append((batch, done))
                self._hurry_up()
        elif done is None:
            self._lose(rows, self._why_failing() or "rows came faster than they could be written")
        else:
            done.set_exception(self._unavailable("its queue is full"))
        return done

    def _begin_window(self) -> None:
        """With the lock held: the first row that waits is there."""
        self._due = time.monotonic() + self._window_s
        if not self._on_disk:
            self._give_way_at = self._due
        self._wake.set()

    def _give_way(self) -> None:
        """Let the background thread have the interpreter when it has something to do.

        A loop that is never idle gives it away in each system call, but takes it back before
        another thread has woken up, and Python's own remedy counts from the last such call: rows
        would wait for as long as requests come. And while a thread waits for it, each such call
        costs several times as much. So the thread sleeps until the loop calls it, and the loop
        looks from time to time whether the disk is done.
        """
        if not self._on_disk:
            self._hurry.set()
        time.sleep(_GIVEN_S)
        self._give_way_at = time.monotonic() + _LOOK_S if self._on_disk else self._due

    def _hurry_up(self) -> None:
        if not self._hurry.is_set():
            self._hurry.set()
            self._wake.set()

    def _lose(self, rows: int, why: str) -> None:
        """With the lock held: count rows that will not be in the Log."""
        now = time.time_ns() // 1000
        before = self._gap or Gap(now, now, 0, why)
        self._gap = Gap(before.began_at, now, before.rows + rows, before.why)
        self._lost_rows += rows

    def _settle(self, frames: Sequence[Frame], error: Exception | None = None) -> None:
        """The frames are on disk, or given up because of `error`; tell who waits."""
        with self._lock:
            self._queued_rows -= sum([frame.rows for frame in frames])
            lost = sum([frame.rows for frame in frames if not frame.waits])
            if error is not None and lost:
                self._lose(lost, str(error))
        for frame in frames:
            _tell(frame.waits, error)

    # In the background thread

    def _run(self) -> None:
        closing = False
        while not closing:
            self._wake.wait(self._idle_s())
            if self._queue and (left_s := self._due - time.monotonic()) > 0:
                self._hurry.wait(left_s + _LATE_S)
            closing = self._turn()
        if self._pending:
            self._give_up(self._unavailable(self._why_failing()), [])

    def _give_up(self, error: Exception, waits: "Sequence[Future[None]]") -> None:
        """What was taken from the queue will not be in the Log."""
        self._pending.clear()
        with self._lock:
            queued = sum(len(batch.ids) for batch in self._queue)
            queued += sum(len(batch.ids) for batch, _ in self._durable)
            if self._queued_rows > queued:
                self._lose(self._queued_rows - queued, str(error))
            self._queued_rows = queued
        _tell([done for done in waits if not done.done()], error)
        _complain("Rows of the log in %s are lost: %s.", self._directory, error)

    def _turn(self) -> bool:
        """Write what there is; returns whether that was the last time."""
        with self._lock:
            queue, self._queue = self._queue, []
            durable, self._durable = self._durable, []
            flushes, self._flushes = self._flushes, []
            self._wake.clear()
            self._hurry.clear()
            closing = self._closed
        try:
            self._write_out(queue, durable, force=closing or bool(flushes))
            if self._gap is not None and (closing or self._gap_is_over()):
                self._note_gap()
                self._write_out([], [], force=closing)
        except Exception as error:  # noqa: BLE001  (a log that stops would stop serving)
            self._give_up(error, [done for _, done in durable])
        waiting = self._unavailable(self._why_failing()) if self._pending else None
        _tell(flushes, waiting)
        self._appender.roll(everything=closing)
        return closing

    def _idle_s(self) -> float | None:
        """How long there is nothing to do unless something comes."""
        now = time.monotonic()
        times = [] if (rolls := self._appender.next_roll()) is None else [rolls]
        if self._pending:
            times.append(self._retry_at)
        elif self._gap is not None:
            times.append(now + _GAP_ENDS_S)
        return max(0.0, min(times) - now) if times else None

    def _write_out(self, queue: list[Rows], durable: list[_Durable], *, force: bool) -> None:
        for kind, of in _KINDS:
            urgent = [one for one in durable if type(one[0]) is of]
            batches = [batch for batch in queue if type(batch) is of]
            self._append(
                kind,
                self._frames([batch for batch, _ in urgent], [done for _, done in urgent]),
                self._frames(batches),
                force=force,
            )
        self._append("gaps", [], [], force=force)
        held = sum(len(frame.data) for frames in self._pending.values() for frame in frames)
        with self._lock:
            self._open = held < self._max_queued_bytes and not self._closed

    def _frames(self, batches: list[Rows], waits: "Sequence[Future[None]]" = ()) -> list[Frame]:
        """The batches in frames: what can't be encoded is given up."""
        frames: list[Frame] = []
        for part in frame_slices(len(batches)):
            try:
                frames.append(self._appender.frame(batches[part], waits[part]))
            except UNFIT:
                for place in range(*part.indices(len(batches))):
                    one = slice(place, place + 1)
                    try:
                        frames.append(self._appender.frame(batches[one], waits[one]))
                    except UNFIT as error:
                        self._refuse(batches[place], waits[one], error)
        return frames

    def _refuse(self, batch: Rows, waits: "Sequence[Future[None]]", error: Exception) -> None:
        why = Invalid(f"A row can't be logged: {error}.")
        self._settle([Frame(b"", len(batch.ids), waits)], why)
        _complain("Rows could not be logged: %s.", error)

    def _append(self, kind: Kind, urgent: list[Frame], fresh: list[Frame], *, force: bool) -> None:
        """Write the frames, urgent ones first. What the disk does not take waits or is refused."""
        others = [*self._pending.pop(kind, ()), *fresh]
        frames = [*urgent, *others]
        if not frames:
            return
        if not urgent and not force and self._retry_s and time.monotonic() < self._retry_at:
            self._pending[kind] = others
            return
        self._give_way_at = time.monotonic() + _LOOK_S
        self._on_disk = True
        done = self._appender.append(kind, frames)
        self._on_disk = False
        self._give_way_at = self._due
        self._settle(frames[:done])
        if self._appender.error is None:
            self._retry_s = 0.0
            return
        self._settle(urgent[done:], self._unavailable(self._why_failing()))
        left = others[max(0, done - len(urgent)) :]
        if left:
            self._pending[kind] = left
        if not self._retry_s:
            _complain("The log in %s can't be written: %s.", self._directory, self._why_failing())
        self._retry_s = min(_LAST_RETRY_S, 2 * self._retry_s or _FIRST_RETRY_S)
        self._retry_at = time.monotonic() + self._retry_s

    def _gap_is_over(self) -> bool:
        gap = self._gap
        silence = 0 if gap is None else time.time_ns() // 1000 - gap.ended_at
        return not self._pending and not 0 <= silence < _GAP_ENDS_S * 1_000_000

    def _note_gap(self) -> None:
        """Have what was lost said in the Log, as soon as the disk takes it."""
        with self._lock:
            gap, self._gap = self._gap, None
        if gap is not None:
            self._pending.setdefault("gaps", []).append(self._appender.frame([gap]))
            _complain("%s rows of the log in %s are lost: %s", gap.rows, self._directory, gap.why)

    def _why_failing(self) -> str:
        error = self._appender.error
        return "" if error is None else error.strerror or str(error)

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
            self._appender.forget()
            self._reset()


def _tell(waits: "Sequence[Future[None]]", error: Exception | None) -> None:
    for done in waits:
        if not done.set_running_or_notify_cancel():
            continue
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)


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
