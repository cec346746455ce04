"""`upturn gc`, `pin` and `unpin` as a user types them, in real processes."""

import os
import pty
import subprocess
import time
from datetime import timedelta
from pathlib import Path

import pytest

from e2e.folder import COMMAND
from e2e.test_run_cli import Project
from upturn.core.records import Collection, RunState, TaskState
from upturn.core.time import utcnow
from upturn.develop.runs import view_run
from waiting import until


@pytest.fixture
def own(tmp_path: Path) -> Project:
    return Project(tmp_path)


def age(project: Project, hours: float = 5) -> None:
    """Let every blob and output have been used some hours ago."""
    then = time.time() - hours * 3600
    for name in ("blobs", "output"):
        for path in (project.settings.home / name).rglob("*"):
            if path.is_file():
                os.utime(path, (then, then))


def talk(project: Project, days: str) -> str:
    """Run a flow and return its run's id."""
    done = project.type("run", "flows.py:talking", "--start", "2013-01-31", "--days", days)
    assert done.returncode == 0, done.stderr
    return done.stderr.split()[1]


def test_a_look_first_then_the_removal_and_what_show_says_of_it(own: Project) -> None:
    run, pinned = talk(own, "3,4"), talk(own, "5,6")
    done = own.type("pin", pinned, "--why", "the report")
    assert done.stdout == f"Pinned run/{pinned}.\n"
    listed = own.type("pin").stdout
    assert f"run/{pinned}" in listed
    assert "the report" in listed
    age(own)

    young = own.type("gc", "--dry-run").stdout
    assert "Nothing to remove that is older than 30d." in young
    look = own.type("gc", "--older-than", "0s", "--dry-run")
    assert look.returncode == 0, look.stderr
    lines = look.stdout.splitlines()
    assert lines[0].split() == ["run", "flow", "started", "(local)", "tasks", "blobs", "size"]
    assert lines[1].split()[:2] == [run, "talking"]
    assert pinned not in look.stdout
    assert "printed and saved   1 file" in look.stdout
    assert own.type("show", f"{run}/speaks/0").stdout.count("removed by gc") == 0

    refused = own.type("gc", "--older-than", "0s")
    assert refused.returncode == 2
    assert "Add --yes" in refused.stderr
    removed = own.type("gc", "--older-than", "0s", "--yes")
    assert removed.returncode == 0, removed.stderr
    assert removed.stdout.splitlines()[-1].startswith("Removed ")
    for what in (run, f"{run}/speaks/0"):
        assert "(removed by gc)" in own.type("show", what).stdout
    assert "removed" not in own.type("show", pinned).stdout
    assert own.type("logs", run).returncode == 0
    assert "from the step" in own.type("logs", pinned).stdout

    assert own.type("unpin", pinned).stdout == f"Unpinned run/{pinned}.\n"
    assert "Nothing is pinned" in own.type("pin").stdout
    age(own)
    assert own.type("gc", "--older-than", "0s", "--yes").returncode == 0
    assert "artifacts  0 B" in own.type("status").stdout
    gone = own.type("pin", pinned)
    assert gone.returncode == 1
    assert "blobs were removed before" in gone.stderr
    assert talk(own, "5,6") not in (run, pinned)


@pytest.mark.parametrize(("answer", "removed"), [("y", True), ("", False)])
def test_on_a_terminal_it_asks(own: Project, answer: str, removed: bool) -> None:
    talk(own, "3")
    age(own)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "gc", "--older-than", "0s"],
        cwd=own.folder,
        env=own.environment(),
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    os.close(theirs)
    os.write(ours, answer.encode() + b"\n")
    said, _ = process.communicate(timeout=60)
    os.close(ours)
    assert "[y/N]" in said
    workspace = own.open()
    assert bool(workspace.meta.select(Collection)) is removed
    assert (list(workspace.blobs.entries()) == []) is removed
    workspace.close()


def test_a_run_that_goes_on_for_hours_loses_nothing(own: Project) -> None:
    """Its arguments are stored long before a record tells of them: when their task is ready."""
    with (own.folder / "flows.py").open("a") as file:
        file.write(
            "\n\n@up.flow\ndef later():\n"
            "    waited = gated('gate')\n"
            "    return added([waited, 7_654_321])\n"
        )
    process = own.start("run", "flows.py:later")
    workspace = own.open()
    until(lambda: workspace.meta.select(TaskState), "no task runs")
    until(own.ran, "the step did not begin")
    run = own.last_run(workspace, "later")
    # As if it had begun five hours ago.
    began = utcnow() - timedelta(hours=5)
    workspace.meta.put(RunState(run=run.id, status="running", at=began))
    literals = len(list(workspace.blobs.entries()))
    age(own, hours=4)
    done = own.type("gc", "--older-than", "0s", "--yes")
    assert done.returncode == 0, done.stderr
    assert len(list(workspace.blobs.entries())) == literals
    (own.folder / "gate").touch()
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert said.splitlines()[-1] == str(100 + 7_654_321)
    assert view_run(workspace, run.id).status == "done"
    workspace.close()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("gc", "--older-than", "soon"), "'soon' is not a duration."),
        (("gc", "--keep-runs", "-1"), "--keep-runs"),
        (("pin", "nothing"), "No run 'nothing'."),
        (("unpin", "nothing"), "No run 'nothing'."),
    ],
)
def test_what_does_not_fit_is_told(own: Project, words: tuple[str, ...], message: str) -> None:
    done = own.type(*words)
    assert done.returncode in (1, 2)
    assert message in done.stderr
