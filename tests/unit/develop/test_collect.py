"""Collecting: what goes, what stays, and that records tell of both."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

import upturn as up
from unit.develop.steps import double, measured, numbers, scaled, total
from upturn.core.errors import Invalid, NotFound
from upturn.core.naming import Removal
from upturn.core.records import Collection, Exhibit, Run, RunState, Task, TaskState
from upturn.core.time import utcnow
from upturn.core.tracking import StoredFile
from upturn.develop.collect import MARGIN_S, absence, collect, kept_runs, plan_collection
from upturn.develop.handles import Run as RunHandle
from upturn.develop.pins import list_pins, put_pin
from upturn.stores import values
from upturn.stores.workspace import Workspace, open_workspace
from waiting import until

Said = Callable[[], list[str]]
AT_ONCE = timedelta(0)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """Return a workspace of this test alone: what is in it is known to the last blob."""
    monkeypatch.setenv("UPTURN_HOME", str(tmp_path / "home"))
    opened = open_workspace()
    yield opened
    opened.close()


def age(workspace: Workspace, hours: float = 5) -> None:
    """Let every blob and output have been used some hours ago."""
    then = time.time() - hours * 3600
    for folder in (workspace.settings.home / "blobs", workspace.output_dir):
        for path in folder.rglob("*"):
            if path.is_file():
                os.utime(path, (then, then))


def clear(workspace: Workspace, **options: Any) -> Collection:
    age(workspace)
    return collect(workspace, plan_collection(workspace, **{"older_than": AT_ONCE, **options}))


def digests_of(workspace: Workspace, run: str) -> set[str]:
    """Return all that a run's records name."""
    found: set[str | None] = set()
    for task in workspace.meta.select(Task, run=run):
        found |= {task.code, *named_by(task)}
    found |= {state.output for state in workspace.meta.select(TaskState, run=run)}
    found |= {state.result for state in workspace.meta.select(RunState, run=run)}
    found |= {shown.artifact for shown in workspace.meta.select(Exhibit, run=run)}
    return {digest for digest in found if digest}


def named_by(task: Task) -> set[str]:
    """Return the inputs that are blobs: a container's shape is only a digest."""
    return {item.digest for item in task.inputs if not item.name.endswith(":shape")}


def stored(workspace: Workspace) -> set[str]:
    return {entry.digest for entry in workspace.blobs.entries()}


@up.flow
def summed(note: str, count: int):
    return total([double(10 + n, note=note) for n in range(count)])


@up.flow
def shown(note: str, auc: float):
    return measured(note, auc)


def test_what_nothing_kept_refers_to_goes_and_the_records_stay(
    workspace: Workspace, note: str
) -> None:
    handle: RunHandle = shown.run(note=note, auc=0.5)
    before = workspace.meta.counts()
    output = workspace.output_dir / handle.id / "measured" / "0.log"
    assert "measuring" in output.read_text()
    bytes_before = workspace.blobs.size_bytes()
    blobs = len(stored(workspace))
    done = clear(workspace)
    assert (done.status, done.blobs, done.blob_bytes) == ("done", blobs, bytes_before)
    assert done.outputs == 1
    assert stored(workspace) == set()
    assert not output.parent.parent.exists()
    assert workspace.meta.counts() == {**before, "collection": 2}
    (state,) = [s for s in workspace.meta.select(TaskState, run=handle.id) if s.output]
    assert absence(workspace, str(state.output)) == " (removed by gc)"
    with pytest.raises(NotFound, match="upturn gc may have removed it"):
        handle.result()


def test_an_output_that_is_only_remembered_is_made_again(
    workspace: Workspace, note: str, said: Said
) -> None:
    assert summed(note=note, count=2) == 42
    assert clear(workspace).blobs > 0
    assert summed(note=note, count=2) == 42
    assert said() == ["double 10", "double 10", "double 11", "double 11"]


def test_younger_runs_stay_and_so_does_memory(workspace: Workspace, note: str, said: Said) -> None:
    handle: RunHandle = summed.run(note=note, count=3)
    whole = stored(workspace)
    assert digests_of(workspace, handle.id) <= whole
    assert clear(workspace, older_than=timedelta(hours=1)).blobs == 0
    assert stored(workspace) == whole
    ran = said()
    assert summed(note=note, count=3) == 66
    assert said() == ran


def test_blobs_that_no_record_names_go_unless_they_are_young(workspace: Workspace) -> None:
    orphan = workspace.blobs.put([b"of a task that was killed before it was done"])
    plan = plan_collection(workspace)
    assert (plan.blobs, plan.too_new) == ({}, 1)
    age(workspace, hours=0.9)
    assert plan_collection(workspace).blobs == {}
    age(workspace, hours=1.1)
    assert set(plan_collection(workspace).blobs) == {orphan}


def test_the_newest_runs_of_each_flow_stay(workspace: Workspace, note: str) -> None:
    handles: list[RunHandle] = [summed.run(note=note, count=n) for n in (2, 3, 4)]
    other: RunHandle = shown.run(note=note, auc=0.5)
    clear(workspace, keep_runs=2)
    for handle in (*handles[1:], other):
        assert digests_of(workspace, handle.id) <= stored(workspace)
    assert handles[1].result() == 66
    with pytest.raises(NotFound):
        handles[0].result()


def test_what_is_pinned_stays_with_all_that_it_was_made_from(
    workspace: Workspace, note: str
) -> None:
    @up.flow
    def chain(start: int):
        first = numbers(start, note=note)
        second = scaled(total(first, note=note), by=3, note=note)
        return scaled(second, by=start)

    pinned: RunHandle = chain.run(start=4)
    loose: RunHandle = chain.run(start=5)
    pin = put_pin(workspace, f"{pinned.id[:5]}/scaled/0", pinned=True, why="the paper")
    assert pin.path == f"run/{pinned.id}/scaled/0"
    assert put_pin(workspace, pin.path, pinned=True) == pin
    assert list_pins(workspace) == [pin]
    last = workspace.meta.find(TaskState, pinned.id, "scaled", 1)
    clear(workspace)
    kept = stored(workspace)
    for step in ("numbers", "total", "scaled"):
        task = workspace.meta.get(Task, pinned.id, step, 0)
        state = workspace.meta.get(TaskState, pinned.id, step, 0)
        assert {task.code, state.output, *named_by(task)} <= kept
    assert last is not None
    assert last.output not in kept
    task = workspace.meta.get(Task, loose.id, "scaled", 0)
    assert not {item.digest for item in task.inputs if item.made_by} & kept
    put_pin(workspace, pin.path, pinned=False)
    assert list_pins(workspace) == []
    clear(workspace)
    assert stored(workspace) == set()


@pytest.mark.parametrize("form", ["{run}", "{run}/double", "artifact/{digest}"])
def test_runs_steps_and_artifacts_can_be_pinned(workspace: Workspace, note: str, form: str) -> None:
    handle: RunHandle = summed.run(note=note, count=2)
    outputs = {
        str(state.output)
        for state in workspace.meta.last_each(TaskState, run=handle.id, step="double")
    }
    one = min(outputs)
    put_pin(workspace, form.format(run=handle.id, digest=one), pinned=True)
    clear(workspace)
    kept = stored(workspace)
    assert one in kept
    assert (outputs <= kept) is ("artifact" not in form)
    assert (handle.state.result in kept) is (form == "{run}")


def test_a_reused_output_keeps_the_task_that_ran(workspace: Workspace, note: str) -> None:
    first: RunHandle = shown.run(note=note, auc=0.5)
    second: RunHandle = shown.run(note=note, auc=0.5)
    put_pin(workspace, second.id, pinned=True)
    clear(workspace)
    shown_by_first = workspace.meta.select(Exhibit, run=first.id)
    assert len(shown_by_first) == 2
    assert {one.artifact for one in shown_by_first} <= stored(workspace)


def test_a_registered_version_keeps_its_whole_lineage(workspace: Workspace, note: str) -> None:
    @up.step
    def rows(count: int) -> Any:
        import pyarrow as pa

        return pa.table({"x": [float(n) for n in range(count)], "y": [n % 2 for n in range(count)]})

    @up.step
    def fitted(data: Any, c: float) -> Any:
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(C=c).fit(data.select(["x"]).to_pandas(), data["y"].to_numpy())

    @up.flow
    def training(c: float):
        data = rows(40)
        unused = double(17)
        unused.get()
        return up.register("small", fitted(data, c), data=data, target="y")

    handle: RunHandle = training.run(c=0.5)
    version = handle.result()
    workspace.tracking.log(handle.id, tags={"team": "a"})
    path = f"run/{handle.id}"
    workspace.meta.put(Removal(path=path, removed=True, who="ada", at=utcnow()))
    clear(workspace)
    assert workspace.tracking.tags([path]) == {path: {"team": "a"}}
    assert workspace.tracking.rows([handle.id])[handle.id].removed_at is not None
    kept = stored(workspace)
    assert {version.artifact, version.data} <= kept
    for step in ("rows", "fitted", "register"):
        task = workspace.meta.get(Task, handle.id, step, 0)
        assert {task.code, *named_by(task)} <= kept
    values.load(workspace.blobs, version.artifact)
    state = workspace.meta.get(TaskState, handle.id, "double", 0)
    assert state.output not in kept


def test_a_run_that_goes_on_keeps_what_it_used_since_it_began(
    workspace: Workspace, note: str, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"

    @up.flow
    def waiting():
        ref = double(3, note=note)
        ref.get()
        until(gate.exists)
        return scaled(ref, by=5)

    thread = threading.Thread(target=waiting.run)
    thread.start()
    until(lambda: workspace.meta.counts()["task_state"] >= 2)
    (run,) = workspace.meta.select(Run)
    state = workspace.meta.get(RunState, run.id)
    age(workspace)
    plan = plan_collection(workspace, older_than=AT_ONCE)
    assert plan.unused_since == state.at.timestamp() - MARGIN_S
    assert digests_of(workspace, run.id) <= stored(workspace)
    assert not digests_of(workspace, run.id) & set(plan.blobs)
    gate.touch()
    thread.join()
    age(workspace)
    assert digests_of(workspace, run.id) <= set(
        plan_collection(workspace, older_than=AT_ONCE).blobs
    )


def test_a_driver_that_sleeps_keeps_what_it_used_for_a_day(workspace: Workspace) -> None:
    """Stopped with Ctrl-Z it looks lost, and may go on when it is woken up."""
    for id, hours in [("slept", 20), ("lost", 30)]:
        at = utcnow() - timedelta(hours=hours)
        workspace.meta.put(
            Run(id=id, flow="f", entry="f.py:f", params={}, project="p", started_at=at),
            RunState(run=id, status="running", at=at),
        )
    blobs = {hours: workspace.blobs.put([bytes([hours])]) for hours in (19, 22)}
    for hours, digest in blobs.items():
        (path,) = (workspace.settings.home / "blobs").rglob(digest[2:])
        then = time.time() - hours * 3600
        os.utime(path, (then, then))
    assert set(plan_collection(workspace, older_than=AT_ONCE).blobs) == {blobs[22]}


def test_a_pin_that_comes_while_it_goes_on_is_heeded(workspace: Workspace, note: str) -> None:
    from upturn.develop.collect import missing_from

    handle: RunHandle = summed.run(note=note, count=3)
    age(workspace)
    plan = plan_collection(workspace, older_than=AT_ONCE)
    put_pin(workspace, handle.id, pinned=True)
    assert missing_from(workspace, f"run/{handle.id}") == 0
    collect(workspace, plan)
    assert digests_of(workspace, handle.id) <= stored(workspace)
    assert handle.result() == 66


def test_a_run_that_reuses_while_it_goes_on_loses_nothing(
    workspace: Workspace, note: str, said: Said
) -> None:
    summed.run(note=note, count=3)
    age(workspace)
    plan = plan_collection(workspace, older_than=AT_ONCE)
    ran = said()
    again: RunHandle = summed.run(note=note, count=3)
    assert said() == ran
    assert collect(workspace, plan).blobs == 0
    assert again.result() == 66


def test_interrupted_it_says_how_far_it_came_and_goes_on(workspace: Workspace, note: str) -> None:
    summed.run(note=note, count=5)
    age(workspace)
    plan = plan_collection(workspace, older_than=AT_ONCE)

    def stop(done: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        collect(workspace, plan, progress=stop)
    began, stopped = workspace.meta.select(Collection)
    assert (began.status, began.blobs) == ("began", len(plan.blobs))
    assert (stopped.status, stopped.blobs) == ("stopped", 3)
    assert len(stored(workspace)) == len(plan.blobs) - 3
    assert clear(workspace).blobs == len(plan.blobs) - 3
    assert stored(workspace) == set()


def test_the_plan_says_what_goes_of_which_run(workspace: Workspace, note: str) -> None:
    @up.flow
    def counted(count: int):
        return total(numbers(count))

    small: RunHandle = counted.run(count=1)
    big: RunHandle = counted.run(count=50_000)
    workspace.blobs.put([b"x" * 1_000_000])
    age(workspace)
    plan = plan_collection(workspace, older_than=AT_ONCE)
    assert [loss.run.id if loss.run else None for loss in plan.losses] == [None, big.id, small.id]
    assert [loss.tasks for loss in plan.losses] == [0, 2, 2]
    assert sum(loss.blobs for loss in plan.losses) == len(plan.blobs) == len(stored(workspace))
    assert sum(loss.blob_bytes for loss in plan.losses) == workspace.blobs.size_bytes()


def test_children_stay_with_their_parents_and_parents_with_their_children() -> None:
    now = datetime(2013, 4, 1, tzinfo=UTC)

    def run(id: str, days: int, parent: str | None = None) -> Run:
        at = now - timedelta(days=days)
        return Run(id=id, flow="f", entry="", params={}, project="", started_at=at, parent=parent)

    runs = [run("old", 9), run("old-1", 9, "old"), run("new", 8), run("new-1", 1, "new")]
    since = now - timedelta(days=5)

    def kept(states: tuple[RunState, ...] = (), **more: Any) -> set[str]:
        options = {"live": set(), "since": since, "keep_runs": 0, **more}
        return kept_runs(runs, states, **options)

    assert kept() == {"run/new", "run/new-1"}
    assert kept(live={"old-1"}) >= {"run/old", "run/old-1"}
    resumed = RunState(run="old", status="failed", at=now)
    assert kept((resumed,)) >= {"run/old"}
    assert kept(keep_runs=1, since=now) == {"run/new"}
    assert kept(keep_runs=2, since=now) == {"run/new", "run/old"}
    later = msgspec.structs.replace(resumed, at=now - timedelta(days=7))
    assert kept((later,)) == {"run/new", "run/new-1"}


def test_what_cannot_be_pinned_is_told(workspace: Workspace, note: str) -> None:
    handle: RunHandle = summed.run(note=note, count=1)
    with pytest.raises(NotFound, match="No run"):
        put_pin(workspace, "nothing", pinned=True)
    with pytest.raises(NotFound, match=r"no task 'doubel'.*Did you mean 'double'"):
        put_pin(workspace, f"{handle.id}/doubel", pinned=True)
    with pytest.raises(NotFound, match=r"is not pinned.*Nothing is"):
        put_pin(workspace, handle.id, pinned=False)
    with pytest.raises(Invalid, match="whole digest"):
        put_pin(workspace, "artifact/abc", pinned=True)
    with pytest.raises(NotFound, match="No artifact"):
        put_pin(workspace, f"artifact/{'0' * 64}", pinned=True)


def test_a_removed_run_comes_back_whole_until_it_is_forgotten(workspace: Workspace) -> None:
    with up.track("fit") as tracked:
        up.log(auc=0.5)
    row = workspace.tracking.rows([tracked.id])[tracked.id]
    digest = workspace.blobs.put([b"a file of the run"])
    file = StoredFile(run=row.id, path="a.txt", digest=digest, size_bytes=17, at=row.started_at)
    workspace.tracking.put_file(file)

    def hide(*, removed: bool) -> None:
        path = f"run/{row.id}"
        workspace.meta.put(Removal(path=path, removed=removed, who="ada", at=utcnow()))

    hide(removed=True)
    clear(workspace, older_than=timedelta(days=30))
    hide(removed=False)
    assert workspace.tracking.files(row.id) == [file]
    assert digest in stored(workspace)
    hide(removed=True)
    plan = plan_collection(workspace, older_than=AT_ONCE)
    assert plan.forgotten == [row.id]
    hide(removed=False)
    age(workspace)
    collect(workspace, plan)  # which was made before it was restored
    assert workspace.tracking.files(row.id) == [file]
    hide(removed=True)
    clear(workspace)
    assert workspace.tracking.rows([row.id]) == {}
    assert workspace.tracking.series([row.id]) == {row.id: []}
    assert digest not in stored(workspace)
    assert workspace.meta.get(Run, row.id).flow == row.flow


@up.step
def saves_and_fails() -> None:
    up.checkpoint().save([1, 2, 3])
    raise ValueError("stop")


def test_a_checkpoint_to_which_nobody_came_back_goes(workspace: Workspace) -> None:
    @up.flow
    def f() -> Any:
        return saves_and_fails()

    f.run()
    folder = workspace.settings.home / "checkpoints"
    (saved,) = folder.iterdir()
    clear(workspace)
    assert saved.is_dir(), "it was saved a moment ago"
    then = time.time() - 5 * 3600
    for path in (*saved.rglob("*"), saved):
        os.utime(path, (then, then))
    clear(workspace, older_than=timedelta(hours=6))
    assert saved.is_dir()
    done = clear(workspace)
    assert not saved.exists()
    assert done.output_bytes > 0
