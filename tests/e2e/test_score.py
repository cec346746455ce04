"""`upturn score`: files in, Parquet out, and nothing lost when it is interrupted."""

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pv
import pyarrow.parquet as pq
import pytest

from e2e.serving import Project, fitted, rows_table, upturn, wait_for
from upturn.core.errors import Conflict, Invalid, NotFound
from upturn.core.lineage import upstream
from upturn.core.records import Edge
from upturn.deploy.batch import score_file

ROWS = 1000


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    project = Project(tmp_path_factory.mktemp("score") / "project")
    project.register("delays", fitted())
    project.register("slow", project.model("Constant", 1.0, 0.1))
    yield project
    project.workspace.close()


@pytest.fixture
def table() -> pa.Table:
    return pa.Table.from_pandas(rows_table(ROWS, seed=3).drop(columns="late"))


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def expected(project: Project, table: pa.Table) -> np.ndarray:
    return fitted().predict_proba(table.to_pandas())[:, 1]


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_a_file_is_scored_with_its_columns_kept(
    project: Project, table: pa.Table, tmp_path: Path, suffix: str
) -> None:
    source = tmp_path / f"april{suffix}"
    table = table.append_column("note", pa.array(["x"] * ROWS))
    write = pq.write_table if suffix == ".parquet" else pv.write_csv
    write(table, source)
    done = project.command("score", "delays:1", str(source))
    assert done.returncode == 0, done.stderr
    assert "1,000 rows scored with delays:1" in done.stdout
    scored = pq.read_table(tmp_path / "april.scored.parquet")
    assert scored.column_names == [*table.column_names, "prediction", "version"]
    assert scored.select(table.column_names).to_pylist() == table.to_pylist()
    np.testing.assert_allclose(scored["prediction"].to_numpy(), expected(project, table))
    assert set(scored["version"].to_pylist()) == {"delays:1"}
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_lineage_leads_from_the_scores_to_version_and_rows(
    project: Project, table: pa.Table, tmp_path: Path
) -> None:
    pq.write_table(table, tmp_path / "rows.parquet")
    version = project.workspace.meta.get(type(project.register("delays", fitted())), "delays", 1)
    scored = score_file(
        project.workspace, version, tmp_path / "rows.parquet", tmp_path / "out.parquet"
    )
    sources = upstream(
        f"artifact/{scored.digest}", lambda path: project.workspace.meta.select(Edge, target=path)
    )
    paths = [node.path for node in sources]
    assert "version/delays:1" in paths
    assert len(paths) > 2


def test_an_interrupted_scoring_goes_on_where_it_was(
    project: Project, tmp_path: Path, table: pa.Table
) -> None:
    rows = pa.concat_tables([table] * 100)
    pq.write_table(rows, tmp_path / "rows.parquet")
    command = [*upturn("score"), "slow", str(tmp_path / "rows.parquet")]
    process = subprocess.Popen(
        command,
        cwd=project.root,
        env=project.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    partial = tmp_path / "rows.scored.parquet.partial"
    wait_for(lambda: lines(partial / "marks") >= 2, "two parts")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "same command" in errors
    assert "Traceback" not in errors
    done = project.command("score", "slow", str(tmp_path / "rows.parquet"))
    assert "of them before" in done.stdout, done.stderr
    assert pq.read_table(tmp_path / "rows.scored.parquet").num_rows == rows.num_rows
    assert not partial.exists()


def test_parts_of_another_file_count_for_nothing(
    project: Project, table: pa.Table, tmp_path: Path
) -> None:
    version = project.register("delays", fitted())
    source, output = tmp_path / "rows.parquet", tmp_path / "out.parquet"
    pq.write_table(table, source)

    def stop(done: int, _: int | None) -> None:
        if done == 600:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score_file(project.workspace, version, source, output, part_rows=300, progress=stop)
    assert not output.exists()
    resumed = score_file(project.workspace, version, source, output, part_rows=300)
    assert (resumed.rows, resumed.resumed_rows) == (1000, 600)
    with pytest.raises(KeyboardInterrupt):
        score_file(project.workspace, version, source, output, part_rows=300, progress=stop)
    pq.write_table(table.slice(1), source)
    fresh = score_file(project.workspace, version, source, output, part_rows=300)
    assert (fresh.rows, fresh.resumed_rows) == (999, 0)


def test_one_output_has_one_writer(project: Project, table: pa.Table, tmp_path: Path) -> None:
    version = project.register("delays", fitted())
    source, output = tmp_path / "rows.parquet", tmp_path / "out.parquet"
    pq.write_table(table, source)

    def again(_: int, __: int | None) -> None:
        with pytest.raises(Conflict):
            score_file(project.workspace, version, source, output)

    score_file(project.workspace, version, source, output, progress=again)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.drop(columns="carrier"), "column 'carrier' is missing"),
        (lambda frame: frame.rename(columns={"carrier": "carier"}), "Did you mean 'carier'"),
        (lambda frame: frame.assign(delay="x"), "column 'delay' is"),
        (lambda frame: frame.assign(distance=1.5), "'distance' is 1.5 in row 0; expected a whole"),
        (lambda frame: frame.assign(carrier=pd.NA), "'carrier' is null in row 0"),
        (lambda frame: frame.assign(prediction=1), "has a column 'prediction'"),
        (lambda frame: frame.head(0), "no rows"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(
    project: Project, tmp_path: Path, table: pa.Table, change: object, message: str
) -> None:
    assert callable(change)
    source = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pandas(change(table.to_pandas()), preserve_index=False), source)
    version = project.register("delays", fitted())
    with pytest.raises(Invalid, match=message):
        score_file(project.workspace, version, source, tmp_path / "out.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["rows.parquet"]


def test_files_that_can_not_be_read_are_named(project: Project, tmp_path: Path) -> None:
    version = project.register("delays", fitted())
    (tmp_path / "rows.parquet").write_text("no parquet")
    (tmp_path / "rows.csv").write_text("delay,distance,night,carrier\n1,three,true,AA\n")
    (tmp_path / "rows.xlsx").write_text("")
    for name in ("rows.parquet", "rows.csv", "rows.xlsx"):
        with pytest.raises(Invalid, match=name):
            score_file(project.workspace, version, tmp_path / name, tmp_path / "out.parquet")
    with pytest.raises(NotFound, match=r"rows\.parquet"):
        score_file(project.workspace, version, tmp_path / "row.parquet", tmp_path / "out.parquet")
