"""`upturn why` as a user types it, after edits of the code."""

from pathlib import Path

from e2e.folder import Folder

FLOWS = """
import json
import os
import upturn as up
from parts.helpers import looked_up

LATE = 15


@up.step(environ=["STAGE"])
def rate(n: int) -> int:
    with open("rates.json") as file:
        return looked_up(json.load(file)["rate"], n) + LATE


@up.step
def doubled(n: int) -> int:
    return 2 * n


@up.flow
def main(n: int = 1):
    return doubled(rate(n))
"""
HELPERS = """
import os


def looked_up(rate, n):
    return rate * n
"""


def run(folder: Folder, *words: str, **more: str) -> str:
    done = folder.type("run", "flows.py:main", *words, **more)
    assert done.returncode == 0, done.stderr
    return done.stderr.split()[1]  # run ID


def test_why_after_edits_of_code_and_files(tmp_path: Path) -> None:
    files = {"flows.py": FLOWS, "parts/helpers.py": HELPERS, "rates.json": '{"rate": 1}'}
    folder = Folder(tmp_path / "project", files)
    first = run(folder)
    again = folder.type("why", f"{run(folder)}/rate").stdout
    assert "reused  main" in again
    assert f"It did not run: run/{first}/rate/0 had made its output" in again
    assert "n, $STAGE, 1 file that it read (rates.json)" in again

    (folder.folder / "parts/helpers.py").write_text(HELPERS.replace("rate * n", "rate * n + 1"))
    (folder.folder / "flows.py").write_text(FLOWS.replace("LATE = 15", "LATE = 20"))
    edited = run(folder)
    said = folder.type("why", f"{edited}/rate/0").stdout
    assert "It ran because of what changed since run/" in said
    assert "function parts.helpers.looked_up changed" in said
    assert "constant flows.LATE: 15 → 20" in said
    assert "-    return rate * n\n+    return rate * n + 1\n" in said
    assert "rates.json" not in said
    assert "Compared with run/" in said

    (folder.folder / "rates.json").write_text('{"rate": 2}')
    said = folder.type("why", f"{run(folder, STAGE='test')}/rate").stdout
    assert "file rates.json, which it reads, changed" in said
    assert "$STAGE changed" in said
    overview = folder.type("why", edited).stdout
    assert "rate/0  done  It ran because of what changed since run/" in overview
    assert "doubled/0  done" in overview

    shown = folder.type("show", f"{edited}/rate").stdout
    assert "input $STAGE" in shown
    assert "read rates.json" in shown


def test_why_says_what_is_taken_whole(tmp_path: Path) -> None:
    dynamic = HELPERS.replace("rate * n", "getattr(os, 'ge' + 'tpid')() * 0 + rate * n")
    files = {"flows.py": FLOWS, "parts/helpers.py": dynamic, "rates.json": '{"rate": 1}'}
    folder = Folder(tmp_path / "project", files)
    said = folder.type("why", f"{run(folder)}/rate").stdout
    assert "It ran because no earlier task of the step 'rate'" in said
    assert "Taken whole, since names in it lead nowhere:\n  module " in said


def test_what_there_is_no_task_for(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "project", {"flows.py": FLOWS, "parts/helpers.py": HELPERS})
    done = folder.type("run", "flows.py:main")
    assert done.returncode == 1
    failed = done.stderr.split()[1]
    said = folder.type("why", f"{failed}/rate").stdout
    assert "failed  main" in said
    wrong = folder.type("why", f"{failed}/rat")
    assert wrong.returncode == 1
    assert "has no task 'rat'" in wrong.stderr
    assert "Did you mean 'rate'?" in wrong.stderr
    assert folder.type("why", "a/b/c/d").returncode == 2
