"""Bodies: CSV and Arrow as rows, and answers as Arrow."""

import io
from typing import Any

import pyarrow as pa
import pyarrow.csv as pv

from upturn.core.errors import Invalid, did_you_mean
from upturn.core.schema import Field, Signature
from upturn.deploy.columns import check_columns
from upturn.deploy.fields import expected
from upturn.deploy.serve.checked import check_columns_of, check_matrix
from upturn.deploy.serve.problems import MAX_ERRORS, BadRequest, FieldError, Misfit, shown
from upturn.deploy.serve.request import ARROW_FILE, CSV
from upturn.deploy.serve.rows import EXACT, Rows, is_numeric
from upturn.model.tables import numbers

_EMPTY = ("", "null", "NULL", "NaN", "nan", "NA")


def table_rows(
    kind: bytes, body: bytes, signature: Signature, unit: str | None, *, max_rows: int
) -> Rows:
    """The rows of a table in CSV or Arrow.

    Raises BadRequest when it can't be read, Invalid for columns and Misfit for values that do not
    fit.
    """
    table = _csv(body, signature, unit) if kind == CSV else _arrow(body, kind)
    known = {*signature.names, *([unit] if unit else [])}
    for name in table.column_names:
        if name not in known:
            hint = did_you_mean(name, known)
            raise Invalid(f"The table has a column {name[:100]!r} that is no input.", hint=hint)
    check_columns(table.schema, signature, name="The table")
    if not table.num_rows:
        raise Invalid("There are no rows to predict.")
    if table.num_rows > max_rows:
        raise Invalid(
            f"{table.num_rows} rows are more than one request may have.",
            hint=f"Send at most {max_rows} at a time, or use: upturn score.",
        )
    inputs = table.select(list(signature.names))
    units: list[str | None] | None = None
    if unit is not None and unit in table.column_names:
        values: list[Any] = table[unit].to_pylist()
        units = [None if value is None else str(value) for value in values]
    if is_numeric(signature) and _is_exact(inputs, signature):
        return Rows(check_matrix(numbers(inputs), signature), units)
    columns = [column.to_pylist() for column in inputs.itercolumns()]
    return Rows(check_columns_of(columns, signature), units)


def arrow_answer(endpoint: str, route: int, columns: dict[str, list[Any]]) -> bytes:
    """An answer as an Arrow stream: id, prediction, version and arm of each row."""
    try:
        table = pa.table(columns)
    except (pa.ArrowInvalid, pa.ArrowTypeError):  # answers of more than one kind
        columns = {**columns, "prediction": [str(one) for one in columns["prediction"]]}
        table = pa.table(columns)
    table = table.replace_schema_metadata({"endpoint": endpoint, "route": str(route)})
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _arrow(body: bytes, kind: bytes) -> pa.Table:
    try:
        if kind == ARROW_FILE:
            with pa.ipc.open_file(pa.py_buffer(body)) as reader:
                table = reader.read_all()
        else:
            with pa.ipc.open_stream(pa.py_buffer(body)) as reader:
                table = reader.read_all()
        table.validate(full=True)  # offsets are the client's: nothing may lie outside its bytes
    except (pa.ArrowException, OSError, ValueError) as error:
        raise BadRequest(f"The body is no Arrow that can be read: {_line(error)}.") from None
    return table


def _csv(body: bytes, signature: Signature, unit: str | None) -> pa.Table:
    """The table with each column as its field's type; what can't be is said by row and value."""
    try:
        head = pv.open_csv(io.BytesIO(body)).schema.names
        texts = pv.read_csv(
            io.BytesIO(body),
            convert_options=pv.ConvertOptions(
                column_types=dict.fromkeys(head, pa.string()),
                null_values=list(_EMPTY),
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise BadRequest(f"The body is no CSV that can be read: {_line(error)}.") from None
    errors: list[FieldError] = []
    fields = {field.name: field for field in signature.inputs}
    for place, name in enumerate(texts.column_names):
        field = fields.get(name)
        if field is None or field.type == "str" or texts.column_names.count(name) > 1:
            continue
        typed = _typed(texts.column(place), field, errors)
        if typed is not None:
            texts = texts.set_column(place, name, typed)
    if errors:
        raise Misfit(errors[:MAX_ERRORS])
    return texts


_PARSED = {
    "bool": pa.bool_(),
    "int": pa.int64(),
    "float": pa.float64(),
    "date": pa.date32(),
    "datetime": pa.timestamp("us", "UTC"),
}


def _typed(column: Any, field: Field, errors: list[FieldError]) -> Any:
    kind = _PARSED[field.type]
    try:
        return column.cast(kind)
    except pa.ArrowException:
        pass
    for row, text in enumerate(column.to_pylist()):
        if text is None:
            continue
        try:
            pa.scalar(text).cast(kind)
        except pa.ArrowException:
            errors.append(FieldError(row, field.name, shown(text), expected(field)))
            if len(errors) >= MAX_ERRORS:
                break
    return None


def _is_exact(table: pa.Table, signature: Signature) -> bool:
    import pyarrow.compute as pc

    for field, column in zip(signature.inputs, table.itercolumns(), strict=True):
        if field.type == "int" and pa.types.is_integer(column.type) and column.type.bit_width == 64:
            ends: Any = pc.min_max(column).as_py()
            if max(abs(ends["min"] or 0), abs(ends["max"] or 0)) > EXACT:
                return False
    return True


def _line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".")[:200]
