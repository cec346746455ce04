"""What runs of a flow do when another one goes on: parallel, queue, newest, skip, as processes."""

import os
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import upturn as up
from e2e.folder import Folder
from upturn.core.errors import Invalid, RunFailed
from upturn.core.records import Run, RunState
from upturn.develop.handles import Run as RunHandle
from upturn.develop.runs import list_runs, view_run
from upturn.stores.workspace import Workspace, open_workspace
from waiting import until

FLOWS = """
import time
from pathlib import Path

import upturn as up

HERE = Path(__file__).parent


@up.step(cache=False)
def work(name: str, gate: str) -> str:
    with open(HERE / "ran", "a") as file:
        file.write(f"begin {name}\\n")
    deadline = time.monotonic() + 60
    while gate and not (HERE / gate).exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with open(HERE / "ran", "a") as file:
        file.write(f"end {name}\\n")
    return name


@up.flow
def parallel(name: str, gate: str = "gate"):
    return work(name, gate)


@up.flow(schedule="@weekly", overlap="queue")
def queue(name: str, gate: str = "gate"):
    return work(name, gate)


@up.flow(overlap="newest")
def newest(name: str, gate: str = "gate"):
    return work(name, gate)


@up.flow(overlap="skip")
def skip(name: str, gate: str = "gate"):
    return work(name, gate)
"""


class Runs:
    """A project whose runs are started one after the other, each when the one before is in line."""

    def __init__(self, folder: Path) -> None:
        self.project = Folder(folder, {"flows.py": FLOWS})
        self.workspace = self.project.open()
        self.processes: dict[str, subprocess.Popen[str]] = {}

    def start(self, flow: str, name: str, *more: str) -> "subprocess.Popen[str]":
        process = self.project.start("run", f"flows.py:{flow}", "--name", name, *more)
        self.processes[name] = process
        return process

    def status(self, name: str) -> str:
        found = [v for v in list_runs(self.workspace) if v.run.params["name"] == name]
        return found[0].status if found else ""

    def id(self, name: str) -> str:
        (found,) = [r for r in self.workspace.meta.select(Run) if r.params["name"] == name]
        return found.id

    def working(self, flow: str, name: str) -> None:
        self.start(flow, name)
        until(lambda: f"begin {name}" in self.project.ran(), f"{name} did not begin")

    def queued(self, flow: str, name: str) -> None:
        self.start(flow, name)
        until(lambda: self.status(name) == "queued", f"{name} is not queued")

    def end(self, name: str, *, status: int = 0) -> str:
        said, _ = self.processes.pop(name).communicate(timeout=60)
        assert self.processes.get(name) is None
        assert "Traceback" not in said, said
        return said

    def open_gate(self) -> None:
        (self.project.folder / "gate").touch()


@pytest.fixture
def runs(tmp_path: Path) -> Any:
    made = Runs(tmp_path)
    yield made
    for process in made.processes.values():
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    made.workspace.close()


def alone(lines: list[str]) -> bool:
    """Return whether each that begins ends before the next one begins."""
    return all(
        begin.split() == ["begin", name] and end.split() == ["end", name]
        for begin, end in zip(lines[::2], lines[1::2], strict=True)
        for name in [begin.split()[1]]
    )


def test_in_a_queue_each_waits_its_turn_first_come_first_served(runs: Runs) -> None:
    runs.working("queue", "a")
    for name in ("b", "c", "d"):
        runs.queued("queue", name)
    shown = runs.project.type("runs").stdout
    assert shown.count("queued") == 3
    assert runs.project.type("resume", runs.id("b")).stderr.startswith(
        f"Run {runs.id('b')} is still queued."
    )
    runs.open_gate()
    said = {name: runs.end(name) for name in ("a", "b", "c", "d")}
    assert f"queued behind run {runs.id('a')} and 1 more" in said["c"]
    assert [runs.status(name) for name in "abcd"] == ["done"] * 4
    expected = [f"{what} {name}" for name in "abcd" for what in ("begin", "end")]
    assert runs.project.ran() == expected
    record = runs.workspace.meta.get(Run, runs.id("b"))
    assert (record.schedule, record.overlap) == ("@weekly", "queue")


def test_a_newer_one_takes_the_place_of_one_that_waits(runs: Runs) -> None:
    runs.working("newest", "a")
    runs.queued("newest", "b")
    runs.queued("newest", "c")
    said = runs.end("b")
    assert f"was skipped. The newer run {runs.id('c')} of this flow took its place" in said
    assert runs.status("b") == "skipped"
    runs.open_gate()
    assert [runs.end(name).splitlines()[-1] for name in "ac"] == ["a", "c"]
    assert runs.project.ran() == ["begin a", "end a", "begin c", "end c"]


def test_one_that_is_to_be_skipped_ends_at_once_and_names_the_one_that_goes_on(runs: Runs) -> None:
    runs.working("skip", "a")
    done = runs.project.type("run", "flows.py:skip", "--name", "b")
    assert done.returncode == 0, done.stderr
    assert f"was skipped. Run {runs.id('a')} of this flow goes on." in done.stderr
    assert runs.status("b") == "skipped"
    shown = runs.project.type("show", runs.id("b"))
    assert "skipped" in shown.stdout
    assert "goes on" in shown.stderr
    runs.open_gate()
    runs.end("a")
    again = runs.project.type("run", "flows.py:skip", "--name", "c")
    assert again.stdout == "c\n"


def test_parallel_ones_run_beside_each_other_and_flows_do_not_wait_for_other_flows(
    runs: Runs,
) -> None:
    for flow, name in [("parallel", "a"), ("parallel", "b"), ("queue", "c"), ("skip", "d")]:
        runs.working(flow, name)
    runs.open_gate()
    for name in "abcd":
        runs.end(name)
    assert [runs.status(name) for name in "abcd"] == ["done"] * 4


def test_the_queue_goes_on_when_a_driver_died(runs: Runs) -> None:
    runs.working("queue", "a")
    runs.queued("queue", "b")
    runs.queued("queue", "c")
    for name in ("a", "b"):
        os.killpg(runs.processes[name].pid, signal.SIGKILL)
        runs.end(name)
    runs.open_gate()
    assert runs.end("c").splitlines()[-1] == "c"
    assert [runs.status(name) for name in "abc"] == ["lost", "lost", "done"]
    assert runs.project.type("resume", runs.id("b")).stdout == "b\n"


def test_ctrl_c_and_cancel_end_one_that_waits(runs: Runs) -> None:
    runs.working("queue", "a")
    runs.queued("queue", "b")
    process = runs.processes["b"]
    process.send_signal(signal.SIGINT)
    assert "Resume with" in runs.end("b")
    assert process.returncode == 130
    assert runs.status("b") == "cancelled"
    runs.queued("queue", "c")
    assert runs.project.type("cancel", runs.id("c")).returncode == 0
    runs.end("c")
    assert runs.status("c") == "cancelled"
    runs.open_gate()
    runs.end("a")
    assert "end b" not in runs.project.ran()
    assert runs.project.type("resume", runs.id("b")).stdout == "b\n"


def test_a_resumed_run_waits_too_whatever_its_flow_says(runs: Runs) -> None:
    runs.working("skip", "a")
    assert runs.project.type("run", "flows.py:skip", "--name", "b").returncode == 0
    runs.processes["b"] = runs.project.start("resume", runs.id("b"))
    until(lambda: runs.status("b") == "queued")
    runs.open_gate()
    for name in "ab":
        assert runs.end(name).splitlines()[-1] == name
    assert runs.project.ran() == ["begin a", "end a", "begin b", "end b"]


@pytest.mark.parametrize("flow", ["queue", "newest", "skip"])
def test_many_at_once_never_meet_and_not_all_give_way(runs: Runs, flow: str) -> None:
    names = [f"n{number}" for number in range(5)]
    for name in names:
        runs.start(flow, name, "--gate", "")
    for name in names:
        runs.end(name)
    statuses = {name: runs.status(name) for name in names}
    ran = runs.project.ran()
    assert ran
    assert alone(ran)
    assert sorted(ran[::2]) == [f"begin {n}" for n in names if statuses[n] == "done"]
    assert set(statuses.values()) <= ({"done"} if flow == "queue" else {"done", "skipped"})


# From Python


@pytest.fixture
def workspace() -> Any:
    opened = open_workspace()
    yield opened
    opened.close()


@up.step(cache=False)
def same(value: int) -> int:
    return value


def in_thread(work: Callable[[], Any], into: list[Any]) -> threading.Thread:
    thread = threading.Thread(target=lambda: into.append(work()))
    thread.start()
    return thread


def test_in_one_process_too(workspace: Workspace, tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    @up.flow(overlap="skip")
    def gated(value: int):
        if value == 1:
            until(gate.exists)
        return same(value)

    ended: list[RunHandle] = []
    thread = in_thread(lambda: gated.run(value=1), ended)
    until(lambda: [s.status for s in workspace.meta.select(RunState)][-1:] == ["running"])
    handle: RunHandle = gated.run(value=2)
    assert handle.status == "skipped"
    with pytest.raises(RunFailed, match=r"was skipped: Run \w+ of this flow goes on"):
        handle.result()
    with pytest.raises(RunFailed, match="was skipped"):
        gated(value=2)
    gate.touch()
    thread.join()
    assert ended[0].result() == 1
    assert gated(value=2) == 2


def test_a_flow_can_be_called_in_its_own_run_but_not_wait_for_it(workspace: Workspace) -> None:
    @up.flow(overlap="queue")
    def nested(depth: int):
        return nested(depth - 1) if depth else same(7)

    @up.flow(overlap="queue")
    def knotted(depth: int):
        return knotted.run(depth=depth - 1).result() if depth else same(7)

    assert nested(depth=2) == 7
    with pytest.raises(RunFailed, match="would wait for itself"):
        knotted(depth=1)
    inner, outer = list_runs(workspace, flow="knotted")
    assert (inner.status, outer.status) == ("failed", "failed")
    assert inner.state is not None
    assert inner.state.problem is not None
    assert "knotted(…), which makes it a child run" in inner.state.problem.hint
    assert {
        view_run(workspace, r.id).status for r in workspace.meta.select(Run, flow="nested")
    } == {"done"}


def test_a_wrong_word_is_told_when_the_flow_is_made() -> None:
    with pytest.raises(Invalid, match=r"'queued'.*Did you mean 'queue'"):

        @up.flow(overlap="queued")  # type: ignore[arg-type]
        def f() -> None: ...
