"""Flows: Refs, nesting, map, child flows, and what is said when they are misused."""

import threading
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

import upturn as up
from unit.develop.steps import (
    Span,
    double,
    doubled,
    failing,
    gathered,
    kind_of,
    numbers,
    scaled,
    total,
    until,
    wait_for,
)
from upturn.core.errors import Invalid, RunFailed, StepFailed
from upturn.core.records import Run, RunState, Task
from upturn.develop.ref import Ref
from upturn.stores.workspace import Workspace

Said = Callable[[], list[str]]


def test_outside_a_flow_a_step_is_its_function() -> None:
    assert double(4) == 8
    assert scaled.map([1, 2], by=3) == [3, 6]
    with pytest.raises(TypeError):
        double()  # type: ignore[call-arg]


def test_a_flow_returns_values_for_its_refs() -> None:
    @up.flow
    def f(number: int) -> Any:
        ref = double(double(number))
        assert isinstance(ref, Ref)
        return {"one": ref, "two": [ref, (ref, 5)]}

    assert f(3) == {"one": 12, "two": [12, (12, 5)]}


def test_refs_nest_in_lists_tuples_and_dicts() -> None:
    @up.flow
    def f() -> Any:
        one, many = double(1), numbers(4)
        return [
            total([one, [one, (one, 10)], many]),
            total({"a": one, "b": {"c": many}}),
            kind_of((one, 1)),
            kind_of([one]),
            kind_of([]),
            kind_of({"a": one}),
        ]

    assert f() == [22, 8, "tuple", "list", "list", "dict"]


def test_get_waits_and_python_decides() -> None:
    @up.flow
    def f() -> Any:
        ref = double(5)
        return total([double(n) for n in range(3)]) if ref.get() > 9 else None

    assert f() == 6


def test_map_maps_positional_arguments_and_keeps_keywords() -> None:
    @up.flow
    def f() -> Any:
        return scaled.map(numbers(4), by=double(5)), gathered.map([1, 2], (3, 4), c=[9])

    assert f() == (
        [0, 10, 20, 30],
        [[[1, 3], {"c": [9]}], [[2, 4], {"c": [9]}]],
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: scaled.map(by=3), r"maps its positional arguments, and was given none"),
        (lambda: gathered.map([1, 2], [1]), "iterables of 2 and 1 items"),
        (lambda: scaled.map(3, by=1), "maps over lists, and was given 3.*by keyword"),
        (lambda: scaled.map("abc", by=1), "maps over lists"),
    ],
)
def test_a_wrong_map_says_so(wrong: Callable[[], Any], message: str) -> None:
    with pytest.raises(Invalid, match=message):
        wrong()


def test_a_step_may_take_any_arguments() -> None:
    @up.flow
    def f() -> Any:
        return gathered(1, double(1), [double(2)], x=double(3), y=None), gathered()

    assert f() == ([[1, 2, [4]], {"x": 6, "y": None}], [[], {}])


def test_a_wrong_call_of_a_step_is_told_when_it_is_made() -> None:
    @up.flow
    def f() -> Any:
        return double(1, nubmer=2)  # type: ignore[call-arg]

    with pytest.raises(RunFailed, match=r"double\(number: .* was called wrongly.*nubmer"):
        f()


MISUSES: list[tuple[Callable[[Any], Any], str]] = [
    (list, "iterate over"),
    (lambda ref: 1 in ref, "search"),
    (lambda ref: 1 if ref else 2, "test"),
    (len, "measure"),
    (lambda ref: ref[0], "index"),
    (lambda ref: ref.shape, "read .shape of"),
    (lambda ref: ref == 4, "compare"),
    (lambda ref: ref > 4, "compare"),
    (lambda ref: max(ref, 4), "compare"),
    (lambda ref: ref + 1, "reckon with"),
    (lambda ref: 1 - ref, "reckon with"),
    (float, "reckon with"),
    (round, "reckon with"),
]


def test_a_misused_ref_says_what_to_do() -> None:
    @up.flow
    def f() -> Any:
        ref = double(2)
        for misuse, what in MISUSES:
            with pytest.raises(TypeError, match=rf"double/0 is a Ref.*{what} it.*\.get\(\)"):
                misuse(ref)
        return "told"

    assert f() == "told"


def test_refs_may_be_compared_and_kept_in_sets() -> None:
    @up.flow
    def f() -> Any:
        one, two = double(1), double(2)
        assert one != two
        assert [one, two].index(two) == 1
        assert len({one, two, one}) == 2

    f()


def test_a_ref_where_steps_do_not_look_is_refused() -> None:
    @up.flow
    def f() -> Any:
        return kind_of({double(1)})

    with pytest.raises(RunFailed, match="Ref inside a value that steps don't look into"):
        f()


def test_arguments_of_the_users_own_classes() -> None:
    @up.flow
    def f() -> Any:
        return until(until(Span(date(2013, 1, 1), 3)))

    assert f() == Span(date(2013, 1, 1), 5)


def test_closures_and_lambdas_are_steps_too() -> None:
    @up.flow
    def f(factor: int) -> Any:
        made = []
        for power in (1, 2, 3):
            step = up.step(lambda x, power=power: factor * x**power)
            made.append(step(2))
        return made

    assert f(1) == [2, 4, 8]
    assert f(10) == [20, 40, 80]


def test_a_decorated_function_is_run_with_its_decorator(tmp_path: Path) -> None:
    wrapped = up.step(plus_one_of(plain))

    @up.flow
    def f() -> Any:
        return wrapped(1), double(plain(1))

    assert f() == (12, 22)


def plain(number: int) -> int:
    return number + 10


def plus_one_of(function: Callable[[int], int]) -> Callable[[int], int]:
    import functools

    @functools.wraps(function)
    def inner(number: int) -> int:
        return function(number) + 1

    return inner


def test_independent_steps_run_at_the_same_time(note: str) -> None:
    @up.flow
    def f() -> Any:
        return [wait_for(note, 2, who) for who in range(2)]

    @up.flow
    def g() -> Any:
        return [scaled(pid, by=1) for pid in f()]

    first, second = g()
    assert first != second


def test_a_child_flow_is_a_run_of_its_own(note: str, workspace: Workspace, said: Said) -> None:
    @up.flow
    def parent() -> Any:
        return [doubled(double(4, note=note), note=note), doubled(2, note=note)]

    handle = parent.run()
    assert handle.result() == [16, 4]
    children = workspace.meta.select(Run, parent=handle.id)
    assert [child.flow for child in children] == ["doubled", "doubled"]
    assert [child.params["number"] for child in children] == [8, 2]
    for child in children:
        assert workspace.meta.get(RunState, child.id).status == "done"
        assert len(workspace.meta.select(Task, run=child.id)) == 1
    assert said() == ["double 2", "double 4", "double 8"]


def test_a_failed_child_can_be_caught_and_else_fails_its_parent(note: str) -> None:
    @up.flow
    def careful() -> Any:
        try:
            return failing(note)
        except StepFailed as error:
            return error.path.split("/", 2)[2], str(error)

    assert careful() == ("fail/0", "ValueError: it broke")

    @up.flow
    def careless() -> Any:
        return failing(note)

    handle = careless.run()
    assert handle.status == "failed"
    problem = handle.problem
    assert problem is not None
    assert problem.fields["task"] == f"run/{handle.id}-failing-0/fail/0"


def test_a_flow_within_a_step_is_refused() -> None:
    @up.step
    def calls() -> Any:
        return doubled(2)

    @up.flow
    def f() -> Any:
        return calls()

    with pytest.raises(RunFailed, match="The step 'calls' called the flow 'doubled'"):
        f()


def test_flows_run_in_threads_at_the_same_time(note: str) -> None:
    """Each needs the other one's step to run: on workers that they share, one would starve."""
    found: dict[int, Any] = {}

    @up.flow
    def f(name: int) -> Any:
        return [wait_for(note, 4, 2 * name), wait_for(note, 4, 2 * name + 1)]

    threads = [threading.Thread(target=lambda n=n: found.update({n: f(n)})) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len({*found[0], *found[1]}) == 4


def test_a_run_within_a_flow_has_workers_of_its_own() -> None:
    @up.flow
    def f() -> Any:
        before = double(1)
        return doubled.run(number=5).result(), before

    assert f() == (10, 2)


@pytest.mark.parametrize("parameters", ["*args", "**named", "x, /"])
def test_a_flow_has_named_parameters(parameters: str) -> None:
    scope: dict[str, Any] = {}
    exec(f"def f({parameters}): pass", scope)
    with pytest.raises(Invalid, match="a flow's parameters have names"):
        up.flow(scope["f"])


def test_async_functions_are_refused() -> None:
    async def f() -> None: ...

    with pytest.raises(Invalid, match="is async"):
        up.flow(f)
    with pytest.raises(Invalid, match="is async"):
        up.step(f)


def test_maps_nest_and_go_over_what_a_step_returned() -> None:
    @up.flow
    def f() -> Any:
        grid = [scaled.map(numbers(width), by=10) for width in range(1, 4)]
        return total.map(grid), double.map(double.map(numbers(3)))

    assert f() == ([0, 10, 30], [0, 4, 8])


def test_records_grow_with_the_number_of_tasks_and_no_faster(workspace: Workspace) -> None:
    @up.flow
    def f(first: int, count: int) -> Any:
        return total(double.map(range(first, first + count)))

    rows: list[int] = []
    for first, count in ((1_000_001, 20), (5_000_001, 40), (9_000_001, 80)):
        before = sum(workspace.meta.counts().values())
        f(first, count)
        rows.append(sum(workspace.meta.counts().values()) - before)
    assert rows[2] - rows[1] == 2 * (rows[1] - rows[0])
