"""Checkpoints: what an attempt saved, the next one loads; a task that is done leaves none."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import upturn as up
from unit.develop.steps import write
from upturn.core.errors import Invalid
from upturn.develop.run import start_run
from upturn.stores.workspace import Workspace

Said = Callable[[], list[str]]


@up.step(retries=5)
def epochs(note: str, count: int) -> tuple[int, int]:
    """Be killed in every epoch, after it was saved."""
    saved, counter = up.checkpoint(), up.checkpoint("files").dir / "counter"
    done = saved.load(0)
    if done < count:
        write(note, f"epoch {done}")
        saved.save(done + 1)
        with counter.open("a") as file:
            file.write("x")
        os.kill(os.getpid(), signal.SIGKILL)
    return done, len(counter.read_text())


@up.step
def halting(note: str, stop_at: int) -> int:
    """Fail at an epoch the first time."""
    saved = up.checkpoint()
    for epoch in range(saved.load(0), 5):
        write(note, f"epoch {epoch}")
        saved.save(epoch + 1)
        if epoch == stop_at and not Path(f"{note}.go").exists():
            raise ValueError("stop")
    return 5


@up.step(cache=False)
def unremembered(note: str) -> int:
    saved = up.checkpoint()
    write(note, f"from {saved.load(0)}")
    saved.save(3)
    raise ValueError("stop")


@up.step
def saves(value: Any) -> None:
    up.checkpoint().save(value)


def left(workspace: Workspace) -> list[str]:
    folder = workspace.settings.home / "checkpoints"
    return os.listdir(folder) if folder.exists() else []


def test_attempts_that_are_killed_go_on_where_the_one_before_was(
    note: str, said: Said, workspace: Workspace
) -> None:
    @up.flow
    def f() -> Any:
        return epochs(note, 3)

    before = left(workspace)
    assert list(f()) == [3, 3]
    assert said() == ["epoch 0", "epoch 1", "epoch 2"]
    assert left(workspace) == before


def test_a_resume_and_a_new_run_go_on_too(note: str, said: Said, workspace: Workspace) -> None:
    @up.flow
    def f() -> Any:
        return halting(note, 2)

    before = set(left(workspace))
    handle = f.run()
    assert handle.status == "failed"
    (kept,) = set(left(workspace)) - before
    value = workspace.settings.home / "checkpoints" / kept / "_" / "value"
    assert value.stat().st_size > 0
    Path(f"{note}.go").touch()
    resumed = start_run(f, {}, resume=handle.record)
    assert resumed.result() == 5
    assert said() == [f"epoch {i}" for i in range(5)]
    assert set(left(workspace)) == before


def test_a_damaged_one_is_as_none(note: str, said: Said, workspace: Workspace) -> None:
    @up.flow
    def f() -> Any:
        return halting(note, 1)

    before = set(left(workspace))
    f.run()
    (kept,) = set(left(workspace)) - before
    value = workspace.settings.home / "checkpoints" / kept / "_" / "value"
    value.write_bytes(value.read_bytes()[:-1])
    Path(f"{note}.go").touch()
    assert f() == 5
    assert said() == sorted(["epoch 0", "epoch 1", *(f"epoch {i}" for i in range(5))])


def test_another_input_and_what_is_not_cached_begin_anew(note: str, said: Said) -> None:
    @up.flow
    def f(stop_at: int) -> Any:
        return halting(note, stop_at)

    f.run(stop_at=0)
    f.run(stop_at=3)
    assert said() == sorted(["epoch 0", *(f"epoch {i}" for i in range(4))])

    @up.flow
    def g() -> Any:
        return unremembered(f"{note}2")

    g.run()
    g.run()
    assert Path(f"{note}2").read_text().splitlines() == ["from 0"] * 2


def test_what_cannot_be_saved_is_said() -> None:
    @up.flow
    def f() -> Any:
        return saves(up.checkpoint)  # a function is fine

    assert f.run().status == "done"

    import threading

    @up.step
    def saves_a_lock() -> None:
        up.checkpoint().save(threading.Lock())

    @up.flow
    def g() -> Any:
        return saves_a_lock()

    problem = g.run().problem
    assert problem is not None
    assert "lock" in problem.message


def test_outside_a_task_nothing_is_kept() -> None:
    saved = up.checkpoint()
    saved.save(3)
    assert saved.load("none") == "none"
    folder = saved.dir
    assert folder.is_dir()
    assert saved.dir == folder
    del saved
    assert not folder.exists()
    with pytest.raises(Invalid, match=r"'../x' can't name a checkpoint"):
        up.checkpoint("../x")
