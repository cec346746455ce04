"""Sync: what was tracked offline is brought to another store, once, whatever interrupts it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import upturn as up
from contract.processes import finish, start
from upturn.core.naming import Description, Group
from upturn.core.records import Exhibit, Run, RunState
from upturn.develop.runs import view_run
from upturn.develop.tracking.sync import offline_runs, sync
from upturn.stores.groups import make_group
from upturn.stores.workspace import Workspace, open_workspace


@pytest.fixture
def target(workspace: Workspace, tmp_path: Path) -> Iterator[Workspace]:
    """Return another store, in which other groups took the numbers."""
    opened = open_workspace(replace(workspace.settings, home=tmp_path / "server"))
    for name in ("one", "two", "three"):
        make_group(opened.meta, "elsewhere", name)
    yield opened
    opened.close()


def track(steps: int = 50) -> str:
    with up.track(
        "churn", name="night", params={"depth": 3}, tags={"a": "1"}, note="why", offline=True
    ) as run:
        for step in range(steps):
            up.log(loss=1 / (step + 1), acc=step, step=step)
        with up.track("churn") as inner:
            up.log(inside=1)
        up.save("words", "notes/words.txt")
        up.show("<b>x</b>", "page")
    assert offline_runs(open_home()) == sorted([run.id, inner.id])
    return run.id


def open_home() -> Path:
    opened = open_workspace()
    opened.close()
    return opened.settings.home


def everything(workspace: Workspace, run: str) -> object:
    series = workspace.tracking.series([run])[run]
    return (
        [msg.name for msg in workspace.meta.select(Group, id=workspace.meta.get(Run, run).group)],
        workspace.meta.get(Run, run).params,
        workspace.meta.get(Run, run).name,
        [(state.status, state.at, state.seq) for state in workspace.meta.select(RunState, run=run)],
        [text.text for text in workspace.meta.select(Description, path=f"run/{run}")],
        workspace.tracking.params([run]),
        workspace.tracking.tags([f"run/{run}"]),
        {one.name: workspace.tracking.history(run, one.name) for one in series},
        [
            (file.path, bytes(workspace.blobs.get(file.digest)))
            for file in workspace.tracking.files(run)
        ],
        [
            (shown.title, bytes(workspace.blobs.get(shown.artifact)))
            for shown in workspace.meta.select(Exhibit, run=run)
        ],
    )


def test_an_offline_run_is_brought_over_whole_and_once(
    workspace: Workspace, target: Workspace
) -> None:
    run = track()
    done = sync(workspace, target)
    assert run in done.runs
    assert (len(done.runs), done.points, done.files, done.going_on) == (2, 101, 1, ())
    assert everything(target, run) == everything(workspace, run)
    (child,) = (one for one in done.runs if one != run)
    assert target.meta.get(Run, child).parent == run
    assert target.meta.get(Run, run).group != workspace.meta.get(Run, run).group
    assert offline_runs(workspace.settings.home) == []
    assert sync(workspace, target).runs == ()


def test_a_sync_that_is_killed_anywhere_goes_on(workspace: Workspace, target: Workspace) -> None:
    run = track(20)
    code = """
        from dataclasses import replace
        from upturn.develop.tracking import sync
        from upturn.stores.workspace import open_workspace
        source = open_workspace()
        target = open_workspace(replace(source.settings, home=Path(sys.argv[1])))
        left = int(sys.argv[2])
        def count(frame, event, argument):  # killed before the n-th of its calls to a store
            global left
            if event == "call" and frame.f_code.co_name in ("put", "log", "put_file"):
                if os.sep + "stores" + os.sep in frame.f_code.co_filename:
                    left -= 1
                    if not left:
                        os.kill(os.getpid(), 9)
        sys.setprofile(count)
        sync.sync(source, target)
    """
    for number in (1, 2, 3, 2, 4, 1):
        finish(start(code, target.settings.home, number), status=-9)
    sync(workspace, target)
    assert everything(target, run) == everything(workspace, run)
    assert offline_runs(workspace.settings.home) == []


def test_a_run_that_goes_on_is_brought_over_again(workspace: Workspace, target: Workspace) -> None:
    with up.track("long", offline=True) as run:
        up.log(loss=1, step=0)
        assert run.flush()
        assert sync(workspace, target).going_on == (run.id,)
        assert view_run(target, run.id).run.name == ""
        assert offline_runs(workspace.settings.home) == [run.id]
        up.log(loss=0.5, step=1)
    assert sync(workspace, target).going_on == ()
    assert [point.value for point in target.tracking.history(run.id, "loss")] == [1, 0.5]
    assert [state.status for state in target.meta.select(RunState, run=run.id)] == [
        "running",
        "done",
    ]


def test_what_a_killed_offline_run_logged_is_brought_over(
    workspace: Workspace, target: Workspace
) -> None:
    code = """
        import upturn as up
        run = up.track("dead", offline=True).start()
        print(run.id, flush=True)
        for step in range(1000):
            up.log(loss=step, step=step)
        os.kill(os.getpid(), 9)
    """
    run = finish(start(code), status=-9).strip()
    lease = workspace.meta.lease(f"run/{run}")
    assert lease is not None
    workspace.meta.release(lease.name, lease.owner)  # as time does
    done = sync(workspace, target)
    assert (done.runs, done.points, done.journals) == ((run,), 1000, 1)
    assert view_run(target, run).status == "lost"
    assert offline_runs(workspace.settings.home) == []
