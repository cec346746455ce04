"""Environments of steps: real ones, built by uv from what the package index has."""

import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import upturn as up
from unit.develop import env_steps as steps
from upturn.cli import show
from upturn.core.errors import Invalid, RunFailed
from upturn.core.records import Artifact, Edge, Memo, Task, TaskState
from upturn.develop.env import Env
from upturn.develop.loading import load_file
from upturn.develop.locks import load_lock
from upturn.develop.uv import find_uv
from upturn.stores.workspace import Workspace

# What is asked of the index takes its time, and a machine's first build fetches 150 MB.
pytestmark = pytest.mark.timeout(300)


# The value


def test_an_environment_is_a_value() -> None:
    written = up.env("scikit-learn == 1.7", "Pandas[Excel, parquet] >=2, <3", python="3.12")
    assert written == up.env("pandas[excel,parquet]>=2,<3", "scikit_learn==1.7", python="3.12")
    assert hash(written) == hash(Env(written.requirements, "3.12"))
    assert written != up.env(*written.requirements)
    assert written != up.env("scikit-learn==1.6", "pandas>=2,<3", python="3.12")


@pytest.mark.parametrize(
    "requirement",
    [
        "six",
        "six~=1.16",
        "six!=1.15,>=1",
        "six==1.*",
        "six===1.0+local",
        "six (>=1.0)",
        "six>=1 ; python_version < '3.13'",
        "six; sys_platform == 'linux'",
        "six @ https://example.org/six-1.17.0-py2.py3-none-any.whl",
        "six[a,b]==1!2.0rc1",
    ],
)
def test_requirements_are_written_as_for_pip(requirement: str) -> None:
    assert up.env(requirement).requirements[0].startswith("six")


@pytest.mark.parametrize(
    "requirement",
    [
        *(
            "",
            " ",
            "six=1.16",
            "six==",
            "-r requirements.txt",
            "six 1.16",
            "six;",
            "==1.0",
            "six\n7",
        ),
        *("six, numpy", "six @", "./six", "six @ git+https://example.org/six", "six[", "é"),
        *(7, None, ["six"]),
    ],
)
def test_what_is_no_requirement_is_refused_by_name(requirement: Any) -> None:
    with pytest.raises(Invalid) as refused:
        up.env("numpy", requirement)
    assert repr(requirement) in refused.value.message


def test_a_package_is_named_once() -> None:
    with pytest.raises(Invalid, match=r"asks for 'six' twice: 'six==1.16.0' and 'six>=1'"):
        up.env("six==1.16.0", "Six>=1")
    marked = ("six==1.16.0; python_version < '3.12'", "six==1.17.0; python_version >= '3.12'")
    assert len(up.env(*marked).requirements) == 2
    assert up.env("six", "six") == up.env("six")


@pytest.mark.parametrize("python", ["3", "3.x", "2.7", "3.10", "python3.12", 3.12, ">=3.12", ""])
def test_what_is_no_python_for_a_step_is_refused(python: Any) -> None:
    with pytest.raises(Invalid, match=r"Python"):
        up.env("six", python=python)


def test_a_step_takes_an_environment() -> None:
    with pytest.raises(Invalid, match=r"env='six' is no environment"):
        up.step(env="six")(lambda: None)  # pyright: ignore[reportArgumentType, reportCallIssue]


def test_outside_a_flow_a_step_runs_here() -> None:
    assert steps.sized([1, 2]) == 2


# Running


@up.flow
def both(number: int) -> Any:
    return steps.joined([steps.with_old(number), steps.with_new(number)])


def inputs_of(workspace: Workspace, run: str, step: str) -> dict[str, str]:
    task = workspace.meta.get(Task, run, step, 0)
    return {item.name: item.digest for item in task.inputs}


def statuses(workspace: Workspace, run: str) -> dict[str, str]:
    return {state.step: state.status for state in workspace.meta.last_each(TaskState, run=run)}


def test_two_steps_of_a_run_have_two_versions_of_a_package(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    first = both.run(number=1)
    assert first.result() == "six 1.16.0, 1; six 1.17.0, 1"

    # The lock is an artifact, an input, and in the lineage.
    digest = inputs_of(workspace, first.id, "with_old")["env:lock"]
    lock = load_lock(workspace, digest)
    assert lock.packages["six"] == "1.16.0"
    assert {"msgspec", "numpy", "pyarrow"} < lock.packages.keys()
    assert lock.text.count("--hash=sha256:") >= len(lock.packages)
    assert workspace.meta.get(Artifact, digest).summary.startswith("six==1.16.0 (python 3.")
    target = f"run/{first.id}/with_old/0"
    assert workspace.meta.find(Edge, f"artifact/{digest}", target, "input env:lock") is not None
    assert "env:lock" not in inputs_of(workspace, first.id, "joined")
    show.command.main([f"{first.id}/with_old"], standalone_mode=False)
    shown = capsys.readouterr().out
    assert "env " in shown
    assert "six==1.16.0, " in " ".join(shown.split())

    memos = workspace.meta.counts()["memo"]
    again = both.run(number=1)
    assert set(statuses(workspace, again.id).values()) == {"reused"}
    assert workspace.meta.counts()["memo"] == memos


def test_the_code_of_a_step_counts_and_the_flow_s_packages_do_not(workspace: Workspace) -> None:
    from upturn.develop.fingerprint import fingerprint

    kinds = {part.kind for part in fingerprint(steps.with_old.function, libraries=False).parts}
    assert "function" in kinds  # six_version
    assert not kinds & {"distribution", "python"}
    run = both.run(number=1)
    old, new = (inputs_of(workspace, run.id, step) for step in ("with_old", "with_new"))
    assert old["number"] == new["number"]
    assert old["env:lock"] != new["env:lock"]


def test_the_same_requirements_are_the_same_environment(workspace: Workspace) -> None:
    @up.flow
    def f() -> Any:
        return [steps.with_old(1), steps.spelled_otherwise(1)]

    run = f.run()
    assert run.result() == ["six 1.16.0, 1"] * 2
    one, other = (inputs_of(workspace, run.id, step) for step in ("with_old", "spelled_otherwise"))
    assert one["env:lock"] == other["env:lock"]


def test_what_was_built_needs_no_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workspace_home: Path
) -> None:
    both(1)
    from upturn.develop.warm import close_pools

    close_pools()
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "empty"))
    assert both(2) == "six 1.16.0, 2; six 1.17.0, 2"


def test_an_environment_has_its_packages_and_this_upturn(workspace_home: Path) -> None:
    @up.flow
    def f() -> Any:
        return steps.where("pytest")

    seen = f()
    assert seen["prefix"].startswith(str(workspace_home / "envs"))
    assert seen["upturn"] == str(Path(up.__file__).resolve())
    assert not seen["found"]  # pytest is installed here, and not there
    assert seen["started"] == "1.16.0"  # what the step starts as `python` is there too


def test_a_crash_in_an_environment_fails_its_task_alone(workspace: Workspace) -> None:
    @up.flow
    def f() -> Any:
        steps.crashes()
        return steps.with_new(3)

    run = f.run()
    assert statuses(workspace, run.id) == {"crashes": "failed", "with_new": "done"}
    assert run.state.problem is not None
    assert "exit status 3" in run.state.problem.message


def test_functions_without_a_name_travel_by_value() -> None:
    @up.flow
    def f() -> Any:
        return [steps.nested_in(40)(2), steps.nested_in(50)(2)]

    assert f() == ["six 1.16.0, 42", "six 1.16.0, 52"]


def test_functions_without_a_name_stay_in_their_python() -> None:
    other = "3.12" if sys.version_info[:2] != (3, 12) else "3.13"

    @up.step(env=up.env(python=other))
    def nested() -> None:
        """Never runs."""

    @up.flow
    def f() -> Any:
        return nested()

    with pytest.raises(RunFailed, match=rf"'nested' can't be taken from Python 3.* to {other}"):
        f()


# Values


def test_plain_values_and_arrays_cross() -> None:
    @up.flow
    def f() -> Any:
        return [steps.sized(np.arange(5)), steps.sized({"a": 1}), steps.sized(["x"] * 3)]

    assert f() == [5, 1, 3]


def test_a_value_that_an_environment_can_t_load_is_named() -> None:
    from packaging.version import Version  # here by way of pytest, and not there

    @up.flow
    def f() -> Any:
        return steps.taken(Version("1.0"))

    run = f.run()
    assert run.state.problem is not None
    assert run.state.problem.message.startswith(
        "The packaging.version.Version can't be loaded in the environment of 'taken', six==1.16.0"
    )
    assert "Both environments need its library" in run.state.problem.hint


def test_a_value_that_only_environments_can_load_stays_there() -> None:
    @up.flow
    def within() -> Any:
        return steps.next_after(steps.newest())

    assert within() == "1.3.0"

    @up.flow
    def back() -> Any:
        return steps.newest()

    @up.flow
    def into_another() -> Any:
        return steps.here(steps.newest())

    for flow, where in ((back, "the flow's own environment"), (into_another, "of 'here'")):
        problem = flow.run().state.problem
        assert problem is not None
        assert problem.message.startswith("The semver.Version that run/")
        assert "semver==3.0.2, six==1.17.0 (python 3." in problem.message
        assert where in problem.message


# What goes wrong


def test_a_file_that_imports_what_the_environment_lacks_is_named(tmp_path: Path) -> None:
    file = tmp_path / "lacking.py"
    file.write_text(
        "import pytest\nimport upturn as up\n\n"
        '@up.step(env=up.env("six==1.16.0"))\ndef train() -> int:\n    return 1\n\n'
        "@up.flow\ndef f():\n    return train()\n"
    )
    problem = load_file(file).f.run().state.problem
    assert problem is not None
    assert problem.message.startswith(
        "lacking.py imports 'pytest', which is not in the environment of the step 'train': six=="
    )
    assert problem.hint == "Add it to up.env(…), or import it inside the steps that use it."


def test_a_step_that_imports_what_its_environment_lacks_fails_with_a_way_out() -> None:
    @up.flow
    def f() -> Any:
        return steps.imports("semver")

    problem = f.run().state.problem
    assert problem is not None
    assert problem.message == "ModuleNotFoundError: No module named 'semver'"
    assert problem.hint.startswith("Its environment is six==1.16.0 (python 3.")


def test_what_can_t_be_built_fails_its_task_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workspace: Workspace
) -> None:
    assert both(6) == "six 1.16.0, 6; six 1.17.0, 6"
    digest = inputs_of(workspace, both.run(number=6).id, "with_old")["env:lock"]
    folder = workspace.settings.home / "envs" / digest[:20]
    shutil.rmtree(folder)
    with monkeypatch.context() as offline:
        offline.setenv("UV_OFFLINE", "1")
        offline.setenv("UV_CACHE_DIR", str(tmp_path / "empty"))
        run = both.run(number=7)
    assert statuses(workspace, run.id)["with_old"] == "failed"
    problem = run.state.problem
    assert problem is not None
    assert "The environment six==1.16.0 (python 3." in problem.message
    assert "can't be built:\n" in problem.message
    assert "when the package index can be reached" in problem.hint
    assert not folder.exists()
    assert both(7) == "six 1.16.0, 7; six 1.17.0, 7"


def test_what_no_index_has_is_said_in_uv_s_own_words() -> None:
    @up.flow
    def f() -> Any:
        return steps.impossible()

    problem = f.run().state.problem
    assert problem is not None
    assert "No packages were found for the environment six==99.0 (python 3." in problem.message
    assert "no version of six==99.0" in problem.message
    assert "Change up.env(…)" in problem.hint


def test_without_uv_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(up.UpturnError) as missing:
        find_uv()
    assert missing.value.hint == "pip install uv"


def test_a_damaged_or_deleted_environment_is_built_again(
    workspace: Workspace, workspace_home: Path
) -> None:
    assert both(4) == "six 1.16.0, 4; six 1.17.0, 4"
    from upturn.develop.warm import close_pools

    close_pools()
    digest = inputs_of(workspace, both.run(number=4).id, "with_old")["env:lock"]
    folder = workspace_home / "envs" / digest[:20]
    (folder / "bin" / "python").unlink()
    assert both(5) == "six 1.16.0, 5; six 1.17.0, 5"

    close_pools()
    (package,) = folder.glob("lib/python3.*/site-packages/msgspec")
    package.rename(package.with_name("gone"))
    assert both.run(number=8).status == "failed"  # it is seen, and said on stderr
    assert both(8) == "six 1.16.0, 8; six 1.17.0, 8"


def _other_python() -> str | None:
    for minor in (14, 13, 12, 11):
        if minor != sys.version_info[1]:
            found = subprocess.run(
                [find_uv(), "python", "find", "--no-python-downloads", f"3.{minor}"],
                capture_output=True,
                check=False,
            )
            if found.returncode == 0:
                return f"3.{minor}"
    return None


def test_another_python_runs_a_step(tmp_path: Path) -> None:
    other = _other_python()
    if other is None:
        pytest.skip(f"uv finds no Python here but {platform.python_version()}")
    file = tmp_path / "pythons.py"
    file.write_text(
        "import sys\nfrom pathlib import Path\nimport upturn as up\n\n"
        f'@up.step(env=up.env("six==1.16.0", python="{other}"))\n'
        "def which(path: Path) -> tuple:\n"
        "    up.log(length=len(path.read_text()))\n"
        '    return sys.version_info[0], sys.version_info[1], Path("x")\n\n'
        "@up.flow\ndef f(path: Path):\n    return which(path)\n"
    )
    assert load_file(file).f(file) == (3, int(other.split(".")[1]), Path("x"))


def test_memos_of_locks_are_no_tasks(workspace: Workspace) -> None:
    both(1)
    kept = [memo for memo in workspace.meta.select(Memo) if memo.task.startswith("env/")]
    assert kept
    assert all(workspace.blobs.has(memo.output) for memo in kept)
