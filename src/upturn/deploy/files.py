"""Row files: Parquet and CSV as record batches whose columns fit a signature."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pv
import pyarrow.parquet as pq

from upturn.core.errors import Invalid, NotFound, did_you_mean
from upturn.core.schema import Signature
from upturn.deploy.columns import ARROW, check_columns

_BATCH_ROWS = 8192
_PARQUET, _CSV = (".parquet", ".pq"), (".csv", ".tsv")


@dataclass(frozen=True, slots=True)
class RowFile:
    """A file whose columns fit. `batches()` reads it from the start; `total` may be unknown."""

    name: str
    total: int | None
    batches: Callable[[], Iterator[pa.RecordBatch]]


def open_rows(path: Path, signature: Signature, *, taken: tuple[str, ...] = ()) -> RowFile:
    """The file's rows. `taken` are names that no column may have.

    Raises NotFound, and Invalid when it can't be read or its columns do not fit the signature.
    """
    if not path.is_file():
        there = [one.name for one in path.parent.glob("*")] if path.parent.is_dir() else []
        raise NotFound(f"No file {str(path)!r}.", hint=_near(path.name, there))
    kind = path.suffix.lower()
    if kind in _PARQUET:
        return _parquet(path, signature, taken)
    if kind in _CSV:
        return _csv(path, signature, taken)
    raise Invalid(
        f"{path.name} is not of a kind that can be read.",
        hint=f"Rows are read from {', '.join((*_PARQUET, *_CSV))} files.",
    )


def _parquet(path: Path, signature: Signature, taken: tuple[str, ...]) -> RowFile:
    try:
        with pq.ParquetFile(path) as file:
            schema, total = file.schema_arrow, file.metadata.num_rows
    except (pa.ArrowInvalid, OSError) as error:
        raise _unreadable(path, error) from None
    _check(path, schema, signature, taken)

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            with pq.ParquetFile(path) as file:
                yield from file.iter_batches(_BATCH_ROWS)
        except (pa.ArrowInvalid, OSError) as error:
            raise _unreadable(path, error) from None

    return RowFile(path.name, total, batches)


def _csv(path: Path, signature: Signature, taken: tuple[str, ...]) -> RowFile:
    parse = pv.ParseOptions(delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
    convert = pv.ConvertOptions(
        column_types={field.name: ARROW[field.type] for field in signature.inputs},
        strings_can_be_null=any(f.nullable for f in signature.inputs if f.type == "str"),
    )

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            with pv.open_csv(path, parse_options=parse, convert_options=convert) as reader:
                _check(path, reader.schema, signature, taken)
                yield from reader
        except pa.ArrowInvalid as error:
            raise _unreadable(path, error) from None

    for _ in batches():  # the first block: what is wrong with the columns shows before any work
        break
    return RowFile(path.name, None, batches)


def _check(path: Path, schema: pa.Schema, signature: Signature, taken: tuple[str, ...]) -> None:
    check_columns(schema, signature, name=path.name)
    for name in taken:
        if name in schema.names:
            raise Invalid(
                f"{path.name} has a column {name!r}, which the scores are written to.",
                hint="Rename it, or score the file that it was made from.",
            )


def _unreadable(path: Path, error: Exception) -> Invalid:
    text = str(error).splitlines()[0].rstrip(".")
    return Invalid(f"{path.name} can't be read: {text}.")


def _near(name: str, there: list[str]) -> str:
    hint = did_you_mean(name, there)
    return hint if hint.startswith("Did") else ""
