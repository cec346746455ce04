"""Tables: what users bring (pandas, polars, Arrow, numpy, columns) as Arrow, and back again."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

from upturn.core.errors import Invalid
from upturn.core.schema import FieldType

FrameKind = Literal["pandas", "polars", "pyarrow", "numpy"]
ARROW: dict[FieldType, pa.DataType] = {
    "bool": pa.bool_(),
    "int": pa.int64(),
    "float": pa.float64(),
    "str": pa.string(),
    "date": pa.date32(),
    "datetime": pa.timestamp("us", "UTC"),
}
_TABLES = "A table is a pandas, polars or Arrow one, a dict of columns, or a 2-d numpy array."


def frame_kind(table: object) -> FrameKind:
    """Which kind of table this is; a dict of columns or a numpy array is "numpy".

    Raises Invalid for anything that is no table.

    >>> frame_kind({"a": [1, 2]})
    'numpy'
    """
    kind = type(table)
    match kind.__module__.partition(".")[0], kind.__name__:
        case ("polars", "DataFrame"):
            return "polars"
        case ("polars", "LazyFrame"):
            raise Invalid(
                "A polars.LazyFrame is a plan, not a table.", hint="Give plan.collect() instead."
            )
        case ("pyarrow", "Table" | "RecordBatch"):
            return "pyarrow"
        case _:
            pass
    # A subclass of a pandas table (geopandas has one) is one too.
    if any((one.__module__, one.__name__) in _PANDAS for one in kind.__mro__):
        return "pandas"
    if isinstance(table, Mapping) or (isinstance(table, np.ndarray) and table.ndim == 2):
        return "numpy"
    shown = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
    if kind.__name__ == "Series":
        raise Invalid(f"A {shown} is one column, not a table.", hint="Give .to_frame() instead.")
    raise Invalid(f"A {shown} is not a table.", hint=_TABLES)


_PANDAS = {("pandas.core.frame", "DataFrame"), ("pandas", "DataFrame")}


def to_arrow(table: Any, *, index: bool = True, dictionaries: bool = False) -> pa.Table:
    """The table as Arrow, copied only where the kinds differ in how they keep values.

    Categories become text, unless `dictionaries`. A pandas index without a name is dropped; one
    with a name becomes a column, unless `index` is False. The columns of a numpy array are x0, x1
    and so on, as scikit-learn calls them. Raises Invalid for what is no table, or has columns that
    Arrow can't hold.

    >>> to_arrow({"a": [1, None]}).schema.types
    [DataType(int64)]
    """
    kind = frame_kind(table)
    try:
        if kind == "pandas":
            found = _from_pandas(table, index)
        elif kind == "polars":
            found = _from_polars(table)
        elif kind == "pyarrow":
            found = table if isinstance(table, pa.Table) else pa.Table.from_batches([table])
        elif isinstance(table, np.ndarray):
            columns = cast("Any", table).T
            found = pa.table({f"x{i}": pa.array(column) for i, column in enumerate(columns)})
        else:
            found = pa.table({str(name): _array(values) for name, values in table.items()})
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        text = "; ".join(str(part) for part in error.args) or str(error)
        raise Invalid(
            f"The table can't be read: {text.rstrip('.')}.",
            hint="Columns hold booleans, numbers, text, dates or times, one kind each.",
        ) from None
    _check_names(found.column_names)
    return found if dictionaries else without_dictionaries(found)


def from_arrow(table: pa.Table, kind: FrameKind) -> Any:
    """The table as that kind; "numpy" is a 2-d array, of float64 where all columns are numbers."""
    if kind == "pyarrow":
        return table
    if kind == "polars":
        import polars as pl

        return pl.from_arrow(table, rechunk=False)
    if kind == "pandas":
        return table.to_pandas()
    if all(_is_number(field.type) for field in table.schema):
        return numbers(table)
    matrix = np.empty(table.shape, dtype=object)
    for place, column in enumerate(table.columns):
        matrix[:, place] = column.to_pylist()
    return matrix


def numbers(table: pa.Table) -> np.ndarray:
    """Columns of numbers as a float64 matrix of (rows, columns), nan where null."""
    matrix = np.empty((table.num_rows, table.num_columns), dtype=np.float64)
    for place in range(table.num_columns):
        matrix[:, place] = floats(table.column(place))
    return matrix


def floats(column: Any) -> np.ndarray:
    """A column of booleans or numbers as float64, nan where null."""
    if column.null_count or pt.is_boolean(column.type) or pt.is_decimal(column.type):
        column = column.cast(pa.float64(), safe=False)  # else booleans with nulls become objects
    if isinstance(column, pa.ChunkedArray):
        return column.to_numpy()
    return column.to_numpy(zero_copy_only=False)


def without_dictionaries(table: pa.Table) -> pa.Table:
    """The table with categories as plain values, and text as `string`."""
    for place, field in enumerate(table.schema):
        plain = _plain_type(field.type)
        if plain != field.type:
            table = table.set_column(place, field.name, table.column(place).cast(plain))
    return table


def field_type(kind: pa.DataType) -> FieldType | None:
    """The type of field that holds values of an Arrow type, if there is one.

    >>> field_type(pa.int16()), field_type(pa.large_string()), field_type(pa.list_(pa.int8()))
    ('int', 'str', None)
    """
    if pt.is_dictionary(kind):
        return field_type(kind.value_type)
    tests: Sequence[tuple[FieldType, bool]] = (
        ("bool", pt.is_boolean(kind)),
        ("int", pt.is_integer(kind)),
        ("float", pt.is_floating(kind) or pt.is_decimal(kind) or pt.is_null(kind)),
        ("str", _is_text(kind)),
        ("date", pt.is_date(kind)),
        ("datetime", pt.is_timestamp(kind)),
    )
    return next((name for name, holds in tests if holds), None)


def _from_pandas(frame: Any, index: bool) -> pa.Table:
    named = [name for name in frame.index.names if name is not None]
    if index and named:
        drop = [level for level, name in enumerate(frame.index.names) if name is None]
        frame = (frame.reset_index(drop, drop=True) if drop else frame).reset_index()
    frame = frame.set_axis([str(name) for name in frame.columns], axis="columns")
    _check_names(list(frame.columns))
    return pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)


def _from_polars(frame: Any) -> pa.Table:
    import polars as pl

    # Views of strings are what few Arrow functions know how to work on.
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest())


def _array(values: Any) -> Any:
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values
    if type(values).__module__.startswith("polars"):
        return _from_polars(values.to_frame()).column(0)
    return pa.array(values, from_pandas=True)


def _check_names(names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise Invalid(
            f"The table has more than one column {twice[0]!r}.",
            hint="Each needs a name of its own.",
        )


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if pt.is_dictionary(kind):
        kind = kind.value_type
    return pa.string() if _is_text(kind) else kind


def _is_text(kind: pa.DataType) -> bool:
    return pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind)


def _is_number(kind: pa.DataType) -> bool:
    return pt.is_boolean(kind) or pt.is_integer(kind) or pt.is_floating(kind) or pt.is_decimal(kind)
