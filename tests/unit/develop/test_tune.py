"""Tuning: trials are tasks; the same results make the same trials; nothing known runs again."""

import os
import pickle
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

import upturn as up
from unit.develop.steps import write
from upturn.core.errors import Invalid, NotFound, RunFailed, StepFailed
from upturn.core.records import Edge, Run, TaskState
from upturn.develop.run import start_run
from upturn.develop.runs import view_run
from upturn.stores.workspace import Workspace
from waiting import lives, until

Said = Callable[[], list[str]]
SPACE = {"x": up.uniform(-3.0, 3.0), "kind": ["even", "odd"]}


@up.step
def numbers(note: str) -> list[float]:
    write(note, "numbers")
    return [0.5, 1.5]


@up.step
def loss(x: float, kind: str, note: str, *, data: list[float]) -> dict[str, float]:
    write(note, "loss")
    up.log(loss=x**2 + (kind == "odd"), other=1)
    return {"x": x}


@up.step
def climb(x: float, note: str, slow: int, *, points: int = 6) -> float:
    """A curve that rises from -x²; which trials take long depends on `slow`."""
    write(note, f"begin {os.getpid()}")
    if int(x * 1000) % 2 == slow:
        time.sleep(0.03)
    for i in range(points):
        up.log(step=i, score=i - x**2)
    write(note, "end")
    return x


@up.step
def hang_when_bad(x: int, note: str) -> int:
    """Of a bad trial the first point is the last one: it waits until somebody ends it."""
    write(note, f"{x} {os.getpid()}")
    up.log(step=0, score=-x)
    if x >= 10:
        time.sleep(600)
    up.log(step=1, score=-x)
    return x


def in_order(*values: int) -> Any:
    """A space that gives one value after the other."""
    return lambda trial: {"x": values[trial.number]}


def statuses(workspace: Workspace, run: str, step: str) -> list[str]:
    states = workspace.meta.last_each(TaskState, run=run)
    return [state.status for state in states if state.step == step]


def test_trials_are_tasks_that_a_second_run_knows(
    note: str, said: Said, workspace: Workspace
) -> None:
    @up.flow
    def f(trials: int) -> Any:
        return up.tune(
            loss,
            SPACE,
            trials=trials,
            metric="loss",
            direction="minimize",
            note=note,
            data=numbers(note),
        )

    first = f.run(trials=12)
    found = first.result()
    assert len(found.trials) == 12
    assert found.best.value == min(trial.value for trial in found.trials)
    assert found.best.value == found.best.params["x"] ** 2 + (found.best.params["kind"] == "odd")
    assert found.best.task == f"run/{first.id}/loss/{found.best.number}"
    assert found.best.output == {"x": found.best.params["x"]}, "read from the store"
    assert statuses(workspace, first.id, "loss") == ["done"] * 12
    logged = workspace.tracking.series([first.id])[first.id]
    assert {one.name for one in logged if one.scope == "loss/3"} == {"loss", "other"}

    second = f.run(trials=12)
    assert statuses(workspace, second.id, "loss") == ["reused"] * 12
    again = second.result()
    assert [(t.params, t.value) for t in again.trials] == [
        (t.params, t.value) for t in found.trials
    ]
    more = f.run(trials=16)
    assert statuses(workspace, more.id, "loss") == ["reused"] * 12 + ["done"] * 4
    assert said() == ["loss"] * 16 + ["numbers"]


def test_the_best_output_goes_on_with_its_lineage(note: str, workspace: Workspace) -> None:
    @up.step
    def kept(model: dict[str, float], note: str) -> float:
        return model["x"]

    @up.flow
    def f() -> Any:
        found = up.tune(
            loss, SPACE, trials=3, metric="loss", direction="minimize", note=note, data=[1.0]
        )
        return kept(found.best.output, note), found.best.params["x"], found.best.task

    handle = f.run()
    x, chosen, task = handle.result()
    assert x == chosen
    sources = [
        edge.source for edge in workspace.meta.select(Edge, target=f"run/{handle.id}/kept/0")
    ]
    (model,) = [
        source for source in sources if workspace.meta.select(Edge, source=task, target=source)
    ]
    assert model.startswith("artifact/")


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_the_timing_of_parallel_trials_changes_nothing(
    pruner: str, note: str, workspace: Workspace
) -> None:
    @up.flow
    def f(slow: int, parallel: int) -> Any:
        return up.tune(
            climb,
            {"x": up.uniform(-3, 3)},
            trials=16,
            metric="score",
            direction="maximize",
            pruner=pruner,
            parallel=parallel,
            note=note,
            slow=slow,
        )

    def seen(slow: int, parallel: int = 2) -> list[Any]:
        found = f(slow=slow, parallel=parallel)
        return [(trial.params, trial.value, trial.status) for trial in found.trials]

    one = seen(0)
    assert one == seen(1)
    assert {status for _, _, status in one} == {"done", "pruned"}
    assert one != seen(0, parallel=1), "what is known when a trial is chosen does count"


def test_a_pruned_trial_is_ended_at_once_and_remembered(
    note: str, said: Said, workspace: Workspace
) -> None:
    values = [1, 2, 3, 4, 5, 20, 6]

    @up.flow
    def f(pruner: str | None = "median", count: int = 7) -> Any:
        return up.tune(
            hang_when_bad,
            in_order(*values),
            trials=count,
            metric="score",
            direction="maximize",
            pruner=pruner,
            parallel=1,
            note=note,
        )

    handle = f.run()
    found = handle.result()
    assert handle.status == "done", "a pruned trial is no failure of the run"
    assert [trial.status for trial in found.trials] == ["done"] * 5 + ["pruned"] * 2
    assert found.trials[5].value == -20
    assert found.trials[5].output is None
    assert "Pruned at step 0, where score was -20." in found.trials[5].problem.message
    state = workspace.meta.get(TaskState, handle.id, "hang_when_bad", 5)
    assert (state.status, state.output) == ("pruned", None)
    pids = [int(line.split()[1]) for line in said() if line.startswith("20 ")]
    until(lambda: not lives(pids[0]), "it lives on")

    second = f.run()
    assert len(said()) == 7, "nothing runs"
    assert statuses(workspace, second.id, "hang_when_bad") == ["reused"] * 5 + ["pruned"] * 2
    remembered = workspace.meta.get(TaskState, second.id, "hang_when_bad", 5)
    assert remembered.reused_from == f"run/{handle.id}/hang_when_bad/5"
    assert f().trials[5].value == -20, "from the one that ran, and not from the one that did not"

    values[5:] = [6]
    assert f(pruner=None, count=6).trials[5].status == "done", "what nobody prunes does run"
    values[5:] = [6, 20]
    assert [trial.status for trial in f().trials][5:] == ["pruned"] * 2, "known whole, or in part"
    assert len(said()) == 8


def test_equal_trials_run_once_and_share_the_verdict(
    note: str, said: Said, workspace: Workspace
) -> None:
    @up.flow
    def f() -> Any:
        return up.tune(
            hang_when_bad,
            in_order(1, 1, 2, 3, 3, 4, 20, 20, 5, 5),
            trials=10,
            metric="score",
            direction="maximize",
            pruner="median",
            parallel=2,
            note=note,
        )

    found = f()
    assert [trial.status for trial in found.trials] == ["done"] * 6 + ["pruned"] * 4
    assert [line.split()[0] for line in said()] == ["1", "2", "20", "3", "4", "5"]


def test_a_value_in_place_of_a_failure_is_no_result(note: str) -> None:
    @up.step(on_error=1000.0)
    def picky(x: int, note: str) -> float:
        if x > 1:
            raise ValueError(f"{x} is too much")
        return float(x)

    @up.flow
    def f() -> Any:
        return up.tune(picky, in_order(0, 5, 1), trials=3, direction="maximize", note=note)

    found = f()
    assert [trial.status for trial in found.trials] == ["done", "failed", "done"]
    assert found.best.value == 1.0


def test_every_attempt_of_a_trial_has_a_curve_of_its_own(note: str, workspace: Workspace) -> None:
    @up.step(retries=1)
    def second_time(x: int, note: str) -> int:
        write(note, "here")
        attempts = Path(note).stat().st_size // len("here\n")  # reading it would be an input
        up.log(step=0, score=attempts)
        if attempts == 1:
            up.log(step=1, score=100)
            raise ConnectionError
        return x

    @up.flow
    def f() -> Any:
        return up.tune(
            second_time,
            {"x": [1]},
            trials=1,
            metric="score",
            direction="maximize",
            take="best",
            pruner="median",
            note=note,
        )

    assert f().best.value == 2
    assert f().best.value == 2, "from memory too"


def test_failed_trials_are_counted_and_all_of_them_fail_the_run(note: str, said: Said) -> None:
    @up.step
    def picky(x: int, note: str) -> float:
        write(note, str(x))
        if x > 1:
            raise ValueError(f"{x} is too much")
        return float("nan") if x == 0 else 7.5

    @up.flow
    def f(values: list[int]) -> Any:
        return up.tune(
            picky, in_order(*values), trials=len(values), direction="minimize", note=note
        )

    handle = f.run(values=[5, 1, 0, 6])
    assert handle.status == "done"
    found = handle.result()
    assert [trial.status for trial in found.trials] == ["failed", "done", "failed", "failed"]
    assert found.trials[0].problem.message == "ValueError: 5 is too much"
    assert "no number, but nan" in found.trials[2].problem.message
    assert (found.best.value, found.best.number) == (7.5, 1)

    failed = f.run(values=[8, 9])
    with pytest.raises(RunFailed, match="ValueError: 8 is too much"):
        failed.result()
    assert failed.state.problem is not None
    assert failed.state.problem.fields["task"] == f"run/{failed.id}/picky/0"


def test_an_input_that_failed_is_no_failed_trial(note: str) -> None:
    @up.step
    def broken(note: str) -> list[float]:
        raise OSError("no data")

    @up.flow
    def f() -> Any:
        data = broken(note)
        with pytest.raises(StepFailed, match="no data") as caught:
            up.tune(
                loss, SPACE, trials=3, metric="loss", direction="minimize", note=note, data=data
            )
        return caught.value.path.rsplit("/", 2)[1]

    assert f() == "broken"


def test_a_flow_in_a_flow_tunes(note: str) -> None:
    @up.flow
    def inner(trials: int) -> Any:
        found = up.tune(
            loss, SPACE, trials=trials, metric="loss", direction="minimize", note=note, data=[1.0]
        )
        return found.best.output, found.best.value

    @up.flow
    def outer() -> Any:
        return inner(3)

    output, value = outer()
    assert output["x"] ** 2 in (value, pytest.approx(value - 1))


SCRIPT = """
import os, sys, time
from pathlib import Path
import upturn as up

HERE = Path(__file__).parent

def write(line):
    with open(HERE / "ran", "a") as file:
        file.write(f"{line:<30}\\n")

@up.step(cache=False)
def trained(x: float, last: int) -> float:
    write(repr(x))
    # Its size, for reading it would be an input.
    while (HERE / "ran").stat().st_size > 31 * last and not (HERE / "gate").exists():
        time.sleep(0.01)
    for i in range(3):
        up.log(step=i, score=i - x * x)
    return x

@up.flow
def search(trials: int = 14):
    found = up.tune(trained, {"x": up.uniform(-3, 3)}, trials=trials, metric="score",
                    direction="maximize", pruner="median", parallel=1, last=9)
    return repr([(trial.params["x"], trial.value, trial.status) for trial in found.trials])

if __name__ == "__main__":
    (HERE / "ran").touch()
    search()
"""


def test_after_kill_9_no_trial_that_ended_is_repeated(tmp_path: Path, workspace: Workspace) -> None:
    main, ran = tmp_path / "search_it.py", tmp_path / "ran"
    main.write_text(SCRIPT)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    driver = subprocess.Popen([sys.executable, str(main)], env=env, cwd=tmp_path)
    until(lambda: ran.exists() and len(ran.read_text().splitlines()) > 9, "it never came so far")
    run = workspace.meta.select(Run, flow="search", newest_first=True, limit=1)[0]
    before = statuses(workspace, run.id, "trained")
    ended = ran.read_text().splitlines()
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    assert before.count("pruned") + before.count("done") == len(before) - 1 == 9
    assert before.count("pruned") > 0
    until(lambda: view_run(workspace, run.id).status == "lost")

    (tmp_path / "gate").touch()
    resume = [sys.executable, "-m", "upturn", "resume", run.id]
    done = subprocess.run(
        resume, env=env, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = ran.read_text().splitlines()
    assert lines[:11] == [*ended, ended[9]], "it goes on with the one that had not ended"
    assert len(set(lines)) == len(lines) - 1 == 14, "with cache=False, and still not repeated"

    # The same as without the interruption.
    (whole := tmp_path / "whole").mkdir()
    (whole / "gate").touch()
    (whole / main.name).write_text(SCRIPT)
    (whole / "ran").touch()
    calm = subprocess.run(
        [sys.executable, "-m", "upturn", "run", f"{main.name}:search"],
        env=env,
        cwd=whole,
        capture_output=True,
        text=True,
        check=False,
    )
    assert calm.stdout == done.stdout
    assert calm.stdout.count("done") > 1


def test_two_drivers_share_the_trials(tmp_path: Path) -> None:
    main, ran = tmp_path / "search_it.py", tmp_path / "ran"
    # Other trials than above: what was pruned there is remembered.
    main.write_text(SCRIPT.replace("(cache=False)", "").replace("(-3, 3)", "(-4, 4)"))
    ran.touch()
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "upturn", "run", f"{main.name}:search"]
    drivers = [
        subprocess.Popen(
            command,
            env=env,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    until(lambda: len(ran.read_text().splitlines()) > 9, "it never came so far")
    (tmp_path / "gate").touch()
    said = [driver.communicate(timeout=60) for driver in drivers]
    for driver, (_, errors) in zip(drivers, said, strict=True):
        assert driver.returncode == 0, errors
    outputs = [output for output, _ in said]
    assert outputs[0] == outputs[1]
    assert outputs[0].count("pruned") > 0
    assert len(set(ran.read_text().splitlines())) == len(ran.read_text().splitlines()) == 14


def test_spaces_of_all_kinds() -> None:
    @up.step
    def takes(**params: Any) -> float:
        seen.append(params)
        return 1.0

    seen: list[dict[str, Any]] = []
    space = {
        "list": ["a", None, 3],
        "pair": [(1, 2), (3,)],
        "set": {"u", "v"},
        "range": range(2, 13, 5),
        "down": range(9, 0, -4),
        "integer": up.integers(1, 1000, log=True),
        "even": up.integers(0, 4, step=2),
        "number": up.uniform(1e-4, 1.0, log=True),
        "half": up.uniform(0, 1, step=0.5),
        "one": ["constant"],
    }
    up.tune(takes, space, trials=60, direction="minimize", sampler=optuna.samplers.RandomSampler(1))
    assert {params["list"] for params in seen} == {"a", None, 3}
    assert {params["pair"] for params in seen} == {(1, 2), (3,)}
    assert {params["set"] for params in seen} == {"u", "v"}
    assert {params["range"] for params in seen} == {2, 7, 12}
    assert {params["down"] for params in seen} == {1, 5, 9}
    assert {params["even"] for params in seen} == {0, 2, 4}
    assert {params["half"] for params in seen} == {0.0, 0.5, 1.0}
    assert {params["one"] for params in seen} == {"constant"}
    assert all(type(p["integer"]) is int and 1 <= p["integer"] <= 1000 for p in seen)
    assert all(1e-4 <= params["number"] <= 1 for params in seen)
    assert sum(params["number"] < 0.01 for params in seen) > 15, "half of the orders of magnitude"


def test_one_parameter_may_depend_on_another() -> None:
    @up.step
    def fit(kind: str, depth: int = 0, rate: float = 0.0) -> float:
        assert (depth > 0) == (kind == "tree")
        return depth or rate

    def space(trial: optuna.Trial) -> dict[str, Any]:
        if trial.suggest_categorical("kind", ["tree", "line"]) == "tree":
            return {"kind": "tree", "depth": trial.suggest_int("depth", 2, 9)}
        return {"kind": "line", "rate": trial.suggest_float("rate", 0.1, 1)}

    found = up.tune(fit, space, trials=20, direction="maximize")
    assert {trial.status for trial in found.trials} == {"done"}
    table = found.table().to_pydict()
    assert sorted(table) == ["depth", "kind", "rate", "status", "task", "trial", "value"]
    assert [d is None for d in table["depth"]] == [kind == "line" for kind in table["kind"]]


def test_outside_a_flow_the_step_is_called(note: str, said: Said) -> None:
    ended: list[int] = []

    @up.step
    def score(x: int) -> list[int]:
        try:
            for i in range(3):
                up.log(step=i, score=i - x)
            return [x]
        except Exception:  # noqa: BLE001  # a pruned trial is no error of the step
            raise AssertionError from None
        finally:
            ended.append(x)

    values = [3, 2, 1, 2, 2, 9, 0]
    found = up.tune(
        score, in_order(*values), trials=7, metric="score", direction="maximize", pruner="median"
    )
    assert [trial.status for trial in found.trials] == ["done"] * 5 + ["pruned", "done"]
    assert ended == values
    assert (found.best.params, found.best.value, found.best.output) == ({"x": 0}, 2, [0])
    assert found.best.task is None
    up.log(score=1)  # nobody hears it any more

    @up.step
    def broken(x: int) -> int:
        raise KeyError(x)

    with pytest.raises(StepFailed, match="KeyError: 4"):
        up.tune(broken, {"x": [4]}, trials=2, direction="maximize")


@pytest.mark.parametrize("take", ["last", "best"])
def test_a_value_that_is_no_number_is_no_result(take: Any) -> None:
    @up.step
    def flat(x: int) -> None:
        for i in range(3):
            up.log(step=i, score=float("nan") if x == 0 else x)

    found = up.tune(
        flat,
        in_order(0, 1, 2, 0, 3, 0, 0, 4, 4, 4, 4, 4),
        trials=12,
        metric="score",
        take=take,
        direction="maximize",
        pruner="median",
    )
    known = [(trial.status, trial.value) for trial in found.trials]
    assert known[:4] == [("failed", None), ("done", 1), ("done", 2), ("failed", None)]
    assert known[5:8] == [("failed", None), ("failed", None), ("done", 4)]
    assert known[8:] == [("done", 4)] * 4


def test_a_tuning_shows_itself_and_travels() -> None:
    @up.step
    def area(value: Any, name: str) -> float:
        return float(len(str(value)))

    found = up.tune(
        area, {"value": [1, "<b>", None]}, trials=6, direction="maximize", name="x", parallel=1
    )
    table = found.table()
    assert table.column_names == ["trial", "params.value", "value", "status", "task"]
    assert set(table["params.value"].to_pylist()) <= {"1", "<b>", None}
    html = found._repr_html_()
    assert "&lt;b&gt;" in html
    assert html.count("<tr") == 7
    assert "best value" in repr(found)
    assert pickle.loads(pickle.dumps(found)) == found


def test_without_a_finished_trial_there_is_no_best() -> None:
    @up.step
    def flat(x: int) -> None:
        up.log(step=0, score=x)

    threshold = optuna.pruners.ThresholdPruner(lower=10)
    found = up.tune(
        flat, {"x": [1]}, trials=2, metric="score", direction="maximize", pruner=threshold
    )
    with pytest.raises(NotFound, match="No trial of 'flat' was finished: 2 pruned"):
        _ = found.best
    assert "2 pruned" in found._repr_html_()


def test_a_pruner_that_breaks_is_heard_of(note: str) -> None:
    class Broken(optuna.pruners.BasePruner):
        def prune(self, study: Any, trial: Any) -> bool:
            raise LookupError("in the pruner")

    @up.flow
    def f() -> Any:
        return up.tune(
            climb,
            {"x": [1.0]},
            trials=1,
            metric="score",
            direction="maximize",
            pruner=Broken(),
            note=note,
            slow=0,
        )

    handle = f.run()
    assert handle.status == "failed"
    assert handle.state.problem is not None
    assert handle.state.problem.message == "LookupError: in the pruner"


@up.step
def simple(depth: int, *, rate: float = 0.1) -> None:
    up.log(auc=0.5, loss=1)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"space": {"dept": [1]}}, r"simple has no parameter 'dept'\. Did you mean 'depth'"),
        ({"ratee": 3}, r"simple has no parameter 'ratee'\. Did you mean 'rate'"),
        ({"depth": 3}, "'depth' is in the space, and given as a constant too"),
        ({"metric": "acu"}, r"simple never logged 'acu'\. Did you mean 'auc'"),
        ({"metric": "zzz"}, r"simple never logged 'zzz'\. There is: 'auc', 'loss'"),
        ({"metric": None}, "simple returned a NoneType, not a number.*metric="),
        ({"direction": "maximise"}, "no direction 'maximise'. Did you mean 'maximize'"),
        ({"take": "first"}, "no take 'first'. There is: 'best', 'last'"),
        ({"trials": 0}, "at least one trial, not 0"),
        ({"parallel": 0}, "at least one trial at once, not 0"),
        ({"pruner": "medium"}, "no pruner 'medium'. Did you mean 'median'.*optuna.pruners"),
        ({"pruner": "median", "metric": None}, "A pruner needs the metric"),
        ({"space": {"depth": 3}}, "The space of 'depth' is 3, from which nothing"),
        ({"space": {"depth": []}}, "The space of 'depth' has no values"),
        ({"space": 3}, r"The space is 3\. Write a dict"),
        ({"space": lambda trial: 3}, "The space returned 3 for a trial"),
        ({"space": {"rate": [0.1]}}, r"simple\(.*\).* was called wrongly: missing a required"),
        ({"step": len}, "tunes a step, and len is none. Put @up.step above it"),
    ],
)
@pytest.mark.parametrize("where", ["in a flow", "outside"])
def test_what_does_not_fit_is_refused(where: str, changed: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {
        "step": simple,
        "space": {"depth": [1, 2]},
        "trials": 2,
        "metric": "auc",
        "direction": "maximize",
    } | changed
    step, space = given.pop("step"), given.pop("space")

    @up.flow
    def f() -> Any:
        return up.tune(step, space, **given)

    if where == "outside":
        with pytest.raises(Invalid, match=message):
            up.tune(step, space, **given)
        return
    handle = f.run()
    assert (handle.status, handle.state.problem.code) == ("failed", "invalid")
    assert re.search(message, f"{handle.state.problem.message} {handle.state.problem.hint}")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: up.uniform(2, 1), "the lower end comes first"),
        (lambda: up.uniform(0, 1, log=True), "both ends are above 0"),
        (lambda: up.integers(1, 9, log=True, step=2), "a log scale has no step"),
        (lambda: up.uniform(0, 1, step=-1), "a step is above 0"),
        (lambda: up.integers(0, 1.5), "takes whole numbers"),  # type: ignore[arg-type]
    ],
)
def test_ends_that_make_no_space_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(Invalid, match=message):
        make()


def test_without_optuna_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(Invalid, match=r"not installed\. Install it: pip install 'upturn\[tune\]'"):
        up.tune(simple, {"depth": [1]}, trials=1, metric="auc", direction="maximize")


def test_a_resumed_run_whose_code_changed_judges_by_the_new_curve(
    note: str, workspace: Workspace
) -> None:
    """Its old and its new metrics lie under one path."""
    broken = True

    @up.flow
    def f() -> Any:
        @up.step
        def old(x: int, note: str) -> int:
            up.log(step=0, score=100)
            raise ValueError

        @up.step
        def new(x: int, note: str) -> int:
            up.log(step=1, score=x)
            return x

        step = old if broken else new
        step.name = "both"
        return up.tune(
            step,
            {"x": [3]},
            trials=1,
            metric="score",
            take="best",
            direction="maximize",
            pruner="median",
            note=note,
        )

    failed = f.run()
    assert failed.status == "failed"
    broken = False
    run = workspace.meta.get(Run, failed.id)
    assert start_run(f, {}, resume=run).result().best.value == 3
    assert f().best.value == 3
