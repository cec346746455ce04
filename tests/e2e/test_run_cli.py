"""The commands of a run as a user types them, in real processes."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from e2e.folder import DEADLINE_S, Folder
from upturn.core.records import Run, TaskState
from upturn.develop.runs import view_run
from upturn.stores.workspace import Workspace
from waiting import PROC, lives, until

FLOWS = '''
"""Flows of a test's user."""

import os
import sys
import time
from datetime import date
from pathlib import Path

import upturn as up
from parts.helpers import looked_up

HERE = Path(__file__).parent


def write(line: str) -> None:
    with open(HERE / "ran", "a") as file:
        file.write(line + "\\n")


@up.step(cache=False)
def quick(i: int) -> int:
    write(f"quick {i}")
    return i


@up.step
def gated(name: str) -> int:
    write(f"gated {os.getpid()}")
    deadline = time.monotonic() + 60
    while not (HERE / name).exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return 100


@up.step
def added(parts: list) -> int:
    return sum(parts)


@up.flow
def interrupted(gate: str = "gate"):
    """Three quick steps, then one that waits for a gate."""
    parts = quick.map(range(3))
    return added([*parts, gated(gate)])


@up.step
def speaks(days: list[int], start: date) -> int:
    print("from the step")
    print("to stderr", file=sys.stderr)
    print("without an end", end="")
    up.log(days=len(days))
    return looked_up(sum(days))


@up.flow
def talking(start: date, days: list[int] = [1, 2], loud: bool = False):
    """Say something.

    And more of it.
    """
    return speaks(days, start)


@up.step
def misled(table: dict) -> int:
    return looked_up(table)


@up.flow
def misleading():
    return misled({"a": 1})
'''
HELPERS = """
def looked_up(value):
    if isinstance(value, dict):
        return value["b"]
    return value
"""


class Project(Folder):
    """A user's folder with these flows."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, {"flows.py": FLOWS, "parts/helpers.py": HELPERS})


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("project"))


@pytest.fixture
def own(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture(scope="module")
def talked(project: Project) -> dict[str, Any]:
    """Run the flow `talking`, from another folder, and return what it said and its id."""
    elsewhere = project.folder.parent
    done = project.type(
        *("run", f"{project.folder.name}/flows.py:talking"),
        *("--start", "2013-01-31", "--days", "3,4", "--days", "5", "--loud"),
        cwd=elsewhere,
        UPTURN_HOME=str(project.settings.home),
    )
    assert done.returncode == 0, done.stderr
    workspace = project.open()
    run = project.last_run(workspace, "talking")
    workspace.close()
    return {"done": done, "run": run}


def test_a_run_says_what_happens_and_prints_its_result(talked: dict[str, Any]) -> None:
    done, run = talked["done"], talked["run"]
    assert done.stdout == "12\n"
    lines = done.stderr.splitlines()
    assert lines[0].split() == ["run", run.id, "talking"]
    for line in ("from the step", "to stderr", "without an end"):
        assert f"  speaks/0 │ {line}" in lines
    (ended,) = [line for line in lines if line.startswith("  speaks/0 ") and "done" in line]
    assert ended.endswith("days 3")
    assert lines[-1].startswith(f"run {run.id}  done in ")


def test_options_have_the_types_of_the_signature(talked: dict[str, Any]) -> None:
    assert talked["run"].params == {"start": "2013-01-31", "days": [3, 4, 5], "loud": True}


def test_runs_show_and_logs(project: Project, talked: dict[str, Any]) -> None:
    run = talked["run"]
    listed = project.type("runs", "--flow", "talking").stdout.splitlines()
    assert listed[1].split()[:3] == [run.id, "talking", "done"]
    shown = project.type("show", run.id[:4]).stdout
    assert "speaks/0" in shown
    assert "days 3" in shown
    assert "start = 2013-01-31" in shown
    task = project.type("show", f"run/{run.id}/speaks/0").stdout
    assert "input days" in task
    logged = project.type("logs", run.id)
    assert logged.stdout == "from the step\nto stderr\nwithout an end\n"
    failed = project.type("logs", f"{run.id}/spaeks")
    assert failed.returncode == 1
    assert "Did you mean 'speaks'?" in failed.stderr


def test_status_says_where_things_are_and_what_is_there(
    project: Project, talked: dict[str, Any]
) -> None:
    said = project.type("status").stdout
    assert said.startswith(f"{project.settings.home}  (beside the project's files")
    assert "project tested, 2 cores" in said
    assert "task" in said
    other = project.folder / "elsewhere"
    said = project.type("status", UPTURN_HOME=str(other)).stdout
    assert said.startswith(f"{other}  (UPTURN_HOME says so)")
    assert "It is empty" in said
    assert not other.exists(), "to look makes nothing"


def test_an_unknown_setting_is_refused(project: Project) -> None:
    failed = project.type("status", UPTURN_CORE="2")
    assert failed.returncode == 2
    assert failed.stderr == "Upturn has no setting UPTURN_CORE.\nDid you mean 'UPTURN_CORES'?\n"


def test_the_help_of_a_flow_lists_its_parameters(project: Project) -> None:
    said = project.type("run", "flows.py:talking", "--help").stdout
    assert "Say something." in said
    assert "--start" in said
    assert "a date (2013-01-31)" in said
    assert "[default: [1, 2]]" in said
    assert "--loud / --no-loud" in said


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("run", "flows.py:talking", "--strat", "2013-01-01"), 2, "'--start'?"),
        (("run", "flows.py:talking", "--start", "soon"), 2, "--start is 'soon', and takes a date"),
        (("run", "flows.py:talking", "--start"), 2, "requires an argument"),
        (("run", "flows.py:talking"), 2, "Give it: --start"),
        (("run", "flows.py:speaks"), 2, "'speaks' in flows.py is no flow"),
        (("run", "../flows:talking"), 1, "No file '../flows'."),
        (("run", "no.such.module:talking"), 1, "No file 'no.such.module'."),
        (("run", "flows:talking:x"), 1, "No file 'flows:talking'."),
        (("run",), 2, "Missing argument"),
        (("resume", "nothing"), 1, "No run 'nothing'."),
        (("show", "a/b/c/d"), 2, "is no path of a task"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else "",
)
def test_a_typo_is_answered_without_a_traceback(
    project: Project, talked: dict[str, Any], words: tuple[str, ...], status: int, said: str
) -> None:
    failed = project.type(*words)
    assert (failed.returncode, said in failed.stderr) == (status, True), failed.stderr


@pytest.mark.parametrize(
    ("text", "said", "line"),
    [
        ("import upturn as up\n\ndef f(:\n    pass\n", "SyntaxError", "broken.py:3"),
        ("import upturn as up\nimport no_such_library\n", "No module named", "broken.py:2"),
        ("def g():\n    return 1 / 0\n\ng()\n", "ZeroDivisionError", "broken.py:2, in g"),
        ("raise SystemExit(4)\n", "SystemExit: 4", "broken.py:1"),
    ],
    ids=["syntax", "import", "raise", "exit"],
)
def test_a_file_that_cannot_be_loaded_shows_the_users_line(
    own: Project, text: str, said: str, line: str
) -> None:
    (own.folder / "broken.py").write_text(text)
    failed = own.type("run", "broken.py:f")
    assert failed.returncode == 2
    assert "broken.py can't be loaded" in failed.stderr
    assert said in failed.stderr
    assert line in failed.stderr
    assert "upturn" not in failed.stderr.replace("import upturn as up", "")


def test_a_step_that_raises_shows_the_users_frames_and_keeps_the_whole(project: Project) -> None:
    failed = project.type("run", "flows.py:misleading")
    assert failed.returncode == 1
    told = failed.stderr.partition("misled/0 failed:")[2]
    assert "KeyError: 'b'" in told
    assert "flows.py" in told
    assert 'return value["b"]' in told
    assert "upturn/" not in failed.stderr
    run = told.rpartition("upturn resume ")[2].strip()
    assert f"upturn logs {run}/misled/0" in told
    logs = project.type("logs", f"{run}/misled/0").stdout
    assert logs.startswith("Traceback")
    assert "KeyError: 'b'" in logs
    shown = project.type("show", run)
    assert "failed" in shown.stdout
    assert "KeyError: 'b'" in shown.stderr

    helpers = project.folder / "parts" / "helpers.py"
    helpers.write_text(HELPERS.replace('value["b"]', 'value["a"]'))
    resumed = project.type("resume", run)
    helpers.write_text(HELPERS)
    assert (resumed.returncode, resumed.stdout) == (0, "1\n")
    assert project.type("resume", run).stdout.startswith(f"Run {run} is done already")


def pid_in(project: Project) -> int:
    (line,) = [line for line in project.ran() if line.startswith("gated")][:1]
    return int(line.split()[1])


def done_quickly(workspace: Workspace, project: Project) -> Callable[[], bool]:
    """Whether the quick steps are done and the gated one has begun."""

    def check() -> bool:
        runs = workspace.meta.select(Run, flow="interrupted")
        states = workspace.meta.last_each(TaskState, run=runs[0].id) if runs else []
        done = [state for state in states if state.status == "done" and state.step == "quick"]
        return len(done) == 3 and any(line.startswith("gated") for line in project.ran())

    return check


@pytest.mark.skipif(not PROC, reason="reads /proc to find parents")
def test_after_kill_9_of_the_driver_no_worker_lives_and_resume_repeats_nothing_finished(
    own: Project,
) -> None:
    workspace = own.open()
    driver = own.start("run", "flows.py:interrupted")
    until(done_quickly(workspace, own))
    worker = pid_in(own)
    stat = Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()
    server = int(stat[1])
    run = own.last_run(workspace, "interrupted").id
    refused = own.type("resume", run)
    assert refused.returncode == 1
    assert f"Run {run} is still running." in refused.stderr

    os.kill(driver.pid, signal.SIGKILL)
    killed_at = time.monotonic()
    driver.communicate()
    until(lambda: not lives(worker) and not lives(server), "it lives on", within_s=5)
    until(lambda: view_run(workspace, run).status == "lost")
    assert time.monotonic() - killed_at < 10

    (own.folder / "gate").touch()
    resumed = own.type("resume", run)
    assert (resumed.returncode, resumed.stdout) == (0, "103\n"), resumed.stderr
    lines = own.ran()
    assert sorted(line for line in lines if line.startswith("quick")) == [
        f"quick {i}" for i in range(3)
    ], "with cache=False, and still not repeated"
    assert sum(line.startswith("gated") for line in lines) == 2
    workspace.close()


@pytest.mark.parametrize("times", [1, 2], ids=["once", "twice"])
def test_ctrl_c_leaves_no_process_and_a_run_to_resume(own: Project, times: int) -> None:
    workspace = own.open()
    driver = own.start("run", "flows.py:interrupted")
    until(done_quickly(workspace, own))
    for _ in range(times):
        os.killpg(driver.pid, signal.SIGINT)  # as a terminal does it
    output, _ = driver.communicate(timeout=DEADLINE_S)
    until(lambda: not lives(pid_in(own)), "it lives on", within_s=5)
    assert driver.returncode == 130
    run = own.last_run(workspace, "interrupted").id
    if times == 1:
        assert output.count("upturn resume") == 1
        assert f"Resume with: upturn resume {run}" in output
        assert "Traceback" not in output
        assert view_run(workspace, run).status == "cancelled"
        (own.folder / "gate").touch()
        resumed = own.type("resume", run)
        assert (resumed.returncode, resumed.stdout) == (0, "103\n"), resumed.stderr
        assert sum(line.startswith("quick") for line in own.ran()) == 3
    workspace.close()


def test_two_runs_at_once_share_a_store(own: Project) -> None:
    (own.folder / "gate").touch()
    drivers = [own.start("run", "flows.py:interrupted") for _ in range(3)]
    outputs = [driver.communicate(timeout=DEADLINE_S)[0] for driver in drivers]
    assert [driver.returncode for driver in drivers] == [0, 0, 0], outputs
    assert all(output.endswith("103\n") for output in outputs)
    workspace = own.open()
    runs = workspace.meta.select(Run)
    assert len({run.id for run in runs}) == 3
    for run in runs:
        states = workspace.meta.last_each(TaskState, run=run.id)
        assert len(states) == 5
        assert {state.status for state in states} <= {"done", "reused"}
    workspace.close()


def test_a_reader_that_leaves_does_not_end_the_run(own: Project) -> None:
    (own.folder / "gate").touch()
    driver = own.start("run", "flows.py:interrupted")
    assert driver.stdout is not None
    driver.stdout.readline()
    driver.stdout.close()
    driver.wait(timeout=DEADLINE_S)
    workspace = own.open()
    assert view_run(workspace, own.last_run(workspace, "interrupted").id).status == "done"
    workspace.close()


def test_steps_do_not_inherit_the_drivers_path(own: Project) -> None:
    (own.folder / "env.py").write_text(
        "import os\nimport upturn as up\n"
        "@up.step(cache=False)\ndef path() -> str:\n"
        "    return os.environ['PYTHONPATH']\n"
        "@up.flow\ndef f():\n    return path()\n"
    )
    assert own.type("run", "env.py:f").stdout.strip() == own.environment()["PYTHONPATH"]
