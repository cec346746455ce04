"""`upturn rerun`: a task again with its recorded inputs, on the code as it is now."""

import subprocess
from pathlib import Path

import pytest

from e2e.folder import COMMAND, Folder
from upturn.core.records import Run, TaskState

FLOWS = '''
"""Flows of a test's user."""

from pathlib import Path

import upturn as up
from more import elsewhere

HERE = Path(__file__).parent


def write(line: str) -> None:
    with open(HERE / "ran", "a") as file:
        file.write(line + "\\n")


@up.step
def made(i: int) -> list[int]:
    write(f"made {i}")
    return [i, i + 1]


@up.step
def judged(*parts: list, file: Path, scale: float = 2.0) -> float:
    write("judged")
    print("judging", file.name)
    up.log(parts=len(parts))
    return sum(map(sum, parts)) / 0


@up.flow
def judging(file: Path):
    first, second = made(1), made(10)
    return judged(first, [*range(3)], elsewhere(second), file=file)
'''
MORE = """
import upturn as up


@up.step
def elsewhere(items: list) -> list:
    return items[::-1]
"""


@pytest.fixture
def own(tmp_path: Path) -> Folder:
    return Folder(tmp_path, {"flows.py": FLOWS, "more.py": MORE, "data.csv": "1\n"})


@pytest.fixture
def failed(own: Folder) -> str:
    """Return a run whose last step failed."""
    done = own.type("run", "flows.py:judging", "--file", "data.csv")
    assert "ZeroDivisionError" in done.stderr
    workspace = own.open()
    run = own.last_run(workspace, "judging").id
    workspace.close()
    return run


def test_fix_the_step_rerun_it_and_resume(own: Folder, failed: str) -> None:
    again = own.type("rerun", f"{failed}/judged")
    assert again.returncode == 1
    assert "ZeroDivisionError: division by zero" in again.stderr
    assert "judged/0 │ judging data.csv" in again.stderr
    (own.folder / "flows.py").write_text(FLOWS.replace("/ 0", "* scale"))
    again = own.type("rerun", f"{failed}/judged/0")
    assert again.returncode == 0, again.stderr
    assert "54.0  parts 3" in again.stderr
    assert f"Go on with: upturn resume {failed}" in again.stderr
    workspace = own.open()
    rerun = own.last_run(workspace, "judging")
    assert rerun.rerun_of == f"run/{failed}/judged/0"
    refused = own.type("resume", rerun.id)
    assert f"is a rerun of run/{failed}/judged/0." in refused.stderr
    assert f"upturn rerun {failed}/judged/0" in refused.stderr
    resumed = own.type("resume", failed)
    assert (resumed.returncode, resumed.stdout) == (0, "54.0\n"), resumed.stderr
    assert own.ran().count("judged") == 3, "the resume took what the rerun made"
    state = workspace.meta.get(TaskState, failed, "judged", 0)
    assert (state.status, state.reused_from) == ("reused", f"run/{rerun.id}/judged/0")
    workspace.close()


def test_a_step_with_several_tasks_and_one_of_another_module(own: Folder, failed: str) -> None:
    both = own.type("rerun", f"{failed}/made")
    assert both.returncode == 0, both.stderr
    assert f"Same output as run/{failed}/made/0." in both.stderr
    assert f"Same output as run/{failed}/made/1." in both.stderr
    assert sorted(own.ran())[:1] == ["judged"]
    assert own.ran().count("made 10") == 2
    (own.folder / "more.py").write_text(MORE.replace("[::-1]", ""))
    other = own.type("rerun", f"{failed}/elsewhere")
    assert f"Another output than run/{failed}/elsewhere/0." in other.stderr


def test_it_is_stood_in_with_pdb(own: Folder, failed: str) -> None:
    debugged = subprocess.run(
        [*COMMAND, "rerun", "--pdb", f"{failed}/judged"],
        cwd=own.folder,
        env=own.environment(),
        input="p ('in it', len(parts), scale)\nq\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert debugged.returncode == 1
    assert "('in it', 3, 2.0)" in debugged.stdout
    assert "ZeroDivisionError" in debugged.stderr
    workspace = own.open()
    assert len(workspace.meta.select(Run)) == 1, "nothing is recorded"
    workspace.close()
    several = own.type("rerun", "--pdb", f"{failed}/made")
    assert "There are 2 tasks of 'made', and one is debugged." in several.stderr
    fine = own.type("rerun", "--pdb", f"{failed}/made/1")
    assert fine.stdout == "[10, 11]\n"


STANDING = """
import sys

import upturn as up


@up.step
def stops(x: int) -> int:
    y = x + 1
    # here
    return y


@up.step
def keeps(model: int) -> object:
    return model


@up.flow
def standing():
    return up.register("kept", keeps(stops(1)))
"""


@pytest.mark.parametrize(
    ("line", "typed", "status", "printed"),
    [
        ("breakpoint()", "p ('y is', y)\nc\n", 0, "('y is', 2)"),
        ("breakpoint()", "p ('y is', y)\nq\n", 1, "('y is', 2)"),
        ("sys.exit(3)", "p ('y is', y)\nq\n", 1, "('y is', 2)"),
    ],
)
def test_breakpoints_and_exits_are_stood_in_once(
    tmp_path: Path, line: str, typed: str, status: int, printed: str
) -> None:
    own = Folder(tmp_path, {"flows.py": STANDING})
    own.type("run", "flows.py:standing")
    workspace = own.open()
    run = own.last_run(workspace, "standing").id
    workspace.close()
    (own.folder / "flows.py").write_text(STANDING.replace("# here", line))
    debugged = subprocess.run(
        [*COMMAND, "rerun", "--pdb", f"{run}/stops"],
        cwd=own.folder,
        env=own.environment(),
        input=typed,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert debugged.returncode == status, debugged.stderr
    assert printed in debugged.stdout
    assert "BdbQuit" not in debugged.stdout + debugged.stderr
    assert ("Traceback" in debugged.stderr) == (line == "sys.exit(3)")


def test_a_step_of_upturns_own_is_not_stood_in(tmp_path: Path) -> None:
    own = Folder(tmp_path, {"flows.py": STANDING})
    own.type("run", "flows.py:standing")
    workspace = own.open()
    run = own.last_run(workspace, "standing").id
    workspace.close()
    refused = own.type("rerun", "--pdb", f"{run}/register")
    assert refused.returncode == 2
    assert "The step 'register' is Upturn's own" in refused.stderr


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("def judged(", "def ruled(", "No step 'judged' in the code of flows.py:judging."),
        ("scale: float = 2.0", "scale: float", "takes 'scale' now, and was given none"),
        ("file: Path, scale", "path: Path, scale", "was given 'file', which it takes no longer"),
    ],
)
def test_code_that_does_not_fit_is_said(
    own: Folder, failed: str, old: str, new: str, said: str
) -> None:
    code = FLOWS.replace(old, new)
    if "ruled" in new:
        code = code.replace("return judged(", "return ruled(")
    (own.folder / "flows.py").write_text(code)
    refused = own.type("rerun", f"{failed}/judged")
    assert refused.returncode in (1, 2)
    assert said in refused.stderr


def test_what_is_not_there_is_said(own: Folder, failed: str) -> None:
    assert "Did you mean 'judged'?" in own.type("rerun", f"{failed}/jugded").stderr
    assert "No run 'nope'" in own.type("rerun", "nope/judged").stderr
    assert f"Write {failed}/STEP" in own.type("rerun", failed).stderr
    (own.folder / "data.csv").write_text("2\n")
    assert "is no longer what" in own.type("rerun", f"{failed}/judged").stderr
    workspace = own.open()
    output = workspace.meta.get(TaskState, failed, "made", 1).output
    assert output is not None
    workspace.blobs.delete(output)
    workspace.close()
    assert "The input items of" in own.type("rerun", f"{failed}/elsewhere").stderr
