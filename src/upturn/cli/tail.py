"""Tail: the new lines of what a task prints, however much it is and whatever is in it."""

import os
import re
from pathlib import Path
from typing import NamedTuple

_PIECE = 1 << 20
_LONGEST = 2000  # bytes of a line; more is cut off
_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # colours, cursor movements
    r"|\x1b[\]PX^_].*?(?:\x07|\x1b\\|$)"  # titles, links
    r"|\x1b[ -/]*[0-~]?"
)
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


class News(NamedTuple):
    """Lines that were printed, after so many others that are not shown."""

    left_out: int
    lines: list[str]


class Tail:
    """Follows a file from its present end. Takes time and memory by what it shows."""

    def __init__(self, file: Path, *, most_bytes: int, most_lines: int) -> None:
        self._file = file
        self._most_bytes = most_bytes
        self._most_lines = most_lines
        self._at = _size(file)
        self._begun = b""  # of a line whose end is not there yet

    def news(self, *, end: bool = False) -> News:
        """What came since the last call; at the end, also a last line without an end."""
        try:
            left_out, data = self._new_data()
        except OSError:
            left_out, data = 0, b""
        *lines, begun = (self._begun + data).split(b"\n")
        if end and begun:
            lines.append(begun)
            begun = b""
        self._begun = _overwritten(begun)[: _LONGEST + 1]
        left_out += max(0, len(lines) - self._most_lines)
        return News(left_out, [readable(line) for line in lines[-self._most_lines :]])

    def _new_data(self) -> tuple[int, bytes]:
        """What is new at the end of the file, and how many lines before it are left out."""
        size = _size(self._file)
        if size == self._at:
            return 0, b""
        with self._file.open("rb", buffering=0) as stream:
            skipped = max(0, size - self._at - self._most_bytes)
            stream.seek(min(self._at, size))  # the task may have made it shorter
            left_out = 0
            while skipped:
                piece = stream.read(min(_PIECE, skipped))
                if not piece:
                    break
                skipped -= len(piece)
                left_out += piece.count(b"\n")
                self._begun = b""
            data = stream.read(self._most_bytes)
            self._at = stream.tell()
        if left_out and b"\n" in data:
            left_out += 1
            data = data.partition(b"\n")[2]  # the line whose beginning is left out
        return left_out, data


def _size(file: Path) -> int:
    try:
        return os.stat(file).st_size
    except OSError:
        return 0


def readable(line: bytes) -> str:
    """A line as a terminal would show it, with nothing in it that moves a terminal's cursor.

    >>> readable(b"10 %\\r90 %\\r\\x1b[1mdone\\x1b[0m \\x07!")
    'done !'
    """
    line = _overwritten(line).rstrip(b"\r")
    text = line[:_LONGEST].decode(errors="replace")
    text = harmless(text).replace("\n", " ").expandtabs(4)
    return text + " …" if len(line) > _LONGEST else text


def harmless(text: str) -> str:
    """The text without what moves a terminal's cursor, colours it or turns it around."""
    return _CONTROLS.sub("", _ESCAPES.sub("", text))


def _overwritten(line: bytes) -> bytes:
    """What is left of it after its carriage returns."""
    return line[line.rstrip(b"\r").rfind(b"\r") + 1 :]
