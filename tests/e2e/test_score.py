"""`upturn score`: files in, Parquet out, and nothing lost when it is interrupted."""

import signal
import subprocess
import sys
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


def test_a_bad_cell_of_a_csv_file_is_named_by_its_row(project: Project, tmp_path: Path) -> None:
    version = project.register("delays", fitted())
    lines = [f"{n}.5,{n},true,AA" for n in range(1, 400)]
    lines[300] = "1.5,three,true,AA"
    source = tmp_path / "rows.csv"
    source.write_text("\n".join(["delay,distance,night,carrier", *lines]))
    with pytest.raises(Invalid, match="'distance' is 'three' in row 300; expected a whole number"):
        score_file(project.workspace, version, source, tmp_path / "out.parquet")


def test_a_folder_is_scored_in_the_order_of_its_files(
    project: Project, table: pa.Table, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    months = {"2025-02": table.slice(400), "2025-01": table.slice(0, 400)}
    for month, rows in months.items():
        (data / f"month={month}").mkdir(parents=True)
        pq.write_table(rows, data / f"month={month}" / "part.parquet", row_group_size=150)
    (data / "_SUCCESS").write_text("")
    done = project.command("score", "delays:1", str(data), "-o", str(tmp_path / "folder.parquet"))
    assert done.returncode == 0, done.stderr
    scored = pq.read_table(tmp_path / "folder.parquet")
    assert scored.select(table.column_names).to_pylist() == table.to_pylist()
    assert scored["month"].to_pylist() == ["2025-01"] * 400 + ["2025-02"] * (ROWS - 400)
    done = project.command("score", "delays:1", str(data / "*" / "*.parquet"))
    assert done.returncode == 2
    assert "-o" in done.stderr
    pattern = Path(data, "*", "*.parquet")
    version = project.register("delays", fitted())

    def stop(done: int, _: int | None) -> None:
        if done == 600:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score_file(
            project.workspace,
            version,
            pattern,
            tmp_path / "out.csv",
            part_rows=300,
            progress=stop,
        )
    again = score_file(project.workspace, version, pattern, tmp_path / "out.csv", part_rows=300)
    assert (again.rows, again.resumed_rows) == (ROWS, 600)
    assert pv.read_csv(tmp_path / "out.csv").select(table.column_names).to_pylist() == (
        table.to_pylist()
    )


def test_files_of_a_folder_need_the_same_columns_and_a_row_is_named_by_its_file(
    project: Project, table: pa.Table, tmp_path: Path
) -> None:
    version = project.register("delays", fitted())
    folder, output = tmp_path / "data", tmp_path / "out.parquet"
    folder.mkdir()
    pq.write_table(table, folder / "a.parquet")
    bad = table.slice(0, 9).to_pandas()
    bad["distance"] = bad["distance"].astype(float)
    bad.loc[7, "distance"] = 1.5
    pq.write_table(pa.Table.from_pandas(bad, preserve_index=False), folder / "b.parquet")
    with pytest.raises(Invalid, match=r"b.parquet has other columns than a.parquet"):
        score_file(project.workspace, version, folder, output)
    floats = table.to_pandas().assign(distance=table["distance"].to_pandas().astype(float))
    pq.write_table(pa.Table.from_pandas(floats, preserve_index=False), folder / "a.parquet")
    with pytest.raises(Invalid, match=r"1\.5 in row 1007.* That is row 7 of b\.parquet\."):
        score_file(project.workspace, version, folder, output)
    with pytest.raises(NotFound, match="No file of rows"):
        score_file(project.workspace, version, tmp_path / "*.csv", output)


def test_a_kind_of_output_that_can_not_hold_the_rows_is_refused_before_any_work(
    project: Project, table: pa.Table, tmp_path: Path
) -> None:
    version = project.register("delays", fitted())
    source = tmp_path / "rows.parquet"
    pq.write_table(table.append_column("list", pa.array([[1]] * ROWS)), source)
    with pytest.raises(Invalid, match="CSV can't hold"):
        score_file(project.workspace, version, source, tmp_path / "out.csv")
    with pytest.raises(Invalid, match="can be written"):
        score_file(project.workspace, version, source, tmp_path / "out.xlsx")
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


def test_categories_and_nulls_come_through_every_kind_of_output(
    project: Project, table: pa.Table, tmp_path: Path
) -> None:
    version = project.register("delays", fitted())
    kinds = pa.array(["a", None, "b", "a"] * (ROWS // 4)).dictionary_encode()
    table = table.append_column("kind", kinds)
    source = tmp_path / "rows.parquet"
    pq.write_table(table, source, row_group_size=300)
    for suffix in ("parquet", "arrow", "arrows", "csv"):
        output = tmp_path / f"out.{suffix}"
        score_file(project.workspace, version, source, output, part_rows=170)
        assert read(output)["kind"].to_pylist() == kinds.to_pylist()
    assert pa.types.is_dictionary(pq.read_schema(tmp_path / "out.parquet").field("kind").type)


def read(path: Path) -> pa.Table:
    match path.suffix:
        case ".parquet":
            return pq.read_table(path)
        case ".csv":
            return pv.read_csv(path, convert_options=pv.ConvertOptions(strings_can_be_null=True))
        case ".arrow":
            return pa.ipc.open_file(path).read_all()
        case _:
            return pa.ipc.open_stream(path).read_all()


MEASURE = """
import sys
from pathlib import Path
from upturn.deploy.batch import score_file
from upturn.model.registry import get_version
from upturn.stores.workspace import open_workspace

workspace = open_workspace()
version = get_version(workspace, "delays:1")
score_file(workspace, version, Path(sys.argv[1]), Path(sys.argv[2]), cores=1, part_rows=4000)
# Not ru_maxrss: that begins with the memory of the process that forked this one.
lines = Path("/proc/self/status").read_text().splitlines()
print(next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")
def test_memory_does_not_grow_with_the_file(
    project: Project, table: pa.Table, tmp_path: Path
) -> None:
    """One row group, and texts that differ: more bytes than what one process may need for them."""

    def peak(rows: int) -> int:
        source = tmp_path / f"{rows}.parquet"
        with pq.ParquetWriter(source, table.schema.append(pa.field("text", pa.string()))) as writer:
            noise = np.random.default_rng(0)
            texts = pa.array([noise.bytes(400).hex() for _ in range(rows)])
            repeated = pa.concat_tables([table] * (rows // ROWS)).combine_chunks()
            writer.write_table(repeated.append_column("text", texts), row_group_size=rows)
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, str(source), str(tmp_path / f"{rows}.out.parquet")],
            cwd=project.root,
            env=project.environ,
            capture_output=True,
            text=True,
            check=True,
        )
        assert pq.read_metadata(tmp_path / f"{rows}.out.parquet").num_rows == rows
        return int(done.stdout)

    small, large = peak(50_000), peak(300_000)  # 40 MB and 240 MB of text
    assert large - small < 60_000_000
