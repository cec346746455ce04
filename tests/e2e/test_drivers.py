"""Drivers: two of them at once, one that is told to end, one whose machine's clock is set."""

import os
import signal
import time
from pathlib import Path

import pytest

from e2e.folder import DEADLINE_S, Folder
from upturn.core.records import Run, TaskState
from upturn.develop.runs import view_run
from upturn.stores.workspace import Workspace
from waiting import lives, until

FLOWS = '''
"""Flows of a test's user."""

import os
import time
from pathlib import Path

import upturn as up

HERE = Path(__file__).parent


def write(line: str) -> None:
    with open(HERE / "ran", "a") as file:
        file.write(line + "\\n")


@up.step
def gated(i: int) -> int:
    write(f"gated {i} {os.getpid()}")
    deadline = time.monotonic() + 60
    while not (HERE / "gate").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    if os.environ.get("BROKEN"):
        raise ValueError("broken")
    write(f"made {i}")
    return i


@up.step
def added(parts: list) -> int:
    write("added")
    return sum(parts)


@up.flow
def both():
    parts = gated.map(range(4))
    for part in parts:
        part.get()
    write(f"clock {time.time()}")
    return added(parts)
'''


@pytest.fixture
def own(tmp_path: Path) -> Folder:
    return Folder(tmp_path, {"flows.py": FLOWS})


def begun(own: Folder) -> int:
    return sum(line.startswith("gated") for line in own.ran())


def written(workspace: Workspace) -> int:
    """Return how many tasks the drivers have written down."""
    return workspace.meta.counts()["task"]


def test_of_two_drivers_one_computes_and_the_other_waits(own: Folder) -> None:
    workspace = own.open()
    drivers = [own.start("run", "flows.py:both") for _ in range(2)]
    until(lambda: written(workspace) == 8 and begun(own) >= 2)
    (own.folder / "gate").touch()
    outputs = [driver.communicate(timeout=DEADLINE_S)[0] for driver in drivers]
    assert [driver.returncode for driver in drivers] == [0, 0], outputs
    assert all(output.endswith("6\n") for output in outputs)
    assert sorted(line for line in own.ran() if line.startswith("made")) == [
        f"made {i}" for i in range(4)
    ]
    assert own.ran().count("added") == 1
    for run in workspace.meta.select(Run):
        states = workspace.meta.last_each(TaskState, run=run.id)
        assert len(states) == 5
        assert {state.status for state in states} <= {"done", "reused"}
    workspace.close()


@pytest.mark.parametrize("end", ["killed", "failed"])
def test_when_the_one_that_computes_ends_the_other_steps_in(own: Folder, end: str) -> None:
    workspace = own.open()
    first = own.start("run", "flows.py:both", BROKEN="1")
    until(lambda: begun(own) == 2)
    second = own.start("run", "flows.py:both")
    until(lambda: written(workspace) == 8)
    if end == "killed":
        first.kill()
    (own.folder / "gate").touch()
    first.communicate(timeout=DEADLINE_S)
    assert first.returncode == (-signal.SIGKILL if end == "killed" else 1)
    output, _ = second.communicate(timeout=DEADLINE_S)
    assert second.returncode == 0, output
    assert output.endswith("6\n")
    assert sorted(line for line in own.ran() if line.startswith("made")) == [
        f"made {i}" for i in range(4)
    ]
    workspace.close()


@pytest.mark.parametrize("how", ["cancel", "SIGTERM", "SIGHUP"])
def test_a_run_is_ended_from_elsewhere_in_a_moment(own: Folder, how: str) -> None:
    workspace = own.open()
    driver = own.start("run", "flows.py:both")
    until(lambda: begun(own) == 2)
    run = own.last_run(workspace, "both").id
    pids = [int(line.split()[2]) for line in own.ran()]
    asked_at = time.monotonic()
    if how == "cancel":
        said = own.type("cancel", run)
        assert said.stdout == f"Cancelled. Resume with: upturn resume {run}\n", said.stderr
    else:
        os.kill(driver.pid, getattr(signal, how))
    output, _ = driver.communicate(timeout=DEADLINE_S)
    assert time.monotonic() - asked_at < 10  # of which a slow machine may take most
    assert driver.returncode == 130
    assert f"Resume with: upturn resume {run}" in output
    assert view_run(workspace, run).status == "cancelled"
    until(lambda: not any(map(lives, pids)), "a worker lives on", within_s=5)
    again = own.type("cancel", run)
    assert again.returncode == 2
    assert f"Run {run} does not go on: it is cancelled." in again.stderr
    workspace.close()


# What a shell's `&` and nohup do before they start a command.
BEHIND = ("sh", "-c", 'trap "" INT HUP; exec "$@"', "sh")


def test_a_run_behind_a_shells_back_is_cancelled_and_nohup_is_minded(own: Folder) -> None:
    workspace = own.open()
    driver = own.start("run", "flows.py:both", before=BEHIND)
    until(lambda: begun(own) == 2)
    run = own.last_run(workspace, "both").id
    for one in (signal.SIGHUP, signal.SIGINT):
        os.kill(driver.pid, one)
    time.sleep(0.5)
    assert view_run(workspace, run).status == "running"
    assert driver.poll() is None
    said = own.type("cancel", run)
    assert said.stdout == f"Cancelled. Resume with: upturn resume {run}\n", said.stderr
    driver.communicate(timeout=DEADLINE_S)
    assert driver.returncode == 130
    workspace.close()


CLOCK = """
import time
if "{name}" in __import__("sys").argv:
    wall, begun = time.time, time.monotonic()
    time.time = lambda: wall() + ({jump_s} if time.monotonic() - begun > 0.5 else 0)
"""


@pytest.mark.parametrize("jump_s", [-86_400, 86_400])
def test_a_clock_that_is_set_costs_no_run(own: Folder, jump_s: int) -> None:
    """Every process of the run sees the new time from its first half second on."""
    workspace = own.open()
    site = own.folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(CLOCK.format(name="flows.py:both", jump_s=jump_s))
    path = os.pathsep.join([str(site), own.environment()["PYTHONPATH"]])
    driver = own.start("run", "flows.py:both", PYTHONPATH=path)
    until(lambda: begun(own) == 2)
    run = own.last_run(workspace, "both").id
    began = time.monotonic()
    while time.monotonic() - began < 3:  # the lease was renewed at least once meanwhile
        assert view_run(workspace, run).status == "running"
        time.sleep(0.1)
    assert "is still running" in own.type("resume", run).stderr
    (own.folder / "gate").touch()
    output, _ = driver.communicate(timeout=DEADLINE_S)
    assert output.endswith("6\n"), output
    (seen,) = [float(line.split()[1]) for line in own.ran() if line.startswith("clock")]
    assert abs(seen - time.time()) > 80_000, "the clock was not set"
    workspace.close()
