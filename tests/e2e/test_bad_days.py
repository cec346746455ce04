"""Bad days of a run: a full disk, a store that may not be written, outputs that can't be stored."""

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e.folder import COMMAND, DEADLINE_S, Folder
from upturn.core.records import TaskState
from upturn.develop.runs import view_run

FLOWS = '''
"""Flows of a test's user."""

import os
import sys
import threading
from pathlib import Path

import upturn as up

HERE = Path(__file__).parent


@up.step
def small() -> int:
    with open(HERE / "ran", "a") as file:
        file.write("small\\n")
    return 1


@up.step
def large(after: int) -> bytes:
    return os.urandom(30_000_000)


@up.flow
def growing():
    return len(large(small()).get())


@up.step
def lock(after: int):
    return {"a": [threading.Lock()]}


@up.flow
def locked():
    return lock(small())


@up.step
def chatter(lines: int) -> int:
    for i in range(lines):
        sys.stdout.write(f"{i:>98} \\n")
    os.write(1, b"from below\\n")
    return lines


@up.flow
def talkative(lines: int):
    return chatter(lines)
'''
CAP_DAC_OVERRIDE, PR_CAPBSET_DROP = 1, 24


@pytest.fixture
def own(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "project", {"flows.py": FLOWS})


@pytest.fixture
def small_disk(own: Folder) -> Iterator[Callable[[str], None]]:
    """Put the store on a disk of its own, and return what gives that another size."""
    home = own.settings.home
    home.mkdir()

    def mount(*options: str) -> int:
        command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(home)]
        return subprocess.run(command, check=False, capture_output=True).returncode

    if mount("size=12m"):
        pytest.skip("this user may not mount a disk")
    yield lambda size: mount("remount", f"size={size}") and None
    subprocess.run(["umount", "-l", str(home)], check=True)


def test_a_full_disk_fails_the_run_which_goes_on_when_there_is_room(
    own: Folder, small_disk: Callable[[str], None]
) -> None:
    full = own.type("run", "flows.py:growing")
    assert full.returncode == 1
    assert "can't be used now: No space left on device." in full.stderr
    assert "Make room on the disk" in full.stderr
    workspace = own.open()
    run = own.last_run(workspace, "growing").id
    assert view_run(workspace, run).status == "failed"
    assert list((own.settings.home / "blobs" / "tmp").iterdir()) == []
    small_disk("100m")
    resumed = own.type("resume", run)
    assert (resumed.returncode, resumed.stdout) == (0, "30000000\n"), resumed.stderr
    assert own.ran() == ["small"]
    workspace.close()


def fill(file: Path) -> None:
    """Write until the disk is full."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT)
    with contextlib.suppress(OSError):
        while True:
            os.write(descriptor, bytes(4096))
    os.close(descriptor)


def test_a_disk_too_full_for_records_is_said_and_harms_nothing(
    own: Folder, small_disk: Callable[[str], None]
) -> None:
    assert own.type("run", "flows.py:locked").returncode == 1  # makes the store
    filler = own.settings.home / "filler"
    fill(filler)
    full = own.type("run", "flows.py:talkative", "--lines", "5")
    assert full.returncode == 1
    assert "can't be used now" in full.stderr
    filler.unlink()
    again = own.type("run", "flows.py:talkative", "--lines", "5")
    assert (again.returncode, again.stdout) == (0, "5\n"), again.stderr


def without_power() -> None:
    """Take from root what lets it write where its own permissions say no."""
    if os.geteuid() == 0:
        ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0)


@pytest.mark.skipif(os.name != "posix", reason="permissions of files")
def test_a_store_that_may_not_be_written_is_said(own: Folder) -> None:
    assert own.type("run", "flows.py:talkative", "--lines", "5").returncode == 0
    home = own.settings.home
    places = [home, *(path for path in home.rglob("*"))]
    modes = {path: path.stat().st_mode for path in places}
    for path in places:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        for words in (("run", "flows.py:talkative", "--lines", "6"), ("runs",)):
            done = subprocess.run(
                [*COMMAND, *words],
                cwd=own.folder,
                env=own.environment(),
                capture_output=True,
                text=True,
                check=False,
                timeout=DEADLINE_S,
                preexec_fn=without_power,
            )
            assert "Traceback" not in done.stderr
            if words[0] == "run":
                assert done.returncode == 1, done.stdout
                assert "may be written" in done.stderr, done.stderr
    finally:
        for path, mode in modes.items():
            path.chmod(mode)
    assert own.type("run", "flows.py:talkative", "--lines", "6").stdout == "6\n"


def test_an_output_that_cannot_be_stored_fails_its_task_by_name(own: Folder) -> None:
    failed = own.type("run", "flows.py:locked")
    assert failed.returncode == 1
    assert "lock/0 failed" in failed.stderr
    assert "lock" in failed.stderr
    assert "can't be stored" in failed.stderr
    workspace = own.open()
    run = own.last_run(workspace, "locked").id
    states = workspace.meta.last_each(TaskState, run=run)
    assert {state.step: state.status for state in states} == {"small": "done", "lock": "failed"}
    workspace.close()


def test_a_step_that_prints_100_mb_is_a_step_like_any_other(own: Folder) -> None:
    lines = 1_000_000
    done = own.type("run", "flows.py:talkative", "--lines", str(lines))
    assert (done.returncode, done.stdout) == (0, f"{lines}\n"), done.stderr[-2000:]
    workspace = own.open()
    run = own.last_run(workspace, "talkative").id
    output = workspace.output_dir / run / "chatter" / "0.log"
    assert output.stat().st_size == 100 * lines + len("from below\n")
    workspace.close()
