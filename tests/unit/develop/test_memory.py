"""Memory: what ran once with the same code and inputs does not run again, in any run or process."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

import upturn as up
from unit.develop.steps import (
    double,
    lines_of,
    names_in,
    numbers,
    perishable,
    scaled,
    side_effect,
    total,
)
from upturn.core.errors import RunFailed
from upturn.core.records import Memo, Task, TaskState
from upturn.stores.workspace import Workspace

Said = Callable[[], list[str]]


def statuses(workspace: Workspace, run: str) -> list[str]:
    return [state.status for state in workspace.meta.last_each(TaskState, run=run)]


def test_the_same_code_and_inputs_run_once(note: str, said: Said, workspace: Workspace) -> None:
    @up.flow
    def f(number: int) -> Any:
        return total([double(number, note=note), double(number + 1, note=note)], note=note)

    assert f(1) == 6
    assert said() == ["double 1", "double 2", "total"]
    again = f.run(number=1)
    assert again.result() == 6
    assert len(said()) == 3
    assert statuses(workspace, again.id) == ["reused"] * 3
    (state, _, _) = workspace.meta.last_each(TaskState, run=again.id)
    assert state.reused_from is not None
    assert not state.reused_from.startswith(f"run/{again.id}/")

    assert f(2) == 10  # of double 2 it knows
    assert said() == ["double 1", "double 2", "double 3", "total", "total"]


def test_a_value_that_came_another_way_is_the_same_input(note: str, said: Said) -> None:
    @up.flow
    def by_ref() -> Any:
        return double(double(3), note=note)

    @up.flow
    def by_value() -> Any:
        return double(6, note=note), scaled.map([6, double(3)], by=2, note=note)

    assert by_ref() == 12
    assert by_value() == (12, [12, 12])
    assert said() == ["double 6", "scaled 6"], "of the two of one run, one does the work for both"


def test_a_step_that_ran_again_with_the_same_output_spares_what_follows(
    note: str, said: Said
) -> None:
    @up.flow
    def f(effects: int) -> Any:
        return double(side_effect(f"{note}{effects}"), note=note)

    f(1)
    f(2)
    assert said() == ["double 1"]


def test_cache_false_runs_in_every_run(note: str, said: Said) -> None:
    @up.flow
    def f() -> Any:
        return side_effect(note)

    assert [f(), f()] == [1, 1]
    assert said() == ["effect"] * 2


def test_a_result_expires(note: str, said: Said, workspace: Workspace) -> None:
    @up.flow
    def f() -> Any:
        return perishable(note)

    handle = f.run()
    f()
    assert said() == ["made"]
    task = workspace.meta.get(Task, handle.id, "perishable", 0)
    memo = workspace.meta.get(Memo, task.memo)
    old = msgspec.structs.replace(memo, seq=0, at=memo.at - timedelta(hours=2))
    workspace.meta.put(old)
    f()
    assert said() == ["made"] * 2
    f()
    assert said() == ["made"] * 2


def test_fresh_runs_everything(note: str, said: Said) -> None:
    @up.flow
    def f() -> Any:
        return double(1, note=note)

    f()
    f.run(upturn_fresh=True)
    assert said() == ["double 1"] * 2
    f()
    assert len(said()) == 2


def test_a_path_is_an_input_by_content(note: str, said: Said, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"

    @up.flow
    def f(path: Path) -> Any:
        return lines_of(path, note)

    file.write_text("1\n2\n")
    assert f(file) == 2
    file.touch()
    copy = tmp_path / "b.csv"
    copy.write_text("1\n2\n")
    assert f(file) == f(copy) == 2
    assert said() == ["lines of a.csv"]
    file.write_text("1\n2\n3\n")
    assert f(file) == 3
    with pytest.raises(RunFailed, match=r"c\.csv, which can't be read: there is nothing"):
        f(tmp_path / "c.csv")


def test_a_folder_is_an_input_by_its_files(note: str, said: Said, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a").touch()

    @up.flow
    def f() -> Any:
        return names_in(folder, note)

    assert f() == f() == ["a"]
    assert len(said()) == 1
    (folder / "a").write_text("changed")
    f()
    (folder / "a").rename(folder / "b")
    assert f() == ["b"]
    assert len(said()) == 3


@pytest.mark.parametrize(
    ("one", "other"), [([], ()), ([], {}), ([1], (1,)), (1, 1.0), (1, True), ([[]], [])]
)
def test_values_that_differ_in_kind_are_different_inputs(
    one: Any, other: Any, note: str, said: Said
) -> None:
    @up.flow
    def f() -> Any:
        return [total([double(0), value], note=note) for value in (one, other)]

    f.run()
    assert said() == ["total"] * 2


def test_order_and_place_count(note: str, said: Said) -> None:
    @up.flow
    def f() -> Any:
        a, b = double(1), double(2)
        return [
            total(shape, note=note)
            for shape in ([a, b], [b, a], [a, [b]], {"x": a, "y": b}, {"y": a, "x": b})
        ]

    assert f() == [6] * 5
    assert said() == ["total"] * 5


def test_a_deleted_output_is_made_again(note: str, said: Said, workspace: Workspace) -> None:
    @up.flow
    def f() -> Any:
        return numbers(3, note)

    handle = f.run()
    output = workspace.meta.get(TaskState, handle.id, "numbers", 0).output
    assert output is not None
    workspace.blobs.delete(output)
    assert f() == [0, 1, 2]
    assert said() == ["numbers 3"] * 2


PROJECT = """
import sys
import upturn as up
from helper import written

@up.step
def made(number: int, note: str) -> int:
    # the body
    return written(number, note)

@up.flow
def main(number: int, note: str):
    return made(number, note)

if __name__ == "__main__":
    print(main(int(sys.argv[1]), sys.argv[2]))
"""
HELPER = """
def written(number, note):
    with open(note, "a") as file:
        file.write("ran\\n")
    return number * 10
"""


def script(folder: Path, *arguments: object) -> str:
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, str(folder / "main.py"), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_other_processes_remember_and_edits_of_what_is_used_count(
    note: str, said: Said, tmp_path: Path
) -> None:
    main, helper = tmp_path / "main.py", tmp_path / "helper.py"
    main.write_text(PROJECT)
    helper.write_text(HELPER)
    assert script(tmp_path, 1, note) == "10"
    assert script(tmp_path, 1, note) == "10"
    assert said() == ["ran"], "another process knows the output"
    main.write_text(PROJECT.replace("# the body", "# a comment"))
    helper.write_text(HELPER + "\nUNUSED = 1\n")
    assert script(tmp_path, 1, note) == "10"
    assert said() == ["ran"], "what it does not use does not count"
    helper.write_text(HELPER.replace("* 10", "* 20"))
    assert script(tmp_path, 1, note) == "20"
    assert said() == ["ran"] * 2


SCRIPT = """
import sys
from dataclasses import dataclass
import upturn as up

@dataclass
class Point:
    x: int
    y: int

@up.step
def moved(point: Point, by: int) -> Point:
    return Point(point.x + by, point.y)

@up.step
def both(points: list[Point]) -> tuple[int, str]:
    return sum(point.x for point in points), type(points[0]).__name__

@up.flow
def main():
    here = Point(1, 2)
    there = moved(here, 5)
    assert there.get() == Point(6, 2), there.get()
    assert isinstance(there.get(), Point)
    scale = 3
    local = up.step(lambda point: Point(point.x * scale, 0))
    return both([here, there, local(there), moved(local(here), 1)])

if __name__ == "__main__":
    print(main())
"""


def test_a_script_may_define_steps_classes_and_closures(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(textwrap.dedent(SCRIPT))
    assert script(tmp_path) == "(29, 'Point')"
    assert script(tmp_path) == "(29, 'Point')"
