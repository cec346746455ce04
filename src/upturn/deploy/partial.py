"""Partial output: a file that grows part by part in a folder of its own until it is whole.

`OUT.partial/` holds the bytes, and a line for each part that is in them, with its digest. Whatever
is killed at whatever moment, what the lines vouch for is there: the next call goes on behind it.
"""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import msgspec
from blake3 import blake3

from upturn.core.errors import Conflict, Invalid, Unavailable, UpturnError
from upturn.deploy.files import file_digest
from upturn.deploy.outputs import Encoded, Output

_READ_BYTES = 4 * 1024 * 1024


class Plan(msgspec.Struct, frozen=True):
    """What parts belong to: other parts are of another file or version, and count for nothing."""

    input: str
    version: str
    model: str
    part_rows: int


class _Mark(msgspec.Struct, frozen=True):
    """That a part is there: how many rows there are up to it, where it ends, its digest."""

    rows: int
    end: int
    digest: str
    note: bytes


class Partial:
    """The folder of one output; `rows` are in it. Made by `opened`."""

    def __init__(self, folder: Path, kind: Output, head: bytes) -> None:
        self.folder = folder
        self.rows = 0
        self._kind = kind
        self._end = 0
        self._whole = blake3(max_threads=blake3.AUTO)
        self._body: BinaryIO
        self._marks: BinaryIO
        self._resume(head)

    def append(self, part: Encoded, rows: int) -> None:
        """Add a part of so many rows; when this returns, it outlives this process."""
        note = self._kind.placed(part.note, self._end)
        end = self._end + len(part.body)
        mark = _Mark(self.rows + rows, end, _digest(part.body), note)
        with _telling_of_a_full_disk(self.folder):
            self._body.write(part.body)
            self._body.flush()
            self._marks.write(msgspec.json.encode(mark) + b"\n")
            self._marks.flush()
        self._whole.update(part.body)
        self.rows, self._end = mark.rows, end

    def finish(self, tail: bytes) -> tuple[Path, str]:
        """The path of the whole file, which is on disk, and its digest."""
        with _telling_of_a_full_disk(self.folder):
            self._body.write(tail)
            self._body.flush()
            body = self.folder / "body"
            whole = self._kind.finished(body)
            with whole.open("rb") as file:
                os.fsync(file.fileno())
        self._whole.update(tail)
        return whole, self._whole.hexdigest() if whole == body else file_digest(whole)

    def notes(self) -> list[bytes]:
        """The notes of all parts, in order."""
        return [mark.note for mark, _ in _marks_in(self.folder / "marks")]

    def close(self) -> None:
        """Close the files."""
        for file in (self._body, self._marks):
            with contextlib.suppress(OSError):  # what a full disk did not take
                file.close()

    def _resume(self, head: bytes) -> None:
        """Go behind the last part that is there as it was written; without one, begin anew."""
        kept = 0
        body, marks = self.folder / "body", self.folder / "marks"
        body.touch()
        marks.touch()
        with body.open("rb") as file:
            if file.read(len(head)) == head:
                self._end = len(head)
                self._whole.update(head)
                for mark, line_end in _marks_in(marks):
                    if not self._is_there(file, mark):
                        break
                    self.rows, self._end, kept = mark.rows, mark.end, line_end
        os.truncate(marks, kept)
        os.truncate(body, self._end if kept else 0)
        self._body = body.open("ab")
        self._marks = marks.open("ab")
        if not kept:
            self._end = len(head)
            self._whole = blake3(head, max_threads=blake3.AUTO)
            with _telling_of_a_full_disk(self.folder):
                self._body.write(head)

    def _is_there(self, file: BinaryIO, mark: _Mark) -> bool:
        before = self._whole.copy()
        part = blake3(max_threads=blake3.AUTO)
        left = mark.end - self._end
        while left > 0 and (piece := file.read(min(left, _READ_BYTES))):
            part.update(piece)
            self._whole.update(piece)
            left -= len(piece)
        if left == 0 and part.hexdigest() == mark.digest:
            return True
        self._whole = before
        return False


@contextmanager
def opened(output: Path, plan: Plan, kind: Output, head: bytes) -> Generator[Partial]:
    """The partial output with the parts of the same plan, and held: one process writes it.

    Raises Conflict while another does. Refused before there was a part, nothing of it stays.
    """
    folder = output.with_name(f"{output.name}.partial")
    with _held(folder):
        _prepare(folder, plan)
        partial = Partial(folder, kind, head)
        try:
            yield partial
        except UpturnError:
            if not partial.rows:
                shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            partial.close()


@contextmanager
def _held(folder: Path) -> Generator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise Invalid(
            f"{folder.parent} can't be written: {(error.strerror or str(error)).lower()}.",
            hint="Say where the output goes with -o.",
        ) from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(f"Another process scores into {folder} already.") from None
        yield
    finally:
        os.close(lock)


def _prepare(folder: Path, plan: Plan) -> None:
    """Leave parts of the same plan in the folder, and no others."""
    path = folder / "plan.json"
    encoded = msgspec.json.encode(plan)
    if path.exists() and path.read_bytes() == encoded:
        return
    for there in folder.iterdir():
        if there.name != "lock":
            there.unlink()
    with _telling_of_a_full_disk(folder):
        path.write_bytes(encoded)


@contextmanager
def _telling_of_a_full_disk(folder: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise Unavailable(
            f"{folder.parent} takes no more: {why}.",
            hint=f"Make room there; the same command goes on from {folder.name}/.",
        ) from None


def _marks_in(path: Path) -> Iterator[tuple[_Mark, int]]:
    """The marks of a file up to one that is torn, each with where its line ends."""
    end = 0
    with path.open("rb") as file:
        for line in file:
            try:
                mark = msgspec.json.decode(line, type=_Mark)
            except msgspec.DecodeError:
                return
            if not line.endswith(b"\n"):
                return
            end += len(line)
            yield mark, end


def _digest(data: bytes | memoryview) -> str:
    return blake3(data, max_threads=blake3.AUTO).hexdigest()
