"""Failures: what fails, what goes on, what is tried again, and that nothing waits for ever."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import upturn as up
from unit.develop.steps import (
    double,
    fail,
    flaky,
    kind_of,
    numbers,
    side_effect,
    slow,
    slow_at_first,
    total,
    wait_for,
    write,
)
from upturn.core.errors import Conflict, Corrupt, RunFailed, StepFailed, Unavailable
from upturn.core.records import Run, RunState, TaskState
from upturn.develop.run import start_run
from upturn.develop.runs import view_run
from upturn.develop.warm import pool_for
from upturn.stores.workspace import Workspace
from waiting import PROC, lives, until

Said = Callable[[], list[str]]


def test_a_failed_step_fails_its_run_with_the_users_frames(note: str, workspace: Workspace) -> None:
    @up.flow
    def f() -> Any:
        return double(fail(note))

    handle = f.run()
    assert handle.status == "failed"
    problem = handle.problem
    assert problem is not None
    assert problem.message == "ValueError: it broke"
    assert problem.fields["task"] == f"run/{handle.id}/fail/0"
    assert [frame.function for frame in problem.frames] == ["fail"]
    with pytest.raises(RunFailed, match=f"it broke.*upturn resume {handle.id}"):
        handle.result()
    states = workspace.meta.last_each(TaskState, run=handle.id)
    assert [state.status for state in states] == ["failed"]


def test_a_failure_that_nobody_asked_about_fails_the_run_after_the_rest(
    note: str, workspace: Workspace
) -> None:
    @up.flow
    def f() -> Any:
        fail(note)
        return double(7)

    handle = f.run()
    assert handle.status == "failed"
    assert workspace.meta.get(TaskState, handle.id, "double", 0).status in ("done", "reused")


def test_a_flow_may_catch_a_failure_at_the_step_or_after_it(note: str) -> None:
    @up.flow
    def f(later: bool) -> Any:
        ref = fail(note)
        if later:
            ref = double(double(ref))
        try:
            ref.get()  # type: ignore[attr-defined]
        except StepFailed as error:
            return error.path.rpartition("/run/")[2].split("/", 2)[2], str(error)

    assert f(later=False) == f(later=True) == ("fail/0", "ValueError: it broke")


def test_of_many_one_failure_spares_the_others(note: str, workspace: Workspace) -> None:
    @up.flow
    def f() -> Any:
        return [kind_of(1), total([fail(note), double(1)]), double(1)]

    handle = f.run()
    assert handle.status == "failed"
    assert workspace.meta.get(TaskState, handle.id, "kind_of", 0).status == "done"


def test_a_step_is_tried_again(note: str, workspace: Workspace) -> None:
    @up.flow
    def f() -> Any:
        return flaky(note, 2)

    handle = f.run()
    assert handle.result() == 2
    states = workspace.meta.select(TaskState, run=handle.id)
    assert [(state.status, state.attempt) for state in states] == [
        ("running", 1),
        ("failed", 1),
        ("running", 2),
        ("done", 2),
    ]


def test_an_attempt_that_takes_too_long_is_killed(note: str, said: Said) -> None:
    @up.flow
    def f() -> Any:
        return slow(note)

    handle = f.run()
    problem = handle.problem
    assert problem is not None
    assert problem.code == "step_timeout"
    assert "0.3 s" in problem.message
    (pid,) = said()
    until(lambda: not lives(int(pid)), "it lives on")


def test_after_a_timeout_it_is_tried_again_in_another_process(note: str) -> None:
    @up.flow
    def f() -> Any:
        return slow_at_first(note)

    assert f() == "done"


def test_a_flow_that_raises_ends_what_runs(note: str, said: Said, workspace: Workspace) -> None:
    @up.step
    def endless(note: str) -> None:
        write(note, str(os.getpid()))
        time.sleep(600)

    @up.flow
    def f() -> Any:
        endless(note)
        until(said, "it never started")
        raise KeyError("in the flow")

    handle = f.run()
    assert handle.status == "failed"
    assert handle.problem is not None
    assert handle.problem.message == "KeyError: 'in the flow'"
    assert handle.problem.frames[-1].function == "f"
    until(lambda: not lives(int(said()[0])), "it lives on")
    assert workspace.meta.get(TaskState, handle.id, "endless", 0).status == "cancelled"


def test_ctrl_c_in_the_flow_cancels_the_run_which_can_be_resumed(
    note: str, workspace: Workspace, said: Said
) -> None:
    calm = False

    @up.flow
    def f() -> Any:
        first = side_effect(note).get()  # type: ignore[attr-defined]
        if not calm:
            raise KeyboardInterrupt
        return double(first)

    with pytest.raises(KeyboardInterrupt):
        f()
    run = workspace.meta.select(Run, flow="f", newest_first=True, limit=1)[0]
    assert view_run(workspace, run.id).status == "cancelled"
    calm = True
    assert start_run(f, {}, resume=run).result() == 2
    assert said() == ["effect"], "a finished task is not repeated, not even one with cache=False"


def test_sys_exit_in_a_flow_is_a_failure() -> None:
    @up.flow
    def f() -> Any:
        raise SystemExit(3)

    handle = f.run()
    assert handle.status == "failed"


def test_the_flow_hears_of_a_store_that_cannot_be_written(
    note: str, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk of the records is full in the middle: nobody waits for ever."""
    full = False
    put = type(workspace.meta).put

    def put_until_full(self: Any, *records: Any) -> Any:
        if full and any(isinstance(record, TaskState) for record in records):
            raise Unavailable("The disk is full.", hint="Make room.")
        return put(self, *records)

    monkeypatch.setattr(type(workspace.meta), "put", put_until_full)

    @up.flow
    def f() -> Any:
        nonlocal full
        double(1, note=note).get()  # type: ignore[attr-defined]
        full = True
        refs = [double(n, note=note) for n in range(2, 6)]
        return total(refs)

    handle = f.run()
    assert handle.status == "failed"
    assert handle.problem is not None
    assert handle.problem.message == "The disk is full."


def test_a_step_after_the_end_of_the_scheduler_is_refused(
    note: str, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from upturn.develop.scheduler import Scheduler

    def broken(self: Any) -> None:
        raise Unavailable("It broke.")

    @up.flow
    def f() -> Any:
        monkeypatch.setattr(Scheduler, "_take_inbox", broken)
        with pytest.raises(Unavailable):
            double(1, note=note).get()  # type: ignore[attr-defined]
        with pytest.raises(Unavailable):
            double(2, note=note).get()  # type: ignore[attr-defined]
        return 5

    handle = f.run()
    assert handle.status == "failed", "a flow that swallows it is not done"


def test_a_fork_server_that_is_killed_ends_the_run_with_an_error(
    note: str, workspace: Workspace
) -> None:
    if not PROC:
        pytest.skip("the fork server is found by /proc")
    killed = 0

    @up.flow
    def f() -> Any:
        nonlocal killed
        worker = wait_for(note, 1).get()  # type: ignore[attr-defined]
        if not killed:
            killed = int(Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1])
            assert killed not in (0, 1, os.getpid())
            os.kill(killed, signal.SIGKILL)
        return double.map(range(4), note=note)

    handle = f.run()
    assert handle.status == "failed"
    problem = handle.problem
    assert problem is not None
    assert "SIGKILL" in problem.message or "starts workers is gone" in problem.message
    assert start_run(f, {}, resume=handle.record).result() == [0, 2, 4, 6], "on new workers"


def test_a_worker_that_died_while_idle_fails_nothing(note: str) -> None:
    @up.flow
    def f() -> Any:
        pid = wait_for(note, 1).get()  # type: ignore[attr-defined]
        os.kill(pid, signal.SIGKILL)
        until(lambda: not lives(pid), "it lives on")
        return double(3, note=note)

    assert f() == 6


def test_a_run_has_one_driver(workspace: Workspace, note: str) -> None:
    @up.flow
    def f() -> Any:
        run = workspace.meta.select(Run, flow="f", newest_first=True, limit=1)[0]
        with pytest.raises(Conflict, match=f"Another process drives run/{run.id}"):
            start_run(up.flow(double.function), {"number": 1}, resume=run)
        return double(4, note=note)

    assert f() == 8


def test_a_lost_run_is_seen_and_its_children_with_it(workspace: Workspace) -> None:
    from upturn.core.time import utcnow

    for name, parent in (("lost01", None), ("lost01-f-0", "lost01")):
        workspace.meta.put(
            Run(
                id=name,
                flow="f",
                entry="f.py:f",
                params={},
                project="p",
                started_at=utcnow(),
                parent=parent,
            ),
            RunState(run=name, status="running", at=utcnow()),
        )
    assert view_run(workspace, "lost01").status == "lost"
    assert workspace.meta.claim("run/lost01", "somebody", ttl_s=60)
    assert view_run(workspace, "lost01").status == "running"
    assert view_run(workspace, "lost01-f-0").status == "running"
    workspace.meta.release("run/lost01", "somebody")


@pytest.mark.parametrize("asked", ["by the flow", "by a step"])
def test_a_damaged_output_is_found_when_it_is_read_and_made_again(
    asked: str, note: str, said: Said, workspace: Workspace
) -> None:
    damaged = False

    @up.flow
    def f() -> Any:
        nonlocal damaged
        made = numbers(4, note)
        made.get()  # type: ignore[attr-defined]
        if not damaged:
            damaged = True
            digest = made.node.output  # type: ignore[attr-defined]
            file = workspace.settings.home / "blobs" / digest[:2] / digest[2:]
            file.chmod(0o644)
            data = bytearray(file.read_bytes())
            data[-1] ^= 1
            file.write_bytes(data)
        return made.get() if asked == "by the flow" else total(made)  # type: ignore[attr-defined]

    handle = f.run()
    assert handle.status == "failed"
    problem = handle.problem
    assert problem is not None
    assert problem.code == Corrupt.code
    assert "damaged on disk" in problem.message
    again = start_run(f, {}, resume=handle.record)
    assert again.result() == ([0, 1, 2, 3] if asked == "by the flow" else 6)
    assert said() == ["numbers 4"] * 2


def test_pools_are_lent_to_one_run_at_a_time(workspace: Workspace) -> None:
    file = Path(__file__)
    with pool_for(workspace.settings, file) as one, pool_for(workspace.settings, file) as other:
        assert one is not other
    with pool_for(workspace.settings, file) as again:
        assert again in (one, other)
        assert again.alive
