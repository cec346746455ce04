"""ArrowCodec: tables of pandas, polars and pyarrow as an Arrow stream, mapped when read."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from upturn.core.codec import Encoded
from upturn.core.errors import Invalid

if TYPE_CHECKING:
    import pyarrow as pa

_COLUMN = "value"  # what the only column of a Series is called in the stream


class ArrowCodec:
    """DataFrames and Series of pandas and polars, and Tables of pyarrow, back as they were.

    Polars and pyarrow give views of the mapping; pandas, whose frames people change in place, gives
    a copy. Frames that Arrow would not give back the same (columns of Python objects, a MultiIndex,
    an index with a frequency) are left to pickle.
    """

    name = "arrow"

    def accepts(self, value: object) -> bool:
        """Whether it is such a table."""
        kind = type(value)
        match (kind.__module__.partition(".")[0], kind.__name__):
            case ("pyarrow", "Table") | ("polars", "LazyFrame"):
                return True
            case ("polars", "DataFrame" | "Series"):
                return _try(_polars_is_kept, value)
            case ("pandas", "DataFrame" | "Series"):
                return _try(_pandas_is_kept, value)
            case _:
                return False

    def encode(self, value: Any) -> Encoded:
        """One buffer: an Arrow stream of one batch, so that equal tables give equal bytes."""
        import pyarrow as pa

        kind = type(value).__name__
        library = type(value).__module__.partition(".")[0]
        if kind == "LazyFrame":
            raise Invalid(
                "A polars.LazyFrame is a plan, not a value, and can't be stored.",
                hint="Return plan.collect() instead.",
            )
        meta: dict[str, Any] = {"library": library, "series": kind == "Series"}
        if kind == "Series":
            meta["name"] = value.name
            value = value.to_frame(_COLUMN)
        table = _to_arrow(library, value)
        if any(column.num_chunks != 1 for column in table.columns):
            table = table.combine_chunks()
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            for batch in _batches(table):
                writer.write_batch(batch)
        columns = value.shape[1]  # without the columns that an index becomes
        return Encoded(
            buffers=[memoryview(sink.getvalue())],
            meta=meta,
            summary=f"{table.num_rows} rows × {columns} column{'' if columns == 1 else 's'}",
        )

    def decode(self, meta: dict[str, Any], buffers: Sequence[memoryview]) -> Any:
        """The table, of the library that it came from."""
        import pyarrow as pa

        table = pa.ipc.open_stream(pa.py_buffer(buffers[0])).read_all()
        if meta["library"] == "pyarrow":
            return table
        if meta["library"] == "polars":
            import polars as pl

            frame: Any = pl.from_arrow(table)
            return frame[_COLUMN].alias(meta["name"]) if meta["series"] else frame
        frame = table.to_pandas()
        return frame[_COLUMN].rename(meta["name"]) if meta["series"] else frame


def _to_arrow(library: str, frame: Any) -> "pa.Table":
    import pyarrow as pa

    if library == "pyarrow":
        return frame
    if library == "pandas":
        return pa.Table.from_pandas(frame)
    import polars as pl

    # Views of strings would carry the bytes of rows that were filtered out.
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest())


def _batches(table: "pa.Table") -> list["pa.RecordBatch"]:
    """One batch where that is possible, also of no rows: it holds the categories of a column."""
    import pyarrow as pa

    if not table.num_columns or any(column.num_chunks != 1 for column in table.columns):
        return table.to_batches()  # over 2 GiB of strings; or rows without columns
    columns: list[Any] = table.columns
    arrays = [_tidy(column.chunk(0)) for column in columns]
    return [pa.RecordBatch.from_arrays(arrays, schema=table.schema)]


def _tidy(array: "pa.Array[Any]") -> "pa.Array[Any]":
    """The array without what no value shows: bits after the last one, and values under a null."""
    import pyarrow as pa

    kind: Any = array.type
    if array.offset or isinstance(array, pa.ExtensionArray):
        return array
    bitmap, *others = array.buffers() or [None]
    mask = _without_spare_bits(bitmap, len(array)) if bitmap and array.null_count else None
    nested: Any = array
    if pa.types.is_dictionary(kind):
        indices, dictionary = _tidy(nested.indices), _tidy(nested.dictionary)
        return pa.DictionaryArray.from_arrays(indices, dictionary, ordered=kind.ordered, safe=False)
    children: list[Any] | None = None
    if pa.types.is_struct(kind):
        children, others = [_tidy(child) for child in nested.flatten()], []
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        children, others = [_tidy(nested.values)], others[:1]
    elif kind.num_fields or kind.num_buffers != len(others) + 1:
        return array
    elif pa.types.is_primitive(kind) and kind.bit_width in (1, 8, 16, 32, 64) and len(array):
        others = [_tidy_values(array)]
    return pa.Array.from_buffers(
        kind, len(array), [mask, *others], array.null_count, children=children
    )


def _tidy_values(array: "pa.Array[Any]") -> "pa.Buffer":
    """The values of an array of fixed width, zero where it is null."""
    import pyarrow as pa

    values: Any = array
    if pa.types.is_boolean(array.type):
        if array.null_count:
            values = values.fill_null(False)
        return _without_spare_bits(values.buffers()[1], len(array))
    if array.null_count:
        values = values.view(f"int{array.type.bit_width}").fill_null(0)
    return values.buffers()[1]


def _without_spare_bits(bitmap: "pa.Buffer", length: int) -> "pa.Buffer":
    import pyarrow as pa

    bits = bytearray(memoryview(bitmap)[: (length + 7) // 8])
    if length % 8:
        bits[-1] &= 0xFF >> -length % 8
    return pa.py_buffer(bits)


def _try(test: Callable[[Any], bool], value: object) -> bool:
    try:
        return test(value)
    except Exception:  # noqa: BLE001  (whatever Arrow says to a type that it does not know)
        return False


def _polars_is_kept(value: Any) -> bool:
    import polars as pl

    empty = value.clear() if isinstance(value, pl.DataFrame) else value.clear().to_frame(_COLUMN)
    if any(dtype == pl.Object for dtype in empty.dtypes):
        return False
    back: Any = pl.from_arrow(_to_arrow("polars", empty))
    return back.schema == empty.schema


def _pandas_is_kept(value: Any) -> bool:
    import pandas as pd

    if isinstance(value, pd.Series):
        if not (value.name is None or type(value.name) is str):
            return False
        value = value.to_frame(_COLUMN)
    if value.attrs or getattr(value.index, "freq", None) is not None:
        return False
    if not (value.columns.is_unique and all(type(name) is str for name in value.columns)):
        return False
    dtypes = [*value.dtypes, value.index.dtype]
    if value.index.nlevels > 1 or any(getattr(dtype, "hasobject", False) for dtype in dtypes):
        return False
    empty = value.iloc[:0]
    back = _to_arrow("pandas", empty).to_pandas()
    return (
        list(back.dtypes) == list(empty.dtypes)
        and back.columns.equals(empty.columns)
        and back.columns.dtype == empty.columns.dtype
        and back.columns.name == empty.columns.name
        and type(back.index) is type(empty.index)
        and back.index.dtype == empty.index.dtype
        and back.index.name == empty.index.name
    )
