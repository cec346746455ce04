"""Source: a table of any kind, read a column at a time and a part at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pt

from upturn.core.errors import Invalid, NotFound, did_you_mean
from upturn.model.tables import field_type, to_arrow

PART = 1 << 20  # rows of a column that are read at once, at most
_PATTERN = set("*?[")


class Source(Protocol):
    """Columns by name. `parts` may be called from several threads, and as often as one likes."""

    rows: int
    types: dict[str, Any]  # of Arrow, in the order of the columns

    def parts(self, name: str) -> Iterator[Any]:
        """The column's arrays, in the order of the rows; the same at each call."""
        ...


class TableSource:
    """An Arrow table."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        self.rows = table.num_rows
        self.types = dict(zip(table.column_names, table.schema.types, strict=True))

    def parts(self, name: str) -> Iterator[Any]:
        """The column's arrays."""
        for chunk in self._table[name].chunks:
            for begin in range(0, len(chunk), PART):
                yield chunk.slice(begin, PART)


class ParquetSource:
    """Parquet files with the same columns, of which a part of one column is read at a time.

    Nothing is read ahead: what is read ahead of 50 columns at once costs gigabytes.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = list(paths)
        self._opened = threading.local()
        self._metadata = [_metadata(path) for path in paths]
        schemas = [one.schema.to_arrow_schema() for one in self._metadata]
        self.rows = sum(one.num_rows for one in self._metadata)
        self.types = _common(schemas, self._paths)
        self._texts = [
            name for name, kind in self.types.items() if field_type(kind) == "str"
        ]  # read as codes: their text is then decoded once a distinct value

    def parts(self, name: str) -> Iterator[Any]:
        """The column's arrays."""
        for place in range(len(self._paths)):
            yield from self._parts_of(place, name)

    def _parts_of(self, place: int, name: str) -> Iterator[Any]:
        path, file = self._paths[place], self._file(place)
        try:
            for group in range(file.num_row_groups):
                if file.metadata.row_group(group).num_rows <= 2 * PART:
                    read = file.read_row_group(group, columns=[name], use_threads=False)
                    yield from read.column(name).chunks
                    continue
                for batch in file.iter_batches(
                    PART, row_groups=[group], columns=[name], use_threads=False
                ):
                    yield batch.column(name)
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(path, error) from None

    def _file(self, place: int) -> pq.ParquetFile:
        """The file, opened once a thread: reading moves its position."""
        files: dict[Any, pq.ParquetFile] = self._opened.__dict__
        if place not in files:
            try:
                files[place] = pq.ParquetFile(
                    self._paths[place],
                    metadata=self._metadata[place],
                    read_dictionary=self._texts,
                    pre_buffer=False,
                )
            except (pa.ArrowException, OSError) as error:
                raise _unreadable(self._paths[place], error) from None
        return files[place]


def open_source(data: Any) -> Source:
    """A table, or a path: a Parquet or CSV file, a folder of Parquet files, or a pattern.

    Tables are pandas, polars or Arrow ones, DuckDB relations, dicts of columns and 2-d numpy
    arrays. Raises NotFound for a path where nothing is, Invalid for what is no table.

    >>> list(open_source({"x": [1, 2]}).types)
    ['x']
    """
    if isinstance(data, str | Path):
        return _open_path(str(data))
    if type(data).__name__ == "DuckDBPyRelation":
        data = data.to_arrow_table()
    return TableSource(to_arrow(data, dictionaries=True))


def check_column(source: Source, name: str, *, what: str = "") -> None:
    """Raise NotFound, with the nearest name, if the source has no such column."""
    if name not in source.types:
        says = f", which is {what}" if what else ""
        raise NotFound(
            f"The table has no column {name!r}{says}.", hint=did_you_mean(name, source.types)
        )


def _open_path(text: str) -> Source:
    paths = _files(text)
    if any(path.suffix in (".csv", ".tsv") for path in paths):
        return TableSource(pa.concat_tables([_csv(path) for path in paths]))
    return ParquetSource(paths)


def _files(text: str) -> list[Path]:
    path = Path(text)
    if path.is_dir():
        found = sorted(path.rglob("*.parquet"))
    elif path.is_file():
        found = [path]
    elif _PATTERN & set(text):
        folder = Path(path.anchor or ".")
        found = sorted(folder.glob(text[len(path.anchor) :]))
    else:
        near = [one.name for one in path.parent.iterdir()] if path.parent.is_dir() else []
        raise NotFound(f"No file {text!r}.", hint=did_you_mean(path.name, near))
    if not found:
        raise NotFound(f"{text!r} has no files.", hint="Give a Parquet file, or a folder of such.")
    return found


def _csv(path: Path) -> pa.Table:
    from pyarrow import csv

    options = csv.ParseOptions(delimiter="\t" if path.suffix == ".tsv" else ",")
    try:
        return csv.read_csv(path, parse_options=options)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from None


def _metadata(path: Path) -> Any:
    try:
        return pq.read_metadata(path)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> Invalid:
    said = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
    return Invalid(f"{path} can't be read: {said}.", hint="It is to be Parquet or CSV.")


def _common(schemas: Sequence[Any], paths: Sequence[Path]) -> dict[str, Any]:
    """The columns of all files; a type that is null in one is that of another."""
    found = dict(zip(schemas[0].names, schemas[0].types, strict=True))
    if len(found) != len(schemas[0].names):
        raise Invalid(f"{paths[0]} has more than one column of the same name.")
    for schema, path in zip(schemas[1:], paths[1:], strict=True):
        if set(schema.names) != set(found):
            odd = min(set(schema.names) ^ set(found))
            raise Invalid(
                f"{paths[0].name} and {path.name} have different columns: {odd!r}.",
                hint="Give files with the same columns.",
            )
        found |= {name: schema.field(name).type for name, kind in found.items() if pt.is_null(kind)}
    return found
