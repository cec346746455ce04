"""Row files: Parquet, CSV and Arrow, one or a folder, as batches of rows that fit a signature."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pv
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
from blake3 import blake3

from upturn.core.errors import Invalid, NotFound, did_you_mean
from upturn.core.schema import Signature
from upturn.deploy.columns import ARROW, check_columns, first_bad, misfit

BATCH_ROWS = 8192
_BATCH_BYTES = 4 * 1024 * 1024  # rows may be wide
_READ_BYTES = 4 * 1024 * 1024
_CSV_BLOCK_BYTES = 2 * 1024 * 1024  # no row may be larger
_PARQUET, _CSV, _ARROW = (".parquet", ".pq"), (".csv", ".tsv"), (".arrow", ".feather", ".arrows")
SUFFIXES = (*_PARQUET, *_CSV, *_ARROW)
_Batches = Callable[[int], Iterator[pa.RecordBatch]]


@dataclass(frozen=True, slots=True)
class RowFile:
    """Rows whose columns fit. `total` may be unknown; `batches(n)` leaves the first n rows out."""

    name: str
    schema: pa.Schema
    total: int | None
    size_bytes: int
    paths: tuple[Path, ...]
    batches: _Batches
    totals: tuple[int, ...] = ()  # of several files, where they are known

    def locate(self, row: int) -> tuple[str, int] | None:
        """The name of the file that the row is in and its number there, if there are several."""
        for path, total in zip(self.paths, self.totals, strict=False):
            if row < total:
                return path.name, row
            row -= total
        return None

    def digest(self) -> str:
        """The digest of the file's bytes; of several, that of their digests."""
        # Not by mapping it: what is mapped counts as memory of this process.
        digests = [file_digest(path) for path in self.paths]
        return digests[0] if len(digests) == 1 else blake3("\n".join(digests).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """The digest of a file's bytes, read piece by piece."""
    whole = blake3(max_threads=blake3.AUTO)
    with path.open("rb") as file:
        while piece := file.read(_READ_BYTES):
            whole.update(piece)
    return whole.hexdigest()


def open_rows(source: Path, signature: Signature, *, taken: tuple[str, ...] = ()) -> RowFile:
    """The rows of a file, or of all files of a folder or a pattern ('data/*.parquet').

    Files come in the order of their paths and need the same columns. Folders named `month=4` give
    their files a column. `taken` are names that no column may have. Raises NotFound, and Invalid
    when one can't be read or its columns do not fit the signature.
    """
    rows = _opened(source, signature)
    check_columns(rows.schema, signature, name=rows.name)
    for name in taken:
        if name in rows.schema.names:
            raise Invalid(
                f"{rows.name} has a column {name!r}, which the scores are written to.",
                hint="Rename it, or score the file that it was made from.",
            )
    return rows


def is_pattern(source: Path) -> bool:
    """Whether it stands for several files."""
    return any(sign in str(source) for sign in "*?[") and not source.exists()


def _opened(source: Path, signature: Signature) -> RowFile:
    if source.is_file():
        return _one(source, signature)
    if source.is_dir():
        found = [path for path in sorted(source.rglob("*")) if _is_member(path, source)]
        return _many(source, source, found, signature)
    if is_pattern(source):
        root = Path(source.anchor) if source.is_absolute() else Path()
        found = sorted(root.glob(str(source.relative_to(root))))
        return _many(source, None, [path for path in found if path.is_file()], signature)
    there = [one.name for one in source.parent.glob("*")] if source.parent.is_dir() else []
    raise NotFound(f"No file {str(source)!r}.", hint=_near(source.name, there))


def _is_member(path: Path, root: Path) -> bool:
    # As Spark and Hive have it: what begins with _ or . is no data.
    hidden = any(part[0] in "_." for part in path.relative_to(root).parts)
    return path.is_file() and path.suffix.lower() in SUFFIXES and not hidden


def _one(path: Path, signature: Signature) -> RowFile:
    kind = path.suffix.lower()
    if kind in _PARQUET:
        return _parquet(path)
    if kind in _CSV:
        return _csv(path, signature)
    if kind in _ARROW:
        return _arrow(path)
    raise Invalid(
        f"{path.name} is not of a kind that can be read.",
        hint=f"Rows are read from {', '.join(SUFFIXES)} files.",
    )


def _parquet(path: Path) -> RowFile:
    try:
        with pq.ParquetFile(path) as file:
            schema, metadata = file.schema_arrow, file.metadata
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from None
    sizes = [metadata.row_group(at).num_rows for at in range(metadata.num_row_groups)]
    widest = max(
        (metadata.row_group(at).total_byte_size // (rows or 1) for at, rows in enumerate(sizes)),
        default=0,
    )
    batch_rows = _fitting(widest)

    def batches(skip: int) -> Iterator[pa.RecordBatch]:
        try:
            # In pieces: else all of a row group is kept, and that may be the whole file.
            with pq.ParquetFile(path, buffer_size=1 << 16, pre_buffer=False) as file:
                for group, rows in enumerate(sizes):
                    if skip >= rows:
                        skip -= rows
                        continue
                    found = file.iter_batches(batch_rows, row_groups=[group])
                    yield from _without(found, skip)
                    skip = 0
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(path, error) from None

    return _row_file(path, schema, metadata.num_rows, batches)


def _csv(path: Path, signature: Signature) -> RowFile:
    parse = pv.ParseOptions(
        delimiter="\t" if path.suffix.lower() == ".tsv" else ",", newlines_in_values=True
    )
    read = pv.ReadOptions(block_size=_CSV_BLOCK_BYTES)
    nullable_texts = any(f.nullable for f in signature.inputs if f.type == "str")

    def opened(*, plain: bool = False) -> pv.CSVStreamingReader:
        types = {f.name: pa.string() if plain else ARROW[f.type] for f in signature.inputs}
        convert = pv.ConvertOptions(column_types=types, strings_can_be_null=plain or nullable_texts)
        return pv.open_csv(path, parse_options=parse, convert_options=convert, read_options=read)

    def batches(skip: int) -> Iterator[pa.RecordBatch]:
        try:
            with opened() as reader:
                yield from _without(reader, skip)
        except pa.ArrowException as error:
            _refuse_bad_cell(lambda: opened(plain=True), signature)
            raise _unreadable(path, error) from None

    try:
        with opened() as reader:
            schema = reader.schema
    except pa.ArrowException as error:
        _refuse_bad_cell(lambda: opened(plain=True), signature, name=f"{path.name}: ")
        raise _unreadable(path, error) from None
    return _row_file(path, schema, None, batches)


def _refuse_bad_cell(
    opened: Callable[[], pv.CSVStreamingReader], signature: Signature, *, name: str = ""
) -> None:
    """Raise Invalid that names the first cell that is no value of its field, if there is one."""
    try:
        with opened() as reader:
            first_row = 0
            for batch in reader:
                for field in signature.inputs:
                    column = batch.column(field.name) if field.name in batch.schema.names else None
                    at = None if column is None else first_bad(column, ARROW[field.type])
                    if column is not None and at is not None:
                        raise misfit(field, column[at].as_py(), first_row + at, name)
                first_row += batch.num_rows
    except (pa.ArrowException, KeyError):
        return  # it is not a cell that is wrong


def _arrow(path: Path) -> RowFile:
    try:
        with path.open("rb") as file:
            is_file = file.read(6) == b"ARROW1"
        with _mapped(path) if is_file else _streamed(path) as reader:
            schema = reader.schema
            total = None
            if isinstance(reader, ipc.RecordBatchFileReader):
                counts = range(reader.num_record_batches)
                total = sum(reader.get_batch(at).num_rows for at in counts)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from None

    def batches(skip: int) -> Iterator[pa.RecordBatch]:
        try:
            with _mapped(path) if is_file else _streamed(path) as reader:
                yield from _without(_all_of(reader), skip)
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(path, error) from None

    return _row_file(path, schema, total, batches)


def _mapped(path: Path) -> ipc.RecordBatchFileReader:
    # A batch may be larger than memory; what is mapped, the system can take back at any time.
    return ipc.open_file(pa.memory_map(str(path)))


def _streamed(path: Path) -> ipc.RecordBatchStreamReader:
    return ipc.open_stream(pa.OSFile(str(path), "rb"))


def _all_of(
    reader: ipc.RecordBatchFileReader | ipc.RecordBatchStreamReader,
) -> Iterator[pa.RecordBatch]:
    if isinstance(reader, ipc.RecordBatchFileReader):
        yield from map(reader.get_batch, range(reader.num_record_batches))
    else:
        yield from reader


def _many(source: Path, root: Path | None, paths: list[Path], signature: Signature) -> RowFile:
    if not paths:
        raise NotFound(
            f"No file of rows in {str(source)!r}.", hint=f"They end in {', '.join(SUFFIXES)}."
        )
    files = [_partitioned(_one(path, signature), root, signature) for path in paths]
    schema = files[0].schema
    for file in files:
        if not file.schema.equals(schema):
            raise Invalid(
                f"{file.name} has other columns than {files[0].name}.",
                hint="Files that are scored together need the same columns and types.",
            )
    totals = [file.total for file in files]
    known = [total for total in totals if total is not None]
    total = sum(known) if len(known) == len(files) else None

    def batches(skip: int) -> Iterator[pa.RecordBatch]:
        if total is None:
            yield from _without((batch for file in files for batch in file.batches(0)), skip)
            return
        for file, rows in zip(files, known, strict=True):
            if skip < rows:
                yield from file.batches(skip)
            skip = max(0, skip - rows)

    size = sum(file.size_bytes for file in files)
    each = tuple(known) if total is not None and len(files) > 1 else ()
    return RowFile(str(source), schema, total, size, tuple(paths), batches, each)


def _partitioned(rows: RowFile, root: Path | None, signature: Signature) -> RowFile:
    """With a column for each folder between the root and the file that is named `key=value`."""
    if root is None:
        return rows
    parts = [part.partition("=") for part in rows.paths[0].relative_to(root).parts[:-1]]
    pairs = {key: value for key, equals, value in parts if equals}
    values = {k: v for k, v in pairs.items() if k not in rows.schema.names}
    if not values:
        return rows
    types = {field.name: ARROW[field.type] for field in signature.inputs}
    scalars: dict[str, Any] = {
        key: pa.scalar(value, pa.string()).cast(types.get(key, pa.string()))
        for key, value in values.items()
    }
    schema = rows.schema
    for key, scalar in scalars.items():
        schema = schema.append(pa.field(key, scalar.type))

    added = list(scalars.values())

    def batches(skip: int) -> Iterator[pa.RecordBatch]:
        for batch in rows.batches(skip):
            more = [pa.repeat(scalar, batch.num_rows) for scalar in added]
            yield pa.RecordBatch.from_arrays([*batch.columns, *more], schema=schema)

    return RowFile(rows.name, schema, rows.total, rows.size_bytes, rows.paths, batches)


def _row_file(path: Path, schema: pa.Schema, total: int | None, batches: _Batches) -> RowFile:
    return RowFile(path.name, schema, total, path.stat().st_size, (path,), batches)


def _without(batches: Iterator[pa.RecordBatch], skip: int) -> Iterator[pa.RecordBatch]:
    """The batches without the first rows, cut so that none is large."""
    for batch in batches:
        if skip >= batch.num_rows:
            skip -= batch.num_rows
            continue
        step = _fitting(batch.nbytes // batch.num_rows)
        for at in range(skip, batch.num_rows, step):
            yield batch.slice(at, step)
        skip = 0


def _fitting(row_bytes: int) -> int:
    return max(1, min(BATCH_ROWS, _BATCH_BYTES // (row_bytes or 1)))


def _unreadable(path: Path, error: Exception) -> Invalid:
    text = str(error).splitlines()[0].rstrip(".")
    return Invalid(f"{path.name} can't be read: {text}.")


def _near(name: str, there: list[str]) -> str:
    hint = did_you_mean(name, there)
    return hint if hint.startswith("Did") else ""
