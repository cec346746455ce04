"""The contract of Executor, run by every backend."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from upturn.core.executor import (
    Call,
    Event,
    Executor,
    Failed,
    File,
    Finished,
    FunctionRef,
    Logged,
    Started,
    Stored,
)
from upturn.core.settings import Settings, load_settings
from upturn.develop.builds import build
from upturn.develop.env import env
from upturn.develop.locks import lock_of
from upturn.develop.pool import LocalPool
from upturn.develop.pools import Pools
from upturn.develop.uv import Job
from upturn.stores import values
from upturn.stores.workspace import Workspace, open_workspace
from waiting import lives, until

BACKENDS = {"local": LocalPool, "environment": Pools}  # the latter's calls run in one
WAIT_S = 30


class Bench:
    """An executor, and what one wants to ask of it."""

    def __init__(self, make: Callable[[Settings], Executor], home: Path) -> None:
        settings = load_settings(home, {"UPTURN_HOME": str(home / "home"), "UPTURN_CORES": "2"})
        self.home = home
        self.workspace: Workspace = open_workspace(settings)
        self.make = make
        self.executor = make(settings)
        self.count = 0
        self.env = None
        if make is Pools:
            self.env = lock_of(self.workspace, env(), print)
            build(settings, self.env, Job(print))

    def begin(self, function: str, *args: Any, **kwargs: Any) -> str:
        """Start a call of a function in calls.py; its id."""
        self.count += 1
        name = f"run/r/{function}/{self.count}"
        place = FunctionRef(
            name=function, file=str(Path(__file__).with_name("calls.py")), module="calls"
        )
        self.executor.start(
            Call(
                id=name,
                run="r",
                step=function,
                index=self.count,
                attempt=1,
                flow_params={},
                function=place,
                args=tuple(self.stored(value) for value in args),
                kwargs={key: self.stored(value) for key, value in kwargs.items()},
                inputs=(),
                code="c",
                output_file=str(self.output(name)),
                env=self.env,
                judged=True,  # what is logged is told at once
            )
        )
        return name

    def stored(self, value: Any) -> Any:
        if isinstance(value, Stored | File | list | dict):
            return value
        return Stored(values.save(self.workspace.blobs, value).digest)

    def output(self, call: str) -> Path:
        return self.home / "out" / f"{call.replace('/', '-')}.log"

    def until_ended(self, *calls: str) -> dict[str, list[Event]]:
        """What happened, by call, until each of the calls has ended."""
        seen: dict[str, list[Event]] = {call: [] for call in calls}
        deadline = time.monotonic() + WAIT_S
        while not all(any(isinstance(e, Finished | Failed) for e in seen[c]) for c in calls):
            assert time.monotonic() < deadline, seen
            for event in self.executor.poll(0.5):
                seen.setdefault(event.call, []).append(event)
        return seen

    def run(self, function: str, *args: Any, **kwargs: Any) -> Event:
        """The last event of a call."""
        call = self.begin(function, *args, **kwargs)
        return self.until_ended(call)[call][-1]

    def value(self, function: str, *args: Any, **kwargs: Any) -> Any:
        event = self.run(function, *args, **kwargs)
        assert isinstance(event, Finished), event
        return values.load(self.workspace.blobs, event.artifact.digest)


@pytest.fixture(scope="module", params=list(BACKENDS))
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = Bench(BACKENDS[request.param], tmp_path_factory.mktemp("executor"))
    yield made
    made.executor.close()
    made.workspace.close()


@pytest.fixture
def own_bench(bench: Bench, tmp_path: Path) -> Iterator[Bench]:
    """An executor that a test may close."""
    made = Bench(bench.make, tmp_path)
    yield made
    made.workspace.close()


def pids_in(note: Path) -> list[int]:
    until(lambda: note.exists() and note.read_text().endswith("\n"), "it never started")
    return [int(word) for word in note.read_text().split()]


def test_a_call_starts_and_finishes_with_a_stored_value(bench: Bench) -> None:
    call = bench.begin("add", 2, b=3)
    started, finished = bench.until_ended(call)[call]
    assert isinstance(started, Started)
    assert started.pid > 0
    assert isinstance(finished, Finished)
    assert values.load(bench.workspace.blobs, finished.artifact.digest) == 5
    assert finished.artifact.type == "int"
    assert finished.seconds >= 0


def test_arguments_nest_and_paths_are_paths(bench: Bench, tmp_path: Path) -> None:
    assert bench.value("total", {"a": [bench.stored(1), bench.stored(2)], "b": []}) == 3
    (tmp_path / "x.txt").write_text("hello")
    assert bench.value("content", File(str(tmp_path / "x.txt"), "d")) == "hello"


def test_what_a_call_prints_goes_to_its_file(bench: Bench) -> None:
    call = bench.begin("speak", "aloud")
    bench.until_ended(call)
    assert sorted(bench.output(call).read_text().splitlines()) == ["ALOUD", "aloud", "from below"]


def test_logged_values_come_in_order_before_the_end(bench: Bench) -> None:
    call = bench.begin("measure", 3)
    _, *logged, end = bench.until_ended(call)[call]
    assert isinstance(end, Finished)
    assert [(e.metrics, e.at_step) for e in logged if isinstance(e, Logged) and e.metrics] == [
        ({"loss": 1.0}, 0),
        ({"loss": 0.5}, 1),
        ({"loss": 1 / 3}, 2),
    ]
    shown = logged[-1]
    assert isinstance(shown, Logged)
    assert (shown.title, shown.media) == ("it", "text/plain")
    assert shown.artifact is not None


def test_a_thread_of_a_step_may_log(bench: Bench) -> None:
    call = bench.begin("measure_in_a_thread")
    assert [e.metrics for e in bench.until_ended(call)[call] if isinstance(e, Logged)] == [
        {"inside": 1.0}
    ]


def test_large_values_and_large_messages_pass(bench: Bench) -> None:
    assert len(bench.value("big", 5_000_000)) == 5_000_000
    failed = bench.run("fail_at_length", 3_000_000)
    assert isinstance(failed, Failed)
    assert len(failed.problem.message) > 3_000_000


def test_an_exception_is_a_problem_with_the_users_frames_alone(bench: Bench) -> None:
    call = bench.begin("fail", "first line\nsecond line")
    failed = bench.until_ended(call)[call][-1]
    assert isinstance(failed, Failed)
    assert failed.problem.code == "step_failed"
    assert failed.problem.message == "ValueError: first line\nsecond line"
    assert [frame.function for frame in failed.problem.frames] == ["fail"]
    assert "raise error" in failed.problem.frames[0].text
    assert "Traceback" in bench.output(call).with_suffix(".traceback").read_text()
    assert not bench.output(call).read_text(), "a terminal shows the user's frames alone"


def test_what_cannot_be_found_or_called_fails_the_call(bench: Bench) -> None:
    for event in (bench.run("nowhere"), bench.run("add"), bench.run("add", Stored("0" * 64))):
        assert isinstance(event, Failed)


@pytest.mark.parametrize(
    ("function", "args", "code", "message"),
    [
        ("leave", (0,), "step_exited", "exit status 0"),
        ("leave", (9,), "step_exited", "exit status 9"),
        ("die", (), "step_killed", "SIGKILL"),
        ("crash", (), "step_killed", "SIGSEGV"),
        ("leave_politely", (), "step_failed", "sys.exit"),
    ],
)
def test_a_process_that_ends_fails_its_own_call_alone(
    bench: Bench, function: str, args: tuple[int, ...], code: str, message: str
) -> None:
    dying = bench.begin(function, *args)
    other = bench.begin("add", 1)
    seen = bench.until_ended(dying, other)
    failed = seen[dying][-1]
    assert isinstance(failed, Failed)
    assert failed.problem.code == code
    assert message in failed.problem.message
    assert isinstance(seen[other][-1], Finished)
    assert [bench.value("add", n) for n in range(3)] == [1, 2, 3]


def test_last_words_are_heard_before_the_exit(bench: Bench) -> None:
    for _ in range(10):
        call = bench.begin("speak_and_leave")
        started, logged, failed = bench.until_ended(call)[call]
        assert isinstance(started, Started)
        assert isinstance(logged, Logged)
        assert isinstance(failed, Failed)


def test_what_a_dead_process_left_behind_is_ended_and_holds_nothing_up(
    bench: Bench, tmp_path: Path
) -> None:
    failed = bench.run("fork_and_die", str(tmp_path / "note"))
    assert isinstance(failed, Failed)
    assert failed.problem.fields == {"exit_status": 7}
    (child,) = pids_in(tmp_path / "note")
    until(lambda: not lives(child), "the child lives on")


def test_a_killed_call_ends_with_what_it_started_and_says_nothing_more(
    bench: Bench, tmp_path: Path
) -> None:
    call = bench.begin("start_and_sleep", str(tmp_path / "note"))
    pids = pids_in(tmp_path / "note")
    bench.executor.poll(0)
    bench.executor.kill(call)
    until(lambda: not any(map(lives, pids)), "it lives on")
    other = bench.begin("add", 1)
    assert not [e for e in bench.until_ended(other).get(call, []) if not isinstance(e, Started)]


def test_a_call_can_be_killed_before_it_has_a_process(bench: Bench, tmp_path: Path) -> None:
    for round_ in range(5):
        busy = [bench.begin("add", n) for n in range(2)]  # so that the next one needs a new worker
        call = bench.begin("start_and_sleep", str(tmp_path / f"note{round_}"))
        bench.executor.kill(call)
        seen = bench.until_ended(*busy)
        assert call not in seen
    assert bench.value("add", 1) == 2
    started = [int(word) for note in tmp_path.iterdir() for word in note.read_text().split()]
    until(lambda: not any(map(lives, started)), "it lives on")


def test_the_same_call_may_start_again_at_once_after_it_was_killed(
    bench: Bench, tmp_path: Path
) -> None:
    call = bench.begin("start_and_sleep", str(tmp_path / "note"))
    pids_in(tmp_path / "note")
    bench.executor.poll(0)
    bench.executor.kill(call)
    bench.count -= 1
    assert bench.begin("start_and_sleep", str(tmp_path / "again")) == call
    assert len(pids_in(tmp_path / "again")) == 2
    bench.executor.kill(call)


def test_calls_run_at_the_same_time_each_in_a_process(bench: Bench, tmp_path: Path) -> None:
    assert bench.executor.capacity.cpus == 2
    calls = [bench.begin("meet", str(tmp_path), name, 1) for name in "ab"]
    seen = bench.until_ended(*calls)
    assert all(isinstance(seen[call][-1], Finished) for call in calls)
    assert len({e.pid for call in calls for e in seen[call] if isinstance(e, Started)}) == 2


def test_processes_are_used_again(bench: Bench) -> None:
    assert len({bench.value("pid") for _ in range(4)}) == 1


def test_poll_waits_for_its_time_and_wake_ends_it(bench: Bench) -> None:
    began = time.monotonic()
    assert not bench.executor.poll(0.05)
    assert time.monotonic() - began >= 0.04
    bench.executor.wake()
    assert not bench.executor.poll(WAIT_S)
    assert time.monotonic() - began < WAIT_S / 2


def test_close_leaves_no_process(own_bench: Bench, tmp_path: Path) -> None:
    own_bench.begin("start_and_sleep", str(tmp_path / "one"))
    own_bench.begin("start_and_sleep", str(tmp_path / "two"))
    pids = pids_in(tmp_path / "one") + pids_in(tmp_path / "two")
    own_bench.executor.close()
    until(lambda: not any(map(lives, pids)), "it lives on")


def test_close_before_anything_ran(own_bench: Bench) -> None:
    own_bench.executor.close()


def test_a_full_disk_fails_the_call_and_says_so(own_bench: Bench) -> None:
    failed = own_bench.run("fill_the_disk")
    assert isinstance(failed, Failed)
    assert failed.problem.code == "unavailable"
    assert "Make room" in failed.problem.hint
    own_bench.executor.close()


def test_settings_reach_the_executor(own_bench: Bench) -> None:
    one = own_bench.make(replace(own_bench.workspace.settings, cores=1))
    assert one.capacity.cpus == 1
    one.close()
    own_bench.executor.close()
