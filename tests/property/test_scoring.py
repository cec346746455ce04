"""Scoring a file: however it is cut and wherever it is interrupted, the output is the same."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pv
import pyarrow.feather as feather
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upturn.core.records import Version
from upturn.core.settings import load_settings
from upturn.core.time import utcnow
from upturn.deploy.batch import score_file
from upturn.model.registry import register_version
from upturn.stores.workspace import Workspace, open_workspace

Store = tuple[Workspace, Version]
SUFFIXES = (".parquet", ".csv", ".tsv", ".arrow", ".feather", ".arrows")


def total(frame: Any) -> Any:
    """A model: half of one column and the other."""
    return np.asarray(frame["a"], float) / 2 + np.asarray(frame["b"], float)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    home = tmp_path_factory.mktemp("store")
    workspace = open_workspace(load_settings(home, {"UPTURN_HOME": str(home / ".upturn")}))
    data = {"a": [1, 2, 3], "b": [0.5, 1.5, 2.5], "y": [1.0, 2.0, 3.0]}
    yield (
        workspace,
        register_version(workspace, "total", total, data=data, target="y", now=utcnow()),
    )
    workspace.close()


def rows(count: int) -> pa.Table:
    numbers = range(count)
    return pa.table(
        {
            "a": pa.array(numbers, pa.int64()),
            "note": [f'{n}, "{n % 3}"\nü' if n % 7 else "" for n in numbers],
            "b": [n / 4 for n in numbers],
        }
    )


def write(table: pa.Table, path: Path, group: int = 100) -> None:
    match path.suffix:
        case ".parquet":
            pq.write_table(table, path, row_group_size=group)
        case ".csv":
            pv.write_csv(table, path)
        case ".tsv":
            pv.write_csv(table, path, pv.WriteOptions(delimiter="\t"))
        case ".arrows":
            with ipc.new_stream(path, table.schema) as writer:
                writer.write_table(table, max_chunksize=group)
        case _:
            feather.write_feather(table, path, chunksize=group)


def read(path: Path) -> pa.Table:
    match path.suffix:
        case ".parquet":
            return pq.read_table(path)
        case ".csv" | ".tsv":
            parse = pv.ParseOptions(
                delimiter="\t" if path.suffix == ".tsv" else ",", newlines_in_values=True
            )
            return pv.read_csv(path, parse_options=parse)
        case ".arrows":
            return ipc.open_stream(path).read_all()
        case _:
            return feather.read_table(path)


class Killed(BaseException):
    """What an interruption at that place looks like to the code."""


@settings(max_examples=40, deadline=None)
@given(
    suffixes=st.tuples(st.sampled_from(SUFFIXES), st.sampled_from(SUFFIXES)),
    count=st.integers(1, 400),
    part_rows=st.integers(1, 200),
    group=st.integers(1, 150),
    kills=st.lists(st.integers(1, 400), max_size=3),
    torn=st.booleans(),
)
def test_any_cut_and_any_kill_give_the_same_file(
    store: Store,
    suffixes: tuple[str, str],
    count: int,
    part_rows: int,
    group: int,
    kills: list[int],
    torn: bool,
) -> None:
    workspace, version = store
    table = rows(count)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, f"rows{suffixes[0]}")
        output = Path(folder, f"out{suffixes[1]}")
        write(table, source, group)
        for kill in kills:

            def stop(done: int, _: int | None, kill: int = kill) -> None:
                if done >= kill:
                    raise Killed

            try:
                score_file(
                    workspace, version, source, output, part_rows=part_rows, progress=stop, cores=1
                )
            except Killed:
                if torn:  # as a crash of the machine leaves it
                    tear(output.with_name(f"{output.name}.partial"))
        scored = score_file(workspace, version, source, output, part_rows=part_rows, cores=1)
        again = Path(folder, f"again{suffixes[1]}")
        at_once = score_file(workspace, version, source, again, part_rows=part_rows, cores=1)
        assert scored.rows == count
        assert scored.digest == at_once.digest
        assert output.read_bytes() == again.read_bytes()
        found = read(output)
        assert found.column_names == [*table.column_names, "prediction", "version"]
        assert found["a"].to_pylist() == table["a"].to_pylist()
        assert found["b"].cast(pa.float64()).to_pylist() == table["b"].to_pylist()
        assert [text or "" for text in found["note"].to_pylist()] == table["note"].to_pylist()
        expected = [n / 2 + n / 4 for n in range(count)]
        assert found["prediction"].cast(pa.float64()).to_pylist() == expected
        assert set(found["version"].to_pylist()) == {"total:1"}
        assert {path.name for path in Path(folder).iterdir()} == {
            source.name,
            output.name,
            again.name,
        }


def tear(partial: Path) -> None:
    """The last bytes of what was written did not reach the disk, or are garbage."""
    body, marks = partial / "body", partial / "marks"
    if body.exists():
        data = body.read_bytes()
        body.write_bytes(data[:-2] + b"\0")
    if marks.exists():
        marks.write_bytes(marks.read_bytes() + b'{"rows": 12')
