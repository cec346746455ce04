"""Bodies: CSV and Arrow as rows, and answers as Arrow.

Nothing in a body is trusted: not its sizes, not its offsets, not the time of its instants.
"""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pv
import pyarrow.types as pt

from upturn.core.errors import Invalid, did_you_mean
from upturn.core.schema import Field, Signature
from upturn.deploy.columns import check_columns, fits
from upturn.deploy.fields import expected
from upturn.deploy.serve.arrow import read_table
from upturn.deploy.serve.checked import check_columns_of, check_matrix
from upturn.deploy.serve.problems import MAX_ERRORS, BadRequest, FieldError, Misfit, shown
from upturn.deploy.serve.request import ARROW_FILE, CSV, Limits, too_large
from upturn.deploy.serve.rows import EXACT, Rows, is_numeric
from upturn.model.tables import numbers

# What stands for no number in CSV; in a column of text these may be texts like any other.
_EMPTY = pa.array(["null", "NULL", "NaN", "nan", "NA"])
_MICROS = (-62_135_596_800_000_000, 253_402_300_799_999_999)  # of the years 1 to 9999
_DAYS = (-719_162, 2_932_896)


def table_rows(
    kind: bytes, body: bytes, signature: Signature, unit: str | None, limits: Limits
) -> Rows:
    """The rows of a table in CSV or Arrow.

    Raises BadRequest when it can't be read, Invalid for columns and Misfit for values that do not
    fit, TooLarge for what only looks small.
    """
    known = [*signature.names, *([unit] if unit and unit not in signature.names else [])]
    table = _csv(body, signature, known) if kind == CSV else _arrow(body, kind, limits)
    for name in table.column_names:
        if name not in known:
            hint = did_you_mean(name, known)
            raise Invalid(f"The table has a column {name[:100]!r} that is no input.", hint=hint)
    check_columns(table.schema, signature, name="The table")
    if not table.num_rows:
        raise Invalid("There are no rows to predict.")
    if table.num_rows > limits.rows:
        raise Invalid(
            f"{table.num_rows} rows are more than one request may have.",
            hint=f"Send at most {limits.rows} at a time, or use: upturn score.",
        )
    if kind != CSV and sum(map(_text_bytes, table.itercolumns())) > limits.body_bytes:
        raise too_large(limits.body_bytes)
    inputs = table.select(list(signature.names))
    for place, field in enumerate(inputs.schema):
        inputs = inputs.set_column(place, field.name, _plain(inputs.column(place)))
    units: list[str | None] | None = None
    if unit is not None and unit in table.column_names:
        units = _units(inputs if unit in signature.names else table, unit)
    if is_numeric(signature) and _is_exact(inputs, signature):
        return Rows(check_matrix(numbers(inputs), signature), units)
    columns = [_python(column) for column in inputs.itercolumns()]
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


def _arrow(body: bytes, kind: bytes, limits: Limits) -> pa.Table:
    try:
        table = read_table(body, is_file=kind == ARROW_FILE, limit=limits.body_bytes)
        table.validate(full=True)  # offsets are the client's: nothing may lie outside its bytes
    except (pa.ArrowException, OSError, ValueError) as error:
        raise BadRequest(f"The body is no Arrow that can be read: {_line(error)}.") from None
    return table


def _text_bytes(column: Any) -> int:
    """How long a column's texts are one after the other, however often each was sent."""
    total = 0
    for chunk in column.chunks:
        if pt.is_dictionary(chunk.type) and fits(chunk.type, "str"):
            words = chunk.dictionary
            if pt.is_string_view(words.type):
                words = words.cast(pa.string())
            lengths = pc.binary_length(words).fill_null(0).take(chunk.indices)
            total += pc.sum(lengths).as_py() or 0
        elif pt.is_string_view(chunk.type) and len(chunk):
            views = np.frombuffer(chunk.buffers()[1], np.int32).reshape(-1, 4)
            lengths = views[chunk.offset : chunk.offset + len(chunk), 0]
            total += int(lengths.astype(np.int64).sum())
    return total


def _plain(column: Any) -> Any:
    """The column in a type whose values can be told apart without trusting its sender."""
    kind = column.type
    if pt.is_dictionary(kind):
        column = column.cast(kind.value_type)
    elif pt.is_decimal(kind):
        column = column.cast(pa.float64())
    elif pt.is_timestamp(kind):
        column = column.cast(pa.timestamp("us", "UTC"), safe=False)  # its zone may be any text
    elif pt.is_date(kind):
        column = column.cast(pa.date32(), safe=False)
    return column


def _python(column: Any) -> list[Any]:
    """The column's values; what no calendar has stays a number, which fits nothing."""
    if pt.is_timestamp(column.type):
        counts, ends = column.cast(pa.int64()), _MICROS
    elif pt.is_date(column.type):
        counts, ends = column.cast(pa.int32()), _DAYS
    else:
        return column.to_pylist()
    found: Any = pc.min_max(counts).as_py()
    inside = found["min"] is None or (ends[0] <= found["min"] and found["max"] <= ends[1])
    return column.to_pylist() if inside else counts.to_pylist()


def _units(table: pa.Table, unit: str) -> list[str | None]:
    column = _plain(table[unit])
    if not any(fits(column.type, kind) for kind in ("str", "float", "bool", "date", "datetime")):
        raise Invalid(f"Column {unit!r} is {column.type}: expected text or numbers.")
    return [None if value is None else str(value) for value in _python(column)]


def _csv(body: bytes, signature: Signature, known: Sequence[str]) -> pa.Table:
    """The table with each column as its field's type; what can't be is said by row and value."""
    if body.partition(b"\n")[0].count(b",") > 2 * len(known) + 16:  # each column costs memory
        raise BadRequest(
            "The CSV has far more columns than the model has inputs.",
            hint=f"Its first line is to be: {','.join(known)[:300]}",
        )
    try:
        texts = pv.read_csv(
            io.BytesIO(body),
            read_options=pv.ReadOptions(use_threads=False, block_size=len(body) + 1),
            parse_options=pv.ParseOptions(newlines_in_values=True),
            convert_options=pv.ConvertOptions(
                column_types=dict.fromkeys(known, pa.string()),
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
        names = texts.column_names
    except (pa.ArrowException, OSError, ValueError) as error:
        raise BadRequest(f"The body is no CSV that can be read: {_line(error)}.") from None
    errors: list[FieldError] = []
    fields = {field.name: field for field in signature.inputs}
    for place, name in enumerate(names):
        field = fields.get(name)
        if field is None or field.type == "str" or names.count(name) > 1:
            continue
        column = texts.column(place)
        column = pc.if_else(pc.is_in(column, _EMPTY), None, column)
        typed = _typed(column, field, errors)
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
    for field, column in zip(signature.inputs, table.itercolumns(), strict=True):
        if field.type == "int" and pa.types.is_integer(column.type) and column.type.bit_width == 64:
            ends: Any = pc.min_max(column).as_py()
            if max(abs(ends["min"] or 0), abs(ends["max"] or 0)) > EXACT:
                return False
    return True


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")[:200]
