"""Appender: puts rows on disk, in journals that it opens, closes, and gives up when they fail."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from upturn.core.log import FeedbackBatch, Gap, PredictionBatch
from upturn.stores import journal
from upturn.stores.journal import Batch, Framer, Journal, Kind

Rows = PredictionBatch | FeedbackBatch
UNFIT = (TypeError, ValueError, OverflowError)  # what encoding raises
# Of one row each these are less than the 5 KiB from which on zlib gives the interpreter lock away,
# and then waits for it; nor are more at a time faster to decode.
_BATCHES_A_FRAME = 12
_BYTES_A_WRITE = 2**20


@dataclass(frozen=True, slots=True)
class Frame:
    """Encoded rows, and who is told what becomes of them."""

    data: bytes
    rows: int
    waits: Sequence["Future[None]"] = ()


class Appender:
    """The journals of one writer. Not thread-safe."""

    def __init__(self, directory: Path, *, roll_rows: int, roll_s: float) -> None:
        self.retired: list[Path] = []  # journals that were closed
        self.error: OSError | None = None  # why the last append failed, if it did
        self._directory = directory
        self._roll_rows = roll_rows
        self._roll_s = roll_s
        self._framer = Framer()
        self._journals: dict[Kind, Journal] = {}

    def frame(self, batches: Sequence[Batch], waits: Sequence["Future[None]"] = ()) -> Frame:
        """The batches as one frame. Raises one of UNFIT when a value can't be written."""
        rows = sum([0 if isinstance(batch, Gap) else len(batch.ids) for batch in batches])
        return Frame(self._framer.frame(batches), rows, waits)

    def append(self, kind: Kind, frames: Sequence[Frame]) -> int:
        """Put the frames on disk, synced; returns how many of them are, from the first on.

        Where that is not all, `error` says why.
        """
        done = 0
        try:
            for some in _portions(frames):
                self._append(self._opened(kind), some)
                done += len(some)
        except OSError as error:
            # What the disk kept after a failed sync is unknown: that journal is at its end.
            self._retire(kind)
            self.error = error
            return done
        self.error = None
        return done

    def roll(self, *, everything: bool = False) -> None:
        """Close the journals that are full or old, or all of them."""
        now = time.monotonic()
        for kind, each in list(self._journals.items()):
            old = now - each.began >= self._roll_s
            if everything or old or each.rows >= self._roll_rows:
                self._retire(kind)

    def next_roll(self) -> float | None:
        """When a journal will be old, on the monotonic clock; None when none is open."""
        began = [each.began for each in self._journals.values()]
        return min(began) + self._roll_s if began else None

    def forget(self) -> None:
        """Close the files of a parent process, which go on being its own."""
        for each in self._journals.values():
            each.close()
        self._journals.clear()

    def _opened(self, kind: Kind) -> Journal:
        if kind not in self._journals:
            self._journals[kind] = journal.create(self._directory, kind)
        return self._journals[kind]

    def _append(self, to: Journal, frames: Sequence[Frame]) -> None:
        data = [frame.data for frame in frames]
        known = self._framer.layouts if to.kind == "predictions" else 0
        if to.layouts < known:
            data.insert(0, self._framer.definitions(to.layouts))
        to.append(data, sum(frame.rows for frame in frames))
        to.layouts = known

    def _retire(self, kind: Kind) -> None:
        old = self._journals.pop(kind, None)
        if old is not None:
            old.close()
            self.retired.append(old.path)


def frame_slices(count: int) -> Iterator[slice]:
    """What goes into one frame each of so many batches."""
    for begin in range(0, count, _BATCHES_A_FRAME):
        yield slice(begin, begin + _BATCHES_A_FRAME)


def _portions(frames: Sequence[Frame]) -> Iterator[Sequence[Frame]]:
    """Frames to be written together: on a disk that is nearly full, some of many may find room."""
    begin = size = 0
    for place, frame in enumerate(frames):
        size += len(frame.data)
        if size >= _BYTES_A_WRITE:
            yield frames[begin : place + 1]
            begin, size = place + 1, 0
    if begin < len(frames):
        yield frames[begin:]
