"""Outputs: scored rows as Parquet, CSV or Arrow, encoded part by part and laid one after the other.

A file is a head, the bytes of its parts, and a tail; parts can be encoded in any process.
"""

import io
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import msgspec
import pyarrow as pa
import pyarrow.csv as pv
import pyarrow.ipc as ipc
import pyarrow.parquet as pq

from upturn.core.errors import Invalid
from upturn.deploy import row_groups
from upturn.model.tables import without_dictionaries

_END_OF_STREAM = 8  # bytes that end an Arrow stream
SUFFIXES = (".parquet", ".pq", ".csv", ".tsv", ".arrow", ".feather", ".arrows")


class Encoded(msgspec.Struct, frozen=True):
    """The bytes of a part, and what the tail will need of it."""

    body: bytes | memoryview
    note: bytes = b""


class Output(Protocol):
    """A kind of file. Its methods are pure."""

    def head(self, schema: pa.Schema) -> bytes:
        """What comes before the parts. Raises Invalid for a column that it can't hold."""
        ...

    def encode(self, table: pa.Table) -> Encoded:
        """A part."""
        ...

    def placed(self, note: bytes, offset: int) -> bytes:
        """The note of a part whose bytes begin at the offset."""
        ...

    def tail(self, schema: pa.Schema, notes: Sequence[bytes], rows: int) -> bytes:
        """What comes after the parts, by their placed notes."""
        ...

    def finished(self, path: Path) -> Path:
        """The path of the file when all is written: the same one, or one that was made of it."""
        ...


def output_for(path: Path) -> Output:
    """The kind of file that the path's suffix says. Raises Invalid for one that can't be written.

    >>> type(output_for(Path("april.parquet"))).__name__
    'ParquetOutput'
    """
    match path.suffix.lower():
        case ".parquet" | ".pq":
            return ParquetOutput()
        case ".csv":
            return CsvOutput(",")
        case ".tsv":
            return CsvOutput("\t")
        case ".arrow" | ".feather":
            return ArrowOutput(as_file=True)
        case ".arrows":
            return ArrowOutput(as_file=False)
        case _:
            raise Invalid(
                f"{path.name} is not of a kind that can be written.",
                hint=f"Scores are written to {', '.join(SUFFIXES)} files.",
            )


class ParquetOutput:
    """Each part is a row group."""

    def head(self, schema: pa.Schema) -> bytes:
        """See Output."""
        _with_dictionary(schema)
        return row_groups.MAGIC

    def encode(self, table: pa.Table) -> Encoded:
        """See Output."""
        return Encoded(*row_groups.split(_parquet(table, _with_dictionary(table.schema))))

    def placed(self, note: bytes, offset: int) -> bytes:
        """See Output."""
        return b"".join(row_groups.groups_at(note, offset))

    def tail(self, schema: pa.Schema, notes: Sequence[bytes], rows: int) -> bytes:
        """See Output."""
        _, footer = row_groups.split(_parquet(schema.empty_table(), _with_dictionary(schema)))
        return row_groups.footer_of(footer, notes, rows)

    def finished(self, path: Path) -> Path:
        """See Output."""
        return path


def _parquet(table: pa.Table, dictionaries: Any) -> bytes:
    sink = io.BytesIO()
    rows = max(1, table.num_rows)
    with pq.ParquetWriter(
        sink, table.schema, compression="zstd", use_dictionary=dictionaries
    ) as writer:
        if table.num_rows:
            writer.write_table(table, row_group_size=rows)
    return sink.getvalue()


@cache
def _with_dictionary(schema: pa.Schema) -> tuple[str, ...]:
    """The columns that get a dictionary: all but floats, which seldom repeat and cost most."""
    try:
        empty = _parquet(schema.empty_table(), dictionaries=False)
    except pa.ArrowException as error:
        raise _unfit(error, "Parquet") from None
    found = pq.ParquetFile(pa.BufferReader(empty)).schema
    columns = [found.column(at) for at in range(len(found))]
    return tuple(one.path for one in columns if one.physical_type not in ("FLOAT", "DOUBLE"))


class CsvOutput:
    """Comma- or tab-separated; a text is in quotes, a missing value is not."""

    def __init__(self, delimiter: str) -> None:
        self._delimiter = delimiter

    def head(self, schema: pa.Schema) -> bytes:
        """See Output."""
        try:
            return self._written(schema.empty_table(), header=True)
        except pa.ArrowException as error:
            raise _unfit(error, "CSV") from None

    def encode(self, table: pa.Table) -> Encoded:
        """See Output."""
        return Encoded(self._written(table, header=False))

    def placed(self, note: bytes, offset: int) -> bytes:
        """See Output."""
        return note

    def tail(self, schema: pa.Schema, notes: Sequence[bytes], rows: int) -> bytes:
        """See Output."""
        return b""

    def finished(self, path: Path) -> Path:
        """See Output."""
        return path

    def _written(self, table: pa.Table, *, header: bool) -> bytes:
        sink = io.BytesIO()
        options = pv.WriteOptions(include_header=header, delimiter=self._delimiter)
        pv.write_csv(without_dictionaries(table), sink, options)
        return sink.getvalue()


class ArrowOutput:
    """Arrow's IPC format, as a stream or as a file, which can be mapped. Categories are text."""

    def __init__(self, *, as_file: bool) -> None:
        self._as_file = as_file

    def head(self, schema: pa.Schema) -> bytes:
        """See Output."""
        table = without_dictionaries(schema.empty_table())
        if self._as_file and "dictionary<" in str(table.schema.types):
            raise Invalid(
                "An Arrow file can't hold categories within lists or structs.",
                hint="Write a stream (.arrows) or a .parquet file.",
            )
        return _stream(table)[:-_END_OF_STREAM]

    def encode(self, table: pa.Table) -> Encoded:
        """See Output."""
        table = without_dictionaries(table)
        head = len(_stream(table.schema.empty_table())) - _END_OF_STREAM
        return Encoded(memoryview(_stream(table))[head:-_END_OF_STREAM])

    def placed(self, note: bytes, offset: int) -> bytes:
        """See Output."""
        return note

    def tail(self, schema: pa.Schema, notes: Sequence[bytes], rows: int) -> bytes:
        """See Output."""
        return b"\xff\xff\xff\xff\0\0\0\0"

    def finished(self, path: Path) -> Path:
        """See Output. The batches are copied as they are into a file, whose end lists them."""
        if not self._as_file:
            return path
        whole = path.with_name("whole")
        with (
            ipc.open_stream(pa.OSFile(str(path), "rb")) as batches,
            pa.OSFile(str(whole), "wb") as sink,
            ipc.new_file(sink, batches.schema) as writer,
        ):
            for batch in batches:
                writer.write_batch(batch)
        return whole


def _stream(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with ipc.new_stream(sink, table.schema) as writer:
        # One batch: many small ones would be slow to read.
        writer.write_table(table.combine_chunks())
    return sink.getvalue()


def _unfit(error: Exception, kind: str) -> Invalid:
    text = str(error).splitlines()[0].rstrip(".")
    return Invalid(
        f"The rows have a column that {kind} can't hold: {text}.",
        hint="Say another kind of file with -o, as out.parquet or out.arrow.",
    )


def prediction_type(output: str, classes: Sequence[Any]) -> pa.DataType:
    """The type of the column of predictions: numbers, labels as what the classes are, else text."""
    if output in ("probability", "number"):
        return pa.float64()
    if output == "label":
        kinds = {type(value) for value in classes}
        for kind, arrow in ((bool, pa.bool_()), (int, pa.int64())):
            if kinds == {kind}:
                return arrow
    return pa.string()
