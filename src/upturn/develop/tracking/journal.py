"""Journal: what a process logs, in a file that is mapped into its memory and outlives it.

The file is made of slots of 32 bytes. The first one is a magic number and how far a store has it.
Every other one is a point (number of its name, step, time, value), or, with the number 0, the head
of a note: its length and checksum, with its JSON in the slots behind. A slot ends with the checksum
of its other bytes, which is written last: until then there is nothing. What is mapped belongs to
the kernel, so that no way to die takes back what was written; only the machine's own death does.

A lock on the file (flock) says that its writer lives.
"""

import contextlib
import fcntl
import mmap
import os
import secrets
import struct
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import time_ns
from typing import Any
from zlib import crc32

import msgspec

from upturn.core.errors import Corrupt, Invalid
from upturn.core.tracking import Point

SUFFIX = ".points"
UNSTEPPED = -(2**63)
SLOT = 32
_MAGIC = b"UPPOINT\x01"
_FIRST, _PIECE = 1 << 16, 1 << 20  # bytes by which the file grows: most tasks log little
_KEPT = struct.Struct("<8sQ")  # what the first slot begins with
_BODY = struct.Struct("<Iqqd")
_CHECK = struct.Struct("<I")
_CHUNK = 1 << 18  # bytes read at a time
_SPILLED = 1_000_000
_put = struct.Struct("<28sI").pack_into
_pack = _BODY.pack


class Journal:
    """A journal open for writing by this process. Thread-safe; a forked child must make its own.

    What finds no room on the disk waits in memory, up to a million points.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        """Make the file; `about` is its first note. Raises OSError."""
        self.path = path
        self._lock = threading.RLock()  # a signal's handler may log while its thread does
        self._numbers: dict[str, int] = {}
        self._spilled: deque[bytes | Mapping[str, Any]] = deque(maxlen=_SPILLED)
        self._stuck = False  # no room, or closed
        self._file = _create(path)
        self._piece = mmap.mmap(-1, 1)
        self._size = 0  # of the file
        self._start = self._limit = 0  # of the piece that is mapped: where it begins, and its bytes
        self._end = SLOT  # in that piece: what is before it is taken
        try:
            self._grow(_FIRST)
            self._map(0, at=SLOT)
            os.pwrite(self._file, _KEPT.pack(_MAGIC, SLOT), 0)
            self._write_note({"about": dict(about)})
            os.rename(f"{path}.new", path)  # only now can anybody see it, and it is locked
        except BaseException:
            self.close()
            Path(f"{path}.new").unlink(missing_ok=True)
            raise

    def log(self, metrics: Mapping[str, Any], step: int | None) -> None:
        """Write a point of each metric. Raises Invalid, and writes none, for what is no number."""
        at = time_ns() // 1000
        numbers = self._numbers
        try:
            bodies: list[bytes] = []
            for name, value in metrics.items():  # what is hot: a comprehension takes longer
                bodies.append(_pack(numbers[name], UNSTEPPED if step is None else step, at, value))
        except (KeyError, struct.error, TypeError, ValueError, OverflowError):
            bodies = self._bodies(metrics, step, at)
        with self._lock:
            for body in bodies:
                if self._stuck or (self._end == self._limit and not self._next_piece()):
                    self._spilled.append(body)
                    continue
                begin = self._end
                self._end = begin + SLOT
                _put(self._piece, begin, body, crc32(body))

    def note(self, note: Mapping[str, Any]) -> None:
        """Write something else than points."""
        with self._lock:
            if not self._stuck:
                try:
                    self._write_note(note)
                    return
                except OSError:
                    self._stuck = True
            self._spilled.append(note)

    @property
    def end(self) -> int:
        """What is before this byte of the file is written."""
        with self._lock:
            return self._start + self._end

    @property
    def spilled(self) -> int:
        """How much waits in memory for room on the disk."""
        return len(self._spilled)

    def unspill(self) -> None:
        """Write what waits for room on the disk, as far as there is room now."""
        with self._lock:
            if not self._spilled or self._file < 0:
                return
            waiting, self._spilled = self._spilled, deque(maxlen=_SPILLED)
            self._stuck = False
            for item in waiting:
                if not isinstance(item, bytes):
                    self.note(item)
                elif self._stuck or (self._end == self._limit and not self._next_piece()):
                    self._spilled.append(item)
                else:
                    begin, self._end = self._end, self._end + SLOT
                    _put(self._piece, begin, item, crc32(item))

    def close(self) -> None:
        """Close the file, which gives up the lock. What is logged later is lost."""
        with self._lock:
            self._stuck = True
            self._piece.close()
            if self._file >= 0:
                os.close(self._file)
                self._file = -1

    def forget(self) -> None:
        """In a forked child: let go of the parent's file, whose lock stays the parent's."""
        self._lock = threading.RLock()
        self.close()

    def _bodies(self, metrics: Mapping[str, Any], step: int | None, at: int) -> list[bytes]:
        """As the bodies in `log`, when a name is new or a value is no plain number."""
        found = [(name, number_of(name, value)) for name, value in metrics.items()]
        number = UNSTEPPED if step is None else step_of(step)
        return [_pack(self._number(name), number, at, value) for name, value in found]

    def _number(self, name: str) -> int:
        with self._lock:
            known = self._numbers.get(name)
            if known is None:
                known = len(self._numbers) + 1
                self.note({"name": [known, name]})
                self._numbers[name] = known
            return known

    def _write_note(self, note: Mapping[str, Any]) -> None:
        payload = msgspec.json.encode(note)
        begin = self._start + self._end
        end = begin + SLOT + len(payload) + -len(payload) % SLOT
        if end > self._size:
            self._grow(end - self._size + -(end - self._size) % _PIECE)
        body = _pack(0, len(payload), crc32(payload), 0.0)
        os.pwrite(self._file, payload, begin + SLOT)
        os.pwrite(self._file, body + _CHECK.pack(crc32(body)), begin)
        if end > self._start + self._limit:
            piece = (end - 1 - _FIRST) // _PIECE * _PIECE + _FIRST
            self._map(piece, at=end - piece)
        else:
            self._end = end - self._start

    def _next_piece(self) -> bool:
        """Map the piece after the present one, made when there is none; False without room."""
        begin = self._start + self._limit
        try:
            if begin == self._size:
                self._grow(_PIECE)
            self._map(begin, at=0)
        except OSError:
            self._stuck = True
        return not self._stuck

    def _grow(self, size: int) -> None:
        """Make the file longer. Its room is taken now: later, a full disk would be a SIGBUS."""
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(self._file, self._size, size)
        else:
            os.pwrite(self._file, bytes(size), self._size)
        self._size += size

    def _map(self, begin: int, *, at: int) -> None:
        size = _PIECE if begin else _FIRST
        piece = mmap.mmap(self._file, size, offset=begin)
        self._piece.close()
        self._piece = piece
        self._start, self._limit, self._end = begin, size, at


@dataclass(frozen=True, slots=True)
class Batch:
    """What a part of a journal says, in order; a store that has it has the journal up to `end`.

    The step of a point that was logged without one is UNSTEPPED.
    """

    points: list[Point]
    notes: list[dict[str, Any]]
    end: int


class Reader:
    """Reads a journal of this or of another process, living or dead. Not thread-safe."""

    def __init__(self, path: Path, *, locked: bool = False) -> None:
        """Open it. Raises OSError, and Corrupt when it is no journal.

        With `locked`, its lock is taken: BlockingIOError when its writer lives, or somebody else
        brings it in, and FileNotFoundError when somebody has.
        """
        self.path = path
        self.file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        if locked:
            try:
                fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.stat(path).st_ino != os.fstat(self.file).st_ino:
                    raise FileNotFoundError(path)
            except BaseException:
                os.close(self.file)
                raise
        self._names: dict[int, str] = {}
        magic, kept = _KEPT.unpack(os.pread(self.file, _KEPT.size, 0).ljust(_KEPT.size, b"\0"))
        if magic != _MAGIC:
            os.close(self.file)
            raise Corrupt(f"{path} is no journal of points.", hint="Move it away.")
        self.position = SLOT
        self.about: dict[str, Any] = {}
        # Names are told before they are used, which may be before what was kept.
        while self.position < kept and (batch := self.read(until=kept)) is not None:
            self.position = batch.end
        if not self.about:
            self._slots(os.pread(self.file, SLOT, SLOT), SLOT, [], [])

    def read(self, *, until: int | None = None, living: bool = False) -> Batch | None:
        """What comes next, some thousand points of it; None when there is nothing more.

        Up to a byte that is known to be written; or, of a journal that another process writes, up
        to what is not written yet; or all. What a machine's death left of slots is passed over.
        """
        size = os.fstat(self.file).st_size
        end = size if until is None else min(until, size)
        at = self.position
        points: list[Point] = []
        notes: list[dict[str, Any]] = []
        while at < end and not points and not notes:
            data = os.pread(self.file, min(_CHUNK, end - at), at)
            after = self._slots(data, at, points, notes, living=living)
            if after == at:
                break
            at = after
        return None if at == self.position else Batch(points, notes, at)

    def keep(self, position: int) -> None:
        """Note in the file that a store has what is before; `read` goes on there."""
        self.position = position
        with contextlib.suppress(OSError):
            os.pwrite(self.file, position.to_bytes(8, "little"), len(_MAGIC))

    def lock(self) -> bool:
        """Take the lock; False while its writer lives."""
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def remove(self) -> None:
        """Remove the file: a store has all of it."""
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file."""
        if self.file >= 0:
            os.close(self.file)
            self.file = -1

    def _slots(
        self,
        data: bytes,
        at: int,
        points: list[Point],
        notes: list[dict[str, Any]],
        *,
        living: bool = False,
    ) -> int:
        """Decode the slots; the byte after the last one that was looked at."""
        names = self._names
        place = 0
        while place + SLOT <= len(data):
            body = data[place : place + 28]
            (check,) = _CHECK.unpack_from(data, place + 28)
            if not check or crc32(body) != check:
                if living:
                    break
                place += SLOT
                continue
            place += SLOT
            number, step, moment, value = _BODY.unpack(body)
            if number:
                if number in names:
                    points.append(Point(names[number], value, step, moment))
                continue
            payload = os.pread(self.file, step, at + place) if 0 <= step < 2**31 else b""
            if len(payload) == step and crc32(payload) == moment:
                place += step + -step % SLOT
                self._noted(msgspec.json.decode(payload), notes)
        return at + place

    def _noted(self, note: dict[str, Any], notes: list[dict[str, Any]]) -> None:
        if "name" in note:
            number, name = note["name"]
            self._names[number] = name
        elif "about" in note:
            self.about = note["about"]
        else:
            notes.append(note)


def new_path(home: Path, stem: str) -> Path:
    """Where a new journal may be, in a home: its name begins so."""
    return home / "journals" / f"{stem}+{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}"


def number_of(name: str, value: Any) -> float:
    """The value as a number. Raises Invalid when it is none."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise Invalid(
            f"The metric {name!r} is {value!r}, not a number.",
            hint="up.show() takes text, tables and figures.",
        ) from None


def step_of(step: Any) -> int:
    """The step as a whole number. Raises Invalid when it is none."""
    try:
        number = step.__index__()
    except (AttributeError, TypeError):
        number = UNSTEPPED
    if not -(2**63) < number < 2**63:
        raise Invalid(f"The step is {step!r}, not a whole number.", hint="Write step=3.")
    return number


def _create(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(f"{path}.new", os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(file)
        raise
    return file
