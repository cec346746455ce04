"""Resources: cores, memory and GPUs as tokens; limits that name the step; what is tried again."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import upturn as up
from unit.develop import hungry
from unit.develop.steps import double
from upturn.core.errors import Invalid
from upturn.core.executor import Resources
from upturn.core.machine import available_bytes, total_bytes
from upturn.core.records import TaskState
from upturn.core.size import size_bytes
from upturn.develop.run import start_run
from upturn.develop.tokens import Queue, Tokens
from upturn.stores.workspace import Workspace, open_workspace
from waiting import PROC, lives, until

Said = Callable[[], list[str]]
needs_proc = pytest.mark.skipif(not PROC, reason="memory is measured in /proc")

needs = st.builds(
    Resources,
    cpus=st.integers(1, 3),
    memory_bytes=st.integers(0, 12),
    gpus=st.integers(0, 2),
)


@given(st.lists(needs, max_size=30), st.randoms(use_true_random=False))
def test_tokens_are_never_lent_twice_and_nobody_waits_for_ever(
    asked: list[Resources], random: Any
) -> None:
    capacity = Resources(cpus=2, memory_bytes=10, gpus=2)
    tokens, queue = Tokens(capacity, ["0", "1"]), Queue[int]()
    for number, amount in enumerate(asked):
        queue.put(number, amount)
    running: dict[int, tuple[str, ...]] = {}
    started: list[int] = []
    while queue or running:
        while (found := queue.take(tokens)) is not None:
            number, gpus = found
            running[number] = gpus
            started.append(number)
            assert len(gpus) == asked[number].gpus
            lent = [name for names in running.values() for name in names]
            assert len(lent) == len(set(lent))
            if len(running) > 1:
                assert sum(asked[one].cpus for one in running) <= 2
                assert sum(asked[one].memory_bytes for one in running) <= 10
        assert running, "somebody waits, and nothing runs"
        ended = random.choice(sorted(running))
        tokens.give_back(asked[ended], running.pop(ended))
    assert sorted(started) == list(range(len(asked)))
    assert queue.take(tokens) is None


def test_of_the_same_needs_the_first_goes_first() -> None:
    tokens, queue = Tokens(Resources(cpus=1)), Queue[int]()
    for number in range(3):
        queue.put(number, Resources())
    for number in range(3):
        assert queue.take(tokens) == (number, ())
        assert queue.take(tokens) is None
        tokens.give_back(Resources(), ())


def at_once(lines: list[str]) -> int:
    """Return how many were under way at the same time, at most."""
    now = most = 0
    for line in lines:
        now += 1 if line.startswith("+") else -1
        most = max(most, now)
    return most


@pytest.mark.parametrize(("step", "most"), [("light", 2), ("wide", 1), ("heavy", 1)])
def test_tasks_share_the_cores_and_the_memory(step: str, most: int, note: str) -> None:
    @up.flow
    def f() -> Any:
        return getattr(hungry, step).map([note] * 4, [f"{step}{i}" for i in range(4)])

    assert f() == [f"{step}{i}" for i in range(4)]
    with open(note) as file:
        lines = file.read().splitlines()
    assert len(lines) == 8
    assert at_once(lines) <= most


@pytest.fixture
def run_with(workspace: Workspace) -> Iterator[Callable[..., up.Run]]:
    """Return what runs a flow under other settings."""
    opened: list[Workspace] = []

    def run(flow: Any, **settings: Any) -> up.Run:
        opened.append(open_workspace(dataclasses.replace(workspace.settings, **settings)))
        return start_run(flow, {}, workspace=opened[-1])

    yield run
    for one in opened:
        one.close()


def test_a_task_gets_a_gpu_of_its_own(note: str, run_with: Callable[..., up.Run]) -> None:
    @up.flow
    def f() -> Any:
        return hungry.on_gpu.map([note] * 4, ["a", "b", "c", "d"])

    handle = run_with(f, gpus=("4", "7"))
    assert handle.status == "done", handle.problem
    assert set(handle.result()) <= {"4", "7"}


def test_more_gpus_than_there_are_is_said_at_once(run_with: Callable[..., up.Run]) -> None:
    @up.flow
    def f() -> Any:
        return hungry.on_many_gpus()

    handle = run_with(f, gpus=("0",))
    assert handle.problem is not None
    assert "'on_many_gpus' needs 3 GPUs, and there are 1 here." in handle.problem.message


@needs_proc
@pytest.mark.parametrize("elsewhere", [False, True], ids=["itself", "in a child process"])
def test_a_step_that_takes_more_memory_than_it_may_is_ended_by_name(elsewhere: bool) -> None:
    @up.flow
    def f() -> Any:
        small, large = hungry.eats(50), hungry.eats(400, elsewhere=elsewhere)
        return small.get(), large  # type: ignore[attr-defined]

    handle = f.run()
    problem = handle.problem
    assert problem is not None
    assert problem.code == "step_memory"
    assert problem.message.startswith("The step 'eats' used ")
    assert problem.message.endswith("MB of memory, and may use 150.0 MB.")
    assert problem.fields["task"] == f"run/{handle.id}/eats/1"


@needs_proc
def test_when_memory_runs_out_the_largest_task_is_ended_by_name(
    run_with: Callable[..., up.Run],
) -> None:
    @up.flow
    def f() -> Any:
        return hungry.eats_without_limit(600)

    handle = run_with(f, memory_bytes=300_000_000)
    problem = handle.problem
    assert problem is not None
    assert problem.code == "step_memory"
    assert "Memory ran out: the step 'eats_without_limit' used " in problem.message
    assert "of the 300.0 MB that runs may use" in problem.message


@needs_proc
def test_a_timeout_ends_what_the_step_started_in_whatever_session(note: str, said: Said) -> None:
    @up.flow
    def f() -> Any:
        return hungry.starts_a_daemon(note)

    assert f.run().status == "failed"
    (pid,) = said()
    until(lambda: not lives(int(pid)), "it lives on")


@pytest.mark.parametrize(("how", "attempts"), [("a subclass", 2), ("crash", 2), ("another", 1)])
def test_only_what_is_named_is_tried_again(
    how: str, attempts: int, note: str, said: Said, workspace: Workspace
) -> None:
    @up.flow
    def f() -> Any:
        return hungry.fails_as(note, how)

    handle = f.run()
    assert handle.status == ("done" if attempts == 2 else "failed")
    assert said() == [how] * attempts
    assert workspace.meta.get(TaskState, handle.id, "fails_as", 0).attempt == attempts


def test_a_timeout_counts_as_timeout_error(note: str, said: Said) -> None:
    @up.flow
    def f() -> Any:
        return hungry.late_at_first(note)

    assert f() == 7
    assert said() == ["late"] * 2


@needs_proc
def test_too_much_memory_counts_as_memory_error(note: str, said: Said) -> None:
    @up.flow
    def f() -> Any:
        return hungry.hungry_at_first(note)

    assert f() == 7
    assert said() == ["hungry"] * 2


def test_a_value_takes_the_place_of_a_failure_and_a_resume_tries_again(
    note: str, said: Said, workspace: Workspace
) -> None:
    @up.flow
    def f() -> Any:
        found = hungry.fragile.map([note] * 3, range(3))
        return [double(one) for one in found]

    handle = f.run()
    assert handle.result() == [0, -2, 4]
    state = workspace.meta.get(TaskState, handle.id, "fragile", 1)
    assert (state.status, state.problem is not None, state.output is not None) == (
        "failed",
        True,
        True,
    )
    assert f() == [0, -2, 4]
    assert said() == ["fragile 0", "fragile 1", "fragile 1", "fragile 2"], "it is not remembered"


def test_of_the_same_call_one_does_the_work_and_the_next_one_steps_in(
    note: str, said: Said, workspace: Workspace
) -> None:
    @up.flow
    def f() -> Any:
        first, *others = [hungry.slow_once(note, 5) for _ in range(3)]
        try:
            first.get()  # type: ignore[attr-defined]
        except up.UpturnError:
            return others
        raise AssertionError

    handle = f.run()
    assert handle.result() == [5, 5]
    assert said() == ["slow 5"] * 2
    statuses = [state.status for state in workspace.meta.last_each(TaskState, run=handle.id)]
    assert statuses == ["failed", "done", "reused"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"memory": "lots"}, "'lots' is not a size"),
        ({"memory": 0}, "is not a size"),
        ({"gpus": -1}, "no fewer than 0 GPUs"),
        ({"retry_on": "ValueError"}, "no exception class"),
        ({"retry_on": (ValueError, 3)}, "no exception class"),
    ],
)
def test_wrong_options_are_refused_when_the_step_is_made(options: Any, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        up.step(**options)(double.function)


@pytest.mark.parametrize(
    ("text", "size"), [("1GiB", 2**30), ("1.5 gb", 1_500_000_000), ("10B", 10), (7, 7)]
)
def test_sizes(text: Any, size: int) -> None:
    assert size_bytes(text) == size


def test_the_machine_has_memory() -> None:
    left = available_bytes()
    assert total_bytes() > 2**28
    assert left is None or 0 < left <= total_bytes()


def test_what_a_call_needs_is_no_part_of_its_key(workspace: Workspace) -> None:
    plain, more = (
        up.step(cpus=cpus, memory="1GB", retries=cpus)(double.function) for cpus in (1, 2)
    )

    @up.flow
    def f() -> Any:
        return plain(1234), more(1234)

    handle = f.run()
    states = workspace.meta.last_each(TaskState, run=handle.id)
    assert [state.status for state in states] == ["done", "reused"]
    assert msgspec.to_builtins(states[0].output) == states[1].output
