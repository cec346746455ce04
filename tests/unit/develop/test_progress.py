"""Progress: loops say how far they are, and are the loops that they were."""

from collections.abc import Iterator
from itertools import count, islice
from typing import Any

import pytest

import upturn as up
from upturn.core.errors import Invalid, Problem
from upturn.core.records import Run
from upturn.develop.reporting import Silent


class Heard(Silent):
    """A Reporter that remembers what it is told of progress."""

    def __init__(self) -> None:
        self.progress: list[tuple[str, int, int | None, str, int]] = []
        self.submitted: list[str] = []
        self.problems: list[Problem] = []
        self.ended: list[str] = []

    def task_submitted(self, path: str) -> None:
        self.submitted.append(path)

    def task_progress(
        self, path: str, done: int, total: int | None, title: str, level: int
    ) -> None:
        self.progress.append((path, done, total, title, level))

    def task_failed(self, path: str, problem: Problem, retry_in_s: float | None) -> None:
        self.problems.append(problem)

    def run_ended(self, run: Run, status: str, seconds: float) -> None:
        self.ended.append(status)


@up.step(cache=False)
def looped(n: int) -> list[int]:
    return list(up.progress(range(n), title="numbers"))


@up.step(cache=False)
def drawn(n: int) -> int:
    return sum(1 for _ in up.progress(islice(count(), n)))


@up.step(cache=False)
def nested(n: int) -> int:
    seen = 0
    for _ in up.progress(range(n), title="outer"):
        for _ in up.progress(range(5), title="inner"):
            for _ in up.progress(range(2), title="innermost"):
                seen += 1
    return seen


@up.step(cache=False)
def left_early(n: int) -> int:
    for i in up.progress(range(n)):
        if i == 3:
            return i
    return -1


@up.step(cache=False)
def broken(n: int) -> None:
    for i in up.progress(range(n)):
        if i == 2:
            raise ValueError("at two")


@up.step(cache=False)
def by_hand(n: int) -> int:
    with up.progress(total=n, title="bytes") as bar:
        for _ in range(n // 2):
            bar.advance(2)
    return bar.done


@up.step(cache=False)
def short_loops(n: int) -> int:
    return sum(len(list(up.progress([1, 2, 3]))) for _ in range(n))


KEPT: list[Iterator[int]] = []


@up.step(cache=False)
def keeps_one_open(n: int) -> int:
    KEPT.append(iter(up.progress(range(n), title="kept")))
    return next(KEPT[-1])


@up.flow
def progressing(step: str, n: int):
    """Run one of the steps above."""
    return globals()[step](n)


@up.flow
def keeping():
    first = keeps_one_open(5)
    return looped(first.get() + 3)


def heard_of(step: str, n: int) -> tuple[Any, Heard]:
    heard = Heard()
    handle = progressing.run(upturn_reporter=heard, step=step, n=n)
    return handle, heard


def test_a_loop_says_how_far_it_is_and_yields_what_it_would(workspace: object) -> None:
    handle, heard = heard_of("looped", 40)
    assert handle.result() == list(range(40))
    path = f"run/{handle.id}/looped/0"
    assert heard.submitted == [path]
    assert heard.progress[0] == (path, 0, 40, "numbers", 0)
    assert heard.progress[-1] == (path, 40, 40, "numbers", 0)
    done = [said[1] for said in heard.progress]
    assert done == sorted(set(done)), "each is told once, in order"


def test_what_has_no_length_has_no_total(workspace: object) -> None:
    handle, heard = heard_of("drawn", 1000)
    assert handle.result() == 1000
    assert heard.progress[-1][1:] == (1000, None, "", 0)


def test_however_fast_a_loop_is_the_driver_hears_little(workspace: object) -> None:
    for step, n, result in (("looped", 100_000, None), ("short_loops", 5000, 15_000)):
        handle, heard = heard_of(step, n)
        assert handle.status == "done"
        assert result is None or handle.result() == result
        seconds = 60  # far more than it takes
        assert len(heard.progress) < 12 + 10 * seconds
        assert len(heard.progress) < n / 8


def test_loops_in_loops_have_levels_down_to_the_second(workspace: object) -> None:
    handle, heard = heard_of("nested", 10)
    assert handle.result() == 100
    assert {(said[3], said[4]) for said in heard.progress} == {("outer", 0), ("inner", 1)}
    assert heard.progress[-1][1:] == (10, 10, "outer", 0)


def test_a_loop_that_is_left_says_how_far_it_came(workspace: object) -> None:
    handle, heard = heard_of("left_early", 100)
    assert handle.result() == 3
    assert heard.progress[-1][1:3] == (3, 100)
    handle, heard = heard_of("broken", 100)
    assert handle.status == "failed"
    assert [problem.message for problem in heard.problems] == ["ValueError: at two"]
    assert heard.progress[-1][1:3] == (2, 100)


def test_a_bar_is_advanced_by_hand(workspace: object) -> None:
    handle, heard = heard_of("by_hand", 10)
    assert handle.result() == 10
    assert heard.progress[0][1:] == (0, 10, "bytes", 0)
    assert heard.progress[-1][1:] == (10, 10, "bytes", 0)


def test_a_loop_left_open_says_nothing_for_the_next_task(workspace: object) -> None:
    heard = Heard()
    handle = keeping.run(upturn_reporter=heard)
    assert handle.result() == [0, 1, 2]
    of_next = [said for said in heard.progress if said[0].endswith("looped/0")]
    assert {(said[3], said[4]) for said in of_next} == {("numbers", 0)}


def test_outside_a_task_it_is_the_iterable() -> None:
    numbers = [1, 2, 3]
    assert up.progress(numbers, total=3, title="x") is numbers
    with up.progress(total=4) as bar:
        bar.advance(3)
    assert bar.done == 3
    with pytest.raises(Invalid, match="total is -1"):
        up.progress(numbers, total=-1)
