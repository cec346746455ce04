"""Whatever a step does with files, and whatever becomes of them, no stale output is reused."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import upturn as up
from unit.develop.readers import performed, program_run
from upturn.core.records import TaskState
from upturn.develop.warm import close_pools
from upturn.stores.workspace import Workspace, open_workspace

NAMES = st.sampled_from(["a", "b", "c"])
TEXTS = st.sampled_from(["one", "two", "three"])
VERBS = st.sampled_from(["read", "read", "read", "list", "write", "append", "claim", "remove"])
OPERATIONS = st.one_of(
    st.tuples(VERBS, NAMES, TEXTS), st.tuples(st.just("rename"), NAMES, NAMES)
).map(list)
EDITS = st.lists(
    st.tuples(st.sampled_from(["write", "append", "remove"]), NAMES, TEXTS).map(list), max_size=3
)


@pytest.fixture
def workspace() -> Iterator[Workspace]:
    """Return the test's workspace, opened; its workers end with it."""
    opened = open_workspace()
    yield opened
    close_pools()
    opened.close()


@up.flow
def programmed(folder: str, program: list[str], salt: str):
    """Run a program of operations, each a line."""
    return program_run(folder, [line.split(" ") for line in program], salt)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    before=EDITS,
    program=st.lists(OPERATIONS, min_size=1, max_size=5),
    edits=st.lists(EDITS, max_size=3),
)
def test_no_stale_output_is_reused(
    before: list[list[str]],
    program: list[list[str]],
    edits: list[list[list[str]]],
    workspace: Workspace,
) -> None:
    lines = [" ".join(operation) for operation in program]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "files"
        folder.mkdir()
        for changes in [before, *edits, []]:
            performed(str(folder), changes)
            truth = truth_in_a_copy(folder, program)
            handle = programmed.run(folder=str(folder), program=lines, salt=scratch)
            assert handle.result() == truth, how_it_was(workspace, handle.id)


def truth_in_a_copy(folder: Path, program: list[list[str]]) -> list[Any]:
    copy = folder.with_name("copy")
    shutil.copytree(folder, copy)
    try:
        return performed(str(copy), program)
    finally:
        shutil.rmtree(copy)


def how_it_was(workspace: Workspace, run: str) -> str:
    state = workspace.meta.get(TaskState, run, "program_run", 0)
    return f"{state.status} from {state.reused_from}: {state.reads} {state.changed}"


def test_what_only_reads_is_reused_when_nothing_changed(
    workspace: Workspace, tmp_path: Path
) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "a").write_text("one")
    lines = ["read a x", "read b x", "list a x"]
    handles = [programmed.run(folder=str(folder), program=lines, salt="") for _ in range(2)]
    assert [handle.result() for handle in handles] == [["one", None, ["a"]]] * 2
    runs = [handle.id for handle in handles]
    found = [workspace.meta.get(TaskState, run, "program_run", 0).status for run in runs]
    assert found == ["done", "reused"]
