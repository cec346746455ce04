"""What tasks say goes through their journals into the store, before they count as done."""

import math
import os
import time
from pathlib import Path
from typing import Any

import pytest

import upturn as up
from contract.processes import finish, start
from upturn.core.records import Exhibit, Run, TaskState
from upturn.develop.tracking.delivery import pick_up
from upturn.stores.workspace import Workspace


def journals(workspace: Workspace) -> list[Path]:
    return sorted((workspace.settings.home / "journals").iterdir())


def history(workspace: Workspace, run: str, name: str, scope: str) -> list[tuple[int, float]]:
    points = workspace.tracking.history(run, name, scope=scope)
    return [(point.step, point.value) for point in points]


@up.step(cache=False)
def says(count: int) -> str:
    for step in range(count):
        up.log(loss=step / 7, step=step)
    up.log(inf=math.inf, unknown=math.nan)
    up.tag(stage="one", count=count)
    up.save("some text", "notes/a.txt")
    up.show("shown", "title")
    return "done"


@up.step(cache=False)
def forks() -> None:
    up.log(a=1, step=0)
    child = os.fork()
    if not child:
        up.log(a=2, step=1)
        os._exit(0)
    os.waitpid(child, 0)


@up.step(cache=False)
def dies() -> None:
    for step in range(3_000):
        up.log(loss=step, step=step)
    os.kill(os.getpid(), 9)


@up.step(cache=False, timeout="4s")
def hangs() -> None:
    up.log(loss=1)
    time.sleep(60)


@up.step(cache=False)
def tracks() -> str:
    up.log(outer=1)
    with up.track("inner") as run:
        up.log(inner=2)
    up.log(outer=3, step=1)
    return run.id


@up.step(cache=False)
def waits(file: str) -> None:
    for step in range(500):
        up.log(loss=step, step=step)
    Path(file).touch()
    time.sleep(60)


@up.flow
def one(count: int = 3_000) -> Any:
    return says(count)


@up.flow
def many() -> Any:
    return [says(5) for _ in range(6)]


def flow_of(step: Any) -> Any:
    @up.flow
    def f() -> Any:
        return step()

    return f


def test_a_task_says_what_it_does(workspace: Workspace) -> None:
    run = one.run(count=3_000)
    assert run.result() == "done"
    scope = "says/0"
    assert history(workspace, run.id, "loss", scope) == [(n, n / 7) for n in range(3_000)]
    assert history(workspace, run.id, "inf", scope) == [(-1, math.inf)]
    assert math.isnan(history(workspace, run.id, "unknown", scope)[0][1])
    tags = workspace.tracking.tags([f"run/{run.id}"])[f"run/{run.id}"]
    assert tags == {"stage": "one", "count": "3000"}
    (file,) = workspace.tracking.files(run.id)
    assert (file.path, bytes(workspace.blobs.get(file.digest))) == ("notes/a.txt", b"some text")
    (shown,) = workspace.meta.select(Exhibit, run=run.id, step="says", index=0)
    assert shown.title == "title"
    assert journals(workspace) == []


def test_tasks_are_told_apart(workspace: Workspace) -> None:
    run = many.run()
    for index in range(6):
        assert len(history(workspace, run.id, "loss", f"says/{index}")) == 5
    assert journals(workspace) == []


def test_children_of_a_task_log_too(workspace: Workspace) -> None:
    run = flow_of(forks).run()
    assert run.status == "done"
    assert history(workspace, run.id, "a", "forks/0") == [(0, 1), (1, 2)]
    assert journals(workspace) == []


@pytest.mark.parametrize(("step", "count"), [(dies, 3_000), (hangs, 1)])
def test_what_a_task_that_was_killed_had_logged_is_there(
    workspace: Workspace, step: Any, count: int
) -> None:
    run = flow_of(step).run()
    assert run.status == "failed"
    assert len(history(workspace, run.id, "loss", f"{step.name}/0")) == count
    (state,) = workspace.meta.last_each(TaskState, run=run.id)
    assert state.status == "failed"
    assert journals(workspace) == []


def test_a_tracked_run_in_a_task_is_a_child_of_its_run(workspace: Workspace) -> None:
    run = flow_of(tracks).run()
    inner = run.result()
    assert workspace.meta.get(Run, inner).parent == run.id
    assert history(workspace, inner, "inner", "") == [(0, 2)]
    assert history(workspace, run.id, "outer", "tracks/0") == [(-1, 1), (1, 3)]


def test_when_driver_and_task_are_killed_the_next_run_picks_it_up(
    workspace: Workspace, tmp_path: Path
) -> None:
    code = """
        sys.path.insert(0, sys.argv[1])
        import folder_of_waits
        folder_of_waits.waiting.run(file=sys.argv[2])
    """
    (tmp_path / "folder_of_waits.py").write_text(
        "import time\nfrom pathlib import Path\nimport upturn as up\n"
        "@up.step\ndef waits(file: str) -> None:\n"
        "    for step in range(500):\n        up.log(loss=step, step=step)\n"
        "    Path(file).touch()\n    time.sleep(60)\n"
        "@up.flow\ndef waiting(file: str):\n    return waits(file)\n"
    )
    file = tmp_path / "logged"
    process = start(code, tmp_path, file)
    while not file.exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.communicate()
    (run,) = workspace.meta.select(Run)
    until = time.monotonic() + 20  # workers die with their driver
    while journals(workspace) and time.monotonic() < until:
        pick_up(workspace)
    assert len(history(workspace, run.id, "loss", "waits/0")) == 500
    assert journals(workspace) == []


def test_with_the_setting_tasks_say_what_they_use(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPTURN_SYSTEM_METRICS", "1")
    run = one.run(count=1)
    names = {series.name for series in workspace.tracking.series([run.id])[run.id]}
    assert {"system/memory_bytes", "system/process_memory_bytes", "loss"} <= names


def test_a_bad_setting_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPTURN_SYSTEM_METRICS", "sometimes")
    with pytest.raises(up.UpturnError, match="UPTURN_SYSTEM_METRICS"):
        up.track("x").start()


def test_the_driver_stores_what_is_said_while_the_task_runs(tmp_path: Path) -> None:
    finish(start(LOOKS, tmp_path / "stop"))


LOOKS = """
    import threading, time
    import upturn as up
    from upturn.stores.workspace import open_workspace

    @up.step(cache=False)
    def loops(stop: str) -> int:
        step = 0
        while not Path(stop).exists():
            up.log(loss=step, step=step)
            step += 1
            time.sleep(0.001)
        return step

    @up.flow
    def looping(stop: str):
        return loops(stop)

    if __name__ == "__main__":
        seen = []
        def look():
            workspace = open_workspace()
            while not seen:
                for run in workspace.tracking.search().rows:
                    seen.extend(workspace.tracking.series([run.id])[run.id])
                time.sleep(0.05)
            Path(sys.argv[1]).touch()
            workspace.close()
        thread = threading.Thread(target=look)
        thread.start()
        run = looping.run(stop=sys.argv[1])
        thread.join()
        assert run.status == "done", run.status
        assert seen[0].count < run.result()
"""
