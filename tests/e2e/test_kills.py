"""kill -9 at random moments: a resume repeats nothing finished, and ends in the same result."""

import contextlib
import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from e2e.folder import Folder
from upturn.core.machine import process_tree
from upturn.core.records import TaskState
from upturn.develop.runs import view_run
from upturn.stores.workspace import Workspace
from waiting import PROC, until

pytestmark = pytest.mark.skipif(not PROC, reason="finds workers in /proc")

FLOWS = '''
"""A flow whose tasks leave traces."""

import time
from pathlib import Path

import numpy as np
import upturn as up

HERE = Path(__file__).parent


def trace(line: str) -> None:
    with open(HERE / "ran", "a") as file:
        file.write(line + "\\n")


@up.step(cache=False)
def made(i: int) -> np.ndarray:
    time.sleep(0.01)
    trace(f"made/{i}")
    return np.arange(20_000) * i


@up.step(cache=False, retries=1)
def joined(i: int, parts: list) -> int:
    time.sleep(0.01)
    trace(f"joined/{i}")
    return int(sum(part.sum() for part in parts)) + i


@up.step
def total(sums: list) -> int:
    trace("total/0")
    return sum(sums)


@up.flow
def traced():
    parts = made.map(range(8))
    sums = [joined(i, parts[i:i + 3]) for i in range(6)]
    return total(sums)
'''
WHOM = ("driver", "worker", "fork server")
ROUNDS = 7


def victim(driver: int, whom: str, draw: random.Random) -> int | None:
    """Return the process to kill: the driver's child is the fork server, whose are the workers."""
    if whom == "driver":
        return driver
    servers = [pid for pid in process_tree(driver)[1:] if _parent(pid) == driver]
    if whom == "fork server" or not servers:
        return servers[0] if servers else None
    workers = [pid for pid in process_tree(servers[0])[1:] if _parent(pid) == servers[0]]
    return draw.choice(workers) if workers else None


def _parent(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None


def finished(workspace: Workspace, run: str) -> set[str]:
    states = workspace.meta.last_each(TaskState, run=run)
    return {f"{state.step}/{state.index}" for state in states if state.status == "done"}


@pytest.mark.parametrize("seed", range(3))
def test_a_kill_at_any_moment_costs_nothing_that_was_finished(seed: int, tmp_path: Path) -> None:
    undisturbed = Folder(tmp_path / "undisturbed", {"flows.py": FLOWS}).type(
        "run", "flows.py:traced"
    )
    assert undisturbed.returncode == 0, undisturbed.stderr

    def one(number: int) -> bool:
        own = Folder(tmp_path / str(number), {"flows.py": FLOWS})
        moment = random.Random(1000 * seed + number)
        return one_round(own, WHOM[(seed + number) % 3], moment, undisturbed.stdout)

    with ThreadPoolExecutor(4) as threads:  # most of the time is spent waiting for leases to end
        kills = sum(threads.map(one, range(ROUNDS)))
    assert kills >= ROUNDS // 2, "most kills came too late to prove anything"


def one_round(own: Folder, whom: str, draw: random.Random, expected: str) -> bool:
    """Kill at a random moment, resume until it is done; whether somebody was killed."""
    driver = own.start("run", "flows.py:traced")
    progress = draw.randint(0, 13)
    until(lambda: len(own.ran()) >= progress or driver.poll() is not None)
    time.sleep(draw.uniform(0, 0.03))
    pid = victim(driver.pid, whom, draw)
    hit = False
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            hit = True
    output, _ = driver.communicate(timeout=60)
    assert "Traceback" not in output, output
    workspace = own.open()
    try:
        if workspace.meta.counts()["run"] == 0:
            return False  # before there was a run: nothing to resume
        run = own.last_run(workspace, "traced").id
        _resume_to_the_end(own, workspace, run, expected)
    finally:
        workspace.close()
    return hit


def _resume_to_the_end(own: Folder, workspace: Workspace, run: str, expected: str) -> None:
    until(lambda: view_run(workspace, run).status != "running", "not seen as lost", within_s=12)
    before, ran_before = finished(workspace, run), own.ran()
    if view_run(workspace, run).status != "done":
        resumed = own.type("resume", run)
        assert resumed.returncode == 0, resumed.stderr
        assert resumed.stdout == expected
    ran = own.ran()
    for task in before:
        assert ran.count(task) == ran_before.count(task) >= 1, f"{task} was repeated"
    assert finished(workspace, run) == {
        *(f"made/{i}" for i in range(8)),
        *(f"joined/{i}" for i in range(6)),
        "total/0",
    }
