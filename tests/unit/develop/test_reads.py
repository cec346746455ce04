"""Reads: files that a step opens by itself are inputs by content, as far as they are seen."""

import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import upturn as up
from e2e.folder import Folder
from unit.develop import readers
from upturn.core.errors import Invalid
from upturn.core.records import Edge, Memo, Task, TaskState
from upturn.stores.workspace import Workspace
from waiting import until

Said = Callable[[], list[str]]


def flow_of(step: Any, *args: Any) -> Any:
    @up.flow
    def f() -> Any:
        return step(*args)

    return f


def reads_of(workspace: Workspace, run: str, step: str) -> set[tuple[str, str]]:
    state = workspace.meta.get(TaskState, run, step, 0)
    return {(Path(read.path).name, read.kind) for read in state.reads}


def test_a_file_that_a_step_opens_is_an_input(
    note: str, said: Said, tmp_path: Path, workspace: Workspace
) -> None:
    file = tmp_path / "a.txt"
    file.write_text("one")
    f = flow_of(readers.text_of, str(file), note)
    run = f.run().id
    assert f() == "one"
    assert said() == ["text_of"]
    assert reads_of(workspace, run, "text_of") == {("a.txt", "file")}
    (edge,) = workspace.meta.select(Edge, target=f"run/{run}/text_of/0", role=f"read {file}")
    assert edge.source.startswith("file/")

    file.touch()
    assert f() == "one"
    assert len(said()) == 1, "a new date on the same content changes nothing"
    file.write_text("two")
    assert f() == f() == "two"
    assert len(said()) == 2
    file.write_text("one")
    assert f() == "one"
    assert len(said()) == 2, "what was made of this content is still known"


def test_a_change_that_keeps_size_and_time_is_seen(note: str, said: Said, tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("one")
    os.utime(file, (1_000_000_000, 1_000_000_000))
    f = flow_of(readers.text_of, str(file), note)
    assert f() == "one"
    file.write_text("two")
    os.utime(file, (1_000_000_000, 1_000_000_000))
    assert f() == "two"
    assert len(said()) == 2


def test_that_there_was_no_file_is_an_input(note: str, said: Said, tmp_path: Path) -> None:
    file = tmp_path / "maybe.txt"
    f = flow_of(readers.text_if_any, str(file), note)
    assert f() == f() == "nothing"
    assert len(said()) == 1
    file.write_text("here")
    assert f() == f() == "here"
    assert len(said()) == 2
    file.unlink()
    assert f() == "nothing"
    assert len(said()) == 2


def test_the_names_in_a_folder_are_an_input(note: str, said: Said, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a.csv").write_text("1")
    f = flow_of(readers.names_in_folder, str(folder), note)
    assert f() == f() == ["a.csv"]
    (folder / "a.csv").write_text("2")
    assert f() == ["a.csv"]
    assert len(said()) == 1, "it looked at the names alone"
    (folder / "b.csv").touch()
    assert f() == f() == ["a.csv", "b.csv"]
    assert len(said()) == 2


def test_databases_of_sqlite_are_inputs(note: str, said: Said, tmp_path: Path) -> None:
    connections: list[sqlite3.Connection] = []
    for mode in ("DELETE", "WAL"):
        connection = sqlite3.connect(tmp_path / mode)
        connection.execute(f"PRAGMA journal_mode = {mode}")
        connection.execute("CREATE TABLE t (x)")
        connection.commit()
        connections.append(connection)

    @up.flow
    def f() -> Any:
        return [readers.rows_of(str(tmp_path / mode), note) for mode in ("DELETE", "WAL")]

    assert f() == [[], []]
    time.sleep(2.2)  # a database that was written just now is not relied on
    assert f() == f() == [[], []]
    assert len(said()) == 4
    for connection in connections:
        connection.execute("INSERT INTO t VALUES (7)")
        connection.commit()
    assert f() == [[[7]], [[7]]]
    assert len(said()) == 6
    for connection in connections:
        connection.close()


def test_what_a_task_made_itself_is_no_input(
    note: str, said: Said, tmp_path: Path, workspace: Workspace
) -> None:
    file = tmp_path / "own.txt"
    f = flow_of(readers.written_and_read, str(file), note)
    run = f.run()
    assert run.result() == "my ownrenameda"
    assert reads_of(workspace, run.id, "written_and_read") == set()
    file.write_text("another's")
    assert f() == "my ownrenameda"
    assert len(said()) == 1


def test_a_file_that_a_task_could_not_make_is_an_input(
    note: str, said: Said, tmp_path: Path
) -> None:
    file = tmp_path / "claim"
    file.write_text("theirs")
    os.utime(file, (1_000_000_000, 1_000_000_000))
    f = flow_of(readers.claimed, str(file), note)
    time.sleep(0.1)
    assert f() == "theirs"
    file.write_text("others")
    assert f() == "others"


def test_a_file_that_a_task_appends_to_and_reads_leaves_nothing_to_reuse(
    note: str, said: Said, tmp_path: Path
) -> None:
    file = tmp_path / "log.txt"
    file.write_text("log")
    f = flow_of(readers.appended_and_read, str(file), note)
    assert [f(), f()] == ["log+", "log++"]
    assert len(said()) == 2


def test_what_is_made_of_a_file_that_changes_meanwhile_is_not_kept(
    note: str, said: Said, tmp_path: Path, workspace: Workspace
) -> None:
    file, gate = tmp_path / "a.txt", tmp_path / "gate"
    file.write_text("before")
    f = flow_of(readers.read_slowly, str(file), note, str(gate))
    handles: list[Any] = []
    thread = threading.Thread(target=lambda: handles.append(f.run()))
    thread.start()
    until(lambda: bool(said()))
    file.write_text("after!")
    gate.touch()
    thread.join()
    (handle,) = handles
    assert handle.result() == "before"
    state = workspace.meta.get(TaskState, handle.id, "read_slowly", 0)
    assert [Path(path).name for path in state.changed] == ["a.txt"]
    task = workspace.meta.get(Task, handle.id, "read_slowly", 0)
    assert workspace.meta.find(Memo, task.memo) is None
    assert f() == f() == "after!"
    assert len(said()) == 2


def test_threads_are_seen_and_other_processes_are_not(
    note: str, tmp_path: Path, workspace: Workspace
) -> None:
    file = tmp_path / "a.txt"
    file.write_text("text")
    run = flow_of(readers.read_by_thread, str(file), note).run().id
    assert reads_of(workspace, run, "read_by_thread") == {("a.txt", "file")}
    handle = flow_of(readers.read_by_child, str(file), note).run()
    assert handle.result() == "text"
    assert reads_of(workspace, handle.id, "read_by_child") == set()


def test_a_path_that_is_an_argument_is_no_second_input(
    note: str, said: Said, tmp_path: Path, workspace: Workspace
) -> None:
    one, other = tmp_path / "a.txt", tmp_path / "b.txt"
    one.write_text("same")
    run = flow_of(readers.given_file, [one], note).run().id
    assert reads_of(workspace, run, "given_file") == set()
    one.rename(other)
    assert flow_of(readers.given_file, [other], note)() == ["PosixPath same"]
    assert len(said()) == 1, "where a file given by Path lies does not count"


def test_a_file_named_for_a_native_reader_is_an_input(
    note: str, said: Said, tmp_path: Path
) -> None:
    import polars as pl

    file = tmp_path / "a.parquet"
    pl.DataFrame({"x": [1, 2]}).write_parquet(file)
    f, g = (flow_of(step, str(file), note) for step in (readers.parquet_sum, readers.parquet_sums))
    assert f() == f() == 3
    assert g() == g() == [3, 3, 3]
    assert said() == ["parquet_sum", "parquet_sums"]
    pl.DataFrame({"x": [1, 3]}).write_parquet(file)
    assert f() == 4
    assert g() == [4, 4, 4]
    assert len(said()) == 4


def test_a_folder_named_for_a_native_reader_is_an_input(
    note: str, said: Said, tmp_path: Path
) -> None:
    import polars as pl

    folder = tmp_path / "parts"
    folder.mkdir()
    pl.DataFrame({"x": [1, 2]}).write_parquet(folder / "a.parquet")
    f = flow_of(readers.rows_in_folder, str(folder), note)
    assert f() == f() == 2
    pl.DataFrame({"x": [3]}).write_parquet(folder / "b.parquet")
    assert f() == f() == 3
    pl.DataFrame({"x": [3, 4]}).write_parquet(folder / "b.parquet")
    assert f() == 4
    assert len(said()) == 3


def test_a_file_as_an_argument_is_an_input_by_content(
    note: str, said: Said, tmp_path: Path
) -> None:
    file = tmp_path / "a.txt"
    file.write_text("one")
    f = flow_of(readers.given_file, [up.File(file)], note)
    assert f() == f() == ["PosixPath one"]
    file.write_text("two")
    assert f() == ["PosixPath two"]
    assert len(said()) == 2


def test_outside_a_task_a_file_is_a_path(tmp_path: Path) -> None:
    file = up.File(tmp_path, "a") / "b"
    assert file == tmp_path / "a" / "b"
    assert type(file) is type(Path())
    assert type(up.File("a/b").parent) is type(Path())
    assert isinstance(up.File("a"), Path)


def test_what_a_cached_function_read_is_an_input_of_all_that_it_answers(
    note: str, said: Said, tmp_path: Path
) -> None:
    file = tmp_path / "a.json"

    @up.flow
    def f() -> Any:
        first = readers.cached_value(str(file), "x", note).get()
        return [first, readers.cached_value(str(file), "y", note)]

    file.write_text('{"x": 1, "y": 2}')
    assert f() == f() == [1, 2]
    file.write_text('{"x": 3, "y": 4}')
    assert f() == f() == [3, 4], "no worker answers from what it remembers of the file"
    assert len(said()) == 4


def test_a_worker_whose_task_failed_forgets_too(note: str, said: Said, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    f = flow_of(readers.cached_value, str(file), "x", note)
    file.write_text('{"y": 1}')
    assert f.run().status == "failed"
    file.write_text('{"x": 1}')
    assert f() == 1


def test_readers_written_in_python_are_seen(
    note: str, said: Said, tmp_path: Path, workspace: Workspace
) -> None:
    import numpy as np

    csv, array = tmp_path / "a.csv", tmp_path / "a.npy"
    f = flow_of(readers.by_libraries, str(tmp_path), note)
    for number in (1, 2):
        csv.write_text(f"x\n{number}\n")
        np.save(array, np.array([number]))
        handle = f.run()
        assert handle.result() == f() == [number, number]
        reads = reads_of(workspace, handle.id, "by_libraries")
        assert reads >= {("a.csv", "file"), ("a.npy", "file")}
    assert len(said()) == 2


CONFIGURED = {
    "flows.py": """
import upturn as up
import settings

@up.step
def rate(n: int) -> int:
    with open("ran", "a") as file:
        file.write(f"rate {n}\\n")
    return settings.load()["rate"] * n

@up.flow
def main():
    first = rate(1).get()
    return first + rate(2).get()
""",
    "settings.py": """
import json
from pathlib import Path

with open(Path(__file__).parent / "settings.json") as file:
    _TABLE = json.load(file)

def load():
    return globals()["_TABLE"]
""",
    "settings.json": '{"rate": 10}',
}


def test_what_a_module_reads_when_it_is_imported_is_an_input(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "project", CONFIGURED)
    first = folder.type("run", "flows.py:main")
    assert first.stdout == "30\n", first.stderr
    assert folder.type("run", "flows.py:main").stdout == "30\n"
    assert len(folder.ran()) == 2
    (folder.folder / "settings.json").write_text('{"rate": 11}')
    assert folder.type("run", "flows.py:main").stdout == "33\n"
    assert len(folder.ran()) == 4
    (folder.folder / "unrelated.txt").touch()
    assert folder.type("run", "flows.py:main").stdout == "33\n"
    assert len(folder.ran()) == 4, "imports list folders, which is no reading of them"

    moved = tmp_path / "moved"
    folder.folder.rename(moved)
    there = Folder(moved, {})
    assert there.type("run", "flows.py:main").stdout == "33\n"
    assert len(there.ran()) == 4, "within the project, paths are relative to it"


def test_resume_repeats_what_read_a_file_that_changed(
    note: str, said: Said, tmp_path: Path, workspace: Workspace
) -> None:
    from upturn.core.records import Run
    from upturn.develop.run import start_run

    file, same, gate = tmp_path / "a.txt", tmp_path / "b.txt", tmp_path / "gate"
    file.write_text("one")
    same.write_text("same")

    @up.flow
    def f() -> Any:
        text = readers.read_uncached(str(file), note)
        other = readers.read_uncached(str(same), note)
        readers.fail_unless(str(gate), text)
        return [text, other]

    handle = f.run()
    assert handle.status == "failed"
    file.write_text("two")
    gate.touch()
    run = workspace.meta.get(Run, handle.id)
    resumed = start_run(f, {}, resume=run)
    assert resumed.result() == ["two", "same"]
    assert len(said()) == 3, "the one whose file is as before was not repeated"


def test_a_declared_variable_is_an_input(
    note: str, said: Said, monkeypatch: pytest.MonkeyPatch, workspace: Workspace
) -> None:
    f = flow_of(readers.stage, note)
    monkeypatch.delenv("UNIT_STAGE", raising=False)
    assert f() is None
    monkeypatch.setenv("UNIT_STAGE", "test")
    handle = f.run()
    assert handle.result() == f() == "test"
    monkeypatch.setenv("UNIT_STAGE", "")
    assert f() == ""
    assert len(said()) == 3
    monkeypatch.setenv("UNIT_STAGE", "test")
    assert f() == "test"
    assert len(said()) == 3
    task = workspace.meta.get(Task, handle.id, "stage", 0)
    (given,) = (item for item in task.inputs if item.name == "$UNIT_STAGE")
    assert "test" not in given.digest


def test_a_variable_that_is_not_declared_stays_as_it_was(
    note: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UNIT_STAGE", raising=False)

    @up.flow
    def f() -> Any:
        first = readers.stage(note).get()
        return [first, *(readers.undeclared(note, number) for number in range(3))]

    assert f() == [None] * 4
    monkeypatch.setenv("UNIT_STAGE", "later")
    assert f.run(upturn_fresh=True).result()[0] == "later"


def test_a_module_that_reads_a_declared_variable_is_imported_anew(
    note: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "staged.py").write_text("import os\nSTAGE = os.environ['UNIT_STAGE']\n")
    f = flow_of(readers.stage_of_module, note, str(tmp_path))
    for value in ("one", "two"):
        monkeypatch.setenv("UNIT_STAGE", value)
        assert f() == value


@pytest.mark.parametrize("bad", ["STAGE", ["A=B"], [""], [3]])
def test_names_of_variables_are_checked(bad: Any) -> None:
    with pytest.raises(Invalid, match="environ"):
        up.step(environ=bad)(lambda: None)


def test_a_hook_costs_nothing_to_what_is_no_task(tmp_path: Path) -> None:
    code = "import upturn, sys; print('upturn.develop.reads' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout == "False\n"
