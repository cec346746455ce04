"""up.score and up.version: tables as they come, and steps that run again for a new champion."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import upturn as up
from upturn.core.errors import Invalid, RunFailed
from upturn.core.records import Edge, TaskState
from upturn.core.time import utcnow
from upturn.model.registry import set_alias
from upturn.stores.workspace import Workspace

ROWS = {"a": [1.0, 2.0, 3.0], "b": [10.0, 20.0, 30.0]}


def total(frame: Any) -> Any:
    return np.asarray(frame["a"], float) + np.asarray(frame["b"], float)


def double(frame: Any) -> Any:
    return 2 * total(frame)


@pytest.fixture
def champion(workspace: Workspace) -> Any:
    """Two versions; whoever is asked makes one the champion."""
    data = {**ROWS, "y": [1.0, 2.0, 4.0]}
    for model in (total, double):
        up.register("sums", model, data=data, target="y")

    def make(number: int) -> None:
        set_alias(workspace, "sums", "champion", number, why="test", now=utcnow())

    make(1)
    return make


@up.step
def scored(version: up.Version, rows: dict[str, list[float]]) -> list[float]:
    return up.score(version, rows)["prediction"].tolist()


@up.step
def scored_by_name(ref: str) -> list[float]:
    return up.score(ref, ROWS)["prediction"].tolist()


@up.step
def scored_file(version: up.Version, rows: str, to: str) -> str:
    return up.score(version, rows, to).digest


@pytest.mark.parametrize(
    "make", [pd.DataFrame, pl.DataFrame, pa.table, dict], ids=["pandas", "polars", "arrow", "dict"]
)
def test_a_table_comes_back_as_the_kind_that_it_is(champion: Any, make: Any) -> None:
    rows = make(ROWS)
    found = up.score("sums:1", rows)
    assert type(found) is type(rows)
    columns = {name: list(map(_plain, found[name])) for name in (*ROWS, "prediction", "version")}
    assert columns == {**ROWS, "prediction": [11.0, 22.0, 33.0], "version": ["sums:1"] * 3}


def _plain(value: Any) -> Any:
    return value.as_py() if hasattr(value, "as_py") else value


def test_a_pandas_index_stays(champion: Any) -> None:
    found = up.score("sums:1", pd.DataFrame(ROWS, index=[7, 8, 9]))
    assert list(found.index) == [7, 8, 9]
    assert found.loc[9, "prediction"] == 33.0


def test_a_bad_value_is_named(champion: Any) -> None:
    with pytest.raises(Invalid, match="Column 'b' is null in row 1; expected a number"):
        up.score("sums:1", {"a": [1.0, 2.0], "b": [1.0, None]})
    with pytest.raises(Invalid, match="column 'b' is missing"):
        up.score("sums:1", {"a": [1.0]})


def statuses(workspace: Workspace, run: str) -> list[str]:
    return [state.status for state in workspace.meta.last_each(TaskState, run=run)]


def test_a_new_champion_runs_the_step_again_and_the_same_one_does_not(
    champion: Any, workspace: Workspace
) -> None:
    @up.flow
    def f() -> Any:
        return scored(up.version("sums@champion"), ROWS)

    first = f.run()
    assert first.result() == [11.0, 22.0, 33.0]
    assert statuses(workspace, f.run().id) == ["reused"]
    champion(2)
    assert f.run().result() == [22.0, 44.0, 66.0]
    sources = {
        edge.source for edge in workspace.meta.select(Edge, target=f"run/{first.id}/scored/0")
    }
    assert "version/sums:1" in sources


def test_in_a_flow_scoring_is_a_task(champion: Any, workspace: Workspace) -> None:
    @up.flow
    def f() -> Any:
        return up.score("sums@champion", ROWS)

    assert list(f.run().result()["prediction"]) == [11.0, 22.0, 33.0]
    assert statuses(workspace, f.run().id) == ["reused"]
    champion(2)
    assert list(f.run().result()["prediction"]) == [22.0, 44.0, 66.0]


def test_a_step_can_not_ask_for_the_champion_by_name(champion: Any) -> None:
    @up.flow
    def f(ref: str) -> Any:
        return scored_by_name(ref)

    assert f.run(ref="sums:2").result() == [22.0, 44.0, 66.0]
    with pytest.raises(RunFailed, match="sums@champion"):
        f.run(ref="sums@champion").result()


def test_a_file_is_scored_again_when_it_or_the_output_is_another_one(
    champion: Any, workspace: Workspace, tmp_path: Path
) -> None:
    rows, to = tmp_path / "rows.parquet", tmp_path / "out.parquet"
    pq.write_table(pa.table(ROWS), rows)

    @up.flow
    def f() -> Any:
        return scored_file(up.version("sums:1"), str(rows), str(to))

    run = f.run()
    digest = run.result()
    assert pq.read_table(to)["prediction"].to_pylist() == [11.0, 22.0, 33.0]
    sources = {edge.source for edge in workspace.meta.select(Edge, target=f"artifact/{digest}")}
    assert {"version/sums:1", f"run/{run.id}/scored_file/0"} <= sources
    assert statuses(workspace, f.run().id) == ["reused"]
    to.unlink()
    assert f.run().result() == digest
    assert to.exists()
    pq.write_table(pa.table(ROWS).slice(1), rows)
    assert f.run().result() != digest
    assert pq.read_table(to)["prediction"].to_pylist() == [22.0, 33.0]
