"""Row groups that were written apart are one Parquet file, for every reader."""

import io
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from upturn.deploy.outputs import ParquetOutput

ROWS = pa.table(
    {
        "number": pa.array([1, None, 3, 4, 5], pa.int32()),
        "float": [0.5, float("nan"), None, -1.0, 2.0],
        "text": ["a", None, "", "ü", "a"],
        "flag": [True, None, False, True, True],
        "list": [[1, 2], None, [], [3], [None]],
        "record": [{"a": 1, "b": "x"}, None, {"a": None, "b": "y"}, {"a": 2, "b": None}, None],
        "at": [datetime(2025, 1, day, tzinfo=UTC) for day in range(1, 6)],
        "money": [Decimal("1.50"), None, Decimal("2.25"), Decimal("3.00"), Decimal("4.75")],
        "category": pa.array(["x", "y", "x", None, "y"]).dictionary_encode(),
    }
).replace_schema_metadata({"kept": "as it is"})


def joined(parts: list[pa.Table]) -> bytes:
    output = ParquetOutput()
    schema = parts[0].schema
    file = bytearray(output.head(schema))
    notes: list[bytes] = []
    for part in parts:
        encoded = output.encode(part)
        notes.append(output.placed(encoded.note, len(file)))
        file += encoded.body
    return bytes(file + output.tail(schema, notes, sum(part.num_rows for part in parts)))


def test_every_reader_reads_the_parts_as_one_file(tmp_path: Path) -> None:
    parts = [ROWS.slice(at, size) for at, size in ((0, 2), (2, 1), (3, 2))] * 7
    file = joined(parts)
    found = pq.read_table(io.BytesIO(file))
    whole = pa.concat_tables(parts)
    assert str(found.to_pylist()) == str(whole.to_pylist())  # as text: nan is not itself
    assert found.schema.types == ROWS.schema.types
    assert found.schema.metadata[b"kept"] == b"as it is"
    path = tmp_path / "joined.parquet"
    path.write_bytes(file)
    assert pl.scan_parquet(path).filter(pl.col("number") == 5).collect().height == 7
    counted = duckdb.sql(f"select count(*), sum(number) from '{path}'").fetchall()
    assert counted == [(35, 13 * 7)]


def test_row_groups_can_be_read_one_by_one_and_skipped_by_their_statistics() -> None:
    file = pq.ParquetFile(io.BytesIO(joined([ROWS, ROWS.slice(0, 1), ROWS.slice(4, 1)])))
    assert [file.metadata.row_group(at).num_rows for at in range(3)] == [5, 1, 1]
    assert file.read_row_group(2)["number"].to_pylist() == [5]
    assert file.metadata.row_group(1).column(0).statistics.max == 1


def test_a_file_without_rows_and_one_of_many_groups() -> None:
    output = ParquetOutput()
    empty = output.head(ROWS.schema) + output.tail(ROWS.schema, [], 0)
    assert pq.read_table(io.BytesIO(empty)).num_rows == 0
    many = pq.ParquetFile(io.BytesIO(joined([ROWS.slice(0, 1)] * 300)))
    assert (many.metadata.num_row_groups, many.metadata.num_rows) == (300, 300)
