"""The user's own modules run as they are written, though Python's bytecode can't tell."""

import os
import time
from pathlib import Path

import pytest

from e2e.folder import Folder

FLOWS = """
import upturn as up
from parts.helper import number

OWN = 10


@up.step
def one() -> int:
    return number() + OWN


@up.flow
def counted():
    return one()
"""
HELPER = "def number():\n    return 1\n"


@pytest.mark.parametrize(
    ("name", "old", "new", "result"),
    [("flows.py", "OWN = 10", "OWN = 20", 21), ("parts/helper.py", "return 1", "return 2", 12)],
)
def test_a_second_edit_of_one_second_is_run(
    tmp_path: Path, name: str, old: str, new: str, result: int
) -> None:
    own = Folder(tmp_path / "project", {"flows.py": FLOWS, "parts/helper.py": HELPER})
    file = own.folder / name
    at = time.time() + 60  # the second is the same, however long the first run takes
    os.utime(file, (at, at))
    first = own.type("run", "flows.py:counted", PYTHONDONTWRITEBYTECODE="")
    assert first.returncode == 0, first.stderr
    assert first.stdout.strip().endswith("11")
    file.write_text(file.read_text().replace(old, new))
    os.utime(file, (at, at))
    second = own.type("run", "flows.py:counted", PYTHONDONTWRITEBYTECODE="")
    assert second.stdout.strip().endswith(str(result)), second.stdout + second.stderr
