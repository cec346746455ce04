"""Bad days of a run, with real processes: kills, Ctrl-C, damaged files; nothing is done twice."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

FLOW = """
import os, time
import upturn as up

@up.step(cache=False)
def slow(i: int) -> int:
    with open("ran.txt", "a") as file:
        file.write(f"{i}\\n")
    time.sleep(0.25)
    return i

@up.step
def total(values: list) -> int:
    print("adding up", len(values))
    return sum(values)

@up.flow
def sums(n: int = 8):
    return total(slow.map(range(n)))

@up.step
def table(n: int) -> list:
    return list(range(n))

@up.step
def use(values: list, by: int) -> int:
    return sum(values) * by

@up.flow
def scaled(by: int = 2):
    return use(table(1000), by)

@up.step
def bad(how: str) -> None:
    if how == "raise":
        return helper({})
    if how == "exit":
        os._exit(3)
    os.kill(os.getpid(), 9)

def helper(found: dict):
    return found["missing"]

@up.flow
def broken(how: str):
    return bad(how)
"""
DEADLINE_S = 30


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "upturn.toml").write_text("")
    (tmp_path / "sums.py").write_text(FLOW)
    monkeypatch.delenv("UPTURN_HOME", raising=False)
    monkeypatch.setenv("UPTURN_CORES", "2")
    return tmp_path


def upturn(project: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "upturn", *arguments],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
    )


def begin(project: Path, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "upturn", *arguments],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def ran(project: Path) -> list[str]:
    file = project / "ran.txt"
    return file.read_text().split() if file.exists() else []


def run_id(project: Path) -> str:
    return upturn(project, "runs").stdout.splitlines()[1].split()[0]


def workers_of(project: Path) -> list[int]:
    """Processes that still run in the project's directory."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if (entry / "cwd").readlink() == project:
                found.append(int(entry.name))
        except OSError:
            continue
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc to find orphans")
def test_a_killed_driver_leaves_no_worker_and_resume_repeats_nothing(project: Path) -> None:
    driver = begin(project, "run", "sums.py:sums")
    wait_for(lambda: len(ran(project)) >= 4)
    os.kill(driver.pid, signal.SIGKILL)
    driver.communicate()
    wait_for(lambda: not workers_of(project))
    before = ran(project)
    run = run_id(project)
    wait_for(lambda: " lost " in upturn(project, "runs").stdout)
    done = upturn(project, "resume", run)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "28"
    again = sorted(set(before) & set(ran(project)[len(before) :]))
    # What was running when the driver died may run again; what had finished may not.
    assert len(again) <= 2
    assert sorted(set(ran(project)), key=int) == [str(i) for i in range(8)]
    assert upturn(project, "resume", run).stdout.startswith(f"Run {run} is done already")


def test_ctrl_c_stops_at_once_and_says_how_to_resume(project: Path) -> None:
    driver = begin(project, "run", "sums.py:sums")
    wait_for(lambda: len(ran(project)) >= 3)
    os.kill(driver.pid, signal.SIGINT)
    output, _ = driver.communicate(timeout=DEADLINE_S)
    assert driver.returncode == 130
    run = run_id(project)
    assert f"Resume with: upturn resume {run}" in output
    assert "Traceback" not in output
    assert upturn(project, "resume", run).stdout.strip() == "28"


def test_a_damaged_output_is_found_and_made_again(project: Path) -> None:
    assert upturn(project, "run", "sums.py:scaled").stdout.strip() == "999000"
    shown = upturn(project, "show", f"{run_id(project)}/table").stdout
    digest = next(line.split()[1] for line in shown.splitlines() if "output" in line)
    [blob] = [p for p in (project / ".upturn/blobs").rglob("*") if digest[2:] in p.name]
    blob.chmod(0o644)
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.write_bytes(data)
    failed = upturn(project, "run", "sums.py:scaled", "--by", "3")
    assert failed.returncode == 1
    assert "damaged" in failed.stderr
    assert "Traceback" not in failed.stderr.split("failed:")[-1]
    again = upturn(project, "resume", run_id(project))
    assert again.stdout.strip() == "1498500", again.stderr


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("raise", "KeyError: 'missing'"),
        ("exit", "exit status 3"),
        ("kill", "SIGKILL"),
    ],
)
def test_a_step_that_fails_fails_alone_and_is_explained(project: Path, how: str, said: str) -> None:
    failed = upturn(project, "run", "sums.py:broken", "--how", how)
    assert failed.returncode == 1
    assert said in failed.stderr
    assert f"upturn resume {run_id(project)}" in failed.stderr
    told = failed.stderr.split("/bad/0 failed:")[-1]
    assert "upturn/develop" not in told  # the user's own frames alone
    if how == "raise":
        assert 'return found["missing"]' in told


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "sums.py:sms"], "No flow 'sms' in sums.py.\nDid you mean 'sums'?"),
        (["run", "sum.py:sums"], "No file 'sum.py'.\nDid you mean 'sums.py'?"),
        (["run", "sums.py:sums", "--m", "3"], "Did you mean '--n'?"),
        (["run", "sums.py:sums", "--n", "many"], "--n is 'many', and takes a whole number."),
        (["run", "sums.py:broken"], "needs a value for 'how'"),
        (["run", "sums.py"], "Write FILE:NAME"),
        (["rnu"], "Did you mean 'run'?"),
        (["show", "zzz"], "No run 'zzz'."),
        (["score", "nobody", "x.csv"], "No model 'nobody'."),
    ],
)
def test_a_typo_is_answered_with_a_fact_and_a_way_out(
    project: Path, arguments: list[str], said: str
) -> None:
    failed = upturn(project, *arguments)
    assert failed.returncode in (1, 2)
    assert said in failed.stderr
    assert "Traceback" not in failed.stderr
