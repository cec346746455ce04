"""Runs as they are found, compared, removed and restored: from Python, the API and the CLI."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import upturn as up
from upturn.api.operation import Ask, Asker, ask_here
from upturn.api.runs import (
    COMPARE,
    CURVE,
    GET_RUN,
    LIST_RUNS,
    REMOVE,
    RESTORE,
    SET_RUN,
    CompareRuns,
    ListRuns,
    OneCurve,
    OneRun,
    SetRun,
    SomeRuns,
)
from upturn.cli import cli
from upturn.core.errors import Invalid, NotFound
from upturn.core.time import utcnow
from upturn.develop.warm import close_pools
from upturn.stores.workspace import Workspace


@pytest.fixture(autouse=True)
def workspace_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a home of the test's own: it counts the runs in it."""
    monkeypatch.setenv("UPTURN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("UPTURN_CORES", "2")
    yield tmp_path / "home"
    close_pools()


def printed(*arguments: str) -> str:
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@up.step
def train(depth: int) -> int:
    for step in range(5):
        up.log(loss=1 / (depth + step), step=step)
    up.log(auc=0.5 + depth / 32)
    return depth


@up.flow
def fit(depth: int = 3, kind: str = "tree") -> Any:
    return train(depth)


def test_runs_are_found_and_compared(workspace: Workspace) -> None:
    shallow, deep = fit.run(depth=3), fit.run(depth=9)
    best = up.runs(where="group = 'fit' AND metric.auc > 0.5", order_by="metric.auc DESC")
    assert [run.id for run in best] == [deep.id, shallow.id]
    assert [run.id for run in up.runs(where="param.depth = 3")] == [shallow.id]
    assert deep.record.who
    both = up.compare([shallow, deep])
    assert both.params == {"depth": {shallow.id: "3", deep.id: "9"}}
    assert both.metrics["loss"] == {shallow.id: 1 / 7, deep.id: 1 / 13}
    assert both.table.column_names == ["run", "param.depth", "metric.auc", "metric.loss"]
    assert both.curves("loss")[deep.id].values[0] == 1 / 9
    assert f"<td>{deep.id}</td>" in both._repr_html_()
    with pytest.raises(NotFound, match="logged 'los'"):
        both.curves("los")
    found = COMPARE(ask_here(workspace), CompareRuns(runs=(shallow.id, deep.id)))
    assert found.same == {"kind": "tree"}
    text = printed("compare", shallow.id, deep.id)
    assert "param.depth" in text
    assert "0.78125" in text
    (line,) = printed("runs", "--where", "metric.auc > 0.75", "--json").splitlines()
    assert json.loads(line)["metrics"]["auc"] == 0.78125


def test_a_run_is_named_tagged_and_written_about(workspace: Workspace) -> None:
    run = fit.run()
    ask = ask_here(workspace)
    seen = SET_RUN(ask, SetRun(run=run.id, name="night", note="*so*", tags={"team": "b"}))
    assert (seen.name, seen.note, seen.status) == ("night", "*so*", "done")
    assert seen == GET_RUN(ask, OneRun(run=run.id))
    run.tag(team=None, other="x")
    assert run.tags == {"other": "x"}
    assert run.note == "*so*"
    run.note = "anew"
    assert GET_RUN(ask, OneRun(run=run.id)).note == "anew"
    assert CURVE(ask, OneCurve(run=run.id, name="loss", scope="train/0")).points == 5
    with pytest.raises(NotFound, match="logged no 'los'"):
        CURVE(ask, OneCurve(run=run.id, name="los"))


def test_runs_are_removed_and_restored_by_what_they_are(workspace: Workspace) -> None:
    made = [fit.run(depth=depth).id for depth in (1, 2, 3)]
    assert printed("runs", "remove", "--where", "param.depth < 3") == "Removed 2 runs.\n"
    assert [run.id for run in up.runs()] == [made[2]]
    ask = ask_here(workspace)
    listed = LIST_RUNS(ask, ListRuns(removed=True)).items
    assert {run.id for run in listed} == set(made[:2])
    assert printed("runs", "restore", made[0]) == "Restored 1 run.\n"
    assert RESTORE(ask, SomeRuns(where="flow = 'fit'")).runs == (made[1],)
    assert len(up.runs()) == 3
    with pytest.raises(Invalid, match="Which runs"):
        REMOVE(ask, SomeRuns())


def test_a_run_of_another_project_is_not_there(workspace: Workspace) -> None:
    run = fit.run().id
    stranger = Ask(workspace, Asker("eve", projects=frozenset({"other"})), utcnow())
    assert LIST_RUNS(stranger, ListRuns()).items == ()
    for operation, request in (
        (GET_RUN, OneRun(run=run)),
        (REMOVE, SomeRuns(runs=(run,))),
        (COMPARE, CompareRuns(runs=(run,))),
    ):
        with pytest.raises(NotFound, match=f"no run '{run}'"):
            operation(stranger, request)  # type: ignore[operator]
    assert REMOVE(stranger, SomeRuns(where="flow = 'fit'")).runs == ()


def test_pages_of_a_list_are_its_parts(workspace: Workspace) -> None:
    made = [fit.run(depth=depth).id for depth in range(3)]
    ask = ask_here(workspace)
    first = LIST_RUNS(ask, ListRuns(limit=2, fields="params"))
    second = LIST_RUNS(ask, ListRuns(limit=2, fields="params", cursor=first.cursor))
    assert [run.id for run in (*first.items, *second.items)] == made[::-1]
    assert second.cursor == ""
    with pytest.raises(Invalid, match="shows no 'prams'"):
        LIST_RUNS(ask, ListRuns(fields="prams"))
