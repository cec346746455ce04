"""Journals: files of framed batches that one process appends to, and anyone may read meanwhile.

A journal is a magic number and frames: payload bytes (u32), their crc32 (u32), both little-endian,
then the payload in msgpack: a list of batches, or a map that defines layouts of matrices by the
numbers that stand for them in later frames. A lock on the file (flock) says that its writer lives.
"""

import contextlib
import fcntl
import os
import secrets
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from upturn.core.log import FeedbackBatch, Gap, Layout, PredictionBatch

Kind = Literal["predictions", "feedback", "gaps"]
Batch = PredictionBatch | FeedbackBatch | Gap
KINDS: tuple[Kind, ...] = ("predictions", "feedback", "gaps")
SUFFIX = ".journal"
_MAGIC = b"UPJRNL\x00\x02"
_HEAD = 8  # bytes before a payload
_TYPES: dict[Kind, type] = {
    "predictions": list[PredictionBatch],
    "feedback": list[FeedbackBatch],
    "gaps": list[Gap],
}
_UNKNOWN = Layout((), "")  # of rows whose layout's definition is damaged
# With O_DSYNC a write returns once the disk has it: one call, so one wait for the interpreter lock
# after it, which under load takes longer than the disk does.
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_DSYNC


class Framer:
    """Makes frames, and numbers the layouts of the matrices in them. Not thread-safe."""

    def __init__(self) -> None:
        self._numbers: dict[Layout, int] = {}
        self._encode = msgspec.msgpack.Encoder(enc_hook=self._plain).encode

    @property
    def layouts(self) -> int:
        """How many layouts the frames made so far refer to."""
        return len(self._numbers)

    def frame(self, batches: Sequence[Batch]) -> bytes:
        """The batches as one frame. Raises TypeError, ValueError or OverflowError when they can't
        be written.
        """
        return _framed(self._encode(batches))

    def definitions(self, begin: int) -> bytes:
        """The frame that defines the layouts from that number on: a journal needs it first."""
        found = {
            number: (layout.names, layout.kinds)
            for layout, number in self._numbers.items()
            if number >= begin
        }
        return _framed(msgspec.msgpack.encode(found))

    def _plain(self, value: object) -> object:
        """A layout's number; what a value that msgpack lacks is logged as: numpy's, or its text."""
        if type(value) is Layout:
            number = self._numbers.get(value)
            return self._numbers.setdefault(value, len(self._numbers)) if number is None else number
        if type(value).__module__ == "numpy":
            return value.tolist()  # pyright: ignore[reportAttributeAccessIssue]
        return str(value)


def _framed(payload: bytes) -> bytes:
    head = len(payload).to_bytes(4, "little") + zlib.crc32(payload).to_bytes(4, "little")
    return head + payload


@dataclass(slots=True)
class Journal:
    """A journal open for appending by this process. Not thread-safe."""

    path: Path
    kind: Kind
    file: int
    began: float  # on the monotonic clock, seconds
    size: int = len(_MAGIC)
    rows: int = 0
    layouts: int = 0  # how many of the framer's are defined in it

    def append(self, frames: Sequence[bytes], rows: int) -> None:
        """Write the frames, and have the disk keep them.

        Raises OSError; what was written of the frames is then taken back as far as that works, and
        the journal must not be appended to again (what a disk kept after a failed sync is unknown).
        """
        data = memoryview(b"".join(frames))
        try:
            while data.nbytes:
                data = data[os.write(self.file, data) :]
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self.file, self.size)
            raise
        self.size += sum(map(len, frames))
        self.rows += rows

    def close(self) -> None:
        """Close the file, which gives up the lock."""
        os.close(self.file)


def create(directory: Path, kind: Kind) -> Journal:
    """A new journal of this process. Raises OSError."""
    _make(directory)
    while True:
        stem = f"{kind}-{time.time_ns() // 1_000_000:013d}-{os.getpid()}-{secrets.token_hex(4)}"
        path = directory / f"{stem}{SUFFIX}"
        file = os.open(path, _FLAGS, 0o644)
        try:
            # Before the lock is taken it looks abandoned, and somebody may tidy it away.
            if lock(file) and is_at(file, path):
                os.write(file, _MAGIC)
                _sync_directory(directory)
                return Journal(path=path, kind=kind, file=file, began=time.monotonic())
        except BaseException:
            os.close(file)
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        os.close(file)


def lock(file: int) -> bool:
    """Take the lock on an open journal; False when its writer lives."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_at(file: int, path: Path) -> bool:
    """Whether the open file is still the one at that path."""
    try:
        return os.stat(path).st_ino == os.fstat(file).st_ino
    except FileNotFoundError:
        return False


def read(data: bytes, kind: Kind) -> Iterator[Sequence[Any]]:
    """The batches in a journal's bytes, frame by frame.

    A last frame that is torn is left out, and so is any that is damaged.
    """
    layouts: dict[int, Layout] = {}
    decode = msgspec.msgpack.Decoder(
        _TYPES[kind], dec_hook=lambda _, number: layouts.get(number, _UNKNOWN)
    ).decode
    for payload in _payloads(data):
        if _is_map(payload[0]):
            defined = msgspec.msgpack.decode(payload, type=dict[int, tuple[tuple[str, ...], str]])
            layouts |= {number: Layout(*layout) for number, layout in defined.items()}
        else:
            yield decode(payload)


def is_readable(data: bytes) -> bool:
    """Whether these are a journal's bytes in the form that is written today, if any."""
    return data.startswith(_MAGIC) or len(data) < len(_MAGIC)


def _payloads(data: bytes) -> Iterator[memoryview]:
    view = memoryview(data)
    at = len(_MAGIC)
    while at + _HEAD <= len(data):
        length = int.from_bytes(view[at : at + 4], "little")
        checksum = int.from_bytes(view[at + 4 : at + _HEAD], "little")
        payload = view[at + _HEAD : at + _HEAD + length]
        at += _HEAD + length
        if len(payload) == length and length and zlib.crc32(payload) == checksum:
            yield payload


def _is_map(first: int) -> bool:
    return first & 0xF0 == 0x80 or first in (0xDE, 0xDF)  # as msgpack marks maps


def _make(directory: Path) -> None:
    """Make the directory, and have the disk keep its name, and those of the ones above it."""
    if not directory.is_dir():
        _make(directory.parent)
        directory.mkdir(exist_ok=True)
        _sync_directory(directory.parent)


def _sync_directory(directory: Path) -> None:
    """Have the disk keep the file's name: a durable row needs it."""
    file = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
