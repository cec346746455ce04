"""Columns: whether a table's columns fit a signature, and the table that a model takes of them."""

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.types as pt

from upturn.core.errors import Invalid, did_you_mean
from upturn.core.schema import Field, FieldType, Signature
from upturn.deploy.fields import expected
from upturn.model.frames import typed_column

ARROW: dict[FieldType, pa.DataType] = {
    "bool": pa.bool_(),
    "int": pa.int64(),
    "float": pa.float64(),
    "str": pa.string(),
    "date": pa.date32(),
    "datetime": pa.timestamp("us", "UTC"),
}


def check_columns(schema: pa.Schema, signature: Signature, *, name: str) -> None:
    """Raise Invalid, naming each column that is missing or of another type, unless all fit."""
    problems: list[str] = []
    missing: list[str] = []
    for field in signature.inputs:
        places = schema.get_all_field_indices(field.name)
        if not places:
            missing.append(field.name)
            problems.append(f"column {field.name!r} is missing (expected {expected(field)})")
        elif len(places) > 1:
            problems.append(f"column {field.name!r} is there {len(places)} times")
        elif not fits(schema.field(places[0]).type, field.type):
            found = schema.field(places[0]).type
            problems.append(f"column {field.name!r} is {found} (expected {expected(field)})")
    if problems:
        others = [one for one in schema.names if one not in signature.names]
        hint = did_you_mean(missing[0], others) if missing else ""
        raise Invalid(f"{name} does not fit: {'; '.join(problems)}.", hint=hint, columns=missing)


def fits(found: pa.DataType, kind: FieldType) -> bool:
    """Whether values of an Arrow type can be a field's values; each value is still to be cast."""
    if pt.is_dictionary(found):
        found = found.value_type
    if pt.is_null(found):
        return True
    number = pt.is_integer(found) or pt.is_floating(found)
    return {
        "bool": pt.is_boolean(found),
        "int": number,
        "float": number or pt.is_decimal(found),
        "str": pt.is_string(found) or pt.is_large_string(found) or pt.is_string_view(found),
        "date": pt.is_date(found),
        "datetime": pt.is_timestamp(found) and found.tz is not None,
    }[kind]


def input_table(table: pa.Table, signature: Signature, *, first_row: int = 0) -> pa.Table:
    """The signature's columns of the table, in its order and types.

    Raises Invalid that names the column for a null where none may be and for a value that can't be
    cast; rows are numbered from `first_row`.
    """
    columns = [_column(table[field.name], field, first_row) for field in signature.inputs]
    schema = pa.schema([(field.name, ARROW[field.type]) for field in signature.inputs])
    return pa.Table.from_arrays(columns, schema=schema)


def row_tables(signature: Signature) -> Callable[[Sequence[tuple[Any, ...]]], pa.Table]:
    """A function that makes the model's table of rows in the order of the signature's inputs."""
    schema = pa.schema([(field.name, ARROW[field.type]) for field in signature.inputs])
    kinds = schema.types
    array, from_arrays = pa.array, pa.Table.from_arrays  # looked up once: this is a hot path

    def table_of(rows: Sequence[tuple[Any, ...]]) -> pa.Table:
        columns = zip(kinds, zip(*rows, strict=True), strict=True)
        return from_arrays([array(values, kind) for kind, values in columns], schema=schema)

    return table_of


def first_bad(column: Any, kind: pa.DataType) -> int | None:
    """Where the first value is that can't be cast to a field's Arrow type, if there is one."""
    if _casts(column, kind):
        return None
    start, length = 0, len(column)
    while length > 1:
        half = length // 2
        if _casts(column.slice(start, half), kind):
            start, length = start + half, length - half
        else:
            length = half
    return start


def misfit(field: Field, value: Any, row: int, name: str = "") -> Invalid:
    """The error that says which value of which column and row does not fit its field."""
    return Invalid(
        f"{name}Column {field.name!r} is {shown(value)} in row {row}; expected {expected(field)}.",
        field=field.name,
        row=row,
    )


def shown(value: Any) -> str:
    """A value in an error: short, and a missing one as JSON has it."""
    text = "null" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _column(column: Any, field: Field, first_row: int) -> Any:
    try:
        cast = typed_column(column, ARROW[field.type])
    except pa.ArrowException as error:
        at = first_bad(column, ARROW[field.type])
        if at is None:
            raise Invalid(
                f"Column {field.name!r}, expected {expected(field)}: {_first_line(error)}",
                hint=f"It is among rows {first_row} to {first_row + len(column) - 1}.",
            ) from None
        raise misfit(field, column[at].as_py(), first_row + at) from None
    if cast.null_count and not field.nullable:
        at = cast.is_null().index(True).as_py()
        raise misfit(field, column[at].as_py(), first_row + at)
    return cast


def _casts(column: Any, kind: pa.DataType) -> bool:
    try:
        typed_column(column, kind)
    except pa.ArrowException:
        return False
    return True


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".") + "."
