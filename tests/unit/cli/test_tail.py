"""Tail: the end of what is printed, whatever is printed."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upturn.cli.tail import Tail, harmless, readable


def write(file: Path, data: bytes) -> None:
    with file.open("ab") as stream:
        stream.write(data)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "0.log"


def test_each_line_comes_once_and_when_it_is_whole(file: Path) -> None:
    tail = Tail(file, most_bytes=1000, most_lines=10)
    assert tail.news() == (0, [])
    write(file, b"one\ntw")
    assert tail.news() == (0, ["one"])
    assert tail.news() == (0, [])
    write(file, b"o\nthree")
    assert tail.news() == (0, ["two"])
    assert tail.news(end=True) == (0, ["three"])


def test_it_begins_at_the_files_present_end(file: Path) -> None:
    write(file, b"of the attempt before\n")
    tail = Tail(file, most_bytes=1000, most_lines=10)
    write(file, b"new\n")
    assert tail.news() == (0, ["new"])


@pytest.mark.parametrize(("most_bytes", "most_lines"), [(1000, 10), (200, 1000), (7, 1000)])
def test_what_is_left_out_is_counted(file: Path, most_bytes: int, most_lines: int) -> None:
    tail = Tail(file, most_bytes=most_bytes, most_lines=most_lines)
    write(file, b"begun")
    tail.news()
    write(file, b"".join(b" line %05d\n" % number for number in range(50_000)))
    left_out, lines = tail.news()
    assert left_out + len(lines) == 50_000
    assert len(lines) <= min(most_lines, most_bytes // 12 + 1)
    assert not lines or lines[-1] == " line 49999"


def test_a_line_without_an_end_costs_nothing(file: Path) -> None:
    tail = Tail(file, most_bytes=10_000, most_lines=10)
    for _ in range(100):
        write(file, b"z" * 50_000)
        assert tail.news() == (0, [])
    write(file, b"\nshort\n")
    left_out, (long, short) = tail.news()
    assert (left_out, short) == (0, "short")
    assert len(long) < 2100
    assert long.endswith("z …")


def test_a_progress_bar_is_what_it_shows_last(file: Path) -> None:
    tail = Tail(file, most_bytes=10_000, most_lines=10)
    for percent in range(100):
        write(file, b"\r%d %%" % percent)
        assert tail.news() == (0, [])
    write(file, b"\r100 %\r\nnext\r\n")
    assert tail.news() == (0, ["100 %", "next"])


def test_a_file_that_is_made_shorter_or_goes_is_no_error(file: Path) -> None:
    tail = Tail(file, most_bytes=1000, most_lines=10)
    write(file, b"a line\n" * 10)
    assert len(tail.news().lines) == 10
    file.write_bytes(b"x\n")
    assert tail.news() == (0, [])
    write(file, b"more\n")
    assert tail.news() == (0, ["more"])
    file.unlink()
    assert tail.news(end=True) == (0, [])


@given(st.binary(max_size=300))
def test_no_bytes_reach_the_terminal_as_anything_but_text(line: bytes) -> None:
    shown = readable(line.replace(b"\n", b""))
    assert not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in shown)


@pytest.mark.parametrize(
    "escape",
    ["\x1b[2J", "\x1b[38;5;1m", "\x1b]0;title\x07", "\x1b]8;;http://x\x1b\\", "\x1bc", "\x1b(B"],
)
def test_escapes_leave_nothing_behind(escape: str) -> None:
    assert harmless(f"a{escape}b\nc") == "ab\nc"
